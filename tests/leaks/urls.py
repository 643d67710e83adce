"""The shop's views, its models in the admin, and the API."""

from __future__ import annotations

from django.urls import include, path

from tests.admin import urls as with_admin
from tests.urls import urlpatterns as shop

urlpatterns = [*with_admin.urlpatterns, *shop, path("audit/", include("audit_log.api.urls"))]
