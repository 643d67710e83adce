"""The outermost middleware: opens the context of a request, and closes it whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase

from audit_log import context
from audit_log.capture import requests, views


class AuditMiddleware:
    """Sync and async. Put it first in MIDDLEWARE, so that it sees what every other one answers."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._acall(request)
        scope = requests.begin(request)
        if scope is None:
            return self.get_response(request)
        leave = _enter(scope)
        try:
            response: HttpResponseBase = self.get_response(request)
            _finish(scope, response)
        except BaseException:
            requests.abandon(scope)
            raise
        finally:
            leave()
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        scope = requests.begin(request)
        if scope is None:
            return cast("HttpResponseBase", await self.get_response(request))
        leave = _enter(scope)
        try:
            response: HttpResponseBase = await self.get_response(request)
            asks = scope.views is not None or scope.switched is not None
            asks = asks or requests.asks_project(scope)
            if asks or requests.is_notable(scope, response.status_code):
                # Reading the user may query, which the event loop must not wait for.
                await sync_to_async(_finish)(scope, response)
            else:
                requests.finish(scope, response)
        except BaseException:
            requests.abandon(scope)
            raise
        finally:
            leave()
        return response


def _enter(scope: requests.RequestScope) -> Callable[[], None]:
    # Nothing of an earlier request on this thread survives, whatever it left behind.
    return context.enter(
        context.Context(scope=scope, trace_id=scope.trace_id, trace_parent=scope.trace_parent)
    )


def _finish(scope: requests.RequestScope, response: HttpResponseBase) -> None:
    if scope.views is not None:
        views.write(scope)  # before anybody gets what was seen; may refuse to let it go
    requests.finish(scope, response)
