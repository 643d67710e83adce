"""Several writers at once: what was recorded, in its order, is what happened to each row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from audit_log import testing
from audit_log.models import Record
from audit_log.recording import losses
from tests.capture.folding import fold, rows_of
from tests.capture.writers import NUMBERS, Writer, begin
from tests.shop.models import Restaurant, Stock

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 3


@pytest.fixture(autouse=True)
def _from_the_database(settings: Any) -> None:
    asked = {"shop.Restaurant": {"before": "database"}}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "MODELS": ["*", asked]}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("returning", [False, True], ids=["deleted for good", "saved again"])
def test_records_of_concurrent_writers_fold_to_the_rows(seed: int, returning: bool):
    """Each old value is what the record before it left, whoever wrote that.

    That of a row which is deleted and saved again may be unknown: nobody saw it.
    """
    begin()
    states, lost = rows_of(*NUMBERS), losses.counts()
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [
            pool.submit(Writer(f"{seed}/{n}", returning=returning).run, 20) for n in range(WRITERS)
        ]
        done = sum(writer.result(600) for writer in writers)
    testing.relay()
    records = Record.objects.filter(stream="default").order_by("sequence")
    fold(states, records, exact=not returning)
    assert states == rows_of(Stock, Restaurant)
    assert losses.counts() == lost
    assert done > WRITERS
    assert records.count() > WRITERS
