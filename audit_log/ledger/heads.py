"""The heads of the streams, and the tiles behind them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from django.db import IntegrityError, transaction

from audit_log.exceptions import EncodingError, InvalidProof
from audit_log.ledger.merkle import Frontier, TileReader, frontier_reader
from audit_log.models import Stream, Tile

DEFAULT = "default"
BOOKKEEPING = "audit_log"


def ensure(names: Iterable[str], using: str) -> dict[str, int]:
    """Make the streams that do not exist yet. Returns the length of each, unlocked."""
    wanted = sorted(names)
    sizes = dict(Stream.objects.using(using).filter(pk__in=wanted).values_list("name", "size"))
    for name in wanted:
        if name not in sizes:
            # Another relay may be faster. Not `ignore_conflicts`: on MariaDB that ignores more.
            with suppress(IntegrityError), transaction.atomic(using=using):
                Stream(name=name).save(using=using, force_insert=True)
    return {name: sizes.get(name, 0) for name in wanted}


def lock(names: Iterable[str], using: str) -> dict[str, Stream]:
    """The head rows, locked in the order of their names so that no two relays deadlock."""
    rows = Stream.objects.using(using).select_for_update().filter(pk__in=list(names))
    return {row.name: row for row in rows.order_by("name")}


def frontier_of(head: Stream) -> Frontier:
    """The head's tree. Raises EncodingError where size and hashes disagree."""
    # SQLite stores what it is given: a head altered behind the ORM may hold text in either.
    if type(head.size) is not int:
        raise EncodingError(f"Stream {head.name!r} has the size {head.size!r}.")
    return Frontier(head.size, hashes_of(head.partial))


def hashes_of(value: object) -> bytes:
    """The bytes of a column of hashes. Raises EncodingError for anything else."""
    if not isinstance(value, (bytes, bytearray, memoryview)):  # drivers differ
        raise EncodingError(f"Hashes must be bytes, not {type(value).__name__}.")
    return bytes(value)


def tile(stream: str, level: int, index: int, using: str) -> bytes | None:
    """A full tile as it is stored, or None. Raises EncodingError for what is not bytes."""
    rows = Tile.objects.using(using).filter(stream=stream, level=level, index=index)
    hashes = rows.values_list("hashes", flat=True).first()
    return None if hashes is None else hashes_of(hashes)


def reader_of(head: Stream, using: str) -> TileReader:
    """Reads the stream's tiles, full ones from their table, partial ones from the head.

    Raises InvalidProof for a full tile that is not there.
    """

    def read_full(level: int, index: int) -> bytes:
        hashes = tile(head.name, level, index, using)
        if hashes is None:
            raise InvalidProof(f"Stream {head.name!r} has lost tile {level}/{index}.")
        return hashes

    return frontier_reader(frontier_of(head), read_full)
