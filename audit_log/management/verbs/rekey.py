"""Rotating keys, while workers run."""

from __future__ import annotations

import base64
import os
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from audit_log.conf import KEY_BYTES, get_settings
from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.privacy.encryption import key_service
from audit_log.retention import rekeying
from audit_log.retention.rekeying import Reindexed, Rekeyed
from audit_log.router import ledger_alias

HELP = "Put every data key and waiting batch under the first of ENCRYPTION_KEYS."


def add_arguments(parser: ArgumentParser) -> None:
    """What to do instead."""
    parser.add_argument(
        "--index", action="store_true", help="Make the tokens of the first INDEX_KEY instead."
    )
    parser.add_argument("--dry-run", action="store_true", help="Say what stands under which key.")
    parser.add_argument(
        "--new-key",
        choices=("random", "kms"),
        help="Print a new key for the settings, random or wrapped by KMS_KEY, and do nothing else.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Rotate, and say which keys are still needed. Raises CommandError where something failed."""
    if options["new_key"]:
        _print_new(options["new_key"], out)
        return
    using: str = options["database"] or ledger_alias()
    done: Rekeyed | Reindexed | None = None
    if not options["dry_run"]:
        work = rekeying.reindex if options["index"] else rekeying.rekey
        with operator():
            done = work(using, progress=lambda what, n: out.progress(f"{what}: {n} done"))
    found, spooled = rekeying.usage(using), rekeying.spooled()
    out.json(
        {
            "done": None if done is None else asdict(done),
            "keys": [asdict(usage) for usage in found],
            "spool_files": spooled,
        }
    )
    if done is not None:
        out.line(_words(done))
    for usage in found:
        name = (
            printable(usage.name) if usage.name else f"! not in the settings: {usage.fingerprint}"
        )
        needed = "" if usage.data_keys or usage.batches else " (nothing needs it)"
        out.line(f"{name}: {usage.data_keys} data keys, {usage.batches} batches{needed}")
    if spooled:
        out.line(f"{spooled} spool files wait on this machine: relay them before a key goes.")
    _raise_failures(done, out)


def _print_new(kind: str, out: Output) -> None:
    if kind == "random":
        text = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    elif (kms_key := get_settings().kms_key) is None:
        raise CommandError('Say which key of AWS KMS is to wrap it: AUDIT_LOG["KMS_KEY"].')
    else:
        text = "kms:" + base64.b64encode(key_service().new_key(kms_key)).decode()
    out.json({"key": text})
    out.line(text)


def _words(done: Rekeyed | Reindexed) -> str:
    if isinstance(done, Reindexed):
        return f"{done.records} records have new tokens."
    return (
        f"{done.data_keys} data keys and {done.batches} batches are under "
        f"{printable(done.name)} now."
    )


def _raise_failures(done: Rekeyed | Reindexed | None, out: Output) -> None:
    if done is None or not done.failures:
        return
    for what, why in list(done.failures.items())[:_SHOWN]:
        out.line(f"! {what}: {printable(why)}")
    raise CommandError(f"{len(done.failures)} could not be done. All others were.")


_SHOWN = 20
