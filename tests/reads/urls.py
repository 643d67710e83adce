"""Views that show objects, in every way a project may write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import include, path
from django.views.decorators.http import condition
from django.views.generic import DetailView, ListView, UpdateView, View
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.generics import RetrieveAPIView
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter

import audit_log
from tests.shop.models import Category, CheapProduct, Person, Product, Review, Unlisted

if TYPE_CHECKING:
    _DetailView = DetailView[Product]
    _ListView = ListView[Any]
    _UpdateView = UpdateView[Product, Any]
else:
    _DetailView, _ListView, _UpdateView = DetailView, ListView, UpdateView

# --- functions ---


def product(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Product, pk=pk)
    audit_log.viewed(found)
    return HttpResponse(found.name)


def twice(request: HttpRequest, pk: int) -> HttpResponse:
    audit_log.viewed(Product.objects.get(pk=pk))
    audit_log.viewed(CheapProduct.objects.get(pk=pk))
    with audit_log.acting("robot"):
        audit_log.viewed(Product.objects.get(pk=pk))
    return HttpResponse("twice")


def rolled_back(request: HttpRequest, pk: int) -> HttpResponse:
    with transaction.atomic():
        audit_log.viewed(Product.objects.get(pk=pk))
        Category.objects.create(name="never")
        transaction.set_rollback(True)
    return HttpResponse("shown all the same")


def failing(request: HttpRequest, pk: int) -> HttpResponse:
    audit_log.viewed(Product.objects.get(pk=pk))
    raise RuntimeError("after the object was seen")


def suspended(request: HttpRequest, pk: int) -> HttpResponse:
    with audit_log.suspended("for a test"):
        audit_log.viewed(Product.objects.get(pk=pk))
    return HttpResponse("nothing")


async def awaited(request: HttpRequest, pk: int) -> HttpResponse:
    found = await Product.objects.select_related("category").aget(pk=pk)
    audit_log.viewed(found, reason="asked for")
    await asyncio.sleep(0)
    return HttpResponse(found.name)


def export(request: HttpRequest) -> StreamingHttpResponse:
    found = list(Product.objects.all())
    audit_log.viewed(found)

    def parts() -> Iterator[str]:
        yield from (one.name for one in found)

    return StreamingHttpResponse(parts())


# --- the decorator ---


@audit_log.views_of(Person)
def person(request: HttpRequest, pk: int) -> HttpResponse:
    status = int(request.GET.get("status", 200))
    if status == 404:
        get_object_or_404(Person, pk=0)
    if status == 403:
        raise PermissionDenied
    return redirect("/") if status == 302 else HttpResponse(status=status)


@audit_log.views_of(Person, nickname="name")
async def person_by_name(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(name)


@audit_log.views_of(Person, pk="number")
@api_view(["GET"])
def person_by_api(request: Request, number: int) -> Response:
    return Response({"number": number})


@audit_log.views_of(Unlisted)
def unlisted(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse("not audited")


@audit_log.views_of(Person)
def misnamed(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse("its argument has another name")


@audit_log.views_of(Person)
def document(request: HttpRequest, pk: int) -> FileResponse:
    import io

    return FileResponse(io.BytesIO(b"scan"), filename="scan.pdf")


@audit_log.views_of(Person)
@condition(etag_func=lambda request, pk: "same")
def unchanged(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse("new to you")


# --- classes of Django ---


def _template(source: str) -> Any:
    return engines["django"].from_string(source)


class _Templates:
    template = ""

    def render_to_response(self, context: dict[str, Any], **options: Any) -> TemplateResponse:
        request: HttpRequest = self.request  # type: ignore[attr-defined]
        return TemplateResponse(request, _template(self.template), context)


class ProductDetail(audit_log.ViewedMixin, _Templates, _DetailView):
    model = Product
    template = "{{ object.name }}"


class OwnObject(audit_log.ViewedMixin, _Templates, _DetailView):
    """Finds its object without Django's method."""

    template = "{{ object.name }}"

    def get_object(self, queryset: Any = None) -> Product:
        return Product.objects.get(pk=self.kwargs["pk"])


class BrokenTemplate(ProductDetail):
    template = "{{ object.name|add:nothing.at_all }}{% include missing %}"


class ProductList(audit_log.ViewedMixin, _Templates, _ListView):
    model = Product
    ordering = ("pk",)
    paginate_by = 2
    template = "{% for one in object_list %}{{ one.name }} {% endfor %}"


class NamesList(audit_log.ViewedMixin, _Templates, _ListView):
    queryset = Product.objects.order_by("pk").values("name")
    template = "{% for one in object_list %}{{ one.name }} {% endfor %}"


class CountOnly(audit_log.ViewedMixin, _Templates, _ListView):
    model = Product
    template = "{{ object_list.count }}"


class EditProduct(audit_log.ViewedMixin, _Templates, _UpdateView):
    model = Product
    form_class = forms.modelform_factory(Product, fields=["name"])
    success_url = "/"
    template = "{{ form.name.value }}"


class AsyncDetail(audit_log.ViewedMixin, View):
    def get_object(self) -> Product:
        return Product.objects.get(pk=self.kwargs["pk"])

    async def get(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        found = await sync_to_async(self.get_object)()
        return HttpResponse(found.name)


class AsyncObject(audit_log.ViewedMixin, View):
    async def get_object(self) -> Product:
        return await Product.objects.aget(pk=self.kwargs["pk"])

    async def get(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        return HttpResponse((await self.get_object()).name)


# --- views of rest_framework ---


class ProductSerializer(serializers.ModelSerializer[Product]):
    class Meta:
        model = Product
        fields = ("id", "name")


class ReviewSerializer(serializers.ModelSerializer[Review]):
    class Meta:
        model = Review
        fields = ("id", "text")


class _Permission(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.GET.get("denied") is None


class ProductViewSet(audit_log.ViewedMixin, viewsets.ModelViewSet[Product]):
    queryset = Product.objects.order_by("pk")
    serializer_class = ProductSerializer
    permission_classes = (_Permission,)
    authentication_classes = ()

    @action(detail=True, serializer_class=ReviewSerializer)
    def reviews(self, request: Request, pk: str) -> Response:
        rows = self.get_object().reviews.all()
        return Response(self.get_serializer(rows, many=True).data)

    @action(detail=False)
    def managed(self, request: Request) -> Response:
        return Response(self.get_serializer(Product.objects, many=True).data)

    @action(detail=True, methods=["post"])
    def touch(self, request: Request, pk: str) -> Response:
        self.get_object()
        return Response({"done": True}, status=202)


class CategoryViewSet(
    audit_log.ViewedMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Category]
):
    """Without permission classes of its own, nor pages."""

    queryset = Category.objects.all()
    permission_classes = ()
    authentication_classes = ()

    class CategorySerializer(serializers.ModelSerializer[Category]):
        class Meta:
            model = Category
            fields = ("name",)

    serializer_class = CategorySerializer


class PlainRetrieve(audit_log.ViewedMixin, RetrieveAPIView[Product]):
    queryset = Product.objects.all()
    serializer_class = ProductSerializer
    permission_classes = ()
    authentication_classes = ()


router = DefaultRouter()
router.register("products", ProductViewSet)
router.register("categories", CategoryViewSet)

urlpatterns = [
    path("product/<int:pk>/", product),
    path("twice/<int:pk>/", twice),
    path("rolled-back/<int:pk>/", rolled_back),
    path("failing/<int:pk>/", failing),
    path("suspended/<int:pk>/", suspended),
    path("awaited/<int:pk>/", awaited),
    path("export/", export),
    path("person/<int:pk>/", person),
    path("person-by-name/<str:name>/", person_by_name),
    path("person-by-api/<int:number>/", person_by_api),
    path("unlisted/<int:pk>/", unlisted),
    path("misnamed/<int:number>/", misnamed),
    path("document/<int:pk>/", document),
    path("unchanged/<int:pk>/", unchanged),
    path("detail/<int:pk>/", ProductDetail.as_view()),
    path("own-object/<int:pk>/", OwnObject.as_view()),
    path("broken-template/<int:pk>/", BrokenTemplate.as_view()),
    path("list/", ProductList.as_view()),
    path("names/", NamesList.as_view()),
    path("count/", CountOnly.as_view()),
    path("edit/<int:pk>/", EditProduct.as_view()),
    path("async-detail/<int:pk>/", AsyncDetail.as_view()),
    path("async-object/<int:pk>/", AsyncObject.as_view()),
    path("retrieve/<int:pk>/", PlainRetrieve.as_view()),
    path("api/", include(router.urls)),
    path("admin/", admin.site.urls),
]
