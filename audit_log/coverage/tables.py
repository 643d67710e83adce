"""What the tables of the models allow: unmanaged ones, cascades and triggers of the database."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import modules
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, models
from django.db.models import deletion

from audit_log.capture.triggers.installing import states
from audit_log.capture.triggers.sql import OPERATIONS, trigger_name
from audit_log.capture.triggers.watched import watched_models
from audit_log.coverage.places import Place
from audit_log.coverage.sources import Project, Source
from audit_log.coverage.watching import Watched
from audit_log.models import Outbox

# Django 6.1: on_delete=DB_CASCADE and the like are objects of this class.
_BY_DATABASE: Final = getattr(deletion, "DatabaseOnDelete", ())
_TRIGGERS: Final = {
    "postgresql": "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = "
    "t.tgrelid WHERE NOT t.tgisinternal AND pg_table_is_visible(c.oid) ORDER BY 1, 2",
    "sqlite": "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1, 2",
    "mysql": "SELECT event_object_table, trigger_name FROM information_schema.triggers "
    "WHERE trigger_schema = DATABASE() ORDER BY 1, 2",
}


def unmanaged(project: Project, watched: Iterable[Watched]) -> Iterator[Place]:
    """Models whose rows are other people's business, unless somebody said what they are."""
    tables = {each.model._meta.db_table: each.label for each in watched if each.kind == "concrete"}
    for each in watched:
        if each.state == "unmanaged" and each.kind == "unmanaged":
            twin = tables.get(each.model._meta.db_table)
            also = f", which is also that of {twin}" if twin else ""
            what = f"{each.label} writes to the table {each.model._meta.db_table}{also}"
            yield _at("unmanaged", project, each.model, None, what)


def cascades(project: Project, watched: Iterable[Watched]) -> Iterator[Place]:
    """Foreign keys whose rows go, or change, without Django."""
    for each in watched:
        if each.kind == "proxy":
            continue
        for field in each.model._meta.local_concrete_fields:
            on_delete = getattr(field.remote_field, "on_delete", None)
            if _BY_DATABASE and isinstance(on_delete, _BY_DATABASE):
                what = f"{each.label}.{field.name}: {_name(on_delete)}"
                yield _at("cascade", project, each.model, field.name, what)


def _name(on_delete: Any) -> str:
    operation = getattr(on_delete, "operation", None)
    return f"ON DELETE {operation}" if operation else str(on_delete)


def triggers(alias: str) -> list[Place]:
    """The triggers on tables of installed models, but ours. Raises DatabaseError."""
    connection = connections[alias]
    statement = _TRIGGERS.get(connection.vendor)
    if statement is None:
        return []
    labels = {
        model._meta.db_table: model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label != Outbox._meta.app_label and not model._meta.proxy
    }
    with connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall()
    ours = {trigger_name(operation) for operation in OPERATIONS}
    return [
        Place("trigger", None, None, f"{name} on {table} in {alias!r}", labels[table])
        for table, name in rows
        if table in labels and name not in ours
    ]


def uncaptured(alias: str) -> list[Place]:
    """Tables whose triggers should capture, and are not there, not right or disabled."""
    if connections[alias].vendor != "postgresql" or not watched_models(alias):
        return []
    labels = {model._meta.db_table: model._meta.label for model in watched_models(alias)}
    return [
        Place("trigger", None, None, f"{each.table} in {alias!r}: {each.state}", label, own=True)
        for each in states(alias)
        if not each.is_right and (label := labels.get(each.table)) is not None
    ]


def outboxes(watched: Iterable[Watched]) -> tuple[list[Place], dict[str, str]]:
    """Databases that hold audited models and no outbox, and those that could not be asked."""
    by_alias: dict[str, list[Watched]] = {}
    for each in watched:
        if each.state == "audited" and each.kind in {"concrete", "unmanaged"}:
            by_alias.setdefault(each.database, []).append(each)
    found: list[Place] = []
    failed: dict[str, str] = {}
    audited = [each for several in by_alias.values() for each in several]
    for alias in connections:
        if connections[alias].settings_dict["TEST"]["MIRROR"]:
            continue  # a replica: nothing is written there
        try:
            tables = _tables(alias)
            found += triggers(alias)
            if Outbox._meta.db_table in tables:
                found += uncaptured(alias)
        except (DatabaseError, ImproperlyConfigured) as error:
            failed[alias] = str(error).strip().splitlines()[0]
            continue
        held = by_alias.get(alias) or [
            each for each in audited if each.model._meta.db_table in tables
        ]
        if held and Outbox._meta.db_table not in tables:
            what = f"{len(held)} audited models are in {alias!r}, which has no outbox"
            found.append(Place("outbox", None, None, what, held[0].label))
    return found, failed


def _tables(alias: str) -> set[str]:
    with connections[alias].cursor() as cursor:
        return set(connections[alias].introspection.table_names(cursor))


def _at(
    kind: str, project: Project, model: type[models.Model], field: str | None, what: str
) -> Place:
    """The place of a model's class, or of a field in it."""
    label = model._meta.label
    module = modules.get(model.__module__)
    path = getattr(module, "__file__", None)
    source = project.sources.get(Path(path).resolve()) if path else None
    node = None if source is None else _definition(source, model.__qualname__, field)
    if source is None or node is None:
        return Place(kind, model.__module__, None, what, label)
    last = node.body[0].lineno - 1 if isinstance(node, ast.ClassDef) else node.end_lineno
    accepted = source.accepts(node.lineno, max(node.lineno, last or 0))
    return Place(kind, source.shown, node.lineno, what, label, own=True, accepted=accepted)


def _definition(source: Source, qualname: str, field: str | None) -> ast.stmt | None:
    """The class, or the statement in it that assigns the field."""
    body: list[ast.stmt] = source.tree.body
    found: ast.stmt | None = None
    for name in qualname.split("."):
        found = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == name), None)
        if not isinstance(found, ast.ClassDef):
            return None
        body = found.body
    if field is None:
        return found
    return next((node for node in body if field in _assigned(node)), found)


def _assigned(node: ast.stmt) -> list[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]
