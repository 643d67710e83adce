"""Methods of managers, query sets and models in use that stand in for Django's writing ones."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from django.db import models

from audit_log.coverage.places import Place
from audit_log.coverage.sources import Project, Source

_MODEL: Final = frozenset({"save", "delete", "save_base", "_save_table", "asave", "adelete"})
_QUERY_SET: Final = frozenset(
    {
        *("create", "get_or_create", "update_or_create", "update", "delete"),
        *("bulk_create", "bulk_update", "_raw_delete", "_update", "_insert"),
        *("acreate", "aupdate", "adelete", "abulk_create", "abulk_update"),
    }
)
_WRITING: Final = _MODEL | _QUERY_SET


def places(project: Project, known: Iterable[type[models.Model]]) -> Iterator[Place]:
    """One for each method, wherever its class comes from, but Django and this app."""
    seen: set[FunctionType] = set()
    for model in known:
        for cls, names in _classes(model):
            for name in sorted(names & vars(cls).keys()):
                method = vars(cls)[name]
                if not isinstance(method, FunctionType) or method in seen:
                    continue
                seen.add(method)
                if not _is_djangos(method.__module__) and _replaces(method):
                    yield _place(project, model, cls, method)


def _classes(model: type[models.Model]) -> Iterator[tuple[type, frozenset[str]]]:
    yield from ((cls, _MODEL) for cls in model.__mro__)
    for manager in model._meta.managers:
        made_from: Any = getattr(manager, "_queryset_class", models.QuerySet)
        for cls in (*type(manager).__mro__, *made_from.__mro__):
            yield cls, _QUERY_SET


def _is_djangos(module: str) -> bool:
    return module.partition(".")[0] in {"django", "audit_log"}


def _replaces(method: FunctionType) -> bool:
    """Whether it calls something, and none of Django's writing methods among that."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return False  # made at run time: no text to judge it by
    body = [node for each in tree.body if isinstance(each, _FUNCTIONS) for node in each.body]
    calls = [
        node
        for statement in body
        if not isinstance(statement, ast.Raise)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    ]
    return bool(calls) and not any(map(_is_djangos_way, calls))


_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def _is_djangos_way(call: ast.Call) -> bool:
    """`super()`, `self.….update()`, `obj.save()`, `QuerySet.update(self)`; no `kwargs.update()`."""
    func = call.func
    if isinstance(func, ast.Name):
        return func.id == "super"
    if not isinstance(func, ast.Attribute) or func.attr not in _WRITING:
        return False
    on_plain_name = isinstance(func.value, ast.Name) and func.value.id != "self"
    given_self = any(isinstance(each, ast.Name) and each.id == "self" for each in call.args)
    return not on_plain_name or func.attr in _MODEL or given_self


def _place(project: Project, model: type[models.Model], cls: type, method: FunctionType) -> Place:
    path, line = Path(method.__code__.co_filename).resolve(), method.__code__.co_firstlineno
    source = project.sources.get(path)
    what = f"{cls.__name__}.{method.__name__}() calls no writing method of Django's"
    label = model._meta.label
    if source is None:
        return Place("override", f"{method.__module__}", line, what, label)
    line, last = _head(source, line)
    accepted = source.accepts(line, last)
    return Place("override", source.shown, line, what, label, own=True, accepted=accepted)


def _head(source: Source, first: int) -> tuple[int, int]:
    """The lines from `def`, which decorators stand before, to where the body begins."""
    for node in ast.walk(source.tree):
        if isinstance(node, _FUNCTIONS):
            decorators = [each.lineno for each in node.decorator_list]
            if min([node.lineno, *decorators]) == first:
                return node.lineno, max(node.lineno, node.body[0].lineno - 1)
    return first, first
