"""The figures at the end, and whether the promises held."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import Count, Q, Sum

import audit_log
from audit_log.conf import get_settings
from audit_log.delivery.relay import relay
from audit_log.ledger import checkpoints, verification
from audit_log.models import ArchivePart, Outbox, Record
from audit_log.retention import policy
from example_project.demo import sizes, truth
from example_project.demo.history import History
from example_project.demo.progress import Progress
from example_project.demo.traffic import Traffic

_WAIT_SECONDS = 240  # not to hang
_ROWS = Q(action__in=["create", "update", "delete"]) & ~Q(source="import")
_MEMBERS = Q(action__in=["m2m.add", "m2m.remove", "m2m.clear"])


@dataclass(frozen=True, slots=True)
class Figures:
    """What `--json` prints, and what it is held against."""

    requests: int
    transactions: int
    changes_committed: int
    events: int
    records: int
    masked: int
    sealed: int
    outbox_left: int
    tree_size: int
    root: str
    verified: bool
    secrets_found: int
    seconds: float
    changes_recorded: int
    unexpected: tuple[str, ...]
    found: tuple[str, ...]
    past: History

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        hidden = {"unexpected", "found", "past"}
        names = [name for name in self.__slots__ if name not in hidden]
        return {name: getattr(self, name) for name in names} | asdict(self.past)

    def problems(self) -> list[str]:
        """Every promise that did not hold, in words."""
        checks = [
            (self.events == self.tree_size, f"{self.events} events, tree of {self.tree_size}"),
            (
                self.records == self.tree_size - self.past.purged_records,
                f"{self.records} records, {self.past.purged_records} purged: not the tree's size",
            ),
            (
                self.changes_recorded == self.changes_committed,
                f"{self.changes_committed} rows changed, {self.changes_recorded} recorded",
            ),
            (self.outbox_left == 0, f"{self.outbox_left} batches are left in the outbox"),
            (self.verified, f"verification: {'; '.join(self.found)}"),
            *self.past.checks(),
            (self.secrets_found == 0, f"{self.secrets_found} secrets found in the log"),
        ]
        return [text for holds, text in checks if not holds] + list(self.unexpected)


def wait_for_worker(show: Progress) -> None:
    """Until the outbox is empty: the worker does that, not we."""
    show.section("The worker moves the batches from the outbox into the ledger")
    deadline = time.monotonic() + _WAIT_SECONDS
    while (left := Outbox.objects.count()) and time.monotonic() < deadline:
        show.update(f"{left} batches wait")
        time.sleep(0.1)
    show.line(f"{left} batches wait, {Record.objects.count()} records stored")


def measure(driver: Traffic, published: Sequence[bytes], past: History, seconds: float) -> Figures:
    """Count, verify and search. Events that processes wrote when they ended are moved first."""
    relay()
    checkpoints.sign_all()
    checked = verification.verify()
    known = truth.read()
    rows = Record.objects.aggregate(
        records=Count("pk"),
        sealed=Count("pk", filter=Q(sealed_actor__isnull=False) | Q(sealed_data__isnull=False)),
        changed=Count("pk", filter=_ROWS),
        members=Sum("affected", filter=_MEMBERS),
    )
    marks = [row for row in Record.objects.values_list("redactions", flat=True) if row]
    return Figures(
        requests=driver.requests,
        transactions=known.batches,
        changes_committed=known.changes + known.members,
        changes_recorded=rows["changed"] + (rows["members"] or 0),
        events=known.events,
        records=rows["records"],
        masked=sum(len(row) for row in marks),
        sealed=rows["sealed"],
        outbox_left=Outbox.objects.count(),
        tree_size=sum(checked.streams.values()),
        root=checked.roots.get("default", ""),
        verified=checked.ok,
        secrets_found=_secrets_found(driver.secrets, published),
        seconds=round(seconds, 1),
        unexpected=tuple(driver.unexpected),
        found=tuple(f"{f.stream} {f.sequence}: {f.message}" for f in checked.findings[:5]),
        past=past,
    )


def _secrets_found(secrets: Sequence[str], published: Sequence[bytes]) -> int:
    """How many secrets stand anywhere in the log, stored or opened, or passed through it."""
    haystacks = [*_stored(), *_archived(), *published, *_files(get_settings().spool_dir.parent)]
    return len({s for s in secrets if any(s.encode() in hay for hay in haystacks)})


def _stored() -> Iterator[bytes]:
    """Every batch that was in the outbox, every column of every table, every opened record."""
    yield from truth.payloads()
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        for table in (name for name in names if name.startswith("audit_log_")):
            cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - a name from the database
            for row in cursor.fetchall():
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()
    for record in Record.objects.iterator():
        yield repr(audit_log.contents(record)).encode()


def _archived() -> Iterator[bytes]:
    """What lies in the archive, wherever that is."""
    store = policy.open_store()
    for key in ArchivePart.objects.exclude(key="").values_list("key", flat=True):
        if store is not None:
            with store.open(key) as part:
                yield gzip.decompress(part.read())


def _files(folder: Path) -> Iterator[bytes]:
    """The spool and what was logged."""
    for path in (*(folder / "spool").rglob("*"), *folder.glob("*.log")):
        if path.is_file():
            yield path.read_bytes()


def show(result: Figures, progress: Progress) -> None:
    """The figures, for people."""
    progress.section("What the log knows")
    progress.line(f"{result.requests} HTTP requests, {result.transactions} batches of events")
    progress.line(
        f"{result.changes_committed} row changes committed (counted by SQLite's own triggers), "
        f"{result.changes_recorded} recorded"
    )
    progress.line(
        f"{result.events} events captured, {result.records} records stored, "
        f"{result.outbox_left} batches left"
    )
    progress.line(
        f"{result.masked} values masked, {result.sealed} records with sealed parts, "
        f"{result.secrets_found} secrets found"
    )
    past = result.past
    progress.line(
        f"{past.history_events} events of the past imported, {past.archived_records} records "
        f"archived in {past.archived_parts} parts of {sizes.shown(past.archived_bytes)}, "
        f"{past.purged_records} purged"
    )
    progress.line(
        f"tree of {result.tree_size}, root {result.root[:16]}…, "
        f"verified: {'yes' if result.verified else 'NO'}"
    )
