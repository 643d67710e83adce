"""The site at the root, its API under api/, the admin under admin/, the log under audit/."""

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.bank.urls")),
    path("api/", include("example_project.bank.api_urls")),
    path("admin/", admin.site.urls),
    path("audit/", include("audit_log.api.urls")),
    path("login/", auth_views.LoginView.as_view(), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
]
