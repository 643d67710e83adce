"""Pages of the admin that show an audited object, without the project doing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from audit_log.capture import installation
from audit_log.events import Event
from audit_log.models import Outbox
from tests.shop.models import Category, Country, Person, Product, Review, Unlisted

if TYPE_CHECKING:
    _Inline = admin.TabularInline[Review, Product]
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _Inline, _ModelAdmin = admin.TabularInline, admin.ModelAdmin

Views = Callable[[], list[Event]]


class ReviewInline(_Inline):
    model = Review
    raw_id_fields = ("author",)


class ProductAdmin(_ModelAdmin):
    """Its methods are its own, and call Django's."""

    inlines = (ReviewInline,)
    raw_id_fields = ("category", "tags")

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        kwargs["extra_context"] = {"title": "A page of our own"}
        return super().change_view(request, object_id, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        return super().render_change_form(request, {**context, "more": 1}, *args, **options)


class CategoryAdmin(_ModelAdmin):
    """Its page is a response of another kind."""

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return HttpResponse("changed")


site = admin.AdminSite(name="reads")
site.register(Product, ProductAdmin)
site.register(Category, CategoryAdmin)
site.register([Country, Person, Unlisted])

urlpatterns = [path("site/", site.urls), path("", include("tests.reads.urls"))]


@pytest.fixture(autouse=True)
def _admin_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def root(lamp: Product) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def viewer(lamp: Product) -> Client:
    """Somebody who may look at products, and change none."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(
        Permission.objects.get(codename="view_product", content_type__app_label="shop")
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def without_hooks() -> Iterator[None]:
    installation.uninstall()
    try:
        yield
    finally:
        installation.install()


def url(row: Any, page: str = "change") -> str:
    return f"/site/{row._meta.label_lower.replace('.', '/')}/{row.pk}/{page}/"


def test_page_of_an_object_is_a_view(root: Client, lamp: Product, views: Views):
    """G2"""
    response = root.get(url(lamp))
    assert "A page of our own" in response.content.decode()
    [event] = views()
    assert event.changes is None
    assert event.actor is not None
    assert (event.actor.type, event.actor.label) == ("admin", "root")
    assert event.target is not None
    assert (event.target.type, event.target.id, event.target.label) == (
        "shop.product",
        str(lamp.pk),
        "lamp",
    )


def test_permission_to_view_is_enough_to_be_recorded(viewer: Client, lamp: Product, views: Views):
    """G2"""
    assert viewer.get(url(lamp)).status_code == 200
    assert len(views()) == 1


def test_refused_page_and_missing_object_are_no_view(viewer: Client, lamp: Product, views: Views):
    assert viewer.get(url(Category.objects.get())).status_code == 403
    assert viewer.get(f"/site/shop/product/{lamp.pk + 1}/change/").status_code == 302
    assert Client().get(url(lamp)).status_code == 302
    assert views() == []


@pytest.mark.parametrize("page", ["history", "delete"])
def test_other_pages_of_the_object_are_not_its_contents(
    root: Client, lamp: Product, views: Views, page: str
):
    assert root.get(url(lamp, page)).status_code == 200
    assert views() == []


def test_pages_without_an_object_are_no_view(root: Client, lamp: Product, views: Views):
    for place in ("", "shop/product/", "shop/product/add/"):
        assert root.get(f"/site/{place}").status_code == 200
    assert root.post("/site/shop/product/add/", {"name": ""}).status_code == 200
    assert root.head(url(lamp)).status_code == 200
    assert views() == []


def test_form_with_errors_shows_the_object_and_a_saved_one_does_not(
    root: Client, lamp: Product, views: Views
):
    category = Category.objects.get()
    assert root.post(url(category), {"name": ""}).status_code == 200
    assert len(views()) == 1
    assert root.post(url(category), {"name": "torches"}).content == b"changed"
    assert len(views()) == 1


def test_rows_of_an_inline_are_an_event_of_their_own(root: Client, lamp: Product, views: Views):
    rows = [Review.objects.create(product=lamp, text=str(n)) for n in range(2)]
    root.get(url(lamp))
    first, second = views()
    assert (first.target and first.target.type) == "shop.product"
    assert (second.target and second.target.type) == "shop.review"
    assert second.affected == 2
    assert second.data == {"bulk": {"count": 2, "keys": [f"{rows[0].pk}-{rows[1].pk}"]}}


def test_model_that_is_not_audited_has_no_view(root: Client, lamp: Product, views: Views):
    row = Unlisted.objects.create(name="x")
    assert root.get(url(row)).status_code == 200
    assert views() == []


def test_object_with_a_text_key_is_a_view(root: Client, lamp: Product, views: Views):
    Country.objects.create(code="DE", name="Germany")
    root.get("/site/shop/country/DE/change/")
    target = views()[0].target
    assert target is not None
    assert target.id == "DE"


def test_masked_values_stay_out_of_the_label(root: Client, lamp: Product, views: Views):
    """H1: what the page shows is the project's business, the log is ours."""
    person = Person.objects.create(nickname="ann", password="hunter2-secret")
    root.get(url(person))
    target = views()[0].target
    assert target is not None
    assert "hunter2" not in str(target.label)


@pytest.mark.django_db(transaction=True)
def test_view_is_stored_with_the_page_and_costs_no_query_of_the_project(
    root: Client, lamp: Product, views: Views, request: pytest.FixtureRequest
):
    """L1"""
    root.get(url(lamp))  # content types are cached from then on
    before = Outbox.objects.count()
    with CaptureQueriesContext(connection) as with_us:
        root.get(url(lamp))
    assert Outbox.objects.count() == before + 1
    assert len(views()) == 2
    request.getfixturevalue("without_hooks")
    with CaptureQueriesContext(connection) as without_us:
        root.get(url(lamp))
    assert len(with_us) == len(without_us)
    assert len(views()) == 2


def test_hook_can_be_taken_off(without_hooks: None):
    assert admin.ModelAdmin.render_change_form.__module__ == "django.contrib.admin.options"


def test_suspended_requests_are_no_concern_of_the_page(root: Client, lamp: Product, views: Views):
    with override_settings(AUDIT_LOG={"REQUESTS": "off"}):
        root.get(url(lamp))
    assert len(views()) == 1
