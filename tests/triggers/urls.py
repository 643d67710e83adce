"""A view that writes by SQL of its own, where nobody would expect it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.triggers.seen import sql


def raw(request: HttpRequest) -> HttpResponse:
    sql("INSERT INTO shop_category (name) VALUES ('raw')")
    return HttpResponse("done")


urlpatterns = [path("raw/", raw)]
