"""The value rules on a real database: the write succeeds and the record holds the stand-in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils.functional import lazystr

import audit_log
from audit_log.models import Record
from audit_log.reading.contents import contents
from audit_log.recording.values import MAX_EVENT_BYTES
from tests.shop.models import Broken, Category, Product

pytestmark = pytest.mark.django_db(transaction=True)


def _nested(depth: int) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def _cyclic() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


MATRIX: dict[str, tuple[Callable[[], Any], Any]] = {
    "NUL": (lambda: "a\0b", "a\ufffdb"),
    "lone surrogate": (lambda: "a\udc00b", "a\ufffdb"),
    "NaN": (lambda: float("nan"), "NaN"),
    "infinities": (lambda: [float("inf"), float("-inf")], ["Infinity", "-Infinity"]),
    "inner NUL": (lambda: {"a\0": "\0"}, {"a\ufffd": "\ufffd"}),
    "depth 33": (lambda: _nested(33), None),
    "depth 1100": (lambda: _nested(1100), None),
    "cycle": (_cyclic, None),
    "10**400": (lambda: 10**400, "1" + "0" * 400),
    "10**5000": (lambda: 10**5000, "int(~16610 bits)"),
    "2**63": (lambda: 2**63, "9223372036854775808"),
    "Decimal": (lambda: Decimal("1e400"), "1E+400"),
    "bytes": (
        lambda: b"",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 (0 bytes)",
    ),
    "set": (lambda: {"b", "a"}, ["a", "b"]),
    "tuple key": (lambda: {(1, 2): 3}, {"(1, 2)": 3}),
    "lazy": (lambda: lazystr("lazy"), "lazy"),
    "unprintable": (_Unprintable, f"<{__name__}._Unprintable>"),
    "unprintable key": (lambda: {_Unprintable(): 1}, {"<_Unprintable: RuntimeError>": 1}),
    "10 MB": (lambda: "x" * 10_000_000, "x" * 200 + "…"),
}


@pytest.mark.parametrize("name", MATRIX)
def test_value_is_stored_as_its_rule_says(name: str, settle):
    """K8, values_matrix: by `record()`, which takes anything, within a transaction that goes on."""
    make, expected = MATRIX[name]
    with transaction.atomic():
        audit_log.record("probe.value", data={"thing": make(), "beside": 7})
        Category.objects.create(name="beside")
    settle()
    assert Category.objects.count() == 1
    data = contents(Record.objects.get(action="probe.value"))["data"]
    assert data["beside"] == 7
    if expected is not None:
        assert data["thing"] == expected
    else:
        assert "...depth" in str(data["thing"])


def _size(record: Record) -> int:
    sealed = sum(len(getattr(record, name) or b"") for name in ("sealed_actor", "sealed_data"))
    return sealed + len(str(record.changes)) + len(str(record.data)) + len(str(record.redactions))


def test_ten_megabyte_field_is_a_small_event_with_its_hash(settle):
    """ten_mb_field."""
    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=10_000_000))
    product = Product.objects.create(name="large", description=text)
    product.description = text[1:]
    product.save()
    settle()
    assert Product.objects.get().description == text[1:]
    created, updated = Record.objects.filter(target_type="shop.product").order_by("sequence")
    assert max(_size(created), _size(updated)) <= MAX_EVENT_BYTES
    old, new = contents(updated)["changes"]["description"]
    assert (old, new) == (text[:200] + "…", text[1:201] + "…")
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert {"path": "changes.description.0", "rule": f"cut:10000000:sha256:{digest}"} in (
        updated.redactions or []
    )


def test_object_that_cannot_say_its_name_is_recorded(settle):
    """C17."""
    broken = Broken.objects.create(name="x")
    broken.name = "y"
    broken.save()
    broken.delete()
    settle()
    records = Record.objects.filter(target_type="shop.broken").order_by("sequence")
    assert [row.action for row in records] == ["create", "update", "delete"]
    assert {contents(row)["target_label"] for row in records} == {"<Broken: DoesNotExist>"}


@pytest.mark.parametrize(
    ("weight", "expected"),
    [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity"), ("1e308", "1e+308")],
)
def test_number_that_json_has_no_word_for_is_a_string(weight: str, expected: str, settle):
    if weight == "nan" and connection.vendor == "sqlite":
        pytest.skip("SQLite makes NaN null.")
    if weight != "1e308" and connection.vendor == "mysql":
        pytest.skip("This database's driver refuses it, with us or without.")
    Product.objects.create(name="x", weight=float(weight))
    settle()
    assert contents(Record.objects.get())["changes"]["weight"] == [None, expected]


@pytest.mark.parametrize("text", ["a\0b", "tab\tand\nline", "\u202eright to left", "\U0001f600"])
def test_text_that_the_database_takes_is_recorded(text: str, settle):
    if "\0" in text and connection.vendor == "postgresql":
        pytest.skip("This database refuses NUL, with us or without.")
    Category.objects.create(name=text)
    settle()
    assert contents(Record.objects.get())["changes"]["name"] == [None, text.replace("\0", "\ufffd")]


@pytest.mark.parametrize(
    "attributes",
    [
        _nested(30),
        {"deep": _nested(50)},
        {"n": 2**60, "f": 0.1, "none": None},
        {"__type__": "x", "__value__": 1},
        {"x" * 5_000: "long key"},
        ["x" * 1_000] * 500,
    ],
    ids=["deep", "deeper", "numbers", "kombu's poison", "long key", "many texts"],
)
def test_json_field_with_anything_in_it_is_saved_and_recorded(attributes: Any, settle):
    if "deep" in attributes and connection.vendor == "mysql":
        pytest.skip("This database refuses more than 32 levels, with us or without.")
    product = Product.objects.create(name="x", attributes=attributes)
    settle()
    assert Product.objects.get(pk=product.pk).attributes == attributes
    record = Record.objects.get(target_id=str(product.pk), target_type="shop.product")
    assert _size(record) <= MAX_EVENT_BYTES
    if "__type__" in attributes:
        assert contents(record)["changes"]["attributes"] == [None, attributes]
