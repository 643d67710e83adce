"""The API is itself, whatever REST_FRAMEWORK the project has made for its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.test import Client, override_settings

from audit_log.api import throttling
from tests.api.asking import ROOT, get, post
from tests.api.strange_settings import REST_FRAMEWORK
from tests.ledger.building import a_full_event, write

pytestmark = pytest.mark.django_db


def answers(client: Client) -> list[tuple[int, str | None, Any]]:
    """Status, type and body of some of everything."""
    found: list[tuple[int, str | None, Any]] = []
    for path in (
        *("records/", "records/?outcome=success", "records/?page_size=x", "streams/"),
        *("statistics/?since=2026-03-01&until=2026-03-02", "records/0/", "parts/", "alerts/"),
    ):
        response = client.get(ROOT + path)
        is_json = "json" in response["Content-Type"]
        body = json.loads(response.content) if is_json else None
        found.append((response.status_code, response["Content-Type"], body))
    return found


def test_settings_that_are_read_at_import_change_nothing():
    """In a process of its own: DRF reads most of them when its modules are first imported."""
    script = """
import datetime, json, django
django.setup()
from audit_log.api import ledger, resource, serializers
shown = {
    name: [kind.__name__ for kind in getattr(resource.Resource, name)]
    for name in ("permission_classes", "renderer_classes", "parser_classes", "throttle_classes")
}
shown["versioning"] = resource.Resource.versioning_class
shown["filters"] = [kind.__name__ for kind in ledger.PartList.filter_backends]
shown["paging"] = ledger.PartList.pagination_class.__name__
moment = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
shown["moment"] = serializers.Moment().to_representation(moment)
shown["day"] = serializers.PartSerializer().fields["day"].to_representation(moment.date())
shown["json"] = resource.PlainJSON().render({"a": "ü"}).decode()
print(json.dumps(shown))
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.api.strange_settings"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "permission_classes": ["Permitted"],
        "renderer_classes": ["PlainJSON"],
        "parser_classes": ["PlainJSONParser"],
        "throttle_classes": ["Throttle"],
        "versioning": None,
        "filters": ["Filters"],
        "paging": "NewestFirst",
        "moment": "2026-03-01T00:00:00.000000Z",
        "day": "2026-03-01",
        "json": '{"a":"ü"}',
    }


def test_answers_are_the_same_under_any_settings(reader):
    write([a_full_event()])
    plain = answers(reader)
    with override_settings(REST_FRAMEWORK=REST_FRAMEWORK, TIME_ZONE="Asia/Tokyo"):
        assert answers(reader) == plain


def test_nobody_at_all_is_refused_where_the_project_knows_no_anonymous_user(client):
    with override_settings(REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}):
        get(client, "records/", 403)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*;q=0.5"])
def test_answer_is_json_whatever_is_accepted(reader, accept):
    response = reader.get(f"{ROOT}records/", headers={"Accept": accept})
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_nothing_is_kept_in_a_cache(reader, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.middleware.http.ConditionalGetMiddleware",
    ]
    for path in ("records/", "streams/", "records/?x=1", "schema/"):
        response = reader.get(ROOT + path)
        assert "ETag" not in response
        assert response["Cache-Control"] == "no-store"


# Throttling


def test_reading_is_throttled_by_user(reader, person, monkeypatch):
    monkeypatch.setitem(throttling.RATES, throttling.READING, "3/min")
    for _ in range(3):
        get(reader, "records/")
    response = reader.get(f"{ROOT}streams/")
    assert response.status_code == 429
    assert response["Content-Type"] == "application/problem+json"
    assert 0 < int(response["Retry-After"]) <= 61
    assert response.json()["code"] == "throttled"
    get(person("view_record", name="other"), "records/")


def test_opening_and_counting_have_rates_of_their_own(opener, monkeypatch):
    write([a_full_event()])
    place = ROOT + f"records/{get(opener, 'records/')['results'][0]['id']}/contents/"
    monkeypatch.setitem(throttling.RATES, throttling.OPENING, "1/min")
    monkeypatch.setitem(throttling.RATES, throttling.COUNTING, "1/min")
    assert [post(opener, place).status_code for _ in range(2)] == [200, 429]
    get(opener, "statistics/")
    get(opener, "statistics/routes/", 429)
    get(opener, "records/")


@pytest.mark.parametrize(("rate", "last"), [("1/day", 429), (None, 200)])
def test_project_may_set_the_rates(reader, rate, last):
    with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"audit_log": rate}}):
        get(reader, "records/")
        get(reader, "records/", last)


# What is installed


@pytest.mark.parametrize("missing", ["rest_framework", "django_filters", "drf_spectacular"])
def test_missing_package_is_named(missing):
    script = f"""
import sys, importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else real(name, *rest)
from django.core.exceptions import ImproperlyConfigured
try:
    import audit_log.api.urls
except ImproperlyConfigured as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert missing in ended.stdout
    assert "django-audit-ledger[api]" in ended.stdout


def test_works_where_none_of_them_is_in_installed_apps(reader, settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app not in {"rest_framework", "django_filters"}
    ]
    write([a_full_event()])
    assert len(get(reader, "records/")["results"]) == 1
    assert "acton" in get(reader, "records/", 400, acton="x")["errors"]
    get(reader, "statistics/")
