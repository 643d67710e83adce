"""`python -m benchmarks.detection`: precision and recall of each detector.

Writes results.json and the figures in docs/masking.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from benchmarks.detection.measuring import SEED, Outcome, corpus, measure, results
from benchmarks.detection.tables import rendered

PATH: Final = Path(__file__).parent / "results.json"
PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "masking.md"
_COLUMNS: Final = ("strings", "found", "missed", "false", "undecidable", "precision", "recall")
_SHOWN: Final = 3


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{found['strings']} strings that hold something, {found['look_alikes']} that do not")
    print(f"{'detector':18}" + "".join(f"{column:>13}" for column in _COLUMNS))
    for name, row in found["detectors"].items():
        cells = [row[column] for column in _COLUMNS]
        print(f"{name:18}" + "".join(f"{_cell(cell):>13}" for cell in cells))
    for key in ("missed", "false"):
        for name, row in found[key].items():
            print(f"{key}: {row[key]} of {row['strings']} in {name!r}")
    for name, count in found["undecidable"].items():
        print(f"undecidable: {count} in {name!r}")


def _cell(value: int | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _show_examples(outcome: Outcome) -> None:
    for name, tally in outcome.generators.items():
        for text in tally.examples[:_SHOWN]:
            print(f"{name}: {text!r}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the corpus; less writes nothing"
    )
    parser.add_argument("--examples", action="store_true", help="some of what went wrong")
    options = parser.parse_args()
    outcome = measure(corpus(options.seed, options.share))
    found = results(outcome, options.seed)
    show(found)
    if options.examples:
        _show_examples(outcome)
    if options.share == 1 and options.seed == SEED:
        PATH.write_text(json.dumps(found, indent=1) + "\n")
        PAGE.write_text(rendered(PAGE.read_text(), found))


if __name__ == "__main__":
    main()
