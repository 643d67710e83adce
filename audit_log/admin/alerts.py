"""The alerts that fired, as Django's admin shows them. Nothing here changes one."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from audit_log.admin import filters
from audit_log.admin.links import Links
from audit_log.admin.readonly import ReadOnlyAdmin
from audit_log.admin.wording import visible
from audit_log.alerts import wording
from audit_log.models import Alert
from audit_log.reading import access

VIEW: Final = "audit_log.view_alert"


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Lists alerts and shows one. Needs `view_alert`; the records behind it need `view_record`."""

    view = VIEW
    list_display = ("fired_at", "rule_name", "who", "said", "told")
    list_filter = ("rule",)
    fields = ("fired_at", "rule_name", "who", "said", "span", "record", "records", "told")

    def get_readonly_fields(self, request: HttpRequest, obj: Alert | None = None) -> Any:
        return self.fields

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if self.has_view_permission(request):
            access.note_viewed("alerts", query=request.GET.urlencode())
        return super().changelist_view(request, {"title": _("Alerts"), **(extra_context or {})})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of an alert. There is nothing to post."""
        if not self.has_view_permission(request) or request.method == "POST":
            raise PermissionDenied
        access.note_viewed("alert", query=object_id)
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.display(description=_("rule"))
    def rule_name(self, alert: Alert) -> str:
        """The rule, as it was called then."""
        return visible(alert.rule)

    @admin.display(description=_("group"))
    def who(self, alert: Alert) -> str:
        """Which column has which value."""
        return visible(f"{alert.group_by} {alert.group}".strip() or "-")

    @admin.display(description=_("measured"))
    def said(self, alert: Alert) -> str:
        """How much of what, and how much is too much."""
        length = wording.period(alert.window_end - alert.window_start)
        return f"{alert.measure} {alert.measured} ({alert.threshold} in {length})"

    @admin.display(description=_("window"))
    def span(self, alert: Alert) -> str:
        """From when to when, UTC."""
        start, end = wording.moment(alert.window_start), wording.moment(alert.window_end)
        return f"{start} – {end}"  # noqa: RUF001 - a range

    @admin.display(description=_("reached by"))
    def record(self, alert: Alert) -> str:
        """The record that reached the threshold."""
        return f"{visible(alert.stream)}/{alert.sequence}"

    @admin.display(description=_("records"))
    def records(self, alert: Alert) -> str:
        """Where the records that made it are listed."""
        text = wording.search_text(alert)
        url = Links(self.admin_site.name).records(q=text, **{filters.TIME: filters.ANY_TIME})
        return format_html('<a href="{}"><bdi>{}</bdi></a>', url, visible(text)) if url else text

    @admin.display(description=_("told"))
    def told(self, alert: Alert) -> str:
        """What became of each channel."""
        states = [(name, visible(wording.delivery(state))) for name, state in _states(alert)]
        return format_html_join("", "<div>{}: {}</div>", states) or "-"


def _states(alert: Alert) -> list[tuple[str, dict[str, Any]]]:
    known = alert.channels if isinstance(alert.channels, dict) else {}
    return [(name, state) for name, state in known.items() if isinstance(state, dict)]
