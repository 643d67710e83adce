"""The API as a project mounts it."""

from django.urls import include, path

urlpatterns = [path("audit/", include("audit_log.api.urls"))]
