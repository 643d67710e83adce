# mypy: ignore-errors
from django.urls import path

from things import views

urlpatterns = [path("things/", views.things)]
