"""What is measured: a project without an audit log, ours, and five peers at their best settings.

Nothing here imports Django: the parent process reads it too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NONE: Final = "none"
OURS: Final = "audit_log"
TRIGGERS: Final = "audit_log[triggers]"
FLOOR: Final = "floor"  # no column of the table: see benchmarks/catalog/floor.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One column of the comparison.

    `events` maps each table of events to the SQL condition of those that count; `companions` are
    the tables that grow with them. `outermost` and `innermost` are its middleware, and where.
    `best` says in words how it is set up, `notes` what it leaves out that no probe shows.
    """

    name: str
    module: str | None = None
    distribution: str | None = None
    apps: tuple[str, ...] = ()
    outermost: tuple[str, ...] = ()
    innermost: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    best: str = ""
    notes: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether a relay and a background thread belong to it."""
        return self.module == "audit_log"

    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        return self.module is None or importlib.util.find_spec(self.module) is not None


SUBJECTS: Final = (
    Subject(name=NONE, best="Django alone"),
    Subject(
        name=OURS,
        module="audit_log",
        distribution="django-audit-ledger",
        apps=("audit_log",),
        outermost=("audit_log.middleware.AuditMiddleware",),
        settings={"AUDIT_LOG": {"SERVICE": "benchmark"}},
        events={"audit_log_record": "action <> 'usage' AND action NOT LIKE 'audit_log.%'"},
        companions=("audit_log_tile",),
        best="the defaults; old values as loaded; a relay runs between the rounds",
        notes="SQL of your own, but with triggers",
    ),
    Subject(
        name=TRIGGERS,
        module="audit_log",
        distribution="django-audit-ledger",
        apps=("audit_log",),
        outermost=("audit_log.middleware.AuditMiddleware",),
        settings={
            "AUDIT_LOG": {
                "SERVICE": "benchmark",
                "MODELS": [
                    "*",
                    {
                        f"catalog.{model}": {"capture": "triggers"}
                        for model in ("Item", "Part", "Order", "OrderTag")
                    },
                ],
            }
        },
        events={"audit_log_record": "action <> 'usage' AND action NOT LIKE 'audit_log.%'"},
        companions=("audit_log_tile",),
        best='`capture="triggers"` for the four models; a relay runs between the rounds',
        notes="how an object was called. Until the relay has them, values are in clear",
    ),
    Subject(
        name="django-auditlog",
        module="auditlog",
        distribution="django-auditlog",
        apps=("auditlog",),
        innermost=("auditlog.middleware.AuditlogMiddleware",),
        events={"auditlog_logentry": "true"},
        best="`exclude_fields` for the `auto_now` field, `m2m_fields`, `mask_fields`; middleware",
        notes="requests as such; proof that nothing was altered. Values are strings; masking "
        "leaves half of a value readable unless told otherwise",
    ),
    Subject(
        name="django-easy-audit",
        module="easyaudit",
        distribution="django-easy-audit",
        apps=("easyaudit",),
        innermost=("easyaudit.middleware.easyaudit.EasyAuditMiddleware",),
        settings={"DJANGO_EASY_AUDIT_CRUD_EVENT_NO_CHANGED_FIELDS_SKIP": True},
        events={
            "easyaudit_crudevent": "true",
            "easyaudit_requestevent": "true",
            "easyaudit_loginevent": "true",
        },
        best="unchanged saves skipped; middleware",
        notes="status and duration of a request; proof. Written after COMMIT, so a kill in between "
        "loses the event",
    ),
    Subject(
        name="django-simple-history",
        module="simple_history",
        distribution="django-simple-history",
        apps=("simple_history",),
        innermost=("simple_history.middleware.HistoryRequestMiddleware",),
        events={
            "catalog_historicalitem": "true",
            "catalog_historicalpart": "true",
            "catalog_historicalorder": "true",
        },
        best="`excluded_fields` for the `auto_now` field, `m2m_fields`; middleware",
        notes="requests as such; proof. A row is a copy of the object, without what "
        "changed. Its own `bulk_create_with_history` records what `bulk_create` does not",
    ),
    Subject(
        name="django-reversion",
        module="reversion",
        distribution="django-reversion",
        apps=("reversion",),
        innermost=("reversion.middleware.RevisionMiddleware",),
        events={"reversion_version": "true"},
        companions=("reversion_revision",),
        best="every write in `create_revision()`, requests by its middleware",
        notes="anything outside of a revision; deletions; requests as such; proof. A row is a copy "
        "of the object, without what changed. `add_to_revision` takes bulk rows by hand",
    ),
    Subject(
        name="django-pghistory",
        module="pghistory",
        distribution="django-pghistory",
        apps=("pgtrigger", "pghistory"),
        innermost=("pghistory.middleware.HistoryMiddleware",),
        settings={"PGTRIGGER_MIGRATIONS": False},  # the app measured has no migrations
        events={
            "catalog_itemevent": "true",
            "catalog_partevent": "true",
            "catalog_orderevent": "true",
            "catalog_ordertagevent": "true",
        },
        companions=("pghistory_context",),
        best="insert, update and delete tracked, updates by `AnyChange(exclude_auto=True)`; row "
        "triggers; context as a foreign key; middleware for every method, as by default",
        notes="requests as such; proof. A row is a copy of the object, what changed is computed "
        "when it is read. PostgreSQL only",
    ),
)
NAMES: Final = tuple(subject.name for subject in SUBJECTS)
_FLOOR: Final = Subject(
    name=FLOOR, module="audit_log", apps=("audit_log",), best="ready rows, nothing captured"
)
BY_NAME: Final = {subject.name: subject for subject in (*SUBJECTS, _FLOOR)}
