"""`manage.py audit_log coverage`, here and in a project of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from audit_log.coverage.places import KINDS
from tests.conftest import ROOT
from tests.coverage.test_watching import look

databases = pytest.mark.django_db(databases=["default", "other"])


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("audit_log", "coverage", *words, stdout=out)
    return out.getvalue()


def run_json(*words: str):
    return json.loads(run("--json", *words))


@databases
def test_lines_name_models_fields_and_reasons():
    out = run("--app", "shop")
    assert "\nExcluded:\n  shop.Unlisted: unregister(shop.Unlisted)\n" in out
    assert "  shop.CheapProduct (proxy): as shop.Product\n" in out
    assert "  shop.Person: audited() or register() of shop.Person\n" in out
    assert "    masked   password (name:secret)" in out
    assert "auth.User" not in out
    assert all(f"{kind}: " in out for kind in KINDS)
    assert "Cannot be seen from here: writes of other programs" in out
    assert max(map(len, out.splitlines())) <= 110


@databases
def test_lines_are_limited_and_json_is_not():
    out = run("--limit", "2")
    assert "more: --limit, --app or --json shows them" in out
    assert len(out.splitlines()) < 60
    assert len(run_json("--limit", "2")["models"]) == len(run_json()["models"])


@databases
def test_json_has_the_shape_that_is_promised():
    found = run_json()
    assert list(found) == [
        *("version", "enabled", "counts", "models", "places", "unwatched"),
        *("looked_for", "captured", "not_seen", "roots", "unread", "unasked"),
    ]
    assert found["version"] == 1
    assert found["counts"].keys() == {
        *("unwatched", "unmanaged", "excluded", "bookkeeping", "own", "audited"),
        *("places", "unseen"),
    }
    product = next(each for each in found["models"] if each["model"] == "shop.Product")
    fields = product.pop("fields")
    assert product == {
        "model": "shop.Product",
        "app": "shop",
        "table": "shop_product",
        "database": "default",
        "kind": "concrete",
        "state": "audited",
        "rule": "MODELS",
        "named": "*",
        "through": None,
        "capture": "orm",
    }
    price = {"name": "price", "type": "DecimalField", "policy": "open", "rule": "type:DecimalField"}
    assert price in fields
    assert len(fields) == len(look("shop.Product").fields)
    assert found["roots"] == [str(ROOT)]
    assert found["unasked"] == {}
    assert found["places"]  # of the benchmarks and the example, which write SQL
    keys = ["kind", "path", "line", "model", "what", "own", "accepted"]
    assert all(list(place) == keys for place in found["places"])


@databases
def test_apps_and_databases_narrow_it():
    assert {each["app"] for each in run_json("--app", "shop", "--app", "auth")["models"]} == {
        *("shop", "auth"),
    }
    assert run_json("--database", "other")["models"] == []
    assert run_json("--database", "default")["models"] == run_json()["models"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--app", "shp"], r"There is no app 'shp'\. Apps: .*shop"),
        (["--fail-on", "everything"], "unwatched"),
        (["--limit", "0"], "must be 1 at least"),
    ],
)
def test_wrong_arguments_say_what_is_right(words, message):
    with pytest.raises(CommandError, match=message):
        run(*words)


@databases
def test_a_model_that_nobody_watches_fails_when_asked():
    run("--app", "shop", "--fail-on", "unwatched")
    with override_settings(AUDIT_LOG={"MODELS": ["shop.T*"], "EXCLUDE_MODELS": ["shop.club"]}):
        run("--app", "shop")
        with pytest.raises(CommandError, match=r"models are not watched: shop\.Broken, ") as caught:
            run("--app", "shop", "--fail-on", "unwatched")
        assert "more." in str(caught.value)
        assert caught.value.returncode == 1
        assert "shop.Club" not in run_json("--app", "shop")["unwatched"]


@databases
def test_json_is_printed_also_when_it_fails():
    out = io.StringIO()
    with (
        override_settings(AUDIT_LOG={"ENABLED": False}),
        pytest.raises(CommandError, match="are not watched"),
    ):
        call_command("audit_log", "coverage", "--json", "--fail-on", "unwatched", stdout=out)
    assert "shop.Product" in json.loads(out.getvalue())["unwatched"]


FILES = {
    "config/__init__.py": "",
    "config/settings.py": """
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
        INSTALLED_APPS = ["audit_log", "parts.stock"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        SECRET_KEY = "for this test only"
        USE_TZ = True
    """,
    "parts/__init__.py": "",
    "parts/stock/__init__.py": "",
    "parts/stock/models.py": """
        from django.db import connection, models

        class Quick(models.QuerySet):
            def update(self, **values):
                with connection.cursor() as cursor:
                    return cursor.execute(values["sql"])

        class Part(models.Model):
            objects = Quick.as_manager()

        class Foreign(models.Model):
            class Meta:
                managed = False
    """,
    "services/prices.py": """\
        def raise_all(cursor):
            cursor.execute('UPDATE stock_part SET a = 1')
    """,
    "services/broken.py": "def (:\n",
    "services/tests/cases.py": "cursor.execute('DELETE FROM stock_part')\n",
    "services/test_prices.py": "cursor.execute('DELETE FROM stock_part')\n",
    "env/pyvenv.cfg": "",
    "env/installed.py": "cursor.execute('DELETE FROM stock_part')\n",
    ".hidden/x.py": "cursor.execute('DELETE FROM stock_part')\n",
}


@pytest.fixture
def project(tmp_path: Path):
    """Runs the verb in a project that has a bit of everything."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", "audit_log", "coverage", *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_places_of_a_project_are_found_where_they_are(project, tmp_path):
    result = project("--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["roots"] == [str(tmp_path)]
    assert found["unread"] == ["services/broken.py"]
    assert [(each["kind"], each["path"], each["line"]) for each in found["places"]] == [
        ("sql", "parts/stock/models.py", 7),
        ("sql", "services/prices.py", 2),
        ("override", "parts/stock/models.py", 5),
        ("unmanaged", "parts/stock/models.py", 12),
        ("outbox", None, None),  # nobody has migrated
    ]
    assert found["counts"]["unseen"] == 4
    narrowed = json.loads(project("--json", "--app", "stock").stdout)
    assert {each["path"] for each in narrowed["places"]} == {"parts/stock/models.py", None}


@pytest.mark.parametrize(
    "database",
    [
        {},
        {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/db.sqlite3"},
        {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1},
    ],
    ids=["none", "sqlite", "postgresql"],
)
def test_a_database_that_does_not_answer_is_named(project, tmp_path, database):
    settings = tmp_path / "config" / "settings.py"
    settings.write_text(f"{settings.read_text()}\nDATABASES = {{'default': {database!r}}}\n")
    result = project("--json", "--skip-checks")  # Django's own may ask the database
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert list(found["unasked"]) == ["default"]
    assert found["counts"]["unseen"] == 4
    assert "! the database 'default' did not answer: " in project("--skip-checks").stdout


def test_places_fail_when_asked_until_they_are_accepted(project, tmp_path):
    result = project("-v0", "--fail-on", "unseen", "--fail-on", "unwatched")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "4 places could change data unseen: " in result.stderr
    assert "services/prices.py:2" in result.stderr
    for name in ("parts/stock/models.py", "services/prices.py"):
        path = tmp_path / name
        text = path.read_text()
        for mark in ('values["sql"])', "**values):", "class Foreign(models.Model):", "a = 1')"):
            text = text.replace(mark, f"{mark}  # audit: seen, for this test")
        path.write_text(text)
    accepted = project("--fail-on", "unseen")
    assert accepted.returncode == 0, accepted.stderr
    assert "of them accepted" in accepted.stdout
    assert "services/prices.py:2  sql  execute: UPDATE stock_part SET a = 1 [accepted]" in (
        accepted.stdout
    )
