"""How the tests ask the API."""

from __future__ import annotations

from typing import Any

from django.test import Client

ROOT = "/audit/v1/"
RECORDS = f"{ROOT}records/"


def get(client: Client, path: str, status: int = 200, /, **parameters: Any) -> Any:
    """What `path` answers, which must be with this status."""
    response = client.get(path if path.startswith(("/", "http")) else ROOT + path, parameters)
    assert response.status_code == status, response.content
    return response.json()


def refused(client: Client, path: str, **parameters: Any) -> dict[str, list[str]]:
    """The errors of a request that makes no sense."""
    errors: dict[str, list[str]] = get(client, path, 400, **parameters)["errors"]
    return errors


def numbers(page: Any) -> list[int]:
    """The sequences on a page, in their order."""
    return [row["sequence"] for row in page["results"]]


def all_pages(client: Client, path: str, **parameters: Any) -> list[Any]:
    """Every row, page by page."""
    page = get(client, path, **parameters)
    found = list(page["results"])
    while page["next"]:
        page = get(client, page["next"])
        found += page["results"]
    return found


def post(client: Client, url: str, **body: Any) -> Any:
    """The response to a JSON object."""
    return client.post(url, body, content_type="application/json")
