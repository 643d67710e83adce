from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.db import connections

from audit_log.recording import buffer
from tests import services, settings

# What is slow on a busy machine is no failure, and what CI tries is the same each time.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize=services.required(),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    settings.DIRECTORY.mkdir(exist_ok=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's workers share the directory of their parent
        shutil.rmtree(settings.DIRECTORY, ignore_errors=True)


def _need(service: str) -> None:
    reason = services.trouble(service)
    if reason is None:
        return
    if services.required():
        pytest.fail(f"{reason} ({services.REQUIRED}=1)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _marked_services(request: pytest.FixtureRequest) -> None:
    """Skips a test marked with a service that does not answer; fails it in CI."""
    for service in services.SERVICES:
        if request.node.get_closest_marker(service):
            _need(service)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Let each connection find out, once, what Django's checks ask it (SQLite: by a query).

    A test may be kept from all databases but one, and call a command that runs the checks of all.
    """
    with django_db_blocker.unblock():
        for connection in connections.all():
            _ = connection.features.supports_json_field


@pytest.fixture(autouse=True)
def _nothing_of_earlier_tests() -> None:
    """What requests of an earlier test left buffered would be stored by this one."""
    buffer.discard()
    logging.root.setLevel(logging.WARNING)  # a Celery worker in this process leaves its own


@pytest.fixture(scope="session")
def postgres_dsn() -> dict[str, str]:
    """host, port, user and password of a PostgreSQL server that answers."""
    _need("postgres")
    return dict(services.POSTGRES)


@pytest.fixture(scope="session")
def mysql_dsn() -> dict[str, str]:
    """host, port, user and password of a MariaDB or MySQL server that answers."""
    _need("mysql")
    return dict(services.MYSQL)


@pytest.fixture(scope="session")
def redis_url() -> str:
    _need("redis")
    return services.REDIS_URL


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    _need("rabbitmq")
    return services.RABBITMQ_URL


@pytest.fixture
def process_environment(transactional_db: None) -> dict[str, str]:
    """The environment for a process of the test's own, on the databases the test sees.

    The process sees only what is committed, hence `transactional_db`. Name both databases by
    `@pytest.mark.django_db(transaction=True, databases=[...])` where it uses both.
    """
    names = {
        f"AUDIT_LOG_TEST_NAME_{alias.upper()}": str(connections[alias].settings_dict["NAME"])
        for alias in connections
    }
    return {
        **os.environ,
        **names,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
    }
