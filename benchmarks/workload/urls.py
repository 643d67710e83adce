"""The page that the workload's requests are for."""

from __future__ import annotations

from decimal import Decimal

from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.workload.models import Order


def raise_price(request: HttpRequest, pk: int) -> HttpResponse:
    """Change an order, as its user asks."""
    order = Order.objects.get(pk=pk)
    order.amount += Decimal(request.POST["by"])
    order.note = request.POST["note"]
    order.save()
    return HttpResponse(f"{order}: {order.amount}, {request.user}")


urlpatterns = [path("orders/<int:pk>/price/", raise_price, name="price")]
