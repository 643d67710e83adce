from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from audit_log import testing
from audit_log.events import emitter
from audit_log.models import Record
from audit_log.reading import access


@pytest.fixture(autouse=True)
def _admin_urls(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.admin.urls"
    access.forget()
    yield
    access.forget()


@pytest.fixture
def staff() -> Callable[..., User]:
    """Makes a member of staff with these permissions (`app.codename`)."""

    def make(*permissions: str, name: str = "staff") -> User:
        user = User.objects.create_user(name, is_staff=True)
        for permission in permissions:
            app, _, codename = permission.partition(".")
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        return user

    return make


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    def log_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def viewer(staff: Callable[..., User], as_user: Callable[[User], Client]) -> Client:
    """Somebody who may see records, and nothing else."""
    return as_user(staff("audit_log.view_record", name="viewer"))


@pytest.fixture
def opener(staff: Callable[..., User], as_user: Callable[[User], Client]) -> Client:
    """Somebody who may open them too."""
    return as_user(staff("audit_log.view_record", "audit_log.view_sealed", name="opener"))


@pytest.fixture
def root() -> Client:
    """A superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def store() -> Callable[[], None]:
    """Turns what was captured so far into records."""

    def relay() -> None:
        relayed = testing.relay()
        assert (relayed.failed, relayed.parked) == (0, 0)

    return relay


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Inserts a record as somebody behind the relay's back would: with any columns."""
    numbers = iter(range(1_000_000, 2_000_000))

    def make(ago: timedelta = timedelta(), **columns: Any) -> Record:
        moment = datetime.now(UTC) - ago
        values: dict[str, Any] = {
            "id": emitter().id_for(moment),
            "version": 1,
            "stream": "default",
            "sequence": next(numbers),
            "occurred_at": moment,
            "recorded_at": moment,
            "action": "update",
            "outcome": "success",
            "source": "orm",
        }
        row = Record(**(values | columns))
        row.save()
        return row

    return make
