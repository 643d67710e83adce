"""The views of the tests, and beside them the API and an admin that holds nothing else."""

from django.contrib import admin
from django.urls import include, path

from audit_log.admin.records import RecordAdmin
from audit_log.models import Record
from tests.shop.models import Category

# Not the default site: other tests register their own models there, once its URLs are made.
site = admin.AdminSite(name="flows")
site.register(Record, RecordAdmin)
site.register(Category)

urlpatterns = [
    path("alone/", site.urls),
    path("", include("tests.urls")),
    path("audit/", include("audit_log.api.urls")),
]
