"""The default admin site with models of the shop, and a site of the project's own."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tests.shop.models import Category, Country, Person, Product, Unlisted

ops = admin.AdminSite(name="ops")
ops.register([Category, Product])

for model in (Category, Country, Person, Product, Unlisted):
    if not admin.site.is_registered(model):
        admin.site.register(model)

urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls)]
