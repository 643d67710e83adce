"""Whatever the ORM does: the records, folded over the first state, give the rows as they are."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from audit_log import testing
from audit_log.models import Outbox, Record
from audit_log.recording import losses
from tests.capture.folding import fold, rows_of
from tests.capture.operations import Machine, begin_with, steps
from tests.shop.models import Tag, Watched

pytestmark = pytest.mark.django_db(transaction=True)


def _check(operations: list[tuple[Any, ...]], rows: int, *, loaded: bool) -> None:
    testing.relay()  # what an example that failed has left
    begin_with(rows, tags=3)
    states, lost = rows_of(Watched, Tag), losses.counts()
    last = Record.objects.order_by("-sequence").values_list("sequence", flat=True).first()
    Machine(loaded=loaded).run(operations)
    testing.relay()
    assert not Outbox.objects.exists()
    since = Record.objects.filter(sequence__gt=-1 if last is None else last).order_by("sequence")
    fold(states, since, exact=not loaded)
    assert states == rows_of(Watched, Tag)
    assert losses.counts() == lost


@pytest.mark.parametrize("before", ["loaded", "database"])
@pytest.mark.parametrize("examples", [80, pytest.param(400, marks=pytest.mark.slow)])
def test_records_fold_to_the_rows(before: str, examples: int, settings: Any):
    """In autocommit, in blocks, in blocks that are rolled back; each with the right old values.

    With those from the database none is unknown, behind stale instances as well. With those as
    loaded no instance is saved behind which others wrote: a limit that docs/architecture.md states.
    """
    asked = {"shop.Watched": {"before": before}, "shop.Tag": {"before": before}}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "MODELS": ["*", asked]}

    @hypothesis.settings(max_examples=examples)
    @hypothesis.given(operations=steps(), rows=st.integers(0, 3))
    def they_fold(operations: list[tuple[Any, ...]], rows: int) -> None:
        _check(operations, rows, loaded=before == "loaded")

    they_fold()
