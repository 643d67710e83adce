"""Drives the bank over HTTP and holds its log against its database. A process with the bank's own
settings: `python -m tests.flows.bank_driver <site> <password>`. The last line is JSON.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections import defaultdict
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402 - needs the settings
from django.core.management import call_command  # noqa: E402

import audit_log  # noqa: E402
from audit_log.delivery import outboxes  # noqa: E402
from audit_log.models import Outbox, Record  # noqa: E402
from audit_log.router import ledger_alias  # noqa: E402
from example_project.bank.models import Customer, Payment, PaymentStatus  # noqa: E402
from example_project.demo.progress import Progress  # noqa: E402
from example_project.demo.traffic import Traffic  # noqa: E402

SECONDS = 300  # not to hang
MASKED = object()


def waiting() -> int:
    return sum(Outbox.objects.using(alias).count() for alias in outboxes.aliases())


def is_done() -> bool:
    """The task has settled what was pending, and every batch has been moved."""
    pending = Payment.objects.filter(status=PaymentStatus.PENDING)
    return not pending.exclude(counterparty_name="API Customer").exists() and not waiting()


def wait() -> bool:
    """Until all is done and stays so for a second: requests are written a little later."""
    deadline = time.monotonic() + SECONDS
    done_since: float | None = None
    while time.monotonic() < deadline:
        now = time.monotonic()
        done_since = (done_since or now) if is_done() else None
        if done_since is not None and now - done_since > 1:
            return True
        time.sleep(0.1)
    return False


class Replay:
    """The rows as the log tells them, from the first record to the last."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.members: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.problems: list[str] = []
        self.changes = 0

    def run(self) -> None:
        for record in Record.objects.filter(target_type__startswith="bank.").order_by("sequence"):
            self._apply(record)
        for model in apps.get_app_config("bank").get_models():
            self._compare(model)
        for customer in Customer.objects.all():
            told = self.members["bank.customer", str(customer.pk)]
            if told != {str(pk) for pk in customer.tags.values_list("pk", flat=True)}:
                self.problems.append(f"The segments of customer {customer.pk} are not {told}.")

    def _apply(self, record: Record) -> None:
        opened = audit_log.contents(record)
        key = (str(record.target_type), str(record.target_id))
        if record.action.startswith("m2m."):
            self._apply_members(record, self.members[key], set(opened["data"]["ids"]))
        elif record.action in {"create", "update", "delete"}:
            self.changes += 1
            self._apply_row(record, key, self._unmasked(record, opened["changes"]))

    def _apply_members(self, record: Record, members: set[str], ids: set[str]) -> None:
        is_new = record.action == "m2m.add"
        if members & ids != (set() if is_new else ids):
            self.problems.append(f"{record.action} of {ids} when there were {members}.")
        members.symmetric_difference_update(ids)

    def _unmasked(self, record: Record, changes: Any) -> dict[str, list[Any]]:
        """What a detector or a policy has masked says nothing about the row."""
        marks: Any = record.redactions or []
        names = {mark["path"].split(".")[1].split("[")[0] for mark in marks if "." in mark["path"]}
        return {name: [MASKED, MASKED] if name in names else pair for name, pair in changes.items()}

    def _apply_row(
        self, record: Record, key: tuple[str, str], changes: dict[str, list[Any]]
    ) -> None:
        rows, pk = self.rows[key[0]], key[1]
        if (pk in rows) == (record.action == "create"):
            self.problems.append(f"{record.action} of {key}, which is told twice or too late.")
        row = rows.setdefault(pk, {})
        for name, (old, new) in changes.items():
            before = row.get(name)
            if MASKED not in (before, old) and before != old:
                self.problems.append(f"{key} {name}: {old!r} was {before!r} before.")
            row[name] = new
        if record.action == "delete":
            del rows[pk]

    def _compare(self, model: Any) -> None:
        told = self.rows[model._meta.label_lower]
        stored = {str(row.pk): row for row in model.objects.all()}
        if told.keys() != stored.keys():
            self.problems.append(f"{model.__name__}: {told.keys() ^ stored.keys()}")
        for pk in told.keys() & stored.keys():
            for name, value in told[pk].items():
                field = model._meta.get_field(name)
                actual = getattr(stored[pk], field.attname)
                if value is not MASKED and field.to_python(value) != actual:
                    self.problems.append(f"{model.__name__} {pk} {name}: {value!r} is {actual!r}")


def main(site: str, password: str) -> dict[str, Any]:
    driver = Traffic(site, password, Progress(io.StringIO()))
    driver.run(rounds=3)
    is_relayed = wait()
    replay = Replay()
    replay.run()
    out = io.StringIO()
    call_command("audit_log", "verify", "--json", "--no-record", stdout=out)
    return {
        "unexpected": driver.unexpected,
        "requests": driver.requests,
        "relayed": is_relayed,
        "waiting": waiting(),
        "changes": replay.changes,
        "problems": replay.problems,
        "verified": json.loads(out.getvalue())["verified"],
        "ledger": ledger_alias(),
        "recorded_requests": Record.objects.filter(action="request").count(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
