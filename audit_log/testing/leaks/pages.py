"""What people are shown: pages of the admin, answers of the API, the output of a verb."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from django.core.management import call_command
from django.test import Client
from django.urls import NoReverseMatch, reverse

from audit_log.models import Record
from audit_log.router import ledger_alias
from audit_log.testing.leaks.places import LABELS, OPENED, Piece, Place, as_bytes

_API: Final = "audit_log_api"
_LISTS: Final = ("records", "streams", "checkpoints", "parts", "statistics", "routes", "health")
_JSON: Final = "application/json"
_RECORD: Final = re.compile(rb"/record/([0-9a-f-]{36})/")
_REDIRECT: Final = 300
_UNWELL: Final = 503  # what `health/` says of parked batches


def admin(client: Client, *, opened: bool = False) -> Place:
    """The list of records, the page of each, and the history of each object (a record is one).

    As the client's user sees them; with `opened`, each record is opened as well, which needs
    `view_sealed`.
    """

    def read() -> Iterator[Piece]:
        yield from _listed(client, reverse("admin:audit_log_record_changelist"))
        targets: dict[tuple[str, str], None] = {}
        for row in _records():
            yield _page(client, reverse("admin:audit_log_record_change", args=[row.pk]))
            if opened:
                url = reverse("admin:audit_log_record_open", args=[row.pk])
                yield url, _answer(url, client.post(url, {"reason": "to look for leaks"}))
            if row.target_type and row.target_id:
                targets[row.target_type, row.target_id] = None
        for kind, key in targets:
            try:
                url = reverse(f"admin:{kind.replace('.', '_', 1)}_history", args=[key])
            except NoReverseMatch:
                continue  # not on this site
            yield _page(client, url)

    return Place("a page of the admin", read, OPENED if opened else LABELS)


def _listed(client: Client, url: str) -> Iterator[Piece]:
    """The pages of the list, until there is no record on one that was not on those before."""
    seen: set[bytes] = set()
    for number in itertools.count(1):
        found, answer = _page(client, f"{url}?time=any&p={number}")
        yield found, answer
        if seen.issuperset(on_page := _RECORD.findall(answer)):
            return
        seen.update(on_page)


def api(client: Client, *, opened: bool = False) -> Place:
    """Lists with all their pages, each record, each target's history, statistics and health.

    As the client's user sees them; with `opened`, each record's contents as well.
    """

    def read() -> Iterator[Piece]:
        for name in _LISTS:
            yield from _followed(client, reverse(f"{_API}:{name}"))
        targets: dict[tuple[str, str], None] = {}
        for row in _records():
            yield _page(client, reverse(f"{_API}:record", args=[row.pk]))
            if opened:
                url = reverse(f"{_API}:contents", args=[row.pk])
                sent = {"reason": "to look for leaks"}
                yield url, _answer(url, client.post(url, sent, content_type=_JSON))
            if row.target_type and row.target_id:
                targets[row.target_type, row.target_id] = None
        for target in targets:
            yield from _followed(client, reverse(f"{_API}:target", args=target))

    return Place("an answer of the API", read, OPENED if opened else LABELS)


def _followed(client: Client, url: str) -> Iterator[Piece]:
    next_: str | None = url
    while next_:
        response = client.get(next_)
        yield next_, _answer(next_, response)
        found = response.json() if response.headers.get("Content-Type") == _JSON else None
        next_ = found.get("next") if isinstance(found, dict) else None


def search(*, opened: bool = False) -> Place:
    """What `audit_log search` prints of all records, in words and as JSON; `--open` opens them."""

    def read() -> Iterator[Piece]:
        for options in ([], ["--json"]):
            printed, told = io.StringIO(), io.StringIO()
            arguments: list[Any] = ["search", "--limit", "1000000", *options]
            call_command(
                "audit_log", *arguments, *(["--open"] * opened), stdout=printed, stderr=told
            )
            for line in printed.getvalue().splitlines():
                yield "the output of `search`", as_bytes(line)
            yield "what `search` told", as_bytes(told.getvalue())

    return Place("what a verb prints", read, OPENED if opened else LABELS)


def export(*subjects: str) -> Place:
    """What `audit_log export --subject` gives these people, as JSON and as a page."""

    def read() -> Iterator[Piece]:
        for subject in subjects:
            for form in ("json", "html"):
                printed = io.StringIO()
                words = [f"--subject={subject}", f"--format={form}"]
                call_command("audit_log", "export", *words, stdout=printed)
                yield f"the export of {subject}", as_bytes(printed.getvalue())

    return Place("what a person is given", read, OPENED)


def _records() -> Iterator[Record]:
    """Those there are now: looking at them makes more."""
    rows = Record.objects.using(ledger_alias()).only("id", "target_type", "target_id")
    yield from list(rows.order_by("id"))


def _page(client: Client, url: str) -> Piece:
    return url, _answer(url, client.get(url))


def _answer(url: str, response: Any) -> bytes:
    """Status, headers and body. Raises AssertionError where nothing is shown."""
    if response.status_code >= _REDIRECT and response.status_code != _UNWELL:
        raise AssertionError(
            f"{url} answers {response.status_code}, so it was not looked for leaks. Log the client "
            "in as somebody who may see it, and lift the limits of throttling."
        )
    headers = json.dumps(dict(response.headers))
    return as_bytes(f"{response.status_code}\n{headers}\n") + bytes(response.content)
