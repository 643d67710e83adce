"""What a forked child begins anew, also where Python does not hear of the fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from audit_log import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="No fork here.")


FORKING = """
import ctypes, os
from audit_log.events import emitter

def in_a_child():
    reader, writer = os.pipe()
    if (pid := FORK()) == 0:
        os.write(writer, f"{emitter().name} {emitter().numbers(1)}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(reader, 100).decode()

emitter().numbers(7)
before = emitter().name
print(before, in_a_child(), in_a_child(), emitter().name)
"""


@pytest.mark.parametrize(
    "fork", ["os.fork", "ctypes.PyDLL(None).fork"], ids=["Python's", "behind its back"]
)
def test_child_is_an_emitter_of_its_own(fork: str):
    """L9: uWSGI forks without telling Python.

    In a process without threads: the locks of this one's would hang a child that Python has not
    made ready.
    """
    code = FORKING.replace("FORK", fork)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    before, first, number, second, other_number, after = run.stdout.split()
    assert len({first, second, before}) == 3
    assert number == other_number == "0"
    assert before == after


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
