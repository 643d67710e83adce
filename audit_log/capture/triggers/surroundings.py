"""Who acts, for which request: told to the triggers of a transaction, in a form only we can read.

A trigger copies it into the outbox, and the reader opens it. It is encrypted and authenticated, so
that nobody can read it there, nor say to be somebody else.
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import Final

import msgspec

from audit_log import context
from audit_log.conf import get_settings
from audit_log.context import Context
from audit_log.events import Actor, Request, emitter
from audit_log.exceptions import DecryptionError, EncodingError
from audit_log.privacy.encryption import key_ring

SETTING: Final = "audit_log.context"
RENEWED_AFTER: Final = 30.0
"""Seconds for which what was made is used again."""
_VALID_FOR: Final = 600.0
_PURPOSE: Final = "trigger-context"


class Surroundings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event says about its surroundings, and when it was said."""

    made_at: float
    version: int = 1
    suspended: bool = False
    actor: Actor | None = None
    request: Request | None = None
    tenant: str | None = None
    reason: str | None = None
    trace_id: str | None = None
    parent_id: str | None = None
    service: str | None = None
    emitter: str | None = None

    def holds_for(self, began: float) -> bool:
        """Whether it was made for a transaction that began then.

        It is made anew each half a minute, and set after the transaction began: one that is much
        older than the transaction was copied from elsewhere.
        """
        return began - self.made_at <= _VALID_FOR


_decoder = msgspec.json.Decoder(Surroundings)

Parts = tuple[Context, Actor | None, Request | None, str | None]


def parts_now() -> Parts | None:
    """What there is to say; None for nothing. The same objects as long as nothing changes."""
    current = context.current()
    scope = current.scope
    actor = current.actor or (None if scope is None else scope.actor())
    request = current.request or (None if scope is None else scope.request())
    tenant = current.tenant or (None if scope is None else scope.tenant())
    said = (actor, request, tenant, current.reason, current.trace_id, current.parent_id)
    if not current.suspended and all(each is None for each in said):
        return None
    return current, actor, request, tenant


def sealed(parts: Parts) -> str:
    """The same as text that needs no quoting in SQL."""
    current, actor, request, tenant = parts
    said = Surroundings(
        made_at=time.time(),
        suspended=current.suspended,
        actor=actor,
        request=request,
        tenant=tenant,
        reason=current.reason,
        trace_id=current.trace_id,
        parent_id=current.parent_id,
        service=get_settings().service,
        emitter=emitter().name,
    )
    return base64.b64encode(key_ring().encrypt(_PURPOSE, msgspec.json.encode(said))).decode()


def opened(text: str) -> Surroundings:
    """What was sealed. Raises DecryptionError or EncodingError for anything else."""
    try:
        return _decoder.decode(key_ring().decrypt(_PURPOSE, base64.b64decode(text, validate=True)))
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        if isinstance(error, DecryptionError):
            raise
        raise EncodingError(f"Not what this app says about a transaction: {error}") from error
