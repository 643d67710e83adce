"""Erasing a person: making everything sealed of theirs unreadable, with a certificate."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit_log.exceptions import InvalidProof
from audit_log.management.actor import operator
from audit_log.management.asking import confirm
from audit_log.management.output import Output, printable
from audit_log.retention import erasure
from audit_log.retention.certificates import Certificate
from audit_log.router import ledger_alias

HELP = "Make everything sealed of a person unreadable, for good. Says first what that would be."


def add_arguments(parser: ArgumentParser) -> None:
    """Whom, and whether to do it."""
    parser.add_argument(
        "subject", nargs="?", help="app.model:id (user:42 for a user), or subject:value."
    )
    parser.add_argument("--execute", action="store_true", help="Do it, after asking.")
    parser.add_argument("--yes", action="store_true", help="Do it, and do not ask.")
    parser.add_argument("--reason", default="", help="Who asked for it; on record.")
    parser.add_argument("--certificate", type=Path, help="Write the certificate to this file.")
    parser.add_argument(
        "--reapply",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="After a backup was restored: erase again whoever was erased since, by the "
        "certificates beside the archive and these.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Say what would go, or erase. Raises CommandError under a legal hold, or when unsure."""
    using: str = options["database"] or ledger_alias()
    if options["reapply"] is not None:
        _reapply(options["reapply"], using, out)
        return
    if not options["subject"]:
        raise CommandError("Say whom: audit_log erase app.model:id (user:42 for a user).")
    found = erasure.plan(
        options["subject"],
        using,
        progress=lambda name, done, size: out.progress(f"{name}: {done} of {size} records"),
    )
    execute = options["execute"] or options["yes"]
    if not execute:
        out.json({"erased": False, **_as_json(found)})
    _print(found, out)
    if not execute:
        out.line("Nothing was erased. To do it: --execute --reason …")
        return
    _refuse(found)
    confirm(
        f"{found.person.subject} is to be erased, which cannot be undone.",
        options,
        nothing="Nothing was erased.",
        answer=found.person.subject,
    )
    with operator():
        done = erasure.erase(options["subject"], options["reason"], using)
    _print_done(found, done, options["certificate"], out)


def _refuse(found: erasure.Plan) -> None:
    """Where there is nothing, a typing error is likelier than a person who left no trace."""
    if not found.keys and not found.counts.records and not found.holds:
        raise CommandError(
            f"The log holds nothing of {found.person.subject}"
            + (
                f": erased on {found.person.erased_at:%Y-%m-%d}."
                if found.person.erased_at
                else ". Names look like app.model:id, user:42 or subject:value."
            )
        )


def _as_json(found: erasure.Plan) -> dict[str, Any]:
    counts = found.counts
    return {
        "subject": found.person.subject,
        "keys": found.keys,
        "records": counts.records,
        "acted": counts.acted,
        "actor_sealed": counts.actor_sealed,
        "data_sealed": counts.data_sealed,
        "archived_parts": found.parts,
        "holds": [{"id": hold.pk, "reason": hold.reason} for hold in found.holds],
        "erased_before": found.person.erased_at,
    }


def _print(found: erasure.Plan, out: Output) -> None:
    person, counts = found.person, found.counts
    out.line(f"{printable(person.subject)}: {counts.records} records, {found.keys} keys")
    out.line(
        f"  becomes unreadable: what they said and sent in {counts.actor_sealed} records (name, "
        f"address, query, body, reason), and what was recorded of them in {counts.data_sealed} "
        "(labels, sealed changes and data)"
    )
    if found.parts:
        out.line(f"  the same in the {found.parts} parts of the archive, which are not touched")
    out.line(
        "  stays: that something happened, when, to which object, the ids, and what is stored "
        f"open; they are the actor of {counts.acted} records"
    )
    if person.erased_at:
        out.line(f"  erased before, on {person.erased_at:%Y-%m-%d}")
    for hold in found.holds:
        out.line(f"! hold {hold.pk} forbids it: {printable(hold.reason)}")


def _print_done(found: erasure.Plan, done: erasure.Erasure, path: Path | None, out: Output) -> None:
    certificate, trouble = done.certificate, ""
    text = certificate.encode().decode() if certificate is not None else ""
    if path is not None and text:
        trouble = _write(text, path)
    out.json(
        {
            "erased": True,
            **_as_json(found),
            "tokens": done.tokens,
            "record": done.record,
            "certificate": text or None,
            "why": done.why,
        }
    )
    out.line(f"Erased: {done.keys} keys destroyed, {done.tokens} records lost their tokens.")
    if certificate is None:
        out.line(f"! There is no certificate yet: {printable(done.why)}")
    elif path is not None and not trouble:
        out.line(f"The certificate is in {path}.")
    else:
        out.line(text)
    if trouble:
        raise CommandError(f"{trouble} All is erased; keep the certificate that was printed.")


def _write(text: str, path: Path) -> str:
    """Why it could not be written; empty where it was. What is erased stays so."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return f"{path}: {error.strerror or error}."
    return ""


def _reapply(files: list[Path], using: str, out: Output) -> None:
    given = []
    for path in files:
        try:
            given.append(Certificate.parse(path.read_bytes()))
        except (OSError, InvalidProof) as error:
            raise CommandError(f"{path}: {error}") from error
    with operator():
        done = erasure.reapply(using, given=given, noticed=out.progress)
    out.json({"certificates": done.certificates, "erased": done.persons, "refused": done.refused})
    out.line(f"{done.certificates} certificates, {len(done.persons)} persons erased again.")
    for text in done.refused:
        out.line(f"! {printable(text)}")
    if done.refused:
        raise CommandError(f"{len(done.refused)} certificates do not hold.")
