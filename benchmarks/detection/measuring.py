"""The corpus through the detectors: what was found, missed, and taken for what it is not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from audit_log.privacy.detectors import DETECTORS, Detector, scrub
from audit_log.privacy.finders import no_fingerprint
from benchmarks.detection.look_alikes import look_alikes
from benchmarks.detection.samples import Sample
from benchmarks.detection.truths import truths

SEED: Final = 20261130
_RULE: Final = "detector:"
# A token in a header is both, a log-in in a URL stands before an @, and so on.
_COMPANIONS: Final = {
    "jwt": {"bearer"},
    "bearer": {"jwt", "vendor_token", "email"},
    "aws_secret": {"aws_key"},
    "private_key": {"bearer"},
    "url_credentials": {"email"},
}


@dataclass(slots=True)
class Tally:
    """What came of the strings of one detector, or of one generator."""

    strings: int = 0
    found: int = 0
    missed: int = 0
    wrong: int = 0
    undecidable: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """All of them. `others` counts the strings that hold nothing."""

    detectors: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    generators: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    strings: int = 0
    others: int = 0

    def add(self, sample: Sample, left: str, fired: tuple[str, ...]) -> None:
        """Count one sample, of which `left` is left and these detectors fired."""
        if sample.kind is None:
            self._add_other(sample, fired)
            return
        self.strings += 1
        for tally in (self.detectors[sample.kind], self.generators[sample.generator]):
            tally.strings += 1
            tally.found += sample.hidden not in left
            tally.missed += sample.hidden in left
        if sample.hidden in left:
            self.generators[sample.generator].examples.append(sample.text)
        for name in set(fired) - {sample.kind} - _COMPANIONS.get(sample.kind, set()):
            self._wrong(name, sample)

    def _add_other(self, sample: Sample, fired: tuple[str, ...]) -> None:
        self.others += 1
        self.generators[sample.generator].strings += 1
        for name in fired:
            if name == sample.undecidable:
                self.detectors[name].undecidable += 1
                self.generators[sample.generator].undecidable += 1
            else:
                self._wrong(name, sample)

    def _wrong(self, name: str, sample: Sample) -> None:
        self.detectors[name].wrong += 1
        tally = self.generators[sample.generator]
        tally.wrong += 1
        tally.examples.append(f"{name}: {sample.text}")


def corpus(seed: int, share: float) -> Iterator[Sample]:
    """All samples: those that hold something, then those that do not."""
    yield from truths(seed, share)
    yield from look_alikes(seed, share)


def measure(samples: Iterable[Sample], detectors: tuple[Detector, ...] = DETECTORS) -> Outcome:
    """Every sample through the detectors."""
    outcome = Outcome()
    for sample in samples:
        left, rules = scrub(
            sample.text, personal=True, fingerprint=no_fingerprint, detectors=detectors
        )
        outcome.add(sample, left, tuple(rule.removeprefix(_RULE) for rule in rules))
    return outcome


def recall(tally: Tally) -> float:
    """Of what was there, the share that is gone."""
    return round(tally.found / tally.strings, 4) if tally.strings else 1.0


def precision(tally: Tally) -> float:
    """Of what was taken for it, the share that was. What nobody could tell is in neither."""
    taken = tally.found + tally.wrong
    return round(tally.found / taken, 4) if taken else 1.0


def results(outcome: Outcome, seed: int) -> dict[str, Any]:
    """What results.json holds: the same for a seed."""
    order = [detector.name for detector in DETECTORS]
    undecidable = Counter(
        {name: tally.undecidable for name, tally in outcome.generators.items() if tally.undecidable}
    )
    return {
        "seed": seed,
        "strings": outcome.strings,
        "look_alikes": outcome.others,
        "detectors": {name: _row(outcome.detectors[name]) for name in order},
        "missed": {
            name: {"strings": tally.strings, "missed": tally.missed}
            for name, tally in outcome.generators.items()
            if tally.missed
        },
        "false": {
            name: {"strings": tally.strings, "false": tally.wrong}
            for name, tally in outcome.generators.items()
            if tally.wrong
        },
        "undecidable": dict(undecidable),
        "sizes": {name: tally.strings for name, tally in outcome.generators.items()},
    }


def _row(tally: Tally) -> dict[str, Any]:
    return {
        "strings": tally.strings,
        "found": tally.found,
        "missed": tally.missed,
        "false": tally.wrong,
        "undecidable": tally.undecidable,
        "precision": precision(tally),
        "recall": recall(tally),
    }
