"""What a forked child begins anew, also where Python does not hear of the fork."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from audit_log import forks
from audit_log.events import emitter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="No fork here.")


def in_a_child(fork) -> tuple[str, int]:
    """The name and the next number of the emitter in a child made by `fork`."""
    reader, writer = os.pipe()
    if (pid := fork()) == 0:
        try:
            os.write(writer, f"{emitter().name} {emitter().numbers(1)}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        name, number = said.read().split()
    return name, int(number)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # so is xdist's worker
@pytest.mark.parametrize(
    "fork", [os.fork, lambda: ctypes.PyDLL(None).fork()], ids=["Python's", "behind its back"]
)
def test_child_is_an_emitter_of_its_own(fork):
    """L9: uWSGI forks without telling Python."""
    emitter().numbers(7)
    before = emitter().name
    first, second = in_a_child(fork), in_a_child(fork)
    assert len({first[0], second[0], before}) == 3
    assert first[1] == second[1] == 0
    assert emitter().name == before


def test_process_that_has_not_forked_renews_nothing(monkeypatch):
    renewed: list[int] = []
    monkeypatch.setattr(forks, "_renewals", [lambda: renewed.append(threading.get_ident())])
    forks.notice()
    assert renewed == []


@pytest.mark.parametrize(
    ("worker", "has_threads", "may"), [(0, 1, False), (1, 0, False), (1, 1, True)]
)
def test_threads_of_uwsgi_are_those_of_its_workers_where_it_has_any(
    monkeypatch, worker, has_threads, may
):
    """L9: tests/guests runs the real one."""
    module = SimpleNamespace(worker_id=lambda: worker, has_threads=has_threads)
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    assert forks.may_start_threads() is may


def test_threads_may_be_started_elsewhere():
    assert forks.may_start_threads()
