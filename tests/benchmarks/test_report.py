"""docs/performance.md says what benchmarks/results.json says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import plan, report, results
from benchmarks.subjects import NAMES

ROOT = report.PAGE.parent.parent


def test_the_page_is_the_one_made_from_the_results():
    """`python -m benchmarks.report` makes it anew."""
    page = report.PAGE.read_text()
    assert report.rendered(page, results.load()) == page


def test_the_page_has_a_place_for_every_part():
    page = report.PAGE.read_text()
    for name in report.PARTS:
        assert page.count(f"<!-- made by benchmarks.report: {name} -->") == 1


def test_an_unknown_part_is_refused():
    with pytest.raises(KeyError, match="nonsense"):
        report.rendered("<!-- made by benchmarks.report: nonsense -->\n<!-- end -->", {})


def test_the_results_have_every_operation_of_every_subject():
    found = {(row["operation"], row["subject"]) for row in results.load()["rows"]}
    assert found >= {(operation, subject) for operation in plan.NAMES for subject in NAMES}


def test_rendering_needs_no_package_that_only_measuring_needs():
    """A page that is one of today can be checked where the peers are not installed."""
    code = (
        "import sys; import benchmarks.report; import json;"
        "print(json.dumps([name for name in ('matplotlib', 'auditlog', 'psycopg', 'django')"
        " if name in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert json.loads(run.stdout) == []


def test_the_plot_names_every_subject():
    plot = report.PLOT.read_text()
    for name in NAMES[1:]:
        assert name in plot
