"""Pages by key: no COUNT and no OFFSET, so the thousandth costs what the first does."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
PARAMETERS: Final = frozenset({"cursor", "page_size"})


def page_size(request: Request) -> int:
    """How many rows were asked for. Raises ValidationError."""
    text = request.query_params.get("page_size", str(PAGE_SIZE))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_PAGE_SIZE):
        raise ValidationError({"page_size": [f"Must be a number from 1 to {MAX_PAGE_SIZE}."]})
    return int(text)


class NewestFirst(BasePagination):
    """By primary key, descending. The cursor is the last key of the page before."""

    _next: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        size = page_size(request)
        found: QuerySet[Any] = queryset
        if cursor := request.query_params.get("cursor"):
            found = found.filter(pk__lt=_key(found.model, cursor))
        rows = list(found.order_by("-pk")[: size + 1])
        if len(rows) > size:
            url = request.build_absolute_uri()
            self._next = replace_query_param(url, "cursor", _cursor(rows[size - 1].pk))
        return rows[:size]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return page_schema(schema)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            _parameter("cursor", "Where to go on: the link `next` holds it.", {"type": "string"}),
            _parameter(
                "page_size",
                f"Rows on a page ({PAGE_SIZE}).",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
            ),
        ]


def page_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A page of `schema` (an array)."""
    link = {"type": "string", "format": "uri", "nullable": True}
    properties = {"next": link, "results": schema}
    return {"type": "object", "required": ["next", "results"], "properties": properties}


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _cursor(key: Any) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def _key(model: type[Model], cursor: str) -> Any:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return model._meta.pk.to_python(text)
    except (binascii.Error, ValueError, InvalidValue) as error:
        raise ValidationError({"cursor": ["Not a cursor of this list."]}) from error


def following_page(request: Request, rows: Sequence[Any], after: int, shown: Any) -> Response:
    """A page of a stream by number: `next` is always there, for whoever waits for more."""
    last = rows[-1].sequence if rows else after
    url = remove_query_param(request.build_absolute_uri(), "cursor")
    return Response({"next": replace_query_param(url, "after", last), "results": shown})
