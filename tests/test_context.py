"""The context: immutable, restored, and never inherited by a plain thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User

import audit_log
from audit_log import context
from audit_log.events import Actor, Request
from audit_log.testing import capture_events
from tests.shop.models import Category

ANNA = Actor(type="user", id="1", label="anna")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    context.clear()
    yield
    context.clear()


class Scope:
    """A request that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = False
        self.views: dict[Hashable, Any] | None = None

    def actor(self) -> Actor:
        self.asked += 1
        return ANNA

    def request(self) -> Request:
        self.asked += 1
        return Request(id="r1")

    def tenant(self) -> str:
        self.asked += 1
        return "acme"

    def noticed(self, event: object = None) -> None:
        """Not of interest here."""


def test_a_context_cannot_be_altered():
    with pytest.raises(AttributeError):
        context.current().reason = "because"  # type: ignore[misc]


def test_leaving_restores_what_was_there_before():
    outer = context.Context(reason="outer")
    leave_outer = context.enter(outer)
    leave_inner = context.enter(context.Context(reason="inner"))
    assert context.current().reason == "inner"
    leave_inner()
    assert context.current() is outer
    leave_outer()
    assert context.current() == context.Context()


def test_leaving_in_another_context_clears_it_instead():
    leave = context.enter(context.Context(reason="mine"))
    other = contextvars.copy_context()
    other.run(leave)
    assert other.run(context.current) == context.Context()
    leave()


def test_changed_restores_after_an_exception():
    """A20: restored also after an exception."""
    with pytest.raises(RuntimeError), context.changed(suspended=True):
        raise RuntimeError
    assert context.current().suspended is False


def test_an_event_asks_the_request_only_for_what_it_is_not_given():
    scope = Scope()
    leave = context.enter(context.Context(scope=scope))
    context.new_event("x", source="explicit", actor=None, request=None, tenant=None)
    assert scope.asked == 0
    event = context.new_event("x", source="explicit")
    leave()
    assert (event.actor, event.tenant) == (ANNA, "acme")
    assert event.request == Request(id="r1")


def test_what_acting_says_wins_over_who_is_logged_in():
    scope = Scope()
    boss = Actor(type="user", id="9", label="boss")
    leave = context.enter(context.Context(scope=scope))
    with audit_log.acting(boss, reason="ticket 42", tenant="other"):
        event = context.new_event("x", source="explicit")
    after = context.new_event("x", source="explicit")
    leave()
    assert (event.actor, event.reason, event.tenant) == (boss, "ticket 42", "other")
    assert (after.actor, after.reason, after.tenant) == (ANNA, None, "acme")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", ["thread", "executor"])
def test_a_plain_thread_has_no_actor_and_no_stale_one(start: str):
    """thread_context"""
    from django.db import connections

    user = User.objects.create(username="anna")

    def write(name: str) -> None:
        try:
            Category.objects.create(name=name)
        finally:
            connections.close_all()

    with capture_events() as events, ThreadPoolExecutor(1) as pool:
        pool.submit(write, "warm-up").result()
        with audit_log.acting(user):
            Category.objects.create(name="mine")
            if start == "thread":
                thread = threading.Thread(target=write, args=("theirs",))
                thread.start()
                thread.join()
            else:
                pool.submit(write, "theirs").result()
    actors = {e.target.label: e.actor for e in events if e.target is not None}
    assert actors["theirs"] is None
    mine = actors["mine"]
    assert mine is not None
    assert mine.label == "anna"


def test_awaits_and_to_thread_keep_the_context_and_tasks_do_not_share_it():
    """F5"""

    async def one(name: str) -> list[str | None]:
        with context.changed(reason=name):
            await asyncio.sleep(0)
            there = await asyncio.to_thread(lambda: context.current().reason)
            await asyncio.sleep(0)
            return [there, context.current().reason]

    async def all_of_them() -> list[list[str | None]]:
        return await asyncio.gather(*(one(f"n{n}") for n in range(30)))

    assert asyncio.run(all_of_them()) == [[f"n{n}"] * 2 for n in range(30)]


@pytest.mark.django_db(transaction=True)
def test_an_executor_acts_for_somebody_only_where_the_context_is_copied():
    """F5: `ThreadPoolExecutor` hands nothing on by itself; `copy_context().run` does."""
    from django.db import connections

    def write(name: str) -> None:
        try:
            Category.objects.create(name=name)
        finally:
            connections.close_all()

    with capture_events() as events, ThreadPoolExecutor(1) as pool:
        with audit_log.acting(ANNA, via="support"):
            pool.submit(contextvars.copy_context().run, write, "copied").result()
            pool.submit(write, "plain").result()
        pool.submit(write, "later").result()
    actors = {e.target.label: e.actor for e in events if e.target is not None}
    assert actors["copied"] == Actor(type="user", id="1", label="anna", via="support")
    assert actors["plain"] is actors["later"] is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["sync_to_async", "to_thread", "apart", "task"])
def test_what_async_code_hands_to_threads_is_done_by_who_called(way: str):
    """F5"""
    from asgiref.sync import async_to_sync, sync_to_async
    from django.db import connections

    def write() -> None:
        try:
            Category.objects.create(name="there")
        finally:
            if way in {"to_thread", "apart"}:
                connections.close_all()

    async def go() -> None:
        with audit_log.acting(ANNA):
            if way == "to_thread":
                await asyncio.to_thread(write)
            elif way == "task":
                await asyncio.create_task(sync_to_async(write)())
            else:
                await sync_to_async(write, thread_sensitive=way == "sync_to_async")()
        await sync_to_async(Category.objects.create)(name="afterwards")

    with capture_events() as events:
        async_to_sync(go)()
    actors = {e.target.label: e.actor for e in events if e.target is not None}
    assert actors == {"there": ANNA, "afterwards": None}
