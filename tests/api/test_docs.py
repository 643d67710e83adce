"""docs/api.md says what the API does."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.urls import Resolver404, resolve
from rest_framework.exceptions import ValidationError

from audit_log.api import filters, problems, throttling, urls
from audit_log.reading import statistics

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r'"\$LOG(/[^"]+)"', TEXT)


def _rows(heading: str) -> dict[str, str]:
    """The first two cells of the table whose head begins with this."""
    table = TEXT.split(f"| {heading}", 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.MULTILINE))


def test_table_of_paths_lists_every_path_and_no_other() -> None:
    known = {"v1/" + re.sub(r"<\w+:", "<", str(found.pattern)) for found in urls.v1}
    assert set(_rows("path |")) == known


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_leads_somewhere_and_asks_what_is_taken(example: str) -> None:
    parts = urlsplit(example)
    try:
        view = resolve(f"/audit{parts.path}", urlconf="tests.api.urls").func
    except Resolver404:
        pytest.fail(f"{parts.path} is no path of the API.")
    asked = set(parse_qs(parts.query))
    taken = {*filters.RecordFilter.base_filters, "after", "page_size", "interval", "group_by"}
    assert asked <= taken, view


def test_every_filter_is_documented() -> None:
    section = TEXT.split("### Finding records", 1)[1].split("###", 1)[0]
    for name in filters.RecordFilter.base_filters:
        assert f"`{name}`" in section


def test_every_interval_and_group_is_documented() -> None:
    section = TEXT.split("### Figures", 1)[1].split("\n## ", 1)[0]
    for name in (*statistics.INTERVALS, *statistics.GROUPS):
        assert f"`{name}`" in section
    assert str(statistics.MAX_GROUPS) in section


def test_table_of_rates_is_the_one_in_force() -> None:
    assert {name: rate.strip() for name, rate in _rows("scope").items()} == throttling.RATES


def test_members_of_a_problem_are_documented() -> None:
    error = ValidationError({"a": ["b"]})
    for name in problems.document(error, "/x/"):
        assert f"`{name}`" in TEXT
