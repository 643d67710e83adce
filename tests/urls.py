from django.contrib import admin
from django.urls import path

from tests.shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("plain/", views.plain, name="plain"),
    path("reads-user/", views.reads_user, name="reads-user"),
    path("create/", views.create, name="create"),
    path("create-async/", views.create_async, name="create-async"),
    path("create-then-fail/", views.create_then_fail, name="create-then-fail"),
    path("log-in/", views.log_in, name="log-in"),
    path("log-out/", views.log_out, name="log-out"),
    path("delete-myself/", views.delete_myself, name="delete-myself"),
    path("echo/", views.echo, name="echo"),
    path("stream/", views.stream, name="stream"),
    path("reset/<str:token>/", views.plain, name="reset"),
    path("forbidden/", views.forbidden, name="forbidden"),
]
