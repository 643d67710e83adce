"""Rows of every table of ours with something in one column, whatever it is for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import models

LEAST = 24  # characters that a secret takes


@dataclass(frozen=True)
class Column:
    """A column that takes a secret."""

    model: Any
    field: Any

    @property
    def table(self) -> str:
        return str(self.model._meta.db_table)

    def __str__(self) -> str:
        return f"{self.table}.{self.field.column}"


def columns() -> list[Column]:
    """Every column of our tables that text, JSON or bytes of a secret's length fit into."""
    found = [
        Column(model, field)
        for model in apps.get_app_config("audit_log").get_models()
        for field in model._meta.concrete_fields
        if _takes(field)
    ]
    assert len(found) >= 40
    return found


def _takes(field: Any) -> bool:
    if not isinstance(field, (models.CharField, models.TextField, models.JSONField, _Binary)):
        return False
    return field.max_length is None or field.max_length >= LEAST


_Binary = models.BinaryField


def plant(column: Column, secret: str) -> None:
    """Store a row that holds the secret in this column."""
    values = {field.attname: _filler(field) for field in column.model._meta.concrete_fields}
    values[column.field.attname] = _as_value(column.field, secret)
    row = column.model(**{k: v for k, v in values.items() if v is not None})
    column.model._base_manager.bulk_create([row])


def _as_value(field: Any, secret: str) -> Any:
    if isinstance(field, models.BinaryField):
        return secret.encode()
    return {"k": [secret]} if isinstance(field, models.JSONField) else secret


def _filler(field: Any) -> Any:
    if field.null or isinstance(field, models.AutoField) or field.has_default():
        return None
    kinds: list[tuple[type[Any], Any]] = [
        (models.UUIDField, uuid.UUID(int=(7 << 76) | (2 << 62))),
        (models.DateTimeField, datetime.now(UTC)),
        (models.DateField, datetime.now(UTC).date()),
        (models.IntegerField, 1),
        (models.BinaryField, b"x"),
        (models.JSONField, {}),
    ]
    return next((value for kind, value in kinds if isinstance(field, kind)), "x")
