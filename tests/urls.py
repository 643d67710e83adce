from django.contrib import admin
from django.urls import path, re_path

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
    path("write-then-read-user/", views.write_then_read_user),
    path("people/<str:email>/", views.person, name="person"),
    path("reset/<uidb64>/<str:code>/", views.plain, name="reset-confirm"),
    re_path(r"^reset-by/([^/]+)/$", views.person, name="reset-by"),
    path("boom/", views.boom, name="boom"),
    path("read-stream/", views.read_stream, name="read-stream"),
    path("upload/", views.upload, name="upload"),
    path("stream-and-tell/", views.stream_and_tell, name="stream-and-tell"),
    path("stream-async/", views.stream_async, name="stream-async"),
    path("create-slowly/", views.create_slowly, name="create-slowly"),
    path("log-in-async/", views.log_in_async, name="log-in-async"),
    path("enter/", views.echo, name="account_login"),
    path("api/", views.ApiView.as_view(), name="api"),
    path("api-upload/", views.ApiUpload.as_view()),
    path("api-boom/", views.ApiBoom.as_view()),
    path("boom-async/", views.boom_async),
]
