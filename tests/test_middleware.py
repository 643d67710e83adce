"""The middleware opens a context and closes it, sync and async, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings

from audit_log import context
from audit_log.middleware import AuditMiddleware
from audit_log.testing import capture_events
from tests.shop.models import Category


def test_the_context_is_gone_after_the_response(client: Client):
    """F2"""
    seen: list[context.Context] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(context.current())
        return HttpResponse("ok")

    AuditMiddleware(view)(RequestFactory().get("/plain/"))
    assert seen[0].scope is not None
    assert context.current() == context.Context()


@pytest.mark.django_db
def test_the_context_is_gone_after_a_view_fails(client: Client):
    """F2"""
    client.raise_request_exception = False
    assert client.get("/boom/").status_code == 500
    assert context.current() == context.Context()


@pytest.mark.django_db
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_the_context_is_gone_after_what_is_no_exception_to_django(error: type[BaseException]):
    """F2: a request that is aborted is recorded, with outcome unknown."""

    def view(request: HttpRequest) -> HttpResponse:
        raise error

    with capture_events() as events, pytest.raises(error):
        AuditMiddleware(view)(RequestFactory().post("/plain/"))
    assert context.current() == context.Context()
    assert [(e.action, e.outcome) for e in events] == [("request", "unknown")]


@pytest.mark.django_db(transaction=True)
def test_the_context_is_gone_after_a_cancelled_async_request():
    """F2"""
    inside: list[bool] = []
    started = asyncio.Event()

    async def view(request: HttpRequest) -> HttpResponse:
        inside.append(context.current().scope is not None)
        started.set()
        await asyncio.sleep(60)
        return HttpResponse("never")

    async def cancelled() -> context.Context:
        middleware = AuditMiddleware(view)

        async def serve() -> None:
            try:
                await middleware(AsyncRequestFactory().get("/plain/"))
            finally:
                after.append(context.current())

        after: list[context.Context] = []
        task = asyncio.create_task(serve())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return after[0]

    assert asyncio.run(cancelled()) == context.Context()
    assert inside == [True]


@pytest.mark.django_db
def test_the_response_of_a_request_that_is_cancelled_while_it_is_recorded_counts_once():
    from audit_log.capture import requests

    scope = requests.begin(RequestFactory().post("/plain/"))
    assert scope is not None
    with capture_events() as events:
        requests.finish(scope, HttpResponse())
        requests.abandon(scope)
        requests.finish(scope, HttpResponse())
    assert [e.action for e in events] == ["request"]


def test_a_stale_context_of_the_thread_is_not_inherited():
    """thread_context: pool threads never inherit an earlier request's context."""
    stale = context.Context(reason="stale", suspended=True, tenant="stale")
    leave = context.enter(stale)
    seen: list[context.Context] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(context.current())
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/plain/"))
    leave()
    now = seen[0]
    assert (now.reason, now.suspended, now.tenant, now.actor) == (None, False, None, None)


def test_the_threads_of_a_pool_are_clean_after_each_request():
    """thread_context"""

    def serve(n: int) -> tuple[context.Context, bool]:
        inside: list[bool] = []

        def view(request: HttpRequest) -> HttpResponse:
            inside.append(context.current().scope is not None)
            return HttpResponse()

        before = context.current()
        AuditMiddleware(view)(RequestFactory().get(f"/plain/?n={n}"))
        return before, inside[0]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(serve, range(20)))
    assert all(before == context.Context() and inside for before, inside in results)


def test_it_is_async_where_the_next_one_is():
    """F6"""

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert iscoroutinefunction(AuditMiddleware(view))
    assert not iscoroutinefunction(AuditMiddleware(lambda request: HttpResponse()))


@pytest.mark.django_db
@override_settings(MIDDLEWARE=["audit_log.middleware.AuditMiddleware"])
def test_django_adapts_nothing_for_an_async_request(caplog: pytest.LogCaptureFixture):
    """F6: no "Asynchronous handler adapted" line."""
    from asgiref.sync import async_to_sync

    caplog.set_level(logging.DEBUG, "django.request")
    response = async_to_sync(AsyncClient().get)("/create-async/")
    assert response.status_code == 200
    assert not [r for r in caplog.records if "adapted" in r.getMessage()]


@pytest.mark.django_db
def test_a_write_of_an_async_view_carries_its_request():
    from asgiref.sync import async_to_sync

    with capture_events() as events:
        async_to_sync(AsyncClient().get)("/create-async/", headers={"x-request-id": "abc"})
    assert [(e.action, e.request.id) for e in events if e.request] == [
        ("create", "abc"),
        ("request", "abc"),
    ]


def test_a_request_that_cannot_be_looked_at_reaches_its_view(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from audit_log.capture import requests
    from audit_log.recording import losses

    def broken(*_: Any) -> None:
        raise RuntimeError

    before = losses.counts().get("request_failed", 0)
    monkeypatch.setattr(requests, "read_body", broken)
    response = AuditMiddleware(lambda request: HttpResponse("ok"))(RequestFactory().post("/"))
    assert response.content == b"ok"
    assert losses.counts()["request_failed"] == before + 1


@pytest.mark.django_db
def test_a_failure_while_recording_does_not_reach_the_client(monkeypatch: pytest.MonkeyPatch):
    from audit_log.capture import requests
    from audit_log.recording import losses

    def broken(*_: Any) -> None:
        raise RuntimeError

    before = losses.counts().get("request_failed", 0)
    monkeypatch.setattr(requests.RequestScope, "event", broken)
    assert Client().post("/plain/").content == b"plain"
    assert losses.counts()["request_failed"] == before + 1


@override_settings(AUDIT_LOG={"ENABLED": False})
def test_disabled_it_passes_everything_through():
    """L10"""
    seen: list[context.Context] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(context.current())
        return HttpResponse("ok")

    response = AuditMiddleware(view)(RequestFactory().post("/plain/"))
    assert response.content == b"ok"
    assert seen == [context.Context()]


@pytest.mark.django_db(transaction=True)
def test_a_thread_started_by_a_view_has_no_actor(client: Client):
    """thread_context"""
    from django.db import connections

    def write() -> None:
        try:
            Category.objects.create(name="in the thread")
        finally:
            connections.close_all()

    def view(request: HttpRequest) -> HttpResponse:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        return HttpResponse()

    with capture_events() as events:
        AuditMiddleware(view)(RequestFactory().get("/plain/"))
    event = events[0]
    assert (event.action, event.actor, event.request) == ("create", None, None)
