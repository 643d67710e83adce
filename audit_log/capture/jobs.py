"""Celery tasks carry who acts and for which request, encrypted, in one header.

Encrypted so that nothing personal is in the broker, and authenticated so that nobody who can write
to the broker can act as somebody else.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import Any, Final

import msgspec
from celery.signals import before_task_publish, task_postrun, task_prerun

from audit_log import context
from audit_log.events import Actor, Request
from audit_log.exceptions import DecryptionError
from audit_log.privacy.encryption import key_ring
from audit_log.recording import losses
from audit_log.recording.nudge import TASK

logger = logging.getLogger("audit_log")

HEADER: Final = "audit_log"
_UID: Final = "audit_log.jobs"
_PURPOSE: Final = "task-header"


class _Carried(msgspec.Struct, omit_defaults=True):
    """What travels with a task."""

    actor: Actor | None = None
    request_id: str | None = None
    tenant: str | None = None
    reason: str | None = None
    trace_id: str | None = None
    parent: str | None = None


_decoder = msgspec.json.Decoder(_Carried)


def install() -> None:
    """Connect to Celery's signals. Harmless when done twice."""
    before_task_publish.connect(_publish, dispatch_uid=_UID, weak=False)
    task_prerun.connect(_prerun, dispatch_uid=_UID, weak=False)
    task_postrun.connect(_postrun, dispatch_uid=_UID, weak=False)


def uninstall() -> None:
    """Disconnect from them."""
    before_task_publish.disconnect(dispatch_uid=_UID)
    task_prerun.disconnect(dispatch_uid=_UID)
    task_postrun.disconnect(dispatch_uid=_UID)


def _publish(sender: Any = None, headers: Any = None, **_: Any) -> None:
    if not isinstance(headers, dict) or sender == TASK:
        return
    try:
        carried = _carried()
        if carried is not None:
            headers[HEADER] = carried
    except Exception:  # noqa: BLE001 - a task must be sent whatever happens here
        losses.warn("task_header_failed", "A task was sent without its actor.")


def _carried() -> str | None:
    now = context.current()
    request = now.request or (now.scope.request() if now.scope is not None else None)
    carried = _Carried(
        actor=context.actor_now(),
        request_id=None if request is None else request.id,
        tenant=now.tenant or (now.scope.tenant() if now.scope is not None else None),
        reason=now.reason,
        trace_id=now.trace_id,
        parent=now.task,
    )
    if carried == _Carried():
        return None
    sealed = key_ring().encrypt(_PURPOSE, msgspec.json.encode(carried))
    return base64.b64encode(sealed).decode()


def _read(task: Any) -> _Carried:
    """What the task's header says; an empty one where it has none or a forged one."""
    request = getattr(task, "request", None)
    header = (getattr(request, "headers", None) or {}).get(HEADER) if request else None
    if header is None and request is not None:
        header = request.get(HEADER)
    if not isinstance(header, str):
        return _Carried()
    try:
        return _decoder.decode(key_ring().decrypt(_PURPOSE, base64.b64decode(header)))
    except (DecryptionError, msgspec.DecodeError, binascii.Error, ValueError):
        losses.warn("task_header_refused", "A task's audit_log header was not made by us.")
        return _Carried()


def _prerun(task_id: str = "", task: Any = None, **_: Any) -> None:
    outer = context.current()
    carried = _read(task)
    actor = carried.actor
    if actor is None:
        actor = Actor(type="system", id=getattr(task, "name", None), label=None)
    context.put(
        context.Context(
            actor=actor,
            request=None if carried.request_id is None else Request(id=carried.request_id),
            tenant=carried.tenant,
            reason=carried.reason,
            trace_id=carried.trace_id,
            parent_id=task_id or carried.parent,
            source="task",
            task=task_id,
            # An eager task runs inside its caller's context, which comes back afterwards.
            outer=outer,
        )
    )


def _postrun(task_id: str = "", **_: Any) -> None:
    now = context.current()
    if now.task == task_id and now.outer is not None:
        context.put(now.outer)
    else:
        context.clear()
