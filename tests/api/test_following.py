"""Following a stream by its numbers: nothing skipped, nothing twice, and a gap is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from django.test import Client

from audit_log.delivery import relay as delivery
from audit_log.models import Record, Stream
from tests.api.asking import get, numbers, refused
from tests.ledger.building import a_long_stream, an_event, sql, write
from tests.shop.models import Category

HURRY = 300  # seconds: bounds a test that hangs


def follow(client: Client, after: int = -1, **parameters: int) -> list[int]:
    """All numbers that are there, page by page."""
    page = get(client, "records/", stream="default", after=after, **parameters)
    found = numbers(page)
    while page["results"]:
        page = get(client, page["next"])
        found += numbers(page)
    return found


@pytest.mark.django_db
def test_stream_is_followed_in_order(reader):
    a_long_stream(12)
    assert follow(reader, page_size=5) == list(range(12))
    assert follow(reader, 7) == [8, 9, 10, 11]


@pytest.mark.django_db
def test_next_is_there_even_when_there_is_nothing_yet(reader):
    a_long_stream(3)
    page = get(reader, "records/", stream="default", after=2)
    assert page["results"] == []
    write([an_event()])
    page = get(reader, page["next"])
    assert numbers(page) == [3]
    assert "after=3" in page["next"]


@pytest.mark.django_db
def test_stream_that_holds_nothing_yet_is_empty(reader):
    assert get(reader, "records/", stream="default", after=-1)["results"] == []
    assert get(reader, "records/", stream="audit_log", after=-1)["results"] == []


@pytest.mark.django_db
def test_stream_that_does_not_exist_is_not_found(reader):
    problem = get(reader, "records/", 404, stream="defualt", after=-1)
    assert "defualt" in problem["detail"]


@pytest.mark.django_db
def test_following_takes_no_filter(reader):
    """A page of what matches could not tell a gap from what did not match."""
    errors = refused(reader, "records/", stream="default", after=0, action="x", cursor="y")
    assert sorted(errors) == ["action", "cursor"]
    assert "stream" in refused(reader, "records/", after=0)


@pytest.mark.django_db
@pytest.mark.parametrize("after", ["-2", "x", "1.5", "9" * 30])
def test_number_that_is_none_is_refused(reader, after):
    assert "after" in refused(reader, "records/", stream="default", after=after)


@pytest.mark.django_db
def test_what_was_purged_is_told_and_where_to_go_on(reader):
    a_long_stream(10)
    sql("DELETE FROM audit_log_record WHERE sequence < 4")
    Stream.objects.update(purged=4)
    problem = get(reader, "records/", 410, stream="default", after=1)
    assert "Records 2 to 3" in problem["detail"]
    assert "purged" in problem["detail"]
    assert follow(reader, 3) == [4, 5, 6, 7, 8, 9]


@pytest.mark.django_db
def test_stream_that_was_purged_to_its_end_says_so(reader):
    a_long_stream(10)
    sql("DELETE FROM audit_log_record")
    Stream.objects.update(purged=10)
    assert "follow number 9" in get(reader, "records/", 410, stream="default", after=-1)["detail"]
    assert follow(reader, 9) == []


@pytest.mark.django_db
def test_page_ends_before_a_hole(reader):
    """In the middle of a purge, or after somebody deleted a row."""
    a_long_stream(10)
    sql("DELETE FROM audit_log_record WHERE sequence = 6")
    page = get(reader, "records/", stream="default", after=-1)
    assert numbers(page) == [0, 1, 2, 3, 4, 5]
    problem = get(reader, page["next"], 410)
    assert "Records 6 to 6" in problem["detail"]
    assert "missing" in problem["detail"]


@pytest.mark.django_db
def test_number_beyond_the_end_is_a_conflict(reader):
    """A restored ledger would else fill up unseen."""
    a_long_stream(3)
    problem = get(reader, "records/", 409, stream="default", after=3)
    assert problem["code"] == "conflict"
    assert "3 records" in problem["detail"]


@contextmanager
def threads(*jobs: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run jobs beside the block. What they raise is in the list."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            errors.append(error)
        finally:
            connections.close_all()

    running = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in running:
        thread.start()
    try:
        yield errors
    finally:
        for thread in running:
            thread.join(HURRY)


@pytest.mark.django_db(transaction=True)
def test_following_beside_many_relays_skips_nothing_and_repeats_nothing(
    reader, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "MAX_ROWS", 3)  # many small rounds that meet
    writers, each = 3, 30
    stopped = threading.Event()

    def write_rows() -> None:
        for n in range(each):
            Category.objects.create(name=str(n))

    def relay_rows() -> None:
        while not stopped.is_set():
            delivery.relay()

    found: list[int] = []
    targets: list[str] = []
    pages = 0
    deadline = time.monotonic() + HURRY
    with threads(*[write_rows] * writers, *[relay_rows] * 3) as errors:
        try:
            page = get(reader, "records/", stream="default", after=-1, page_size=7)
            while len(targets) < writers * each and time.monotonic() < deadline and not errors:
                found += numbers(page)
                targets += [
                    row["target"]["id"]
                    for row in page["results"]
                    if row["target"]["type"] == "shop.category"
                ]
                pages += bool(page["results"])
                page = get(reader, page["next"])
        finally:
            stopped.set()
    assert errors == []
    assert found == list(range(len(found)))
    assert sorted(targets, key=int) == [
        str(pk) for pk in Category.objects.order_by("pk").values_list("pk", flat=True)
    ]
    assert len(targets) == writers * each
    assert pages > 5  # it was followed while it grew, not read at the end
    assert set(found) <= set(Record.objects.values_list("sequence", flat=True))
