"""The project's own files agree with each other."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

import audit_log

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def project_files() -> list[Path]:
    """What git tracks, or would."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("Not a git checkout.")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_version_is_the_same_everywhere(pyproject):
    project = pyproject["project"]
    assert importlib.metadata.version(project["name"]) == project["version"]
    assert getattr(audit_log, "__version__", project["version"]) == project["version"]


def test_imports_point_down_the_flow():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.django_db(databases=["default", "other"])
def test_no_model_change_lacks_its_migration(capsys):
    """J5."""
    try:
        call_command("makemigrations", check=True, dry_run=True)
    except SystemExit:
        pytest.fail(capsys.readouterr().out)
    assert "No changes detected" in capsys.readouterr().out


def test_package_says_that_it_is_typed():
    assert (Path(audit_log.__file__).parent / "py.typed").is_file()


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"\bmake demo\b", readme)
    assert re.search(r"\bmake test\b", readme)


def test_readme_tells_the_two_distributions_apart(pyproject):
    readme = (ROOT / "README.md").read_text()
    assert pyproject["project"]["name"] in readme
    assert "django-audit-log" in readme


def test_changelog_has_an_unreleased_section():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## Unreleased$", changelog, re.MULTILINE)


def test_no_file_names_the_place_it_was_written_at(project_files):
    places = re.compile(rb"/wor[k]/|farm[-]studio")
    found = [
        str(path.relative_to(ROOT)) for path in project_files if places.search(path.read_bytes())
    ]
    assert found == []


def test_bank_takes_an_empty_variable_for_a_missing_one(tmp_path):
    """As docker-compose and others pass on what nobody has set."""
    names = ("DATABASE_URL", "AUDIT_DATABASE_URL", "CELERY_BROKER_URL", "AUDIT_LOG_ARCHIVE")
    environment = {**os.environ, **dict.fromkeys(names, ""), "BANK_VAR_DIR": str(tmp_path)}
    environment["AUDIT_LOG_SPOOL_DIR"] = ""
    code = (
        "from example_project import settings as s; print(s.DATABASES['default']['NAME'], "
        "s.CELERY_BROKER_URL, s.AUDIT_LOG['ARCHIVE'], s.AUDIT_LOG['SPOOL_DIR'])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == [
        f"{tmp_path}/bank.sqlite3",
        "memory://",
        f"file://{tmp_path}/archive",
        f"{tmp_path}/spool",
    ]
