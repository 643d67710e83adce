"""pgbouncer gives each transaction another server connection: nothing may be left on one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

import audit_log
from audit_log.capture.triggers.sending import Telling
from tests.faults.servers import free_port
from tests.shop.models import Category
from tests.triggers import seen

_PGBOUNCER = shutil.which("pgbouncer")
_SECONDS = 120
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(_PGBOUNCER is None, reason="There is no pgbouncer."),
]


@pytest.fixture
def bouncer(tmp_path: Path, transactional_db: None) -> Iterator[int]:
    """The port of a pgbouncer that pools transactions over two server connections."""
    where: dict[str, Any] = connection.settings_dict
    port = free_port()
    (tmp_path / "users").write_text(f'"{where["USER"]}" "{where["PASSWORD"]}"\n')
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={where['HOST']} port={where['PORT']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\nauth_file = {tmp_path}/users\npool_mode = transaction\n"
        f"default_pool_size = 2\nlogfile = {tmp_path}/log\npidfile = {tmp_path}/pid\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    (tmp_path / "pgbouncer.ini").write_text(
        (tmp_path / "pgbouncer.ini")
        .read_text()
        .replace(f"port={where['PORT']}", f"port={where['PORT']} user={where['USER']}")
    )
    command = [str(_PGBOUNCER), str(tmp_path / "pgbouncer.ini")]
    if os.geteuid() == 0:  # which it refuses to run as
        tmp_path.chmod(0o777)
        for parent in tmp_path.parents:
            if parent == Path("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o711)
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    where: dict[str, Any] = connection.settings_dict
    until = time.monotonic() + _SECONDS
    while True:
        if process.poll() is not None:
            pytest.fail(f"pgbouncer ended with {process.returncode}.")
        try:
            psycopg.connect(
                host="127.0.0.1", port=port, user=where["USER"], dbname=where["NAME"]
            ).close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _through(port: int) -> BaseDatabaseWrapper:
    made = connections.create_connection("default")
    made.settings_dict = {
        **made.settings_dict,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
    made.connect()
    return made


def test_who_acts_stays_with_its_transaction(triggers, bouncer):
    triggers(Category)
    pooled = [_through(bouncer) for _ in range(4)]
    assert all(isinstance(each.execute_wrappers[0], Telling) for each in pooled)
    insert = "INSERT INTO shop_category (name) VALUES (%s)"
    expected = []
    try:
        for turn in range(5):
            for number, one in enumerate(pooled):
                name = f"{turn}.{number}"
                expected.append((name, name if number else connection.settings_dict["USER"]))
                with one.cursor() as cursor:
                    if number == 0:  # says nothing, on whatever the others left
                        cursor.execute(insert, [name])
                        continue
                    with audit_log.acting(name):
                        cursor.execute(insert, [name])
        own = connections["default"]
        try:
            connections["default"] = pooled[1]
            with audit_log.acting("together"), transaction.atomic():
                Category.objects.create(name="a")
                Category.objects.create(name="b")
        finally:
            connections["default"] = own
    finally:
        for one in pooled:
            one.close()
    found = [(e.changes["name"][1], e.actor.label) for e in seen.events()]
    assert found == [*expected, ("a", "together"), ("b", "together")]
