"""Figures: records by interval, requests by route, and how the log is doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from audit_log import health
from audit_log.api import throttling
from audit_log.api.filters import ColumnFilter, refuse_unknown
from audit_log.api.openapi import JSON, documented, query
from audit_log.api.resource import Resource, asked
from audit_log.api.serializers import CountsSerializer, HealthSerializer, RoutesSerializer
from audit_log.models import Record
from audit_log.reading import access
from audit_log.reading.search import SearchError, moment_of
from audit_log.reading.statistics import (
    GROUPS,
    INTERVALS,
    MAX_GROUPS,
    OTHER,
    ROUTES_PERIOD,
    counts,
    routes,
)
from audit_log.router import ledger_alias

MAX_ROUTES: Final = 200
_SINCE: Final = query("since", "From this time (ISO 8601; UTC unless it says otherwise).")
_UNTIL: Final = query("until", "To this time (now).")
_PERIODS: Final = {
    "minute": timedelta(hours=1),
    "hour": timedelta(days=1),
    "day": timedelta(days=30),
    "month": timedelta(days=365),
}
_LONGEST: Final = ", ".join(f"{name} {step.longest.days}" for name, step in INTERVALS.items())
_COUNTED: Final = frozenset({"interval", "group_by", "since", "until", *ColumnFilter.base_filters})


def _choice(request: Request, name: str, allowed: Mapping[str, Any], default: str) -> str:
    value = request.query_params.get(name, default)
    if value not in allowed:
        raise ValidationError({name: [f"{value!r} is none of {', '.join(allowed)}."]})
    return value


def _period(request: Request, default: timedelta) -> tuple[datetime, datetime]:
    given = request.query_params
    try:
        until = moment_of("until", given["until"]) if "until" in given else datetime.now(UTC)
        since = moment_of("since", given["since"]) if "since" in given else until - default
        # Shown in UTC, where the first and the last day of the calendar may not be days any more.
        return since.astimezone(UTC), until.astimezone(UTC)
    except (SearchError, OverflowError) as error:
        raise ValidationError({"since": [str(error)]}) from error


class Counts(Resource):
    """Records by interval (UTC) and by the values of one column."""

    what = "statistics"
    throttle_scope = throttling.COUNTING

    @documented(
        CountsSerializer,
        400,
        parameters=[
            query("interval", f"Longest period in days: {_LONGEST}.", enum=list(INTERVALS)),
            query(
                "group_by",
                f"The {MAX_GROUPS} most frequent values; others are `{OTHER}`.",
                enum=list(GROUPS),
            ),
            _SINCE,
            _UNTIL,
            *(
                query(name, str(known.extra["help_text"]))
                for name, known in ColumnFilter.base_filters.items()
            ),
        ],
        tags=["statistics"],
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request, _COUNTED)
        interval = _choice(request, "interval", INTERVALS, "hour")
        group_by = _choice(request, "group_by", dict.fromkeys(GROUPS), "action")
        since, until = _period(request, _PERIODS[interval])
        narrowed = ColumnFilter(
            request.query_params, Record.objects.using(ledger_alias()), request=request
        )
        if not narrowed.is_valid():
            raise ValidationError(narrowed.errors)
        try:
            buckets = counts(narrowed.qs, interval, since, until, group_by)
        except (ValueError, OverflowError) as error:
            raise ValidationError({"since": [str(error)]}) from error
        access.note_viewed(self.what, query=asked(request), results=len(buckets))
        found = {
            "interval": interval,
            "group_by": group_by,
            "since": since,
            "until": until,
            "buckets": buckets,
        }
        return Response(CountsSerializer(found).data)


class Routes(Resource):
    """Requests, errors and latencies of each route, the busiest first.

    From the usage summaries, which count every request.
    """

    what = "statistics"
    throttle_scope = throttling.COUNTING

    @documented(
        RoutesSerializer,
        400,
        parameters=[
            query("since", f"From this time, at most {ROUTES_PERIOD.days} days (the last hour)."),
            _UNTIL,
            query("route", "This one only: the name of a view."),
        ],
        operation_id="statistics_routes_retrieve",
        tags=["statistics"],
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request, frozenset({"since", "until", "route"}))
        since, until = _period(request, timedelta(hours=1))
        try:
            found = routes(since, until, request.query_params.get("route"))
        except (ValueError, OverflowError) as error:
            raise ValidationError({"since": [str(error)]}) from error
        access.note_viewed(self.what, query=asked(request), results=len(found))
        return Response(
            RoutesSerializer(
                {
                    "since": since,
                    "until": until,
                    "more": len(found) > MAX_ROUTES,
                    "routes": found[:MAX_ROUTES],
                }
            ).data
        )


class HealthView(Resource):
    """How the log is doing: 200, or 503 where somebody should look at it."""

    what = "health"

    @documented({(200, JSON): HealthSerializer, (503, JSON): HealthSerializer}, tags=["health"])
    def get(self, request: Request) -> Response:
        refuse_unknown(request, frozenset())
        found = health.measure_everywhere()
        said = {**asdict(found), "troubles": found.troubles, "healthy": not found.troubles}
        status = HTTPStatus.SERVICE_UNAVAILABLE if found.troubles else HTTPStatus.OK
        return Response(HealthSerializer(said).data, status=status)
