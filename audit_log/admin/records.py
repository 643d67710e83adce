"""The log as Django's admin shows it. Nothing here changes a record, but for redactions."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from audit_log.admin import details, filters, history
from audit_log.admin.links import Links
from audit_log.admin.paging import BoundedPaginator
from audit_log.admin.readonly import ReadOnlyAdmin
from audit_log.admin.rows import Row, rows_of
from audit_log.conf import get_settings
from audit_log.exceptions import RetentionRefused
from audit_log.models import Record
from audit_log.reading import access
from audit_log.reading.contents import contents
from audit_log.reading.search import SearchError, search
from audit_log.retention import removal
from audit_log.router import ledger_alias

VIEW: Final = "audit_log.view_record"
OPEN: Final = "audit_log.view_sealed"
REDACT: Final = "audit_log.redact_record"
_MAX_REASON: Final = 500


class RecordChangeList(ChangeList):
    """A page of rows, found without counting."""

    paginator: BoundedPaginator
    rows: list[Row]

    def get_results(self, request: HttpRequest) -> None:
        """What the template needs of Django's own, and the rows with their labels."""
        paginator = BoundedPaginator(self.queryset, self.list_per_page)
        page = paginator.get_page(self.page_num)
        self.page_num = page.number
        self.paginator = paginator
        self.result_count = paginator.count
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = False
        self.multi_page = paginator.num_pages > 1
        self.result_list = page.object_list
        self.rows = rows_of(page.object_list, Links(self.model_admin.admin_site.name))

    @property
    def window(self) -> filters.Window | None:
        """The period that is shown."""
        specs = (spec for spec in self.filter_specs if isinstance(spec, filters.TimeFilter))
        return next((spec.window for spec in specs), None)

    @property
    def older(self) -> str:
        """The list of what is beyond the last page; empty when nothing is."""
        if not self.paginator.has_more:
            return ""
        return self.get_query_string({filters.BEFORE: str(self.paginator.last_id)})

    @property
    def any_time(self) -> str:
        """The same list without a period."""
        remove = [filters.BEGIN, filters.END, filters.BEFORE]
        return self.get_query_string({filters.TIME: filters.ANY_TIME}, remove)

    @property
    def page_links(self) -> list[tuple[str, str]]:
        """(text, URL) of each page; no URL for this one."""
        numbers = self.paginator.get_elided_page_range(self.page_num)
        return [
            (str(n), "" if n in {self.page_num, self.paginator.ELLIPSIS} else self._page(n))
            for n in numbers
        ]

    def _page(self, number: int | str) -> str:
        return self.get_query_string({"p": number})


@admin.register(Record)
class RecordAdmin(ReadOnlyAdmin):
    """Lists records, shows one, opens its sealed contents. Needs `view_record`, `view_sealed`."""

    view = VIEW
    value_length = -1
    """How much of a long value the page of a record shows: 0 nothing, -1 all. Stored is all."""
    list_filter = (
        filters.TimeFilter,
        filters.OutcomeFilter,
        filters.ActorTypeFilter,
        filters.StreamFilter,
        filters.ActionFilter,
        filters.TargetFilter,
    )
    search_fields = ("action",)  # makes Django read `q`; `get_search_results` says what it means
    search_help_text = _(
        "key:value, separated by spaces: actor:ada action:payment.* target:shop.order#7 "
        "ip:192.0.2.7 request:… last:24h"
    )

    class Media:
        css = {"all": ("audit_log/admin.css",)}  # noqa: RUF012 - Django's spelling

    def has_open_permission(self, request: HttpRequest) -> bool:
        """Whether the user may open sealed contents. Not while nobody could record it."""
        allowed = self.has_view_permission(request) and request.user.has_perm(OPEN)
        return bool(allowed and get_settings().enabled)

    def has_redact_permission(self, request: HttpRequest) -> bool:
        """Whether the user may remove a record's open contents."""
        return bool(self.has_view_permission(request) and request.user.has_perm(REDACT))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # Free lookups would let somebody guess salts, tokens and ciphertexts byte by byte.
        return lookup in _PARAMETERS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Record], search_term: str
    ) -> tuple[QuerySet[Record], bool]:
        """`key:value …`; what cannot be understood finds nothing, and says why."""
        try:
            return queryset & search(search_term), False
        except (SearchError, ValueError, OverflowError) as error:
            messages.error(request, str(error))
            return queryset.none(), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        extra_context = {"title": _("Audit log"), **(extra_context or {})}
        response = super().changelist_view(request, extra_context)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None:
            query = request.GET.urlencode()
            access.note_viewed("records", query=query, results=changelist.result_count)
        return response

    def get_urls(self) -> list[URLPattern]:
        opening = path(
            "<path:object_id>/open/",
            self.admin_site.admin_view(self.open_view),
            name="audit_log_record_open",
        )
        redacting = path(
            "<path:object_id>/redact/",
            self.admin_site.admin_view(self.redact_view),
            name="audit_log_record_redact",
        )
        return [opening, redacting, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of a record. There is no form, so there is nothing to post."""
        row = self._record(request, object_id)
        if request.method == "POST":
            raise PermissionDenied
        access.note_viewed("record", row=row)
        return self._page(request, row, extra_context)

    def open_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The same page with the sealed contents opened, on record before anything is shown."""
        row = self._record(request, object_id)
        if not self.has_open_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        reason = request.POST.get("reason", "").strip()[:_MAX_REASON]
        access.note_revealed(row, reason or None)
        return self._page(request, row, {"opened": contents(row)})

    def redact_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Remove the record's open contents, on record, for a reason. There is no way back."""
        row = self._record(request, object_id)
        if not self.has_redact_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        using = row._state.db or ledger_alias()
        try:
            removal.redact(row.pk, request.POST.get("reason", "").strip()[:_MAX_REASON], using)
        except RetentionRefused as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, _("The contents were removed, and that is recorded."))
        return HttpResponseRedirect(Links(self.admin_site.name).record(row.pk))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Who opened the record's sealed contents."""
        row = self._record(request, object_id)
        return history.page(self, request, str(row.pk), row, extra_context)

    def _record(self, request: HttpRequest, object_id: str) -> Record:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row: Record | None = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return row

    def _page(
        self, request: HttpRequest, row: Record, extra_context: dict[str, Any] | None
    ) -> HttpResponse:
        extra = extra_context or {}
        links = Links(self.admin_site.name)
        context = {
            **self.admin_site.each_context(request),
            **details.context(row, links, extra.get("opened"), self.value_length),
            "opts": self.opts,
            "media": self.media,
            "may_open": self.has_open_permission(request),
            "may_redact": self.has_redact_permission(request) and details.is_redactable(row),
            **extra,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/audit_log/record/detail.html", context)


_PARAMETERS: Final = frozenset(
    {
        *(filters.TIME, filters.BEGIN, filters.END, filters.BEFORE),
        *("outcome", "actor_type", "stream", "action", "target_type", "target_id"),
    }
)
