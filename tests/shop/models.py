"""Models of every shape that the tests need. No migrations: tables are made by syncdb."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.contrib.auth.models import User
from django.db import models

import audit_log


class Category(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    STATUS: ClassVar = [("draft", "Draft"), ("sale", "On sale")]

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    stock = models.IntegerField(default=0)
    active = models.BooleanField(default=True)
    weight = models.FloatField(null=True)
    status = models.CharField(max_length=10, choices=STATUS, default="draft")
    attributes = models.JSONField(default=dict, blank=True)
    released_at = models.DateTimeField(null=True)
    category = models.ForeignKey(Category, null=True, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag, related_name="products", blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class Review(models.Model):
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="reviews")
    author = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    text = models.TextField()


@audit_log.audited(before="database", open=["name"])
class Stock(models.Model):
    """Old values from the database."""

    name = models.CharField(max_length=100)
    amount = models.IntegerField(default=0)
    note = models.TextField(default="")


@audit_log.audited(open=["nickname"], masked=["code_word"], excluded=["noise"], subject="id")
class Person(models.Model):
    """Names that the privacy rules know, and all four policies."""

    nickname = models.CharField(max_length=100)
    full_name = models.CharField(max_length=100, default="")
    email = models.EmailField(default="")
    password = models.CharField(max_length=128, default="")
    api_token = models.CharField(max_length=128, null=True)
    card_number = models.CharField(max_length=32, default="")
    code_word = models.CharField(max_length=32, default="")
    noise = models.CharField(max_length=32, default="")
    notes = models.TextField(default="")
    extra = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.nickname} {self.password}".strip()


class Device(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)


class Country(models.Model):
    code = models.CharField(primary_key=True, max_length=20)
    name = models.CharField(max_length=50)


class Place(models.Model):
    name = models.CharField(max_length=50)


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class CheapProduct(Product):
    class Meta:
        proxy = True


class Hidden(models.Model):
    """Deleted softly: its default manager does not see all rows."""

    class Visible(models.Manager["Hidden"]):
        def get_queryset(self) -> models.QuerySet[Hidden]:
            return super().get_queryset().filter(deleted=False)

    name = models.CharField(max_length=50)
    deleted = models.BooleanField(default=False)

    objects = Visible()


class Unlisted(models.Model):
    """Not audited."""

    name = models.CharField(max_length=50)


audit_log.unregister(Unlisted)


class Broken(models.Model):
    """Cannot say what it is called."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        raise Category.DoesNotExist
