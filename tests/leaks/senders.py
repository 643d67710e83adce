"""Channels of the app that need models, users, views, commands and broken machinery."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import BaseCommand, call_command
from django.test import Client, RequestFactory

import audit_log
from audit_log import testing
from audit_log.middleware import AuditMiddleware
from audit_log.recording import outbox, spool
from audit_log.testing import leaks
from audit_log.testing.leaks import BY_FORM, NAMES, PERSONAL, Promise, Watch
from tests.shop.models import (
    Category,
    Country,
    Person,
    Product,
    Restaurant,
    Review,
    Shelf,
    Stock,
    Tag,
    Values,
    Watched,
    Wordy,
)

ONE_LINE = tuple(kind for kind in BY_FORM if kind != "private_key")
SHORT = tuple(kind for kind in ONE_LINE if kind not in {"jwt", "pypi", "sendgrid", "aws_secret"})


def model_fields(watch: Watch) -> None:
    """By name, in text, in JSON, in what prints itself; created, changed and deleted."""
    through = "a model's field"
    person = Person.objects.create(
        nickname="nick",
        password=watch.secret("odd_password", through),
        api_token=watch.secret("token", through),
        card_number=watch.secret("card", through),
        code_word=watch.secret("token", "a field masked by its model"),
        noise=watch.secret("token", "an excluded field"),
        full_name=watch.secret("name", through),
        email=watch.secret("email", through),
        extra=_by_names(watch, "a JSON field"),
    )
    person.password = watch.secret("odd_password", "a field that changed")
    person.api_token = watch.secret("token", "a field that changed")
    person.card_number = watch.secret("card_in_groups", "a field that changed")
    person.extra = {"deep": [json.dumps(_by_names(watch, "JSON in a JSON field"))]}
    person.save()
    person.delete()


def _by_names(watch: Watch, through: str) -> dict[str, str]:
    return {name: watch.secret(kind, through) for kind, name in NAMES.items()}


def texts(watch: Watch) -> None:
    """Each form in each kind of field that holds text, open ones too."""
    for kind in BY_FORM:
        person = Person.objects.create(nickname="text")
        person.notes = f"see\n{watch.secret(kind, 'a sealed text')}\nthere"
        person.extra = {"list": [{"note": watch.secret(kind, "the text of a JSON field")}]}
        person.save()
        Product.objects.create(name="p", description=watch.secret(kind, "a text"), attributes={})
        Values.objects.create(text=watch.secret(kind, "a text"), extra=["x", {"y": "z"}])
    for kind in SHORT:
        Person.objects.create(nickname=f"n {watch.secret(kind, 'an open field')} n")
    for kind in PERSONAL:
        Person.objects.create(nickname="x", full_name=watch.secret(kind, "a sealed field"))
        if kind != "name":
            # It is open, and what the person is called.
            Person.objects.create(
                nickname=watch.secret(kind, "an open field", promise=Promise.LABEL)
            )
    Wordy.objects.create(words=["a", watch.secret("github", "a field of words")])
    Values.objects.create(raw=watch.secret("token", "bytes").encode())
    Values.objects.create(document=f"documents/{watch.secret('github', 'the name of a file')}")
    stock = Stock.objects.create(name=watch.secret("card", "a field read from the database"))
    stock.name = watch.secret("stripe", "a field read from the database")
    stock.save()


def labels(watch: Watch) -> None:
    """What prints itself: targets, members, parents, choices of foreign keys."""
    for kind in SHORT:
        category = Category.objects.create(name=watch.secret(kind, "a label"))
        product = Product.objects.create(
            name=watch.secret(kind, "a target's label"), category=category
        )
        product.tags.add(Tag.objects.create(name=watch.secret(kind, "a member's label")[:50]))
        product.category = None
        product.save()
        Review.objects.create(product=product, text="good")
        product.delete()
    Restaurant.objects.create(name=watch.secret("github", "a parent's field"), stars=3)
    Shelf.objects.create(room="a", number=1, label=watch.secret("github", "a composite's label"))


def bulk(watch: Watch) -> None:
    """Rows written by one statement, read back or counted."""
    through = "bulk_create"
    people = [
        Person(
            nickname=watch.secret(kind, through),
            password=watch.secret("password", through),
            extra={"pin": watch.secret("pin", through)},
        )
        for kind in SHORT
    ]
    people = Person.objects.bulk_create(people)
    for person, kind in zip(people, SHORT, strict=True):
        person.password = watch.secret("password", "bulk_update")
        person.notes = watch.secret(kind, "bulk_update")
    Person.objects.bulk_update(people, ["password", "notes"])
    Person.objects.update(
        api_token=watch.secret("token", "QuerySet.update"),
        nickname=watch.secret("card", "QuerySet.update"),
        extra={"client_secret": watch.secret("client_secret", "QuerySet.update")},
    )
    Person.objects.filter(nickname=watch.secret("stripe", "a filter that finds nothing")).update(
        api_token=watch.secret("token", "an update of nothing")
    )
    Person.objects.update_or_create(
        nickname="new", defaults={"password": watch.secret("password", "update_or_create")}
    )
    Person.objects.all().delete()


def folded_bulk(watch: Watch, settings: Any) -> None:
    """More rows than are recorded one by one."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 2}
    Person.objects.bulk_create(
        Person(nickname=watch.secret("card", "a bulk of many"), password="x") for _ in range(4)
    )
    Person.objects.update(password=watch.secret("password", "an update of many"))
    Person.objects.update(nickname=watch.secret("github", "an update of many"))
    Person.objects.all().delete()
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 1000}


def accounts(watch: Watch, client: Client) -> None:
    """Log-ins that fail and succeed, passwords that change, sessions."""
    right = watch.secret("odd_password", "a log-in")
    user = User.objects.create_user("alice", watch.secret("email", "a user"), right)
    watch.known(user.password, "hash", "a user's password")
    client.post("/log-in/", {"username": "alice", "password": watch.secret("password", "a log-in")})
    # A password that was typed as the name: nothing tells it from a name.
    typed = watch.secret("password", "the name of a log-in", promise=Promise.LABEL)
    client.post("/log-in/", {"username": typed, "password": "x"})
    for kind in ONE_LINE:
        name = watch.secret(kind, "the name of a log-in")
        client.post("/log-in/", {"username": name, "password": watch.secret("password", "x")})
    client.post("/log-in/", {"username": "alice", "password": right})
    watch.known(client.session.session_key or "", "session key", "a log-in")
    client.get("/create/")
    user.set_password(watch.secret("password", "a changed password"))
    user.save()
    watch.known(user.password, "hash", "a changed password")
    user.first_name = watch.secret("github", "a user's name")[:150]
    user.email = f"{watch.secret('github', 'the local part of an address')}@example.org"
    user.save()
    with audit_log.acting(user, via=watch.secret("stripe", "via of who acts")):
        Category.objects.create(name="acted")
    client.post("/log-out/")


def paths(watch: Watch, client: Client) -> None:
    """Arguments of URLs, and paths of no view."""
    for path in (
        f"/reset/{watch.secret('token', 'an argument of a URL')}/",
        f"/reset/MQ/{watch.secret('token', 'an argument of a URL')}/",
        f"/reset-by/{watch.secret('token', 'an argument without a name')}/",
        f"/people/{watch.secret('email', 'an argument of a URL')}/",
        f"/nowhere/reset/{watch.secret('token', 'a path of no view')}",
        f"/log-in/?code={watch.secret('token', 'the query of a log-in')}",
    ):
        # The body of a log-in or reset is not kept, whatever its names are.
        name = "token" if "people" in path else "x"
        body = {name: watch.secret("token", f"a body sent to {path[:12]}")}
        client.post(path, json.dumps(body), content_type="application/json")


def failures(watch: Watch) -> None:
    """Exceptions whose words hold secrets: of views, of commands."""
    for kind in ("token", *ONE_LINE):
        secret = watch.secret(kind, "the words of a view's exception")

        def view(request: Any, secret: str = secret) -> Any:
            Category.objects.create(name="before")
            raise LookupError(secret)

        with pytest.raises(LookupError):
            AuditMiddleware(view)(RequestFactory().post("/plain/"))
        with pytest.raises(LookupError):
            call_command(_Failing(), secret=watch.secret(kind, "the words of a command"))


class _Failing(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--secret")

    def handle(self, *args: Any, **options: Any) -> None:
        Category.objects.create(name="by command")
        raise LookupError(options["secret"])


def broken(watch: Watch) -> None:
    """What no encoding holds, and objects that cannot say what they are."""

    class Hostile:
        def __str__(self) -> str:
            raise ValueError(watch.secret("card", "the words of an exception of __str__"))

    data: dict[Any, Any] = {
        "Password\ud800": watch.secret("password", "a name with a surrogate"),
        "text": f"\x00{watch.secret('card', 'a text with a NUL')}\ud800",
        "bytes": watch.secret("token", "bytes").encode(),
        "hostile": Hostile(),
        "set": {watch.secret("github", "a set")},
        7: {"pin": watch.secret("pin", "below a key that is a number")},
    }
    audit_log.record(
        "leaks.broken",
        data=data,
        reason=f"\udcff{watch.secret('jwt', 'a reason with a surrogate')}",
    )
    Category.objects.create(name=f"\u202e{watch.secret('stripe', 'a text with bidi signs')}")


def oversized(watch: Watch) -> None:
    """Values that are cut, with the secret at every place around the cut."""
    long = "x " * 40_000
    for kind in ONE_LINE:
        # Where the cut goes through it, or right behind it.
        for before in (120, 165, 180, 190):
            text = f"{'y' * before} {watch.secret(kind, 'a text that is cut')} {long}"
            audit_log.record("leaks.cut", data={"note": text, "more": [text]})
    names = _by_names(watch, "an event that is too large")
    audit_log.record("leaks.cut", data={"fill": {f"k{n}": "z" * 300 for n in range(400)}, **names})
    for kind in SHORT:
        for before in (215, 235, 250):
            label = f"{'y' * before} {watch.secret(kind, 'a label that is cut')}"
            Shown(label).sent()
    Watched.objects.create(name="w")
    Country.objects.create(code="AT", name=watch.secret("github", "a text"))


def imported(watch: Watch) -> None:
    """A past that others kept, without masks."""
    moment = datetime.now(UTC) - timedelta(days=400)
    audit_log.backfill(
        {
            "action": "update",
            "occurred_at": moment,
            "actor": {"type": "service", "id": "old", "via": watch.secret(kind, "imported via")},
            "target": {"type": "shop.person", "id": "7", "label": watch.secret(kind, "x")},
            "changes": {
                "password": [watch.secret("password", "an imported field"), "x"],
                "card_number": [None, watch.secret("card", "an imported field")],
                "nickname": ["x", watch.secret(kind, "an imported open field")],
                "extra": [None, _by_names(watch, "an imported JSON field")],
            },
            "labels": {"nickname": [None, watch.secret(kind, "an imported label")]},
            "data": {**_by_names(watch, "imported data"), "t": watch.secret(kind, "imported data")},
            "reason": watch.secret(kind, "an imported reason"),
        }
        for kind in SHORT
    )


def elsewhere(watch: Watch) -> None:
    """In another database, whose outbox is there."""
    for kind in SHORT:
        person = Person.objects.using("other").create(
            nickname=watch.secret(kind, "another database"),
            password=watch.secret("password", "another database"),
        )
        person.notes = watch.secret(kind, "another database")
        person.save()


class Shown:
    """Something with a long name, as a target and as who acts."""

    def __init__(self, label: str) -> None:
        self.label = label

    def sent(self) -> None:
        from audit_log.events import Actor, Target

        target = Target(type="shop.thing", id="1", label=self.label)
        with audit_log.acting(Actor(type="service", id="s", label=self.label)):
            audit_log.record("leaks.shown", target=target)


def spooled(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that the outbox refuses."""

    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"refused: {watch.secret('card', 'the words of a refusal')}")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_insert", refused)
        for kind in BY_FORM:
            Person.objects.create(
                nickname="spooled",
                password=watch.secret("password", "a batch that is spooled"),
                notes=watch.secret(kind, "a batch that is spooled"),
            )
    assert spool.waiting()


def parked(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that cannot be stored, for a reason that quotes them."""
    from audit_log.delivery import claims
    from audit_log.models import Outbox

    testing.relay()
    secret = watch.secret("card", "a batch that is parked")
    Person.objects.create(nickname=secret, password=watch.secret("password", "a parked batch"))
    reason = " ".join(watch.secret(kind, "the reason of parking") for kind in ONE_LINE)

    def prepare_all(events: Any) -> list[Exception]:
        return [ValueError(f"cannot store {secret}: {reason}") for _ in events]

    with monkeypatch.context() as patch:
        patch.setattr(claims, "prepare_all", prepare_all)
        testing.relay()
    Outbox.objects.filter(parked_reason__isnull=False).update(attempts=9, next_attempt_at=None)
    with monkeypatch.context() as patch:
        patch.setattr(claims, "prepare_all", prepare_all)
        testing.relay()
    assert Outbox.objects.filter(parked_at__isnull=False).exists()


SENDERS: tuple[Callable[[Watch], None], ...] = (
    model_fields,
    texts,
    labels,
    bulk,
    failures,
    broken,
    oversized,
    imported,
    elsewhere,
)


def everything(
    watch: Watch, client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through every channel, but for those that need processes of their own."""
    for send in SENDERS:
        send(watch)
    folded_bulk(watch, settings)
    accounts(watch, client)
    paths(watch, client)
    leaks.send_requests(watch, client, "/create/")
    leaks.send_records(watch, Category.objects.create(name="a target"))
    spooled(watch, monkeypatch)
    parked(watch, monkeypatch)
