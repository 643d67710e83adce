"""The API as another project mounts it."""

from django.urls import include, path

urlpatterns = [path("some/where/", include("audit_log.api.urls"))]
