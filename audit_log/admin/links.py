"""URLs of the log on one admin site. None of them is ever made from a recorded value alone."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse

from audit_log.models import Record


class Links:
    """Where things are; an empty string where the log is on no admin site."""

    def __init__(self, site_name: str) -> None:
        self.site_name = site_name
        self._list = self._reverse("audit_log_record_changelist")

    def _reverse(self, name: str, *args: Any) -> str:
        # The log may be on the default site only, and the object on another one.
        for current_app in (self.site_name, None):
            try:
                return reverse(f"admin:{name}", args=args, current_app=current_app)
            except NoReverseMatch:
                continue
        return ""

    def record(self, pk: Any) -> str:
        """The page of a record."""
        return self._reverse("audit_log_record_change", quote(str(pk)))

    def opening(self, pk: Any) -> str:
        """Where a record's sealed contents are opened, by POST."""
        return self._reverse("audit_log_record_open", quote(str(pk)))

    def redacting(self, pk: Any) -> str:
        """Where a record's open contents are removed, by POST."""
        return self._reverse("audit_log_record_redact", quote(str(pk)))

    def records(self, **parameters: str | None) -> str:
        """The list, filtered."""
        given = {name: value for name, value in parameters.items() if value}
        return f"{self._list}?{urlencode(given)}" if self._list and given else self._list

    def target(self, row: Record) -> str:
        """The records of a record's target."""
        if not row.target_type:
            return ""
        return self.records(target_type=row.target_type, target_id=row.target_id)

    def actor(self, row: Record) -> str:
        """What the same actor did."""
        return self._search("actor_id", row.actor_id)

    def request(self, row: Record) -> str:
        """What happened in the same request."""
        return self._search("request", row.request_id)

    def _search(self, key: str, value: str | None) -> str:
        quoted = _quoted(value or "")
        return self.records(q=f"{key}:{quoted}") if quoted else ""


def _quoted(value: str) -> str:
    """`value` as a search takes it: in quotes where it has spaces; empty if it cannot be said."""
    if not re.search(r"""[\s"']""", value):
        return value
    mark = next((mark for mark in "\"'" if mark not in value), "")
    return f"{mark}{value}{mark}" if mark else ""
