"""Which parameters a list takes. Others are refused by name: a typo must not widen an answer."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import QuerySet
from django_filters import rest_framework as django_filters
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from audit_log.api.paging import PARAMETERS
from audit_log.events import OUTCOMES
from audit_log.models import Record
from audit_log.reading.search import SearchError, matching, matching_one

_PREFIX: Final = "`*` at the end matches any ending"


def refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """Raises ValidationError naming each parameter that is unknown, empty or there twice."""
    errors: dict[str, list[str]] = {}
    for name, values in request.query_params.lists():
        if name not in known:
            errors[name] = [f"There is no such parameter here. There are: {_listed(known)}."]
        elif len(values) > 1:
            errors[name] = ["Is given more than once."]
        elif not values[0]:
            errors[name] = ["Has no value."]
    if errors:
        raise ValidationError(errors)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def by_key(rows: QuerySet[Record], key: str, value: str) -> QuerySet[Record]:
    """Those that match a key of the search. Raises ValidationError."""
    try:
        return matching(rows, value) if key == "q" else matching_one(rows, key, value)
    except SearchError as error:
        raise ValidationError({key: [str(error)]}) from error
    except (ValueError, OverflowError) as error:  # a moment before the first year, say
        raise ValidationError({key: [f"{value} is not a possible value."]}) from error


def _key(text: str) -> Any:
    return django_filters.CharFilter(method="narrow", help_text=text)


class ColumnFilter(django_filters.FilterSet):
    """What both the list and the statistics take."""

    stream = _key("Such as `default` or `audit_log`")
    action = _key(f"Such as `update`; {_PREFIX}")
    outcome = django_filters.ChoiceFilter(
        choices=[(name, name) for name in sorted(OUTCOMES)], help_text="What became of it"
    )
    actor = _key("The exact label of the actor (its user name, say), or its id")
    actor_id = _key("The actor's id")
    target_type = _key("Such as `bank.payment`")
    target_id = _key(f"The target's id; give `target_type` too; {_PREFIX}")
    request_id = _key("All records of one request")
    ip = _key("An exact address, or its /24 (IPv6: /48)")
    tenant = _key("Whose data it was")
    q = _key("`key:value …`, as in the admin's search")

    def narrow(self, queryset: QuerySet[Record], name: str, value: str) -> QuerySet[Record]:
        """One parameter, by the key of the search that has its name."""
        return by_key(queryset, name, value)


class RecordFilter(ColumnFilter):
    """What the list takes."""

    since = _key("Not before this time (ISO 8601; UTC unless it says otherwise)")
    until = _key("Before this time")


class Filters(django_filters.DjangoFilterBackend):
    """django-filter's backend, which refuses what it does not know."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> Any:
        refuse_unknown(request, frozenset(view.filterset_class.base_filters) | PARAMETERS)
        return super().filter_queryset(request, queryset, view)
