"""The filters of the list. Choices come from what is known, never from reading the table."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from audit_log import registry
from audit_log.admin import wording
from audit_log.admin.rendering import TIME_FORMAT
from audit_log.models import Record, Stream
from audit_log.reading.search import first_id
from audit_log.recording.targets import target_type
from audit_log.router import ledger_alias

TIME, BEGIN, END, BEFORE = "time", "begin", "end", "before"
ANY_TIME: Final = "any"
CUSTOM: Final = "custom"
DEFAULT_PERIOD: Final = "90d"  # as long as records stay in the database by default
PERIODS: Final[dict[str, tuple[timedelta, Any]]] = {
    "15m": (timedelta(minutes=15), _("Last 15 minutes")),
    "1h": (timedelta(hours=1), _("Last hour")),
    "24h": (timedelta(hours=24), _("Last 24 hours")),
    "7d": (timedelta(days=7), _("Last 7 days")),
    "30d": (timedelta(days=30), _("Last 30 days")),
    "90d": (timedelta(days=90), _("Last 90 days")),
}
# A search for one of these is narrow, or names its own time: the default period would only hide.
_NARROW: Final = frozenset(
    {"id", "last", "since", "until", "at", "request", "request_id", "trace_id"}
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def _where(queryset: QuerySet[Record], column: str | None, value: str) -> QuerySet[Record]:
    # PostgreSQL raises an error for NUL, which no column holds.
    return queryset.none() if "\0" in value else queryset.filter(**{str(column): value})


class _ColumnFilter(admin.SimpleListFilter):
    """One column, one value. A value that is not among the choices becomes one."""

    def has_output(self) -> bool:
        return True  # Django ignores a filter without choices, and so would widen the list

    def queryset(self, request: Any, queryset: QuerySet[Record]) -> QuerySet[Record] | None:
        value = self.value()
        return _where(queryset, self.parameter_name, value) if value else None

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        value = self.value()
        if value and value not in {str(known) for known, _label in self.lookup_choices}:
            self.lookup_choices = [*self.lookup_choices, (value, wording.visible(value))]
        yield from super().choices(changelist)


class ActionFilter(_ColumnFilter):
    """The actions of the app itself; others are found by `action:payment.*` in the search."""

    title = _("action")
    parameter_name = "action"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [(action, f"{phrase} ({action})") for action, phrase in wording.PHRASES.items()]


class OutcomeFilter(_ColumnFilter):
    """How it ended."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return list(wording.OUTCOMES.items())


class ActorTypeFilter(_ColumnFilter):
    """What kind of actor it was."""

    title = _("actor")
    parameter_name = "actor_type"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return list(wording.ACTORS.items())


class StreamFilter(_ColumnFilter):
    """The log it stands in; there are few, and each has a row."""

    title = _("stream")
    parameter_name = "stream"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        rows = Stream.objects.using(ledger_alias())
        names = rows.order_by("name").values_list("name", flat=True)
        return [(name, name) for name in names]


class TargetFilter(_ColumnFilter):
    """The model, by the registry; and one object of it, where a link leads here."""

    title = _("target")
    parameter_name = "target_type"

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        ids = params.pop("target_id", None)
        self.target_id = ids[-1] if ids else ""
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        found = {
            target_type(model): capfirst(str(model._meta.verbose_name))
            for model in registry.audited_models()
        }
        return sorted(found.items(), key=lambda item: item[1])

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, "target_id"]

    def queryset(self, request: Any, queryset: QuerySet[Record]) -> QuerySet[Record] | None:
        narrowed = super().queryset(request, queryset)
        if narrowed is None or not self.target_id:
            return narrowed
        return _where(narrowed, "target_id", self.target_id)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=["target_type", "target_id"]),
            "display": gettext("All"),
        }
        if self.value() and self.target_id:
            name = f"{wording.type_label(self.value())} #{wording.visible(self.target_id)}"
            yield {
                "selected": True,
                "query_string": changelist.get_query_string(),
                "display": capfirst(name),
            }
        choices = list(super().choices(changelist))[1:]
        for (value, _label), choice in zip(self.lookup_choices, choices, strict=True):
            yield {
                **choice,
                "selected": choice["selected"] and not self.target_id,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value}, remove=["target_id"]
                ),
            }


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when; None is open. `label` says so."""

    begin: datetime | None
    end: datetime | None
    label: str


class TimeFilter(admin.ListFilter):
    """A period as a range of ids, which are times. Bounded unless it is asked for otherwise."""

    title = _("time")
    template = "admin/audit_log/record/time_filter.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        given = {
            name: params.pop(name)[-1] for name in self.expected_parameters() if name in params
        }
        self.begin = given.get(BEGIN, "")
        self.end = given.get(END, "")
        self.before = _id(given.get(BEFORE, ""))
        self.hidden: list[tuple[str, str]] = []
        self.period = given.get(TIME) or (CUSTOM if self.begin or self.end else "")
        self.used_parameters = given
        if not self.period:
            self.period = ANY_TIME if _is_narrow(request) else DEFAULT_PERIOD
        self.window = self._window(request)

    def _window(self, request: HttpRequest) -> Window:
        if self.period in PERIODS:
            length, label = PERIODS[self.period]
            return Window(datetime.now(UTC) - length, None, str(label))
        if self.period == ANY_TIME:
            return Window(None, None, gettext("Any time"))
        try:
            begin, end = _moment(self.begin), _moment(self.end, whole_day=True)
        except ValueError:
            messages.error(request, gettext("Enter dates as YYYY-MM-DD, or YYYY-MM-DDTHH:MM."))
            return Window(_LATEST, None, gettext("No time"))
        return Window(begin, end, _between(begin, end))

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [TIME, BEGIN, END, BEFORE]

    def queryset(self, request: Any, queryset: QuerySet[Record]) -> QuerySet[Record]:
        if self.window.begin is not None:
            queryset = queryset.filter(pk__gte=first_id(self.window.begin))
        if self.window.end is not None:
            queryset = queryset.filter(pk__lt=first_id(self.window.end))
        return queryset.filter(pk__lt=self.before) if self.before else queryset

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        # The form for a custom period carries everything else that is chosen.
        ours = {*self.expected_parameters(), PAGE_VAR}
        self.hidden = [(k, str(v)) for k, v in changelist.params.items() if k not in ours]
        options = [(name, label) for name, (_length, label) in PERIODS.items()]
        for name, label in [*options, (ANY_TIME, _("Any time"))]:
            yield {
                "selected": self.period == name,
                "query_string": changelist.get_query_string({TIME: name}, [BEGIN, END, BEFORE]),
                "display": label,
            }


def _is_narrow(request: HttpRequest) -> bool:
    keys = {word.partition(":")[0] for word in request.GET.get(SEARCH_VAR, "").split()}
    return bool(request.GET.get("target_id")) or not keys.isdisjoint(_NARROW)


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


_DATE_LENGTH: Final = len("2026-11-24")


def _moment(text: str, *, whole_day: bool = False) -> datetime | None:
    """A time, or the start of a date (with `whole_day` its end), in the site's zone.

    Raises ValueError.
    """
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    if whole_day and len(text) == _DATE_LENGTH:
        moment += timedelta(days=1)
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    if not _EPOCH <= moment <= _LATEST:
        raise ValueError("There are no ids of that time.")
    return moment


def _between(begin: datetime | None, end: datetime | None) -> str:
    texts = {
        "begin": begin and date_format(timezone.localtime(begin), TIME_FORMAT),
        "end": end and date_format(timezone.localtime(end), TIME_FORMAT),
    }
    if begin and end:
        return gettext("From %(begin)s until %(end)s") % texts
    if begin:
        return gettext("From %(begin)s") % texts
    return gettext("Until %(end)s") % texts if end else gettext("Any time")
