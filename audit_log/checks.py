"""System checks: each with an id, what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, Warning  # noqa: A004 - Django's names
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, models, router

from audit_log import conf, events, registry
from audit_log.capture.callables import check_callables
from audit_log.capture.plans import by_triggers, full_plan_of
from audit_log.capture.triggers import installing
from audit_log.capture.triggers.watched import refuse, watched_models
from audit_log.conf.alerts import AlertRule
from audit_log.conf.retention import Archive
from audit_log.exceptions import ConfigurationError
from audit_log.models import Outbox, Record
from audit_log.privacy import configured
from audit_log.privacy.key_checks import (
    check_keys,
    check_made_up_keys,
    check_missing_keys,
    check_wrapped_keys,
    readable,
)

_MIDDLEWARE = "audit_log.middleware.AuditMiddleware"
_ROUTER = "audit_log.router.AuditRouter"
_COMMITTED = ("isolation_level", "read committed")  # what Django takes where nothing is said


def register() -> None:
    """Register every check below."""
    checks.register(check_settings, Tags.compatibility)
    checks.register(check_callables, Tags.compatibility)
    checks.register(check_fields, Tags.models)
    checks.register(check_patterns, Tags.models)
    checks.register(check_middleware, Tags.compatibility)
    checks.register(check_databases, Tags.compatibility)
    checks.register(check_isolation, Tags.compatibility)
    checks.register(check_archive, Tags.compatibility)
    checks.register(check_alerts, Tags.compatibility)
    checks.register(check_triggers, Tags.models)
    checks.register(check_installed_triggers, Tags.database)
    checks.register(check_wrapped_keys, Tags.compatibility)
    checks.register(check_made_up_keys, Tags.security, deploy=True)
    checks.register(check_missing_keys, Tags.database)
    checks.register(check_keys, Tags.security, deploy=True)


def check_settings(**_: Any) -> list[CheckMessage]:
    """audit_log.E001: AUDIT_LOG is wrong. E002: USE_TZ is False."""
    try:
        settings = conf.get_settings()
        configured.detectors()
    except ConfigurationError as error:
        return [Error(str(error), id="audit_log.E001")]
    if settings.use_tz:
        return []
    return [
        Error(
            "USE_TZ is False: times in the log would depend on the server's time zone, and some "
            "databases refuse them.",
            hint="Set USE_TZ = True.",
            id="audit_log.E002",
        )
    ]


def check_fields(**_: Any) -> list[CheckMessage]:
    """audit_log.E003: audited() names a field that the model does not have."""
    known = apps.get_models() if readable() else ()
    return [message for model in known for message in _check_model(model)]


def _check_model(model: type[models.Model]) -> list[CheckMessage]:
    label = model._meta.label
    try:
        options = registry.options_for(model)
    except ConfigurationError as error:
        return [Error(f'AUDIT_LOG["MODELS"], {label}: {error}', obj=model, id="audit_log.E001")]
    if options is None:
        return []
    names = {field.name for field in model._meta.get_fields()}
    columns = {field.attname for field in model._meta.concrete_fields}
    hint = f"Its fields: {', '.join(sorted(names))}."
    listed = options.open | options.sealed | options.masked | options.excluded
    wrong = [
        f"audited() of {label} names the field {name!r}, which it does not have."
        for name in sorted(listed - names - columns)
    ]
    subject = options.subject
    first = subject.partition(".")[0] if isinstance(subject, str) else None
    if first is not None and not (first in columns or hasattr(model, first)):
        wrong.append(
            f"audited() of {label} has subject={subject!r}, which is neither a field nor an "
            "attribute."
        )
    return [Error(text, hint=hint, obj=model, id="audit_log.E003") for text in wrong]


def check_patterns(**_: Any) -> list[CheckMessage]:
    """audit_log.E004: a pattern of MODELS, EXCLUDE_MODELS, *_FIELDS or ALERTS matches nothing."""
    if not readable():
        return []
    settings = conf.get_settings()
    labels = [model._meta.label_lower for model in apps.get_models()]
    fields = [
        f"{model._meta.label_lower}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
    ]
    found: list[CheckMessage] = []
    for key, against in (
        ("MODELS", labels),
        ("EXCLUDE_MODELS", labels),
        ("OPEN_FIELDS", fields),
        ("SEALED_FIELDS", fields),
        ("MASK_FIELDS", fields),
        ("EXCLUDE_FIELDS", fields),
    ):
        for pattern in getattr(settings, key.lower()):
            if not registry.matches_any(pattern, against):
                what = "model" if against is labels else "field"
                found.append(
                    Error(
                        f'AUDIT_LOG["{key}"]: {pattern!r} matches no {what}.',
                        hint="Patterns are app.Model, app.*, app.Model.field or *.field.",
                        id="audit_log.E004",
                    )
                )
    return [*found, *_check_rules(settings.alerts)]


# Columns of which every value there can be is known.
_VALUES = {"outcome": events.OUTCOMES, "actor_type": events.ACTOR_TYPES, "source": events.SOURCES}


def _check_rules(rules: Iterable[AlertRule]) -> list[CheckMessage]:
    """A rule that looks for what no record has would be silent for ever."""
    return [
        Error(
            f'AUDIT_LOG["ALERTS"], {rule.name}: no record has the {column} {value!r}.',
            hint=f"It can be {', '.join(sorted(_VALUES[column]))}."
            if column in _VALUES
            else "It is app.model, in lower case.",
            id="audit_log.E004",
        )
        for rule in rules
        for column, values in rule.match.items()
        for value in map(str, values)
        if (column == "target_type" and value != value.lower())
        or not any(_is_like(one, value) for one in _VALUES.get(column, [value]))
    ]


def _is_like(value: str, wanted: str) -> bool:
    """As `alerts.matching` compares them."""
    return value == wanted or (wanted.endswith("*") and value.startswith(wanted[:-1]))


def check_middleware(**_: Any) -> list[CheckMessage]:
    """audit_log.W001: the middleware is missing. W002: it is not the first."""
    names = conf.middleware()
    if _MIDDLEWARE not in names:
        return [
            Warning(
                f"{_MIDDLEWARE} is not in MIDDLEWARE: events will not know who acted and from "
                "where, and requests are not recorded.",
                hint=f'Put "{_MIDDLEWARE}" first in MIDDLEWARE.',
                id="audit_log.W001",
            )
        ]
    if names[0] != _MIDDLEWARE:
        return [
            Warning(
                f"{_MIDDLEWARE} is not the first of MIDDLEWARE: what those before it answer is "
                "not recorded, and reading the user may add Vary: Cookie.",
                hint="Move it to the top.",
                id="audit_log.W002",
            )
        ]
    return []


def check_databases(**_: Any) -> list[CheckMessage]:
    """audit_log.E007: the ledger is not routed to DATABASE. W006: changes without an outbox."""
    return [*_check_ledger(), *_check_outboxes()] if readable() else []


def _check_ledger() -> list[CheckMessage]:
    ledger = conf.get_settings().database
    routed = router.allow_migrate_model(ledger, Record) and router.db_for_write(Record) == ledger
    if ledger == DEFAULT_DB_ALIAS or routed:
        return []
    listed = _ROUTER in conf.routers()
    return [
        Error(
            f'AUDIT_LOG["DATABASE"] is {ledger!r}, but '
            + (
                "another of DATABASE_ROUTERS sends the tables of the log elsewhere."
                if listed
                else f"{_ROUTER} is not in DATABASE_ROUTERS: migrate and the admin would use "
                f"{router.db_for_write(Record)!r}."
            ),
            hint=f'Put "{_ROUTER}" first in DATABASE_ROUTERS.',
            id="audit_log.E007",
        )
    ]


def _check_outboxes() -> list[CheckMessage]:
    audited = registry.audited_models()
    return [
        Warning(
            f"Audited models are in the database {alias!r}, but DATABASE_ROUTERS keep the table "
            "audit_log_outbox away from it: every change there goes to the spool.",
            hint=f'Let allow_migrate({alias!r}, "audit_log", "outbox") be true, and migrate.',
            id="audit_log.W006",
        )
        for alias in connections
        if not connections[alias].settings_dict["TEST"]["MIRROR"]
        and not router.allow_migrate_model(alias, Outbox)
        and any(router.allow_migrate_model(alias, model) for model in audited)
    ]


def check_isolation(**_: Any) -> list[CheckMessage]:
    """audit_log.W004: on MariaDB or MySQL, OPTIONS ask for more than READ COMMITTED."""
    return [
        Warning(
            f"The transactions of the database {alias!r} run under "
            f"{(level or 'an isolation that the server chooses').upper()}: writers lock the gaps "
            "between rows, wait for each other and deadlock, and read what is old by then.",
            hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["isolation_level"] to "read committed", '
            "Django's own default.",
            id="audit_log.W004",
        )
        for alias in connections
        if connections[alias].vendor == "mysql"
        for level in [connections[alias].settings_dict["OPTIONS"].get(*_COMMITTED)]
        if level is None or level.lower() in {"repeatable read", "serializable"}
    ]


def check_archive(**_: Any) -> list[CheckMessage]:
    """audit_log.E006: ARCHIVE is a bucket, and boto3 is not installed."""
    archive = conf.get_settings().archive if readable() else None
    if not isinstance(archive, Archive) or archive.scheme != "s3" or find_spec("boto3"):
        return []
    return [
        Error(
            f'AUDIT_LOG["ARCHIVE"] is s3://{archive.place}, but boto3 is not installed: nothing '
            "can be archived, so nothing is ever purged.",
            hint="pip install 'django-audit-ledger[s3]'",
            id="audit_log.E006",
        )
    ]


def check_alerts(**_: Any) -> list[CheckMessage]:
    """audit_log.W005: an alert is to be mailed, and there is nobody to mail it to."""
    if not readable() or conf.admins():
        return []
    return [
        Warning(
            f'The alert {rule.name!r} has the channel "email", but neither "to" nor ADMINS says '
            "who gets it.",
            hint='Give the rule "to": ["security@example.com"], or set ADMINS.',
            id="audit_log.W005",
        )
        for rule in conf.get_settings().alerts
        if "email" in rule.channels and not rule.to
    ]


def check_triggers(**_: Any) -> list[CheckMessage]:
    """audit_log.E008: capture="triggers" cannot be. W007: it is not, for want of PostgreSQL."""
    found: list[CheckMessage] = []
    for model in apps.get_models() if readable() else ():
        try:
            options = registry.options_for(model)
        except ConfigurationError:
            continue  # E001 says so
        if options is None or model._meta.proxy or not conf.get_settings().enabled:
            continue
        if by_triggers(model):
            found += _check_captured(model)
        elif options.capture == "triggers":
            found.append(
                Warning(
                    f'{model._meta.label} asks for capture="triggers", but its database is '
                    f"{connections[router.db_for_write(model)].vendor}: our hooks in Django "
                    "capture it, and what is written behind them is not seen.",
                    hint="Triggers capture on PostgreSQL only.",
                    obj=model,
                    id="audit_log.W007",
                )
            )
    return found


def _check_captured(model: type[models.Model]) -> list[CheckMessage]:
    label = model._meta.label
    plan = full_plan_of(model)
    family = [*model._meta.all_parents, *_children(model)]
    wrong = [
        f"{label} is captured by triggers and {each._meta.label}, of the same objects, is not: "
        "some of their fields would be recorded twice, or not at all."
        for each in family
        if registry.options_for(each) is not None and not by_triggers(each)
    ]
    try:
        if plan is not None:
            refuse(plan)
    except ConfigurationError as error:
        wrong.append(str(error))
    hint = 'Give the whole family the same capture, or use capture="orm".'
    return [Error(text, hint=hint, obj=model, id="audit_log.E008") for text in wrong]


def _children(model: type[models.Model]) -> list[type[models.Model]]:
    return [each for each in apps.get_models() if model in each._meta.all_parents]


def check_installed_triggers(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """audit_log.W008: triggers are missing, outdated, disabled or on a table nobody asked for."""
    found: list[CheckMessage] = []
    for alias in databases or () if readable() else ():
        if connections[alias].vendor != "postgresql" or not watched_models(alias):
            continue
        try:
            states = installing.states(alias)
        except (DatabaseError, ConfigurationError):
            continue  # before the first migration
        wrong = [f"{each.table} ({each.state})" for each in states if not each.is_right]
        if wrong:
            found.append(
                Warning(
                    f"In {alias!r}, triggers that capture changes are not as they should be: "
                    f"{', '.join(wrong)}. What is written to these tables may not be recorded.",
                    hint="Run `manage.py audit_log triggers install`.",
                    id="audit_log.W008",
                )
            )
    return found
