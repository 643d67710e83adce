"""Celery tasks carry who acts and for which request, encrypted, in one header.

Encrypted so that nothing personal is in the broker, and authenticated so that nobody who can write
to the broker can act as somebody else.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
from celery.signals import before_task_publish, task_postrun, task_prerun
from celery.states import FAILURE, SUCCESS

from audit_log import context
from audit_log.capture import traces
from audit_log.capture.runs import Run
from audit_log.events import Actor, Request, Target
from audit_log.exceptions import DecryptionError
from audit_log.privacy.encryption import key_ring
from audit_log.recording import losses
from audit_log.recording.nudge import TASK

HEADER: Final = "audit_log"
_UID: Final = "audit_log.jobs"
_PURPOSE: Final = "task-header"
_OURS: Final = "audit_log."  # the relay's own would be an event that it has to relay
_OUTCOMES: Final = {SUCCESS: "success", FAILURE: "failure"}  # of a retry nobody knows yet


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


def _publish(sender: Any = None, headers: Any = None, body: Any = None, **_: Any) -> None:
    if not isinstance(headers, dict) or sender == TASK:
        return
    try:
        carried = _carried()
        # Protocol 1 has the id in the body.
        task_id = headers.get("id") or (body.get("id") if isinstance(body, dict) else None)
        if carried != _Carried() and task_id:
            headers[HEADER] = _sealed(carried, str(sender), task_id)
        else:
            headers.pop(HEADER, None)  # a retry brings along the one of its first run
        if (parent := traces.trace_parent()) is not None:
            headers.setdefault(traces.TRACE_PARENT, parent)
    except Exception:  # noqa: BLE001 - a task must be sent whatever happens here
        losses.warn("task_header_failed", "A task was sent without its actor.")


def _carried() -> _Carried:
    now = context.current()
    request = now.request or (now.scope.request() if now.scope is not None else None)
    return _Carried(
        actor=context.actor_now(),
        request_id=None if request is None else request.id,
        tenant=now.tenant or (now.scope.tenant() if now.scope is not None else None),
        reason=now.reason,
        trace_id=now.trace_id,
        parent=now.task,
    )


def _place(name: str, task_id: str) -> bytes:
    # Bound to its message: copied into another one, it is as good as forged.
    return f"{name}\0{task_id}".encode()


def _sealed(carried: _Carried, name: str, task_id: str) -> str:
    plaintext = msgspec.json.encode(carried)
    return base64.b64encode(key_ring().encrypt(_PURPOSE, plaintext, _place(name, task_id))).decode()


def _opened(task: Any, task_id: str) -> _Carried:
    """What the task's header says; an empty one where it has none or a forged one."""
    header = _header(task, HEADER)
    if header is None:
        return _Carried()
    try:
        sealed = base64.b64decode(header, validate=True)
        place = _place(str(getattr(task, "name", "")), task_id)
        return _decoder.decode(key_ring().decrypt(_PURPOSE, sealed, place))
    except (DecryptionError, TypeError, ValueError):  # not base64, not JSON, not these fields
        losses.warn("task_header_refused", "A task's audit_log header was not made by us.")
        return _Carried()


def _header(task: Any, name: str) -> Any:
    """A header of the message, which protocols 1 and 2 keep in different places."""
    request = getattr(task, "request", None)
    if not request:
        return None
    header = (getattr(request, "headers", None) or {}).get(name)
    return request.get(name) if header is None else header


def _prerun(task_id: str = "", task: Any = None, **_: Any) -> None:
    name = getattr(task, "name", None)
    nobody = Actor(type="system", id=name, label=None)
    if getattr(getattr(task, "request", None), "is_eager", False):
        _enter_eagerly(task_id, nobody)
        return
    carried = _opened(task, task_id)
    actor = carried.actor or nobody
    if carried.parent is not None and actor.via is None:
        actor = msgspec.structs.replace(actor, via=carried.parent)
    # In the clear, so no more than anybody's word: but neither is it more than a number.
    trace = traces.parsed(_header(task, traces.TRACE_PARENT))
    trace_id = carried.trace_id or (None if trace is None else trace.id)
    context.put(
        context.Context(
            actor=actor,
            request=None if carried.request_id is None else Request(id=carried.request_id),
            tenant=carried.tenant,
            reason=carried.reason,
            trace_id=trace_id,
            trace_parent=trace.parent if trace is not None and trace.id == trace_id else None,
            parent_id=task_id,
            source="task",
            task=task_id,
            run=Run(),
        )
    )


def _enter_eagerly(task_id: str, nobody: Actor) -> None:
    """An eager task runs in the middle of its caller, in whose context it stays."""
    outer = context.current()
    alone = outer.actor is None and outer.scope is None
    context.put(
        msgspec.structs.replace(
            outer,
            actor=nobody if alone else outer.actor,
            parent_id=task_id,
            source="task",
            task=task_id,
            run=Run(),
            outer=outer,
        )
    )


def _postrun(
    task_id: str = "", task: Any = None, retval: Any = None, state: Any = None, **_: Any
) -> None:
    """Back to the caller of an eager task; a worker's thread starts its next one clean."""
    now = context.current()
    while now.outer is not None and now.task != task_id:
        now = now.outer  # something inside was left open
    if now.task == task_id and isinstance(now.run, Run):
        context.put(now)
        _record(now.run, task_id, task, retval, state)
    if now.task == task_id and now.outer is not None:
        context.put(now.outer)
    else:
        context.clear()


def _record(run: Run, task_id: str, task: Any, retval: Any, state: Any) -> None:
    """The event of a task that changed something, or failed."""
    name = str(getattr(task, "name", ""))
    if name.startswith(_OURS) or not (run.notable or state == FAILURE):
        return
    data: dict[str, Any] = {"task": name}
    if retries := getattr(getattr(task, "request", None), "retries", 0):
        data["retries"] = retries
    error = retval if state == FAILURE and isinstance(retval, BaseException) else None
    target = Target(type="task", id=task_id, label=name)
    run.record("task", target, _OUTCOMES.get(state, "unknown"), data, error)
