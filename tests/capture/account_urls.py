"""Django's own pages for passwords."""

from __future__ import annotations

from django.contrib.auth import views
from django.urls import path

urlpatterns = [
    path(
        "reset/<uidb64>/<token>/",
        views.PasswordResetConfirmView.as_view(success_url="/done/"),
        name="password_reset_confirm",
    ),
    path("password/", views.PasswordChangeView.as_view(success_url="/done/")),
]
