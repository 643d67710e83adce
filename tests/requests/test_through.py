"""`actor.via`: through whom or what a request acts. Real packages, as their documentation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import AccessToken

import audit_log
from audit_log.events import Actor, Event, encode_event
from audit_log.middleware import AuditMiddleware
from audit_log.recording.people import via_of
from audit_log.testing import capture_events
from tests.shop import views
from tests.shop.models import Category, Country

Only = Callable[..., list[Event]]
SECRET_KEY = "k" * 32  # what signs JSON Web Tokens is not to be short


class KeyAuthentication(BaseAuthentication):
    """As packages of API keys do: the user, and the row of the key."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        return User.objects.get(username="anna"), Category.objects.get(name="key")


class _Api(APIView):
    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        Category.objects.create(name="by api")
        return Response({})


class ByKey(_Api):
    authentication_classes = (KeyAuthentication,)


class ByJwt(_Api):
    authentication_classes = (JWTAuthentication,)


urlpatterns = [
    path("hijack/", include("hijack.urls")),
    path("loginas/", include("loginas.urls")),
    path("create/", views.create),
    path("log-in/", views.log_in),
    path("by-key/", ByKey.as_view()),
    path("by-jwt/", ByJwt.as_view()),
]
pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password="right")


def _actor(event: Event) -> tuple[str | None, str | None]:
    assert event.actor is not None
    return event.actor.label, event.actor.via


def _hijack(client: Client, user: User) -> None:
    client.post("/hijack/acquire/", {"user_pk": user.pk})


def _log_in_as(client: Client, user: User) -> None:
    client.post(f"/loginas/login/user/{user.pk}/")


@pytest.mark.parametrize("begin", [_hijack, _log_in_as])
def test_who_impersonates_is_in_every_event(
    client: Client, root: User, anna: User, only: Only, begin: Callable[[Client, User], None]
):
    client.force_login(root)
    begin(client, anna)
    [event] = only("impersonate")
    assert _actor(event) == ("root", None)
    assert event.target is not None
    assert (event.target.type, event.target.label) == ("auth.user", "anna")
    login = only("login")[-1]
    assert (_actor(login)[0], login.data) == ("anna", {"before": f"auth.user:{root.pk}"})
    client.get("/create/")
    for event in only("create", "request")[-2:]:
        assert _actor(event) == ("anna", f"auth.user:{root.pk}")


def test_it_ends_when_it_is_ended(client: Client, root: User, anna: User, only: Only):
    client.force_login(root)
    _hijack(client, anna)
    client.post("/hijack/release/")
    client.get("/create/")
    assert _actor(only("create")[-1]) == ("root", None)
    assert len(only("impersonate")) == 1


def test_it_travels_with_tasks(client: Client, root: User, anna: User, only: Only):
    from audit_log.capture import jobs

    with audit_log.acting(anna, via=root):
        carried = jobs._carried()
    assert carried.actor is not None
    assert (carried.actor.label, carried.actor.via) == ("anna", f"auth.user:{root.pk}")


def test_who_logs_in_as_somebody_else_by_password_impersonates_nobody(
    client: Client, root: User, anna: User, only: Only
):
    client.force_login(root)
    client.post("/log-in/", {"username": "anna", "password": "correct horse"})
    client.get("/create/")
    assert only("impersonate") == []
    assert _actor(only("create")[-1]) == ("anna", None)


def test_a_middleware_that_sets_the_impersonator_is_believed(anna: User, root: User, only: Only):
    """django-impersonate: `request.impersonator`."""

    def view(request: Any) -> HttpResponse:
        request.user, request.impersonator = anna, root
        Category.objects.create(name="x")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/"))
    assert _actor(only("create")[-1]) == ("anna", f"auth.user:{root.pk}")


def test_an_api_key_is_what_its_user_acts_through(client: Client, anna: User, only: Only):
    """F4"""
    key = Category.objects.create(name="key")
    client.post("/by-key/")
    assert _actor(only("create")[-1]) == ("anna", f"shop.category:{key.pk}")
    assert _actor(only("request")[-1]) == ("anna", f"shop.category:{key.pk}")


@override_settings(SECRET_KEY=SECRET_KEY, SIMPLE_JWT={"SIGNING_KEY": SECRET_KEY})
def test_a_json_web_token_is_named_by_its_id_and_never_shown(
    client: Client, anna: User, events: list[Event], only: Only
):
    """F4"""
    token = AccessToken.for_user(anna)
    client.post("/by-jwt/", headers={"authorization": f"Bearer {token}"})
    assert _actor(only("create")[-1]) == ("anna", f"jwt:{token['jti']}")
    assert str(token).encode() not in b"".join(map(encode_event, events))


@pytest.mark.parametrize("auth", ["a secret", b"other secret", 7, {"key": "a secret"}, object()])
def test_what_may_be_the_secret_itself_is_not_kept(anna: User, only: Only, auth: object):
    def view(request: Any) -> HttpResponse:
        request.user, request.auth = anna, auth
        Category.objects.create(name="x")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/"))
    assert _actor(only("create")[-1]) == ("anna", None)


def test_a_row_whose_key_is_what_one_logs_in_by_is_a_fingerprint():
    """As rest_framework's tokens are, and sessions."""
    said = via_of(Session(session_key="0123456789abcdef"))
    assert said.startswith("sessions.session:fp:")
    assert "0123456789abcdef" not in said
    # rest_framework's Token calls its key "key", which says nothing.
    said = via_of(Country(code="0123456789abcdef"))
    assert said.startswith("shop.country:fp:")
    assert "0123456789abcdef" not in said
    assert via_of(Category(pk=7)) == "shop.category:7"


@pytest.mark.parametrize(
    ("via", "said"),
    [
        ("api_key:partner", "api_key:partner"),
        (Actor(type="service", id="crm"), "service:crm"),
        ("user", None),
    ],
)
def test_the_explicit_way_names_it(anna: User, root: User, via: Any, said: str | None):
    via, said = (root, f"auth.user:{root.pk}") if said is None else (via, said)
    with capture_events() as events:
        with audit_log.acting(anna, via=via):
            Category.objects.create(name="one")
            with audit_log.acting("robot"):
                Category.objects.create(name="two")
        Category.objects.create(name="three")
    first, second, third = events
    assert _actor(first) == ("anna", said)
    assert _actor(second) == ("robot", said)
    assert third.actor is None


def test_a_middleware_of_the_project_says_it_for_whoever_is_logged_in(anna: User, only: Only):
    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        with audit_log.acting(via="support:42"):
            Category.objects.create(name="x")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/"))
    assert _actor(only("create")[-1]) == ("anna", "support:42")
    assert _actor(only("request")[-1]) == ("anna", None)


def test_a_hijacked_session_is_read_without_a_trace(client: Client, root: User, anna: User):
    """F7"""
    client.force_login(root)
    _hijack(client, anna)
    response = client.get("/create/")
    assert "Vary" not in response.headers or "Cookie" not in response.headers["Vary"]
