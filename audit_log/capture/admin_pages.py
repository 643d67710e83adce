"""The page of one object in the admin, on any site, as a `view` event.

A hook into Django: `ModelAdmin.render_change_form` is called for each page that shows an object,
once permissions are asked, and for no other one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.admin import options
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from audit_log.capture import views
from audit_log.capture.viewing import once_rendered, shows

_original = options.ModelAdmin.render_change_form


def install() -> None:
    """Hook `ModelAdmin.render_change_form`. Harmless when done twice."""
    options.ModelAdmin.render_change_form = _render_change_form  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Django's own method back."""
    options.ModelAdmin.render_change_form = _original  # type: ignore[method-assign]


def _render_change_form(  # noqa: PLR0913, PLR0917 - Django's signature
    self: options.ModelAdmin[Any],
    request: HttpRequest,
    context: dict[str, Any],
    add: bool = False,  # noqa: FBT001, FBT002
    change: bool = False,  # noqa: FBT001, FBT002
    form_url: str = "",
    obj: Model | None = None,
) -> HttpResponse:
    response: HttpResponse = _original(self, request, context, add, change, form_url, obj)
    if obj is not None and shows(request, response):
        once_rendered(response, partial(_note, obj, context))
    return response


def _note(obj: Model, context: dict[str, Any]) -> None:
    views.note(obj)
    for inline in context.get("inline_admin_formsets") or ():
        views.note([form.instance for form in inline.formset.initial_forms])
