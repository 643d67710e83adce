"""Settings: defaults, refusals, and that nothing is silently ignored."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from audit_log import conf
from audit_log.exceptions import ConfigurationError

KEY = base64.b64encode(b"k" * 32).decode()


def read(**values: Any) -> conf.Settings:
    with override_settings(AUDIT_LOG=values):
        return conf.get_settings()


def test_every_key_is_optional() -> None:
    settings = read()
    assert settings.enabled
    assert settings.models == ("*",)
    assert settings.on_failure == "allow"
    assert settings.trusted_proxies == 0
    assert settings.service == "tests"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ENABLED", "yes", "True or False"),
        ("REQUESTS", "some", "'notable', 'all', 'off'"),
        ("ON_FAILURE", "ignore", "'allow', 'block'"),
        ("REQUEST_BODY", True, "'redacted', 'off'"),
        ("OPEN_FIELDS", "*.amount", "list of strings"),
        ("MASK_KEYS", [1], "list of strings"),
        ("MODELS", "*", "must be a list"),
        ("MODELS", [3], "cannot hold 3"),
        ("TRUSTED_PROXIES", -1, "number of proxies"),
        ("TRUSTED_PROXIES", True, "number of proxies"),
        ("TRUSTED_PROXIES", ["10.0.0.300"], "TRUSTED_PROXIES"),
        ("ENCRYPTION_KEYS", KEY, "dict of names"),
        ("ENCRYPTION_KEYS", {"a": "not base64!"}, "ENCRYPTION_KEYS.a"),
        ("ENCRYPTION_KEYS", {"a": base64.b64encode(b"short").decode()}, "not 5"),
        ("INDEX_KEY", 7, "INDEX_KEY"),
        ("TENANT", 7, "dotted path"),
        ("SERVICE", 7, "must be a string"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(**{key: value})
    assert key in str(error.value)
    assert said in str(error.value)


def test_an_unknown_key_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigurationError, match=r'no key "ENCRYPTON_KEYS".*"ENCRYPTION_KEYS"'):
        read(ENCRYPTON_KEYS={})


def test_a_key_that_no_part_reads_yet_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ConfigurationError, match='no key "ARCHIVE"'):
        read(ARCHIVE="s3://bucket")


def test_models_may_carry_options() -> None:
    settings = read(MODELS=["shop.*", {"auth.User": {"open": ["username"]}}])
    assert settings.models == ("shop.*", "auth.User")
    assert settings.model_options == {"auth.User": {"open": ["username"]}}


def test_the_spool_has_a_folder_of_its_own_for_each_user_and_service() -> None:
    assert "payments" in read(SERVICE="payments").spool_dir.name
    assert read(SPOOL_DIR="/srv/spool").spool_dir == Path("/srv/spool")


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
def test_bodies_are_bounded_by_django_as_well() -> None:
    assert read().max_body_bytes == 1000


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
def test_bodies_are_bounded_without_django() -> None:
    assert read().max_body_bytes == 16 * 1024


def test_the_settings_are_read_again_when_a_test_overrides_them() -> None:
    assert read(SERVICE="one").service == "one"
    assert read(SERVICE="two").service == "two"
    assert conf.get_settings().service == "tests"
