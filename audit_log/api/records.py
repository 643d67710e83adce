"""Records: a list, one, its contents, and the history of a target."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from audit_log.api import paging, problems, throttling
from audit_log.api.filters import Filters, RecordFilter, refuse_unknown
from audit_log.api.openapi import documented, query
from audit_log.api.resource import OPEN, VIEW, Listing, Resource
from audit_log.api.serializers import ContentsSerializer, ReasonSerializer, RecordSerializer
from audit_log.conf import get_settings
from audit_log.models import Record
from audit_log.reading import access, contents, timeline
from audit_log.router import ledger_alias

_FOLLOWING: Final = frozenset({"stream", "after", "page_size"})
_AFTER: Final = query(
    "after",
    "Follow one stream instead: its records behind this number, in order (-1: from the first). "
    "Give `stream`, and nothing else but `page_size`. `next` is then always there.",
    type=int,
)


def shown(rows: Sequence[Record]) -> list[Any]:
    """Records with their labels: one query for all keys."""
    context = {"labels": contents.labels(rows)}
    one = RecordSerializer(context=context)
    return [one.to_representation(row) for row in rows]


class RecordPages(Listing):
    """Pages of records, newest first."""

    pagination_class = paging.NewestFirst

    def get_queryset(self) -> QuerySet[Record]:
        return Record.objects.using(ledger_alias())

    def present(self, rows: Sequence[Record]) -> list[Any]:
        return shown(rows)


class RecordList(RecordPages):
    """Records, newest first; or with `after` those that follow in one stream."""

    what = "records"
    filter_backends = (Filters,)
    filterset_class = RecordFilter

    @documented(
        RecordSerializer(many=True), 400, 404, 409, 410, parameters=[_AFTER], tags=["records"]
    )
    def get(self, request: Request) -> Response:
        self.stream = request.query_params.get("stream")
        if "after" in request.query_params:
            return self._following(request)
        return self.page(request)

    def _following(self, request: Request) -> Response:
        refuse_unknown(request, _FOLLOWING)
        after = _number(request.query_params["after"])
        if self.stream is None:
            raise ValidationError({"stream": ["Is needed with `after`."]})
        try:
            rows = timeline.following(self.stream, after, paging.page_size(request))
        except timeline.UnknownStream as error:
            raise NotFound(str(error)) from error
        except timeline.Gap as error:
            raise (problems.Gone if error.resume > after else problems.Conflict)(
                str(error)
            ) from error
        page = shown(rows)
        self.note(request, len(page))
        return paging.following_page(request, rows, after, page)


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -2
    if not -1 <= number < 2**63:
        raise ValidationError({"after": ["Must be -1, or the number of a record."]})
    return number


class RecordDetail(Resource):
    """One record: its envelope, its open changes, and both labels."""

    what = "record"

    @documented(RecordSerializer, 404, tags=["records"])
    def get(self, request: Request, id: uuid.UUID) -> Response:  # noqa: A002 - the URL's word
        row = one(self, id)
        page = shown([row])
        access.note_viewed(self.what, row=row)
        return Response(page[0])


def one(view: Resource, id_: uuid.UUID) -> Record:
    """The record of that id. Raises NotFound."""
    row = Record.objects.using(ledger_alias()).filter(pk=id_).first()
    if row is None:
        raise NotFound("There is no record with this id; it may have been purged.")
    view.stream = row.stream
    return row


class RecordContents(Resource):
    """The sealed contents of a record. By POST, since it leaves a trace: opening is recorded."""

    what = "contents"
    needs = (VIEW, OPEN)
    throttle_scope = throttling.OPENING

    @documented(
        ContentsSerializer,
        400,
        404,
        request=ReasonSerializer,
        operation_id="records_contents_open",
        tags=["records"],
    )
    def post(self, request: Request, id: uuid.UUID) -> Response:  # noqa: A002 - the URL's word
        if not get_settings().enabled:
            raise PermissionDenied("Recording is off: nobody could see that you opened it.")
        sent = ReasonSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        row = one(self, id)
        # Before anything is opened: what cannot be recorded is not shown.
        access.note_revealed(row, sent.validated_data.get("reason") or None)
        return Response(ContentsSerializer(contents.contents(row)).data, status=HTTPStatus.OK)


class TargetHistory(RecordPages):
    """What happened to one object, newest first; also to one that is gone.

    Type and id are those of its records: `bank.payment` and the primary key as text.
    """

    what = "history"

    @documented(RecordSerializer(many=True), 400, operation_id="targets_list", tags=["targets"])
    def get(self, request: Request, type: str, id: str) -> Response:  # noqa: A002 - the URL's words
        refuse_unknown(request, paging.PARAMETERS)
        return self.page(request)

    def get_queryset(self) -> QuerySet[Record]:
        return timeline.of_target(self.kwargs["type"], self.kwargs["id"])

    def note(self, request: Request, results: int) -> None:
        query = f"{self.kwargs['type']}#{self.kwargs['id']}"
        access.note_viewed(self.what, query=query, results=results)
