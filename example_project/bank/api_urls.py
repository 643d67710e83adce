"""The addresses of the API."""

from django.urls import include, path
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.routers import DefaultRouter

from example_project.bank import api

router = DefaultRouter()
router.register("accounts", api.AccountViewSet)
router.register("payments", api.PaymentViewSet)

urlpatterns = [
    path("token/", obtain_auth_token, name="token"),
    path("", include(router.urls)),
]
