"""Models of ten fields. Which subject records them is told when the module is imported."""

from __future__ import annotations

import os

from django.db import models

from benchmarks.catalog.peers import Models, equip
from benchmarks.subjects import NONE


class Item(models.Model):
    """Ten fields beside the key: strings, a text, a decimal, two times, JSON."""

    name = models.CharField(max_length=100)
    sku = models.CharField(max_length=40)
    status = models.CharField(max_length=20)
    category = models.CharField(max_length=40)
    supplier = models.CharField(max_length=100)
    description = models.TextField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    released_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)
    attributes = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


class Part(models.Model):
    """The same without JSON, whose old value has to be kept apart from what the project changes."""

    name = models.CharField(max_length=100)
    sku = models.CharField(max_length=40)
    status = models.CharField(max_length=20)
    category = models.CharField(max_length=40)
    supplier = models.CharField(max_length=100)
    description = models.TextField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    released_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)
    location = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    """The other side of a many-to-many relation; nobody records it by itself."""

    name = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """Never timed: what of it is recorded is looked at, once."""

    name = models.CharField(max_length=100)
    password = models.CharField(max_length=100)
    email = models.EmailField()
    tags = models.ManyToManyField(Tag, through="OrderTag")

    def __str__(self) -> str:
        return self.name


class OrderTag(models.Model):
    """One tag of one order."""

    order = models.ForeignKey(Order, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE)

    def __str__(self) -> str:
        return f"{self.order_id} {self.tag_id}"


equip(os.environ.get("BENCHMARK_SUBJECT", NONE), Models(Item, Part, Order, OrderTag))
