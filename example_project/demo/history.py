"""A year of history from the bank's old system: imported, archived, and what is old purged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db.models import Sum

import audit_log
from audit_log.delivery.relay import relay
from audit_log.events import Actor
from audit_log.exceptions import RetentionRefused
from audit_log.ledger import verification
from audit_log.models import ArchivePart, Record
from audit_log.retention import archive, policy, purge
from example_project.demo import sizes
from example_project.demo.progress import Progress
from example_project.demo.traffic import CARDS, IBANS, SECRETS

DAYS = 400
A_DAY = 47  # on weekdays: more than 10,000 records are due, as the brake lets fewer pass
_TELLERS = ("old-teller-1", "old-teller-2", "old-teller-3")
_FIRST_KEY = 1_000_000  # the old system's numbers, which the bank of today does not use
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class History:
    """What became of the year. Rows are records in the database, of both streams."""

    history_events: int
    archived_parts: int
    archived_records: int
    archived_bytes: int
    purged_records: int
    rows_before: int
    rows_after: int
    bytes_before: int
    bytes_after: int
    brake_held: bool
    verified_before_purge: bool
    verified_after_purge: bool

    def checks(self) -> list[tuple[bool, str]]:
        """Whether each promise held, and what is to be said if not."""
        return [
            (
                self.archived_records == self.history_events,
                f"{self.history_events} events of the past, {self.archived_records} archived",
            ),
            (self.purged_records > 0, "nothing was purged"),
            (self.rows_after < self.rows_before, "the purge left as many rows as there were"),
            (self.brake_held, "the brake did not hold"),
            (self.verified_before_purge, "verification failed before the purge"),
            (self.verified_after_purge, "verification failed after the purge"),
        ]


def run(show: Progress) -> History:
    """Import, archive, purge; verify before and after. The brake is told twice, visibly."""
    count = _import(show)
    _archive(show)
    parts = ArchivePart.objects.aggregate(records=Sum("count"), size=Sum("size"))
    rows_before, bytes_before = Record.objects.count(), sizes.of_records()
    verified_before = _verify(show)
    brake_held, purged = _purge(show)
    sizes.give_back()
    rows_after, bytes_after = Record.objects.count(), sizes.of_records()
    show.line(
        f"the database: {rows_before} records in {sizes.shown(bytes_before)} before, "
        f"{rows_after} in {sizes.shown(bytes_after)} after"
    )
    return History(
        history_events=count,
        archived_parts=ArchivePart.objects.exclude(key="").count(),
        archived_records=parts["records"] or 0,
        archived_bytes=parts["size"] or 0,
        purged_records=purged,
        rows_before=rows_before,
        rows_after=rows_after,
        bytes_before=bytes_before,
        bytes_after=bytes_after,
        brake_held=brake_held,
        verified_before_purge=verified_before,
        verified_after_purge=_verify(show),
    )


def _import(show: Progress) -> int:
    show.section(f"The old system's history: {DAYS} days, imported and marked as such")
    count = audit_log.backfill(
        events(datetime.now(UTC)),
        reason="the old system is switched off",
        progress=lambda done: show.update(f"{done} events imported"),
    )
    show.line(f"{count} events imported, of {DAYS} days")
    relay(progress=lambda moved: show.update(f"{moved.events} records stored"))
    show.line(f"{Record.objects.count()} records stored")
    return count


def events(now: datetime) -> Iterator[dict[str, Any]]:
    """Log-ins, payments and what became of them, day by day until the day before yesterday."""
    chance = random.Random(1912)  # noqa: S311 - the same history each time
    today = datetime.combine(now.date(), time(8), UTC)
    for day in range(DAYS + 1, 1, -1):  # yesterday may not be closed yet: it has an hour of grace
        opening = today - timedelta(days=day)
        if opening.weekday() >= _SATURDAY:
            continue
        moments = sorted(chance.randrange(10 * 3600) for _ in range(A_DAY))
        for number, second in enumerate(moments):
            key = _FIRST_KEY + (DAYS + 1 - day) * A_DAY + number
            yield _event(key, number, opening + timedelta(seconds=second), chance)


def _event(key: int, number: int, moment: datetime, chance: random.Random) -> dict[str, Any]:
    teller = chance.choice(_TELLERS)
    least = {"key": f"old {key}", "occurred_at": moment, "tenant": "bank"}
    least["actor"] = Actor("user", f"old-{teller[-1]}", teller)
    if number < len(_TELLERS):
        return least | {
            "action": "login",
            "actor": Actor("user", f"old-{number + 1}", _TELLERS[number]),
            "request": {"method": "POST", "path": "/login/", "ip": f"203.0.113.{number + 1}"},
        }
    target = {"type": "bank.payment", "id": str(key), "label": f"payment {key}"}
    if number % 4 == 0:
        changes = {"status": ["pending", "settled"]}
        return least | {"action": "update", "target": target, "changes": changes}
    return least | {
        "action": "create",
        "target": target,
        "subject": f"old-customer:{key % 97}",
        "changes": {
            "amount": [None, f"{chance.randrange(1, 500)}.{chance.randrange(100):02}"],
            "counterparty_name": [None, "Grace Hopper"],
            "counterparty_iban": [None, chance.choice(IBANS)],
            "note": [None, f"card {chance.choice(CARDS)}"],
        },
        "data": {"pin": SECRETS["pin"], "branch": number},
    }


def _archive(show: Progress) -> None:
    store = policy.open_store()
    show.section(f"Every closed day goes to the archive, {store.name if store else 'which is off'}")
    done = archive.run(
        progress=lambda part, n: show.update(f"{part.day}: {n} of {part.count} records written")
    )
    for failure in done.failures:
        show.line(f"! {failure}")
    show.line(
        f"{done.purgeable} parts written, read back, compared, and on record under a checkpoint"
    )


def _purge(show: Progress) -> tuple[bool, int]:
    show.section("What is older than the policy allows leaves the database")
    due = purge.due()
    show.line(f"{due.total} records are due: older than 90 days, and proved in the archive")
    held = False
    try:
        done = purge.run()
    except RetentionRefused as refusal:
        held = True
        show.line(str(refusal))
        show.line("It is meant: told so a second time, the purge goes on")
        done = purge.run(override_brake=True)
    relay()
    show.line(f"{done.total} records of {len(done.parts)} days purged; their proofs stay")
    return held, done.total


def _verify(show: Progress) -> bool:
    found = verification.verify()
    trees = " and ".join(f"{name} of {size}" for name, size in found.streams.items())
    show.line(f"verified against the checkpoints: {'yes' if found.ok else 'NO'} ({trees})")
    for finding in found.findings[:5]:
        show.line(f"! {finding.stream} {finding.sequence}: {finding.message}")
    return found.ok
