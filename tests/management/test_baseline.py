"""`manage.py audit_log baseline`: what it takes, what it prints, and how it ends."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

import audit_log
from audit_log.capture import baseline
from audit_log.delivery.relay import relay_everywhere
from audit_log.management import output
from audit_log.models import Outbox, Record
from audit_log.registry import audited_models
from tests.capture.folding import ids, unseen, waiting
from tests.shop.models import Category, Place, Wordy

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def run(*words: str, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_log", "baseline", *words, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def run_json(*words: str) -> dict[str, Any]:
    (line,) = run(*words, "--json")[0].splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def failing(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return str(caught.value)


@pytest.fixture
def three() -> None:
    with unseen():
        for n in range(1, 4):
            Category.objects.create(pk=n, name=f"Category {n}")
        Place.objects.create(pk=1, name="here")


def test_all_audited_models_are_recorded(three: None):
    """J3."""
    out, err = run()
    assert "shop.category: 3 recorded, 0 had records\nshop.place: 1 recorded, 0 had" in out
    count = 4 + Permission.objects.count()  # which migrations made, in bulk
    models = len({model._meta.concrete_model for model in audited_models()})
    assert out.endswith(f"\n{count} recorded, 0 had records, in {models} models.\n")
    assert err == ""
    assert run()[0].endswith(f"\n0 recorded, {count} had records, in {models} models.\n")
    relay_everywhere()
    assert Record.objects.filter(action="snapshot").count() == count


def test_operator_and_reason_are_on_record(three: None):
    """J3: comment. F11."""
    run("shop.Category", "--reason", "switched on")
    relay_everywhere()
    for record in Record.objects.filter(action__in=["snapshot", baseline.ACTION]):
        assert (record.actor_type, record.actor_id, record.source) == (
            *("system", "manage.py audit_log"),
            "command",
        )
        assert audit_log.contents(record)["reason"] == "switched on"
    assert Record.objects.get(action=baseline.ACTION).data == {
        "count": 3,
        "models": {"shop.category": 3},
    }


def test_models_are_named_as_in_the_settings(three: None):
    found = run_json("SHOP.place", "auth.*", "--batch", "1")
    assert [facts["model"] for facts in found["models"]] == [
        *("auth.group", "auth.permission", "auth.user"),
        "shop.place",
    ]
    assert found["models"][-1] == {
        "model": "shop.place",
        "database": "default",
        "has_table": True,
        "written": 1,
        "known": 0,
        "locked": 0,
        "failed": 0,
    }
    assert (found["dry_run"], found["written"]) == (
        False,
        sum(f["written"] for f in found["models"]),
    )


def test_dry_run_says_what_there_would_be_and_writes_nothing(three: None):
    Category.objects.create(pk=9, name="known")
    before = Outbox.objects.count()
    assert "shop.category: 3 would be recorded, 1 had records" in run("--dry-run")[0]
    assert run_json("shop.*", "--dry-run")["written"] == 4
    assert Outbox.objects.count() == before
    assert not Record.objects.exists()


def test_what_a_killed_run_left_in_the_outbox_is_relayed_first(three: None):
    run("shop.Category")
    assert len(waiting()) == 3
    assert run_json("shop.Category")["known"] == 3
    assert waiting() == []


def test_incomplete_ones_get_a_snapshot_where_asked_for(three: None):
    category = Category.objects.get(pk=2)
    category.name = "changed"
    category.save()
    assert run_json("shop.Category")["written"] == 2
    assert run_json("shop.Category", "--incomplete")["written"] == 1
    assert ids(waiting()) == ["2"]


def test_other_database_is_gone_through_where_named(three: None):
    with unseen():
        Category.objects.using("other").create(pk=50, name="there")
    found = run_json("shop.Category", "--database", "other")
    assert (found["written"], found["models"][0]["database"]) == (1, "other")
    assert ids(waiting(using="other")) == ["50"]
    assert run_json("--database", "other")["known"] >= 1


def test_word_that_names_no_audited_model_is_an_error_that_says_why():
    """J2."""
    assert "'shop.categry' names no audited model; expected" in failing("shop.categry")
    assert "expected app.Model or app.*" in failing("shop")
    assert "it is a model, but MODELS" in failing("shop.Unlisted")
    assert "it is a model, but MODELS" in failing("audit_log.Record")


def test_with_the_log_off_it_says_so(three: None, settings: Any):
    with override_settings(AUDIT_LOG={**settings.AUDIT_LOG, "ENABLED": False}):
        assert "ENABLED" in failing()
    assert Outbox.objects.count() == 0


def test_ends_with_an_error_where_some_were_not_recorded(
    three: None, monkeypatch: pytest.MonkeyPatch
):
    event_of = baseline._Objects._event

    def failing_once(self: Any, instance: Any) -> Any:
        if instance.pk == 2:
            raise RuntimeError("somebody else's code")
        return event_of(self, instance)

    monkeypatch.setattr(baseline._Objects, "_event", failing_once)
    assert failing("shop.Category").startswith("1 objects were not recorded")
    monkeypatch.undo()
    assert run_json("shop.Category")["written"] == 1


def _rename(old: str, new: str) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(Wordy, old, new)


def test_table_that_is_missing_is_named():
    _rename("shop_wordy", "shop_elsewhere")
    try:
        assert "! shop.wordy: there is no table in 'default'" in run("shop.Wordy")[0]
    finally:
        _rename("shop_elsewhere", "shop_wordy")


def test_progress_is_shown_on_stderr(three: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output, "_REDRAW_SECONDS", 0)
    out, err = run("shop.Category", "--batch", "1", "--progress")
    assert "shop.category: 1 recorded" in err
    assert "\r" not in out
