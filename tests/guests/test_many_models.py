"""L11: a project with 200 models."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests import settings

pytestmark = pytest.mark.skipif(
    settings.DATABASE != "sqlite", reason="A process with an SQLite database of its own."
)

PROJECT = """
import json, sys
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["audit_log", "django.contrib.contenttypes", "django.contrib.auth"],
    SECRET_KEY="for the tests only",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    AUDIT_LOG={"SPOOL_DIR": sys.argv[2]},
)
import django
django.setup()
from django.core.management import call_command
from django.db import connection, models

made = [
    type(f"Model{n}", (models.Model,), {
        "__module__": "made", "Meta": type("Meta", (), {"app_label": "made"}),
        "name": models.CharField(max_length=50),
    })
    for n in range(int(sys.argv[1]))
]
opened = connection.connection is not None
call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    for model in made:
        editor.create_model(model)
counts = []
for model in made[:1] + made[-1:]:
    seen = []
    connection.connection.set_trace_callback(seen.append)
    row = model.objects.create(name="a")
    row.name = "b"
    row.save()
    row.save()
    connection.connection.set_trace_callback(None)
    counts.append(len(seen))
print(json.dumps({"opened": opened, "counts": counts}))
"""


def _counted(models: int, spool: str) -> dict[str, Any]:
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT, str(models), spool],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def test_saves_cost_the_same_statements_with_200_models_as_with_one(tmp_path):
    """L11: and starting asks the database nothing."""
    one, many = _counted(1, str(tmp_path / "a")), _counted(200, str(tmp_path / "b"))
    assert one["opened"] is many["opened"] is False
    assert set(one["counts"]) == set(many["counts"])
    (statements,) = set(many["counts"])
    # Two changes: BEGIN, write, outbox, COMMIT. A save of nothing new is written by Django alone.
    assert statements <= 4 + 4 + 3
