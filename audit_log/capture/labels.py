"""How an object is called at the time of the event, without what may not be seen.

`__str__` is the project's code. It may query, raise, or show a masked value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.capture import snapshots
from audit_log.capture.failures import sheltered
from audit_log.capture.fields import FieldPlan
from audit_log.capture.plans import Plan, full_plan_of
from audit_log.privacy.redaction import MASK
from audit_log.recording import outbox, pending, postgresql
from audit_log.recording.targets import MAX_LABEL, forget_news, knowledge, label_of, let_go, places
from audit_log.recording.values import safe_str

_MAX_DEPTH = 3  # relations that a `__str__` follows one after another
_PORTION = 500  # keys a query; SQLite may take no more than 999 parameters
_MIN_PART = 4  # shorter beginnings of a secret are in any text

# Of what is labelled by id, with the object itself, so that no other one gets its id.
_remembered: ContextVar[dict[int, tuple[models.Model, str]] | None] = ContextVar(
    "audit_log_labels", default=None
)


def label(instance: models.Model, connection: BaseDatabaseWrapper) -> str:
    """The object as it prints itself, at most 256 characters. Never raises."""
    known = knowledge(instance)
    with outbox.quiet(connection):
        text = _shielded(instance, connection)
    plan = full_plan_of(instance._meta.model)  # `request.user` is an object of another class
    if plan is not None and plan.masked:
        text = _without_secrets(text, instance, plan)
    forget_news(known)
    return text


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, an object that many rows refer to is asked once how it prints itself."""
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def label_related(related: models.Model, connection: BaseDatabaseWrapper) -> str:
    """The label of an object that a row refers to."""
    known = _remembered.get()
    if known is None:
        return label(related, connection)
    if id(related) not in known:
        known[id(related)] = (related, label(related, connection))
    return known[id(related)][1]


def _shielded(instance: models.Model, connection: BaseDatabaseWrapper) -> str:
    """On PostgreSQL a failing query ends the caller's transaction: set a savepoint before it.

    A `__str__` without a query, which is most of them, costs nothing.
    """
    if connection.vendor != "postgresql" or not pending.in_transaction(connection):
        return label_of(instance)
    with _Shield(connection):
        return label_of(instance)


class _Shield:
    """A wrapper of `connection.execute_wrapper`."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.up = False

    def __enter__(self) -> _Shield:
        # Outermost: a transaction that begins with its first statement begins with our savepoint.
        self.connection.execute_wrappers.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.execute_wrappers.remove(self)
        self.lift()

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        connection = self.connection
        if (
            not self.up
            and connection.vendor == "postgresql"
            and pending.in_transaction(connection)
            and not postgresql.is_in_error(connection)
        ):
            postgresql.execute(self.connection, "SAVEPOINT audit_log_label")
            self.up = True
        return execute(*arguments)

    def lift(self) -> None:
        if not self.up:
            return
        self.up = False
        sql = "RELEASE SAVEPOINT audit_log_label"
        if postgresql.is_in_error(self.connection):
            sql = f"ROLLBACK TO SAVEPOINT audit_log_label; {sql}"
        postgresql.execute(self.connection, sql)


def labels_of(rows: Sequence[models.Model], connection: BaseDatabaseWrapper) -> list[str]:
    """The labels of many rows of one model, as `label` makes them.

    What the `__str__` of the first row follows is loaded for all of them at once: else a hundred
    rows that print what they refer to would be a hundred queries.
    """
    if len(rows) < 2:  # noqa: PLR2004 - nothing to share
        return [label(row, connection) for row in rows]
    with outbox.quiet(connection):
        with _Shield(connection):
            paths = _followed(rows[0])
        held = [(place, tuple(place)) for row in rows for place in places(row)] if paths else []
        try:
            if paths:
                _load_paths(rows, paths, connection)
            texts = []
            with _Shield(connection) as shield:
                for row in rows:
                    texts.append(label_of(row))
                    shield.lift()
        finally:
            let_go(held)
    plan = full_plan_of(rows[0]._meta.model)
    if plan is None or not plan.masked:
        return texts
    return [_without_secrets(text, row, plan) for text, row in zip(texts, rows, strict=True)]


def _load_paths(
    rows: Sequence[models.Model], paths: Sequence[str], connection: BaseDatabaseWrapper
) -> None:
    for start in range(0, len(rows), _PORTION):
        with suppress(Exception), sheltered(connection):  # then each row asks for itself
            models.prefetch_related_objects(rows[start : start + _PORTION], *paths)


def _followed(row: models.Model) -> list[str]:
    """The relations that `__str__` has to load, as lookups (`place__country`)."""
    held = [(place, tuple(place)) for place in places(row)]
    known = {id(place): names for place, names in held}
    try:
        safe_str(row)
        return list(_new_paths(row, known, _MAX_DEPTH))
    finally:
        let_go(held)


def _new_paths(row: models.Model, known: dict[int, tuple[str, ...]], depth: int) -> Iterator[str]:
    cache: dict[str, Any] = row._state.fields_cache
    for name, related in cache.items():
        deeper: list[str] = []
        if isinstance(related, models.Model) and depth > 1:
            deeper = list(_new_paths(related, known, depth - 1))
        if deeper:
            yield from (f"{name}__{path}" for path in deeper)
        elif name not in known.get(id(cache), ()):
            yield name


def _without_secrets(text: str, instance: models.Model, plan: Plan) -> str:
    for secret, shown in _secrets(instance, plan):
        text = _without(text, secret, shown)
    return text


def _secrets(instance: models.Model, plan: Plan) -> list[tuple[str, str]]:
    """The masked values it may have shown, longest first, and what stands for them."""
    kept = snapshots.old_values(instance, plan, instance._state.db or DEFAULT_DB_ALIAS)
    found: dict[str, str] = {}
    for item in plan.masked:
        # Not getattr(): a deferred field is not loaded; if __str__ did, its old value is kept.
        for value in (instance.__dict__.get(item.attname), kept.get(item.attname)):
            if value is not None and not isinstance(value, (bytes, list, dict)):
                found[str(value)] = MASK if item.masker is None else _shown(item, value)
    found.pop("", None)
    return sorted(found.items(), key=lambda each: len(each[0]), reverse=True)


def _shown(item: FieldPlan, value: Any) -> str:
    return str(item.guard(item.encode(value)[0])[0] or MASK)


def _without(text: str, secret: str, shown: str) -> str:
    text = text.replace(secret, shown)
    if len(text) < MAX_LABEL:
        return text
    for length in range(min(len(secret) - 1, len(text)), _MIN_PART - 1, -1):
        if text.endswith(secret[:length]):  # the label was cut in the middle of it
            return (text[:-length] + shown)[:MAX_LABEL]
    return text[:MAX_LABEL]
