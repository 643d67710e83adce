"""The "History" button of every audited object, on any admin site.

A hook into Django: `ModelAdmin.history_view` shows the object's records instead of the admin's own
log, where the model is audited and the user may see records. Everybody else gets Django's page.
"""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from audit_log import registry
from audit_log.admin import wording
from audit_log.admin.links import Links
from audit_log.admin.paging import BoundedPaginator
from audit_log.admin.rows import Row, rows_of
from audit_log.models import Record
from audit_log.reading import access
from audit_log.recording.targets import target_id, target_type
from audit_log.recording.values import safe_str
from audit_log.router import ledger_alias

_PER_PAGE: Final = 50
_OWN_LOG: Final = "django"  # `?django` leads to the page that stood here before
_original = admin.ModelAdmin.history_view


def install() -> None:
    """Hook `ModelAdmin.history_view`. Harmless when done twice."""
    admin.ModelAdmin.history_view = _history_view  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Django's own view back."""
    admin.ModelAdmin.history_view = _original  # type: ignore[method-assign]


def _history_view(
    self: admin.ModelAdmin[Any],
    request: HttpRequest,
    object_id: str,
    extra_context: dict[str, Any] | None = None,
) -> HttpResponse:
    if not _is_ours(self, request):
        return _original(self, request, object_id, extra_context)
    key = unquote(object_id)
    obj = self.get_object(request, key)
    # The project's admin decides who may see its objects, gone ones included.
    if not self.has_view_or_change_permission(request, obj):
        raise PermissionDenied
    if obj is None and not records_of(self.model, key).exists():
        return _original(self, request, object_id, extra_context)
    return page(self, request, key, obj, extra_context)


def _is_ours(model_admin: admin.ModelAdmin[Any], request: HttpRequest) -> bool:
    return (
        _OWN_LOG not in request.GET
        and registry.options_for(model_admin.model) is not None
        and request.user.has_perm("audit_log.view_record")
    )


def records_of(model: type[Model], key: str) -> QuerySet[Record]:
    """The records of the object with that primary key, newest first, whether it exists or not."""
    try:
        pk = model._meta.pk.to_python(key)
    except ValidationError:
        return Record.objects.none()
    id_ = target_id(model, pk)
    rows = Record.objects.using(ledger_alias())
    return rows.filter(target_type=target_type(model), target_id=id_).order_by("-pk")


def _name(obj: Model | None, key: str, rows: list[Row]) -> str:
    if obj is not None:
        return wording.visible(safe_str(obj))
    # What the object was called when somebody last did something to it.
    named = next((row.target.name for row in rows if row.target), "")
    return named or wording.visible(f"#{key}")


def page(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    key: str,
    obj: Model | None,
    extra_context: dict[str, Any] | None = None,
) -> HttpResponse:
    """The page: the records of one object."""
    site = model_admin.admin_site
    model = model_admin.model
    links = Links(site.name)
    paginator = BoundedPaginator(records_of(model, key), _PER_PAGE)
    found = paginator.get_page(request.GET.get(PAGE_VAR, 1))
    rows = rows_of(found.object_list, links)
    type_ = target_type(model)
    access.note_viewed("history", query=f"{type_}#{target_id(model, key)}", results=len(rows))
    name = _name(obj, key, rows)
    context = {
        **site.each_context(request),
        "title": _("History: %(object)s") % {"object": name},
        "rows": rows,
        "page": found,
        "page_range": paginator.get_elided_page_range(found.number),
        "page_var": PAGE_VAR,
        "all_records": links.records(target_type=type_, target_id=target_id(model, key)),
        "object": obj,
        "object_key": key,
        "object_name": name,
        "module_name": capfirst(str(model._meta.verbose_name_plural)),
        "opts": model._meta,
        "preserved_filters": model_admin.get_preserved_filters(request),
        "own_log": f"?{_OWN_LOG}",
        "is_record": model is Record,
        **(extra_context or {}),
    }
    request.current_app = site.name
    return TemplateResponse(request, "admin/audit_log/history.html", context)
