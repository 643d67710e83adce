from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import settings
from tests.guests.running import Host

MakeHost = Callable[..., Host]


@pytest.fixture(scope="module")
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHost]:
    """Makes hosts: `make_host("library", "plain")`. None may leave a test database behind."""
    folder = tmp_path_factory.mktemp("guests")
    hosts: list[Host] = []

    def make(project: str, name: str, vendor: str = settings.DATABASE) -> Host:
        host = Host(project, Path(folder / f"{len(hosts)}_{name}"), vendor=vendor)
        hosts.append(host)
        return host

    yield make
    left = [name for host in hosts for name in host.database.drop()]
    assert left == []
