"""The OpenAPI document: kept in step with the views, and true of what they answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from drf_spectacular import validation
from rest_framework.schemas.openapi import SchemaGenerator

from audit_log import testing
from audit_log.api import schema
from audit_log.ledger import checkpoints
from audit_log.models import Record
from tests.api.asking import ROOT, get, post
from tests.api.conftest import ALERTS, OPEN, VIEW
from tests.api.test_ledger import a_part, an_alert
from tests.ledger.building import a_full_event, an_event, write
from tests.shop.models import Category

ROOT_FOLDER = Path(__file__).resolve().parent.parent.parent
MOUNT = "/audit"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(schema.FILE.read_text())
    return found


def test_document_is_what_the_views_say_now():
    """Else run `python -m audit_log.api`."""
    assert schema.FILE.read_text() == schema.generate()


def test_command_writes_the_document(tmp_path):
    """In a process whose settings say nothing of spectacular, and with another language."""
    script = (
        "import pathlib, sys, django; django.setup(); from audit_log.api import schema;"
        "pathlib.Path(sys.argv[1]).write_text(schema.generate())"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    written = tmp_path / "openapi.yaml"
    ended = subprocess.run(
        [sys.executable, "-c", script, str(written)],
        cwd=ROOT_FOLDER,
        env={**environment, "BANK_VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert written.read_text() == schema.FILE.read_text()


def test_document_is_valid_openapi(document):
    check: Any = validation.validate_schema
    check(document)


def test_docs_hold_the_same_document():
    assert (ROOT_FOLDER / "docs" / "openapi.yaml").read_text() == schema.FILE.read_text()


@pytest.mark.django_db
def test_served_document_names_where_it_is_mounted(reader, document):
    response = reader.get(f"{ROOT}schema/")
    assert response["Content-Type"] == "application/yaml"
    assert yaml.safe_load(response.content) == document
    assert yaml.safe_load(response.content)["servers"] == [{"url": MOUNT}]


@pytest.mark.django_db
def test_document_says_where_it_is_mounted_elsewhere(reader, settings):
    settings.ROOT_URLCONF = "tests.api.urls_elsewhere"
    response = reader.get("/some/where/v1/schema/")
    assert yaml.safe_load(response.content)["servers"] == [{"url": "/some/where"}]


def test_generators_of_the_project_take_no_harm():
    """DRF's own, which asks views in another way."""
    from django.urls import include, path

    patterns = [path("audit/", include("audit_log.api.urls"))]
    found = SchemaGenerator(patterns=patterns, title="host").get_schema(public=True)
    assert "/audit/v1/records/" in found["paths"]


# What the views answer is what the document says


def answer_schema(document: dict[str, Any], path: str, method: str, response: Any) -> Any:
    """The schema of an answer. Fails where status or type are not in the document."""
    answers = document["paths"][path][method]["responses"]
    content = answers[str(response.status_code)]["content"]
    return content[response["Content-Type"].partition(";")[0]]["schema"]


def strict(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable`, and no member that is not named."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: strict(value) for key, value in node.items() if key != "nullable"}
    if "properties" in found and isinstance(node["properties"], dict):
        found.setdefault("additionalProperties", False)
    if node.get("nullable"):
        found = {"anyOf": [found, {"type": "null"}]}
    return found


@pytest.fixture
def checked(document: dict[str, Any]) -> Any:
    components = strict(document["components"])

    def check(path: str, method: str, response: Any) -> None:
        found = strict(answer_schema(document, path, method, response))
        jsonschema.Draft202012Validator(
            {**found, "components": components},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        ).validate(response.json())
        if response.status_code == 200:
            said = document["paths"][path][method]["responses"]["200"]["headers"]
            assert set(said) <= set(response.headers)

    return check


@pytest.fixture
def everything(person: Any) -> Any:
    """Something to answer with, and somebody who may see it all."""
    write([a_full_event(n) for n in range(3)] + [an_event()])
    Category.objects.create(name="Lamps")
    testing.relay()
    checkpoints.sign_all()
    write([an_event()], "unsigned")
    a_part(0)
    a_part(10, state="purged", error="x")
    an_alert()
    return person(VIEW, OPEN, ALERTS, name="all")


EXAMPLES: dict[str, dict[str, list[str]]] = {
    "/v1/records/": {
        "get": [
            *("", "?page_size=1", "?stream=default&after=-1", "?x=1", "?stream=default&after=99"),
            "?stream=nothing&after=-1",
        ]
    },
    "/v1/records/{id}/": {"get": [""]},
    "/v1/records/{id}/contents/": {"post": [""]},
    "/v1/targets/{type}/{id}/": {"get": ["", "?page_size=1", "?cursor=x"]},
    "/v1/streams/": {"get": [""]},
    "/v1/checkpoints/": {"get": ["", "?page_size=1", "?x=1"]},
    "/v1/parts/": {"get": ["", "?state=x"]},
    "/v1/alerts/": {"get": ["", "?x=1"]},
    "/v1/statistics/": {"get": ["", "?interval=day&group_by=outcome", "?interval=x"]},
    "/v1/statistics/routes/": {"get": ["", "?since=2020-01-01"]},
    "/v1/health/": {"get": [""]},
}


def examples() -> Iterator[tuple[str, str, str]]:
    for path, methods in EXAMPLES.items():
        for method, queries in methods.items():
            for query in queries:
                yield path, method, query


def ask(client: Any, path: str, method: str, query: str) -> Any:
    row = Record.objects.filter(target_type="shop.product").first()
    id_ = "0" if row is None else row.target_id if "targets" in path else row.pk
    url = MOUNT + path.replace("{type}", "shop.product").replace("{id}", str(id_)) + query
    return post(client, url) if method == "post" else client.get(url)


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize(("path", "method", "query"), list(examples()))
def test_answer_is_what_the_document_says(everything, checked, path, method, query):
    checked(path, method, ask(everything, path, method, query))


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "method", "query"), [e for e in examples() if not e[2]])
def test_refusal_is_what_the_document_says(client, checked, path, method, query):
    row = Record.objects.first()
    assert row is None
    url = path.replace("{type}", "a.b").replace("{id}", "0190a5d2-0000-7000-8000-000000000000")
    response = post(client, MOUNT + url) if method == "post" else client.get(MOUNT + url)
    assert response.status_code == 403
    checked(path, method, response)


def test_examples_cover_every_path(document):
    said = {path: set(methods) for path, methods in document["paths"].items()}
    said.pop("/v1/schema/")
    assert said == {path: set(methods) for path, methods in EXAMPLES.items()}


@pytest.mark.django_db
def test_every_parameter_in_the_document_is_taken(person, document):
    client = person(VIEW, ALERTS)
    sensible = {
        "group_by": "action",
        "interval": "hour",
        "ip": "10.0.0.1",
        "outcome": "success",
        "page_size": "5",
        "q": "action:x",
        "since": "2026-03-01",
        "state": "planned",
        "until": "2026-03-02",
    }
    for path, methods in document["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] == "query" and name not in {"after", "cursor", "rule"}:
                since = {"since": "2026-03-01"} if name == "until" else {}
                until = {"until": "2026-03-02"} if name == "since" else {}
                url = MOUNT + path.replace("{type}", "a.b").replace("{id}", "1")
                get(client, url, **{**since, **until, name: sensible.get(name, "x")})
