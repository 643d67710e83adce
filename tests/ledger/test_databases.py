"""What databases do differently with what we store, and must not."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.apps import apps
from django.db import connection, models

from audit_log.events import emitter
from audit_log.ledger import heads
from audit_log.ledger.verification import verify
from audit_log.models import DataKey, Record, Stream
from audit_log.models.text import _Exact
from audit_log.privacy import data_keys
from tests.ledger.building import a_full_event, an_event, write

# One text, as case-insensitive, accent-insensitive and padding collations see it.
ALIKE = ["subject", "Subject", "sübject", "subject ", "subject\t"]


@pytest.mark.django_db
def test_texts_that_are_alike_are_several_streams():
    for name in ALIKE:
        heads.ensure([name], "default")
    assert Stream.objects.count() == len(ALIKE)
    assert [Stream.objects.get(pk=name).name for name in ALIKE] == ALIKE


@pytest.mark.django_db
def test_persons_whose_names_are_alike_have_keys_of_their_own():
    for name in ALIKE:
        data_keys.key_for(data_keys.subject_scope(name), "default", 0)
    assert DataKey.objects.count() == len(ALIKE)


@pytest.mark.django_db
def test_records_of_targets_that_are_alike_are_told_apart():
    from audit_log.events import Target

    write([an_event(target=Target("shop.country", name, "x")) for name in ALIKE])
    for name in ALIKE:
        assert Record.objects.filter(target_id=name).count() == 1
    assert verify().ok


def test_every_text_of_ours_is_compared_exactly():
    """So that no new table forgets to."""
    texts = [
        field
        for model in apps.get_app_config("audit_log").get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, models.CharField | models.TextField)
    ]
    assert len(texts) > 30
    assert [str(field) for field in texts if not isinstance(field, _Exact)] == []


@pytest.mark.django_db
def test_order_of_ids_is_their_order_in_time():
    """MariaDB's own UUID type turned some versions round."""
    ids = [emitter().stamp()[0] for _ in range(50)]
    edges = [
        uuid.UUID(f"{first:08x}-0000-7000-8000-000000000000") for first in (1, 2**31, 2**32 - 1)
    ]
    write([an_event(id=id_) for id_ in ids])
    Record.objects.bulk_create(
        Record(
            id=id_,
            version=1,
            stream="x",
            sequence=n,
            occurred_at=moment,
            recorded_at=moment,
            action="x",
            outcome="x",
            source="x",
        )
        for n, id_ in enumerate(edges)
        for moment in [Record.objects.first().recorded_at]  # type: ignore[union-attr]
    )
    found = list(Record.objects.order_by("id").values_list("id", flat=True))
    assert found == sorted([*ids, *edges])


@pytest.mark.django_db
def test_many_large_records_are_stored_at_once():
    """MariaDB ends the connection at a packet of more than 16 MB."""
    text = "\"\\'" * 15_000
    events = [a_full_event(n, changes={"text": [None, text]}, sealed=()) for n in range(500)]
    assert write(events).stored == 500
    assert Record.objects.count() == 500


@pytest.mark.django_db(transaction=True)
def test_relays_that_need_the_same_new_stream_share_it():
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            for n in range(10):
                barrier.wait(300)
                assert heads.ensure([f"stream {n}", "shared"], "default")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(300)
    assert Stream.objects.count() == 11
