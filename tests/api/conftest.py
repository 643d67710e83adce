from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client

from audit_log import testing
from audit_log.privacy import data_keys
from audit_log.reading import access, streams

VIEW = "view_record"
OPEN = "view_sealed"
ALERTS = "view_alert"


@pytest.fixture(autouse=True)
def _fresh(settings: Any) -> Iterator[None]:
    """Nothing seen, throttled or remembered by an earlier test."""
    settings.ROOT_URLCONF = "tests.api.urls"
    for forget in (access.forget, streams.forget, data_keys.forget, cache.clear):
        forget()
    yield
    for forget in (access.forget, streams.forget, data_keys.forget, cache.clear):
        forget()


@pytest.fixture
def person() -> Callable[..., Client]:
    """Somebody logged in, who is no member of staff, with these permissions of ours."""

    def make(*permissions: str, name: str = "ada") -> Client:
        user = User.objects.create_user(name, password="right")
        for codename in permissions:
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label="audit_log", codename=codename)
            )
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def reader(person: Callable[..., Client]) -> Client:
    """Somebody who may see records, and nothing else."""
    return person(VIEW, name="reader")


@pytest.fixture
def opener(person: Callable[..., Client]) -> Client:
    """Somebody who may open them too."""
    return person(VIEW, OPEN, name="opener")


@pytest.fixture
def store() -> Callable[[], None]:
    """Turns what was captured so far into records."""

    def relay() -> None:
        relayed = testing.relay()
        assert (relayed.failed, relayed.parked) == (0, 0)

    return relay
