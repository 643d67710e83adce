"""What each key of `AUDIT_LOG` is for: the table in docs/configuration.md is made from this.

`python -m audit_log.conf.reference docs/configuration.md` writes it there; a test says when to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

BEGIN: Final = "<!-- made by audit_log.conf.reference -->"
END: Final = "<!-- end -->"


class Key(NamedTuple):
    """One key. `shown` is its default in words, where the value itself says less."""

    name: str
    shown: str | None
    meaning: str


KEYS: Final = (
    Key(
        "SERVICE",
        "the first part of the settings module's name",
        "what this project is called in every record and checkpoint",
    ),
    Key(
        "ENABLED",
        None,
        "`False` installs no hook at all",
    ),
    Key(
        "MODELS",
        None,
        'which models are audited: `"app.Model"`, `"app.*"`, or `{"app.Model": {options of '
        "audited()}}`",
    ),
    Key(
        "EXCLUDE_MODELS",
        None,
        "which are not",
    ),
    Key(
        "OPEN_FIELDS",
        None,
        'patterns such as `"*.amount"` or `"app.Model.field"`: stored readable',
    ),
    Key(
        "SEALED_FIELDS",
        None,
        "stored encrypted",
    ),
    Key(
        "MASK_FIELDS",
        None,
        "stored as a mask",
    ),
    Key(
        "EXCLUDE_FIELDS",
        None,
        "not looked at",
    ),
    Key(
        "MASK_KEYS",
        None,
        "further key names to mask in bodies, queries and `data`",
    ),
    Key(
        "SAFE_KEYS",
        None,
        "key names never to mask, whatever the built-in rules say",
    ),
    Key(
        "DETECTORS",
        None,
        "further detectors of secrets and personal data in text, by their dotted paths; "
        '`"-phone"` switches one of the personal built-in ones off '
        "([masking.md](masking.md#your-own-detectors))",
    ),
    Key(
        "REQUESTS",
        None,
        '`"notable"`: unsafe methods, errors, and requests that changed something; `"all"`; '
        '`"off"`',
    ),
    Key(
        "REQUEST_BODY",
        None,
        "keep small JSON and form bodies, redacted and sealed, and of uploads what your view "
        'reads, each file as `<name, size>`; or `"off"`',
    ),
    Key(
        "EXCLUDE_PATHS",
        None,
        "requests that are neither recorded nor counted: patterns of paths such as "
        '`"/health*"`, compiled regular expressions, callables (or their dotted paths) that get '
        "the request ([who.md](who.md#requests-to-leave-out))",
    ),
    Key(
        "TRUSTED_PROXIES",
        None,
        "how many proxies stand in front, or a list of their networks; with `0`, "
        "X-Forwarded-For is ignored; with `None` no address is kept",
    ),
    Key(
        "REQUEST_ID_HEADER",
        None,
        "the header a request's id is taken from, and every response tells it by",
    ),
    Key(
        "REQUEST_ID",
        None,
        "a callable (or its dotted path) that gets the request and returns its id, asked before "
        "the header; `None`, or what can be no id, leaves it to the header",
    ),
    Key(
        "TENANT",
        None,
        "a callable (or its dotted path) that gets the request and returns the tenant's id",
    ),
    Key(
        "ON_FAILURE",
        None,
        'when the outbox refuses a batch: `"allow"` the change and spool the batch, or '
        '`"block"` the transaction',
    ),
    Key(
        "BULK_ROWS",
        None,
        "a bulk operation over more rows is one event with their keys, instead of one for each row",
    ),
    Key(
        "SPOOL_DIR",
        "`/var/tmp/audit_log-<uid>-<service>`",
        "the folder for spooled batches: local disk, of this user, mode 0700",
    ),
    Key(
        "DATABASE",
        None,
        'the alias of the ledger\'s database; with another than `"default"`, put '
        "`audit_log.router.AuditRouter` into `DATABASE_ROUTERS` "
        "([databases.md](databases.md))",
    ),
    Key(
        "QUEUE",
        None,
        "the Celery queue of the log's own tasks",
    ),
    Key(
        "ARCHIVE",
        None,
        'where closed days go: `"s3://bucket/prefix"` or `"file:///folder"`; `None`: nothing '
        'is archived or purged; `"none"`: purge without an archive '
        "([retention.md](retention.md))",
    ),
    Key(
        "ARCHIVE_OPTIONS",
        "`{}`",
        "for S3: `endpoint`, `region`, `kms` (a key id), `storage_class`, `path_style`; "
        "credentials come from boto3's own chain",
    ),
    Key(
        "RETENTION",
        '`{"database": "90d", "cold": "180d", "delete": "365d"}`',
        "how long records stay where; some of these over the defaults, or a profile: "
        '`"pci"`, `"hipaa"`',
    ),
    Key(
        "STREAMS",
        "`{}`",
        '`{"audit_log": {"retention": {…}}}`: another retention for one stream, `"default"` '
        'or `"audit_log"`',
    ),
    Key(
        "ALERTS",
        "`mass_delete`, to the log and the signal",
        "the rules of [alerts.md](alerts.md), in place of the default one; `[]` for none",
    ),
    Key(
        "ENCRYPTION_KEYS",
        "made from `SECRET_KEY`",
        '`{name: 32 bytes in base64}`, newest first; or `"kms:…"`, a key that AWS KMS wrapped. Old '
        "ones stay readable while they are listed ([privacy.md](privacy.md))",
    ),
    Key(
        "KMS_KEY",
        None,
        "the AWS KMS key (id, ARN or alias) that `rekey --new-key kms` wraps a new key with",
    ),
    Key(
        "INDEX_KEY",
        "made from `SECRET_KEY`",
        "32 bytes in base64: the key of the blind indexes; or a list, newest first, while "
        "`rekey --index` has not been through",
    ),
    Key(
        "SIGNING_KEY",
        "made from `SECRET_KEY`",
        "32 bytes in base64: the Ed25519 seed that signs checkpoints; or a list, newest first: "
        "the first signs, all are believed",
    ),
)


def table(default: Any) -> str:
    """The rows, in Markdown; `default(key)` gives the value in force where nothing is set."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key in KEYS:
        shown = key.shown or f"`{_literal(default(key.name))}`"
        lines.append(f"| `{key.name}` | {shown} | {key.meaning} |")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    """As it is written in Python, with the quotes that settings files have here."""
    if value is None or isinstance(value, bool):
        return repr(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def with_table(page: str, default: Any) -> str:
    """A page in which the table between the two marks is the one of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(default)}\n{END}{after}"


def main(path: Path) -> None:
    """Write the table into a page."""
    from audit_log import conf  # noqa: PLC0415 - it is its package; only this needs it

    path.write_text(with_table(path.read_text(), conf.default))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
