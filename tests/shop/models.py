"""Models of every shape that the tests need. No migrations: tables are made by syncdb."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.models import User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

import audit_log

if TYPE_CHECKING:
    _IntegerField = models.IntegerField[int, int]
    _CharField = models.CharField[list[str], list[str]]
else:
    _IntegerField, _CharField = models.IntegerField, models.CharField


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
    author = models.ForeignKey(
        User,
        null=True,
        on_delete=models.SET_NULL,
        db_constraint=False,  # syncdb makes this table before migrations make the users'
    )
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


class _Shape(models.Model):
    """Two models of one shape, audited and not: what the project sees must be the same."""

    name = models.CharField(max_length=50, unique=True)
    number = models.IntegerField(default=0)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    tags = models.ManyToManyField(Tag)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Watched(_Shape):
    pass


class Unwatched(_Shape):
    pass


audit_log.unregister(Unwatched)


class SecondsEncoder(DjangoJSONEncoder):
    """Keeps durations as seconds."""

    def default(self, o: object) -> object:
        return o.total_seconds() if isinstance(o, timedelta) else super().default(o)


class Values(models.Model):
    """One field of each kind."""

    class Size(models.IntegerChoices):
        SMALL = 1, "Small"
        LARGE = 2, "Large"

    title = models.CharField(max_length=50, default="")
    text = models.TextField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    ratio = models.FloatField(null=True)
    big = models.BigIntegerField(null=True)
    flag = models.BooleanField(null=True)
    day = models.DateField(null=True)
    clock = models.TimeField(null=True)
    moment = models.DateTimeField(null=True)
    period = models.DurationField(null=True)
    reference = models.UUIDField(null=True)
    address = models.GenericIPAddressField(null=True)
    raw = models.BinaryField(null=True)
    document = models.FileField(upload_to="documents", default="")
    size = models.IntegerField(choices=Size, null=True)
    extra = models.JSONField(null=True)
    encoded = models.JSONField(null=True, encoder=SecondsEncoder)
    given = models.IntegerField(db_default=7)
    made_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)
    doubled = models.GeneratedField(
        expression=models.F("given") * 2, output_field=models.IntegerField(), db_persist=True
    )


class VersionField(_IntegerField):
    """Counts the saves, while the row is written."""

    def pre_save(self, model_instance: models.Model, add: bool) -> int:
        value: int = getattr(model_instance, self.attname, 0) + 1
        setattr(model_instance, self.attname, value)
        return value


class WordsField(_CharField):
    """A list in a text column: a value that changes in place."""

    def from_db_value(self, value: str | None, *_: object) -> list[str] | None:
        return None if value is None else value.split()

    def to_python(self, value: str | list[str] | None) -> list[str] | None:
        return value.split() if isinstance(value, str) else value

    def get_prep_value(self, value: str | list[str] | None) -> str | None:
        return " ".join(value) if isinstance(value, list) else value


class Versioned(models.Model):
    name = models.CharField(max_length=50)
    version = VersionField(default=0)


class Wordy(models.Model):
    words = WordsField(max_length=200)


class Passport(models.Model):
    """Its key is a relation, and that one's key is text."""

    country = models.OneToOneField(Country, primary_key=True, on_delete=models.CASCADE)
    pages = models.IntegerField(default=32)


class Stamp(models.Model):
    """Prints itself by what it refers to."""

    passport = models.ForeignKey(Passport, on_delete=models.CASCADE)
    place = models.ForeignKey(Place, null=True, on_delete=models.SET_NULL)
    note = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return f"{self.note} in {self.place.name if self.place else 'nowhere'}"


@audit_log.audited(open=["name"])
class _Registered(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True


class Registered(_Registered):
    """Registered by its abstract base."""


class Club(models.Model):
    name = models.CharField(max_length=50)
    members: models.ManyToManyField[Member, Membership] = models.ManyToManyField(
        "Member", through="Membership", related_name="clubs"
    )

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")
    idols = models.ManyToManyField("self", symmetrical=False, related_name="fans")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, default="member")


class Remark(models.Model):
    """About anything."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, db_constraint=False)
    object_id = models.IntegerField()
    about = GenericForeignKey()
    text = models.CharField(max_length=50)


class Thing(models.Model):
    name = models.CharField(max_length=50)
    remarks = GenericRelation(Remark)


class Step(models.Model):
    """Ordered within its category, and looked for before it is saved."""

    category = models.ForeignKey(Category, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)

    class Meta:
        order_with_respect_to = "category"
        select_on_save = True


class Rebuilt(models.Model):
    """Loads itself without Django's from_db, as its documentation once showed."""

    name = models.CharField(max_length=50)
    number = models.IntegerField(default=0)

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Rebuilt:
        instance = cls(*values)
        instance._state.adding = False
        instance._state.db = db
        return instance


class Shelf(models.Model):
    """Its primary key has two parts."""

    pk = models.CompositePrimaryKey("room", "number")
    room = models.CharField(max_length=20)
    number = models.IntegerField()
    label = models.CharField(max_length=50, default="")
