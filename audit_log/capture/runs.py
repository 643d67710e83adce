"""Tasks and commands: each one that changed something, or a task that failed, gets an event."""

from __future__ import annotations

from time import perf_counter  # by name: a host's test may replace time.perf_counter
from typing import Any

import msgspec

from audit_log import context
from audit_log.events import Event, Request, Target
from audit_log.recording import buffer, losses
from audit_log.recording.values import safe_str


class Run:
    """One run of a task or a command (a `context.Run`)."""

    __slots__ = ("notable", "started")

    def __init__(self) -> None:
        self.started = perf_counter()
        self.notable = False

    def noticed(self, event: Event | None = None) -> None:
        """Something happened in it that is not about the log itself."""
        if not self.notable:
            self.notable = event is None or not event.action.startswith("audit_log.")

    def record(
        self,
        action: str,
        target: Target,
        outcome: str,
        data: dict[str, Any],
        error: BaseException | None = None,
    ) -> None:
        """Write or buffer the event of the run, in its own context. Never raises."""
        try:
            if error is not None:  # what it says may hold anything
                data["exception"] = safe_str(type(error).__qualname__)[:128]
            event = context.new_event(
                action,
                source=action,
                outcome=outcome,
                target=target,
                request=self._request(),
                data=data,
            )
            buffer.add(event)
        except Exception:  # noqa: BLE001 - it ends as it would without us
            losses.warn("run_failed", "A task or command could not be recorded.")

    def _request(self) -> Request:
        """The request it belongs to, with how long it took itself."""
        now = context.current()
        request = now.request or (now.scope.request() if now.scope is not None else None)
        elapsed = round((perf_counter() - self.started) * 1000)
        return msgspec.structs.replace(request or Request(), duration_ms=elapsed)
