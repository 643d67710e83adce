"""The public names: listed, where they are said to be, and without Django until one is used."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import audit_log
from audit_log import models

PUBLIC = [
    "ViewedMixin",
    "acting",
    "audited",
    "backfill",
    "beat_schedule",
    "contents",
    "correlation_headers",
    "history",
    "record",
    "register",
    "search",
    "suspended",
    "testing",
    "unregister",
    "viewed",
    "views_of",
]


def test_public_names_are_these():
    assert list(audit_log.__all__) == PUBLIC
    assert dir(audit_log) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there_and_documented(name):
    assert getattr(audit_log, name).__doc__


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"testing"}))
def test_public_name_is_the_one_of_its_module(name):
    home = import_module(audit_log._HOMES[name])
    assert getattr(audit_log, name) is getattr(home, name)


def test_type_checkers_see_the_same_names():
    """What stands under TYPE_CHECKING says where each name really comes from."""
    tree = ast.parse(Path(audit_log.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {**audit_log._HOMES, "testing": "audit_log"}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'recrod'"):
        audit_log.recrod  # noqa: B018
    assert not hasattr(audit_log, "Record")


def test_record_is_imported_from_the_models():
    assert models.Record._meta.label == "audit_log.Record"


def _modules_after(code: str) -> set[str]:
    code = f"import sys; {code}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import audit_log", "import audit_log; dir(audit_log)", "import audit_log.pytest_plugin"],
)
def test_importing_the_package_imports_no_django(code):
    modules = _modules_after(code)
    assert "audit_log" in modules
    assert not {name for name in modules if name.partition(".")[0] in {"django", "celery"}}


def test_using_a_name_does():
    """So that the test above can fail."""
    assert "django" in _modules_after("import audit_log; audit_log.audited")


def test_pytest_of_other_projects_imports_no_django_for_our_plugin(tmp_path):
    """It loads in every pytest run of the environment, whatever is tested there."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n"
        "def test_it():\n"
        "    assert 'audit_log.pytest_plugin' in sys.modules\n"
        "    assert 'django' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "audit_log.pytest_plugin", "--rootdir=."],
        cwd=tmp_path,
        # Alone: other plugins import Django for themselves.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
