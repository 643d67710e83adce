# mypy: ignore-errors
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from books import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login/", LoginView.as_view(next_page="/books/"), name="login"),
    path("logout/", LogoutView.as_view(next_page="/books/"), name="logout"),
    path("hello/", views.hello),
    path("books/", views.book_list),
    path("books/add/", views.book_add),
    path("books/<int:pk>/", views.book_detail),
    path("books/async/", views.book_list_async),
    path("books/export/", views.book_export),
    path("broken/", views.broken),
    path("ticket/", views.ticket),
    path("notes/", views.take_notes),
]
