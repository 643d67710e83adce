# mypy: ignore-errors
from django.urls import path

from people import views

urlpatterns = [path("me/", views.me), path("change/", views.change), path("leave/", views.leave)]
