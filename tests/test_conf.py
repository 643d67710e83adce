"""Settings: defaults, refusals, and that nothing is silently ignored."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
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
        ("BULK_ROWS", -1, "number from 0"),
        ("BULK_ROWS", True, "number from 0"),
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
        ("REQUEST_ID", 7, "dotted path"),
        ("EXCLUDE_PATHS", "/health", "list of patterns"),
        ("EXCLUDE_PATHS", [7], "cannot hold 7"),
        ("EXCLUDE_PATHS", [re.compile(b"/x")], "cannot hold"),
        ("EXCLUDE_PATHS", ["health*"], "'health*' matches no path"),
        ("REQUEST_ID_HEADER", "", "name of a header"),
        ("REQUEST_ID_HEADER", "X-Request-ID\n", "name of a header"),
        ("REQUEST_ID_HEADER", None, "name of a header"),
        ("SERVICE", 7, "must be a string"),
        ("SERVICE", "", "must be a name"),
        ("SPOOL_DIR", "", "absolute path"),
        ("SPOOL_DIR", "var/spool", "absolute path"),
        ("SERVICE", "pay\nments", "must be a name"),
        ("QUEUE", "", "must be a name"),
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
    with pytest.raises(ConfigurationError, match='no key "SINKS"'):
        read(SINKS={})


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


def test_streams_and_retention_start_from_the_documented_defaults() -> None:
    settings = read()
    kept = settings.retention_of("default")
    assert (kept.database.days, kept.cold.days, kept.delete.days) == (90, 180, 365)  # type: ignore[union-attr]
    assert settings.archive is None


def test_a_stream_overrides_what_it_names_and_inherits_the_rest() -> None:
    settings = read(
        RETENTION={"database": "30d"}, STREAMS={"audit_log": {"retention": {"delete": None}}}
    )
    assert settings.retention_of("default").database.days == 30
    assert settings.retention_of("audit_log").database.days == 30
    assert settings.retention_of("audit_log").delete is None


@pytest.mark.parametrize("profile", ["pci", "hipaa"])
def test_a_profile_keeps_longer_than_the_defaults(profile: str) -> None:
    assert read(RETENTION=profile).retention.delete > read().retention.delete  # type: ignore[operator]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("RETENTION", "sox", "'pci', 'hipaa'"),
        ("RETENTION", {"database": "0d"}, "one day at least"),
        ("RETENTION", {"database": "-5d"}, "must be days"),
        ("RETENTION", {"database": None}, "must be days"),
        ("RETENTION", {"database": 90}, "must be days"),
        ("RETENTION", {"archive": "90d"}, "database, cold, delete"),
        ("RETENTION", {"database": "400d"}, "cold (180d) comes before database (400d)"),
        ("RETENTION", {"cold": "90d", "delete": "30d"}, "delete (30d) comes before cold"),
        ("STREAMS", {"security": {}}, "'security'"),
        ("STREAMS", {"default": {"match": "action:x"}}, "retention"),
        ("STREAMS", {"default": {"retention": {"database": "999d"}}}, "comes before database"),
        ("ARCHIVE", "ftp://x/y", "s3://bucket/prefix"),
        ("ARCHIVE", "s3://", "s3://bucket/prefix"),
        ("ARCHIVE", "file://relative/path", "file:///folder"),
        ("ARCHIVE", "file:relative", "file:///folder"),
        ("ARCHIVE", "file:///srv/audit?x", "written %3F"),
        ("ARCHIVE", "file:///srv/a#b", "written %3F"),
        ("ARCHIVE", "file:///srv/%00", "file:///folder"),
        ("ARCHIVE", "file:///" + "x" * 300, "too long"),
        ("ARCHIVE", "s3://[::1", "s3://bucket/prefix"),
        ("ARCHIVE", "s3://key:secret@bucket/x", "s3://bucket/prefix"),
        ("ARCHIVE", "s3://bucket/a/../b", "s3://bucket/prefix"),
        ("ARCHIVE", "s3://bucket/a//b", "s3://bucket/prefix"),
        ("ARCHIVE", "s3://bucket/" + "x" * 200, "too long"),
        ("RETENTION", {"database": timedelta.max, "cold": None, "delete": None}, "99999 at most"),
        ("ARCHIVE_OPTIONS", {"secret": "x"}, "endpoint"),
        ("ARCHIVE_OPTIONS", {"path_style": "yes"}, "path_style"),
        ("ARCHIVE_OPTIONS", {"endpoint": "minio:9000"}, "https://minio.example:9000"),
        ("ARCHIVE_OPTIONS", {"endpoint": "http://minio:port"}, "https://minio.example:9000"),
        ("ARCHIVE_OPTIONS", {"endpoint": "http://[::1"}, "https://minio.example:9000"),
        ("ARCHIVE_OPTIONS", {"region": ""}, "region"),
        ("DATABASE", "nowhere", "none of DATABASES"),
        ("ALERTS", {}, "list of rules"),
        ("ALERTS", [{}], "needs a name"),
        ("ALERTS", [{"name": "a\nb"}], "printable"),
        ("ALERTS", [{"name": "a", "group_by": ""}], "group_by cannot be ''"),
        ("ALERTS", [{"name": "a", "group_by": False}], "group_by cannot be False"),
        ("ALERTS", [{"name": "a", "wen": 1}], "threshold"),
        ("ALERTS", [{"name": "a", "match": {"password": "x"}}], "match cannot be 'password'"),
        ("ALERTS", [{"name": "a", "match": {"status": "500"}}], "status is compared with int"),
        ("ALERTS", [{"name": "a", "measure": "max(x)"}], "sum(affected)"),
        ("ALERTS", [{"name": "a", "threshold": 0}], "threshold must be 1"),
        ("ALERTS", [{"name": "a", "threshold": True}], "threshold must be 1"),
        ("ALERTS", [{"name": "a", "window": "soon"}], "window must be such as"),
        ("ALERTS", [{"name": "a", "window": "0m"}], "window must be such as"),
        ("ALERTS", [{"name": "a", "channels": ["pager"]}], "channels cannot be 'pager'"),
        ("ALERTS", [{"name": "a"}, {"name": "a"}], "two rules called 'a'"),
    ],
)
def test_nonsense_is_refused_at_start(key: str, value: Any, said: str) -> None:
    """FAULTS: retention mistakes refused at start."""
    with pytest.raises(ConfigurationError) as error:
        read(**{key: value})
    assert key in str(error.value)
    assert said in str(error.value)


def test_a_rule_is_read_with_its_values_as_tuples() -> None:
    (rule,) = read(
        ALERTS=[
            {
                "name": "mass_delete",
                "match": {"action": "delete", "actor_type": ["admin", "user"]},
                "measure": "sum(affected)",
                "threshold": 100,
                "window": "5m",
                "group_by": "actor_id",
                "channels": ["email", "log", "signal"],
            }
        ]
    ).alerts
    assert rule.match == {"action": ("delete",), "actor_type": ("admin", "user")}
    assert rule.window.total_seconds() == 300
    assert rule.channels == ("email", "log", "signal")
