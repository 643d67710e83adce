"""One model of ten fields, of the kinds that projects have."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What the workload creates and updates."""

    number = models.CharField(max_length=20)
    customer = models.CharField(max_length=100)
    email = models.EmailField()
    status = models.CharField(max_length=10, choices=[("new", "New"), ("paid", "Paid")])
    note = models.TextField(blank=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    quantity = models.IntegerField(default=1)
    placed_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)
    details = models.JSONField(default=dict)

    class Meta:
        app_label = "workload"

    def __str__(self) -> str:
        return f"Order {self.number}"
