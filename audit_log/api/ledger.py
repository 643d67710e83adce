"""The ledger itself: streams, checkpoints, parts of the archive; and the alerts that fired."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django_filters import rest_framework as django_filters
from rest_framework.request import Request
from rest_framework.response import Response

from audit_log.api.filters import Filters, refuse_unknown
from audit_log.api.openapi import documented
from audit_log.api.paging import NewestFirst
from audit_log.api.resource import VIEW_ALERTS, Listing, Resource
from audit_log.api.serializers import (
    AlertSerializer,
    CheckpointSerializer,
    PartSerializer,
    StreamSerializer,
)
from audit_log.models import Alert, ArchivePart, Checkpoint
from audit_log.reading.streams import all_streams
from audit_log.router import ledger_alias


class StreamList(Resource):
    """Every stream: its length, how far it is signed, and what was purged."""

    what = "streams"

    @documented(StreamSerializer(many=True), operation_id="streams_list", tags=["streams"])
    def get(self, request: Request) -> Response:
        refuse_unknown(request, frozenset())
        return Response(StreamSerializer(all_streams(), many=True).data)


class _ByStream(django_filters.FilterSet):
    stream = django_filters.CharFilter(help_text="Of this stream only")


class _Parts(_ByStream):
    state = django_filters.ChoiceFilter(
        choices=ArchivePart.State.choices, help_text="How far the part has come"
    )


class _Alerts(django_filters.FilterSet):
    rule = django_filters.CharFilter(help_text="Of this rule only")


class _Table(Listing):
    """Pages of one table, newest first."""

    pagination_class = NewestFirst
    filter_backends = (Filters,)

    model: ClassVar[type[Model]]

    def get_queryset(self) -> QuerySet[Any]:
        return self.model._default_manager.using(ledger_alias())


class CheckpointList(_Table):
    """Signed tree heads: keep them elsewhere, and nobody can rewrite the log unnoticed."""

    what = "checkpoints"
    model = Checkpoint
    serializer_class = CheckpointSerializer
    filterset_class = _ByStream

    @documented(CheckpointSerializer(many=True), 400, tags=["checkpoints"])
    def get(self, request: Request) -> Response:
        return self.page(request)

    def note(self, request: Request, results: int) -> None:
        """They say nothing of what is recorded."""


class PartList(_Table):
    """The files of the archive, and how far each has come."""

    what = "parts"
    model = ArchivePart
    serializer_class = PartSerializer
    filterset_class = _Parts

    @documented(PartSerializer(many=True), 400, tags=["parts"])
    def get(self, request: Request) -> Response:
        return self.page(request)

    def note(self, request: Request, results: int) -> None:
        """They say nothing of what is recorded."""


class AlertList(_Table):
    """Alerts that fired. Needs `audit_log.view_alert`."""

    what = "alerts"
    needs = (VIEW_ALERTS,)
    model = Alert
    serializer_class = AlertSerializer
    filterset_class = _Alerts

    @documented(AlertSerializer(many=True), 400, tags=["alerts"])
    def get(self, request: Request) -> Response:
        return self.page(request)
