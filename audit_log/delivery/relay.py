"""Moves batches from the outbox into the ledger: claim, decode, scrub, seal, write, delete.

Everything between claim and delete is one transaction, so a kill at any point leaves either the
batch or its records. Several relays share the outbox by SKIP LOCKED; SQLite has one writer, so
there the costly part happens before the transaction begins. Where the outbox is in another
database than the ledger, the ledger commits first: a kill in between repeats the batch, and the
ledger drops what it has.
"""

from __future__ import annotations

import gc
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
)

from audit_log.delivery import outboxes, parking, tally
from audit_log.delivery.claims import MAX_ROWS, Claim, Relayed, claimable, read_committed
from audit_log.exceptions import AuditLogError
from audit_log.privacy.words import tellable
from audit_log.recording import buffer, losses, spool
from audit_log.recording.collisions import met_another
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

_RETRIES: Final = 5
# No batch's own fault, as far as one can tell: a server that is down, a table that is missing.
_SYSTEMIC: Final = (OperationalError, InterfaceError, ProgrammingError)
_SAME_TROUBLE: Final = 3


def relay_everywhere(
    *, seconds: float | None = None, progress: Callable[[Relayed], None] | None = None
) -> Relayed:
    """Relay the outbox of every database that has one. A database that is down stops no other."""
    started = time.monotonic()
    total = relay(seconds=seconds, progress=progress)
    for alias in outboxes.aliases():
        if alias == ledger_alias():
            continue
        left = None if seconds is None else max(0.0, seconds - (time.monotonic() - started))
        try:
            total.add(relay(alias, seconds=left, progress=progress))
        except DatabaseError:
            losses.warn("relay_failed", "The outbox of %r cannot be relayed now.", alias)
    return total


def relay(
    using: str | None = None,
    *,
    seconds: float | None = None,
    progress: Callable[[Relayed], None] | None = None,
) -> Relayed:
    """Move all that waits in one outbox (the ledger's own), or as much as fits into `seconds`.

    Safe to run many at once. This process's own buffered events and its spool go first.
    """
    using = using or ledger_alias()
    started = time.monotonic()
    total = Relayed()
    _write_what_waits_outside()
    while True:
        began = time.monotonic()
        moved = _round(using)
        tally.add(moved.batches, moved.events, time.monotonic() - began)
        total.add(moved)
        if progress is not None:
            progress(total)
        late = seconds is not None and time.monotonic() - started >= seconds
        if late or not (moved.batches or moved.failed or moved.parked):
            return total


def _write_what_waits_outside() -> None:
    """Buffer and spool, into their outboxes. Where that fails they keep what they hold."""
    try:
        buffer.flush()
        spool.replay()
    except Exception:  # noqa: BLE001 - what is in the outbox can be relayed all the same
        losses.warn("flush_failed", "Buffered or spooled events cannot be written now.")


def waiting(using: str | None = None) -> int:
    """How many batches could be claimed now."""
    return int(claimable(using or ledger_alias()).count())


def _round(using: str) -> Relayed:
    try:
        return _retried(partial(_move, using, None))
    except AuditLogError:
        raise  # the ledger itself is damaged: nothing may be added to it
    except Exception as error:
        logger.error(  # noqa: TRY400 - the words of the error may quote a value
            "A claim of batches failed; trying them one by one.", exc_info=tellable(error)
        )
    return _one_by_one(using)


def _one_by_one(using: str) -> Relayed:
    """Find out which batches fail alone; if all do, the trouble is not theirs."""
    total = Relayed()
    failing: dict[int, Exception] = {}
    for id_ in list(claimable(using).values_list("id", flat=True)[:MAX_ROWS]):
        try:
            total.add(_retried(partial(_move, using, id_)))
        except AuditLogError:
            raise
        except Exception as error:
            failing[id_] = error
            if len(failing) >= _SAME_TROUBLE and _is_systemic(failing, total):
                raise
    if failing and _is_systemic(failing, total):
        raise next(iter(failing.values()))
    for id_, cause in failing.items():
        parking.postpone(using, id_, cause)
    total.failed += len(failing)
    return total


def _is_systemic(failing: dict[int, Exception], total: Relayed) -> bool:
    return not total.batches and all(isinstance(e, _SYSTEMIC) for e in failing.values())


def _retried(call: Callable[[], Relayed]) -> Relayed:
    for attempt in range(_RETRIES):
        try:
            return call()
        except OperationalError as error:
            if not _is_retryable(error):
                raise
            # Jitter, or the two that met would meet again.
            time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 - not cryptography
    return call()


def _is_retryable(error: OperationalError) -> bool:
    return met_another(error) or "database is locked" in str(error)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector for one claim: a tenth of the time.

    Thousands of values are kept until they are written, none of them in a cycle, and it would visit
    all of them again and again. Claims of several threads at once may turn it on too early, which
    costs only time; nothing leaves it off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def _move(using: str, only: int | None) -> Relayed:
    """One claim, from outbox to ledger, in one transaction."""
    if connections[using].features.has_select_for_update_skip_locked:
        with read_committed(using):
            claim = Claim(using, only, locked=True)
            claim.prepare()
            return claim.move()
    claim = Claim(using, only, locked=False)
    claim.prepare()
    if not claim.rows:
        return Relayed()
    with read_committed(using):
        claim.drop_taken()
        return claim.move()
