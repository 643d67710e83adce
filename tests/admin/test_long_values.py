"""Long values: shortened where they are shown, if at all, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import pytest

import audit_log
from audit_log.admin import RecordAdmin
from audit_log.models import Record
from tests.admin.pages import URL, page_of, text_of
from tests.shop.models import Product

pytestmark = pytest.mark.django_db
LONG = "ab" * 300


@pytest.fixture
def long(store: Any) -> Record:
    """A change of a long text, which is sealed; and data of its own, which is long too."""
    product = Product.objects.create(name="p", description=LONG)
    store()
    product.description = "c" * 500
    product.save()
    store()
    return Record.objects.get(action="update")


def _cells(text: str) -> list[str]:
    """What stands for the old and the new value."""
    found = re.findall(r'<td class="audit-(?:old|new)">(.*?)</td>', text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in found]


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (-1, [LONG, "c" * 500]),
        (600, [LONG, "c" * 500]),
        (550, [f"{LONG[:550]} … (600 characters in all)", "c" * 500]),
        (3, ["aba … (600 characters in all)", "ccc … (500 characters in all)"]),
        (0, ["… (600 characters in all)", "… (500 characters in all)"]),
    ],
)
def test_long_text_is_shortened_on_the_page(
    opener: Any, long: Record, monkeypatch: pytest.MonkeyPatch, length: int, shown: list[str]
):
    """C13: 0 shows nothing of it, -1 all; stored is all."""
    monkeypatch.setattr(RecordAdmin, "value_length", length)
    cells = _cells(text_of(opener.post(f"{URL}{long.pk}/open/")))
    assert cells[:2] == shown
    assert not any("in all" in time for time in cells[2:])
    assert audit_log.contents(long)["changes"]["description"] == [LONG, "c" * 500]


def test_it_is_off_unless_somebody_says_so():
    """C13"""
    assert RecordAdmin.value_length == -1


def test_nothing_but_long_values_is_shortened(
    opener: Any, make_record: Any, monkeypatch: pytest.MonkeyPatch
):
    """C13: data are; ids, and words for what is not there, are not."""
    monkeypatch.setattr(RecordAdmin, "value_length", 4)
    row = make_record(
        changes={"a": [None, {"k": ["long enough"]}]},
        changed_fields=["a"],
        data={"note": "a long note"},
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    text = text_of(opener.get(page_of(row)))
    assert _cells(text)[0] == "none"
    assert "characters in all" in _cells(text)[1]
    assert "long enough" not in text
    assert "a long note" not in text
    assert "(11 characters in all)" in text
    assert row.trace_id in text
