"""`python -m benchmarks`: measure, print the tables, write benchmarks/results.json."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import peers, progress, results, saves, tables
from benchmarks.databases import Unusable, connect
from benchmarks.plan import ROUNDS, Extent
from benchmarks.processes import Failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the exit code."""
    options = _parser().parse_args(arguments)
    sections = options.only or (("rows",) if options.quick else results.SECTIONS)
    signal.signal(signal.SIGTERM, _end)  # so that the databases are dropped then, too
    run = Run(
        extent=Extent(options.quick, options.rounds),
        output=options.output or (None if options.quick else results.PATH),
    )
    try:
        connect().close()
        for section in sections:
            run.measure(section)
    except Unusable as error:
        progress.done()
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.done()
        print("Interrupted.", file=sys.stderr)
        return 130
    run.show()
    return 1 if run.failed else 0


class Run:
    """The sections, one by one; each is written as soon as it is there."""

    def __init__(self, extent: Extent, output: Path | None) -> None:
        self.extent = extent
        self.output = output
        self.failed: dict[str, Exception] = {}
        self._measured: dict[str, dict[str, Any]] = {}
        self._found = results.load(output) if output is not None else {}

    def measure(self, section: str) -> None:
        """One section. What fails is told in the end, and does not stop the others."""
        try:
            self._measured[section] = _measure(section, self.extent)
        except (Failed, subprocess.CalledProcessError) as error:
            self.failed[section] = error
            return
        self._found = results.merged(self._found, self._measured, results.header())
        if self.output is not None:
            results.save(self._found, self.output)

    def show(self) -> None:
        """The tables, what failed, and where it is written."""
        progress.done()
        print(tables.printed(self._found, list(self._measured)))
        for section, error in self.failed.items():
            print(f"\n{section} failed: {error}", file=sys.stderr)
        if self.output is not None:
            print(f"\nWritten: {self.output}. `python -m benchmarks.report` renders the page.")


def _measure(section: str, extent: Extent) -> dict[str, Any]:
    """`{key: rows}` of one section."""
    if section == "rows":
        return peers.measure_rows(extent)
    if section == "storage":
        return peers.measure_storage(extent)
    if section == "saves":
        return {"saves": saves.measure(extent)}
    name = f"benchmarks.{section}"
    if importlib.util.find_spec(name) is None:
        progress.show(f"{section}: there is no {name}")
        return {section: []}
    progress.show(f"{section}")
    return {section: importlib.import_module(name).measure(quick=extent.quick)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds, in under two minutes; only the table of peers unless --only says more; "
        "results.json stays as it is unless --output names a file",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"of the table of peers, in place of {ROUNDS}"
    )
    parser.add_argument(
        "--only",
        type=_sections,
        metavar="SECTIONS",
        help=f"some of {','.join(results.SECTIONS)}; the others stay as they are in the file",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the results")
    return parser


def _sections(text: str) -> tuple[str, ...]:
    named = tuple(text.split(","))
    unknown = sorted(set(named) - set(results.SECTIONS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return named


def _end(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
