"""Secrets sent through every channel there is are nowhere to be found.

What is masked must not be in any column, file, message or log line, nor in what opens with the
keys. Personal data must not be in clear anywhere, and may be in what opens.
"""

from __future__ import annotations

import base64
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings

import audit_log
from audit_log import context, testing
from audit_log.models import Outbox, Record
from audit_log.privacy.numbering import passes_luhn
from audit_log.reading.contents import contents
from audit_log.recording import outbox, spool
from tests.capture_jobs.conftest import Jobs
from tests.shop.models import Category, Person, Product, Tag

JSON = "application/json"


class Seeds:
    """Values made for this test alone, so that a hit says which one it is."""

    def __init__(self) -> None:
        self.random = random.Random(20261124)
        self.secrets: dict[str, str] = {}
        self.personal: dict[str, str] = {}

    def _letters(self, count: int) -> str:
        return "".join(
            self.random.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", k=count)
        )

    def _digits(self, count: int) -> str:
        return "".join(self.random.choices("0123456789", k=count))

    def secret(self, where: str, value: str = "") -> str:
        """A password or token: letters that no detector knows, so that only names can save it."""
        made = value or self._letters(24)
        self.secrets[where] = made
        return made

    def person(self, where: str, value: str) -> str:
        self.personal[where] = value
        return value

    def email(self, where: str) -> str:
        return self.person(where, f"{self._letters(10).lower()}@example.org")

    def name(self, where: str) -> str:
        return self.person(where, f"{self._letters(8).title()} {self._letters(11).title()}")

    def card(self, where: str) -> str:
        body = "4" + self._digits(14)
        return self.secret(
            where, next(f"{body}{n}" for n in range(10) if passes_luhn(f"{body}{n}"))
        )

    def jwt(self, where: str) -> str:
        def part(value: Any) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        signature = self.secret(f"{where} (signature)", self._letters(43))
        return self.secret(
            where, f"{part({'alg': 'HS256'})}.{part({'sub': self._digits(9)})}.{signature}"
        )

    def bearer(self, where: str) -> str:
        return f"Bearer {self.secret(where, self._letters(30) + self._digits(10))}"

    def basic(self, where: str) -> str:
        raw = f"user:{self._letters(20)}".encode()
        return f"Basic {self.secret(where, base64.b64encode(raw).decode().rstrip('='))}"

    def github(self, where: str) -> str:
        return self.secret(where, f"ghp_{self._letters(36)}")

    def stripe(self, where: str) -> str:
        return self.secret(where, f"sk_live_{self._letters(24)}")

    def aws(self, where: str) -> str:
        return self.secret(where, f"AKIA{self._letters(16).upper()}")

    def pem(self, where: str) -> str:
        line = self.secret(where, self._letters(60))
        return f"-----BEGIN RSA PRIVATE KEY-----\n{line}\n-----END RSA PRIVATE KEY-----"

    def url(self, where: str) -> str:
        return f"postgres://app:{self.secret(where, self._letters(20))}@db.internal:5432/x"

    def iban(self, where: str) -> str:
        digits = self._digits(18)
        check = 98 - int(f"{digits}131400") % 97  # ISO 7064; "DE" is 1314
        return self.person(where, f"DE{check:02}{digits}")


def _everything_known(seeds: Seeds, where: str) -> str:
    """One text with one of each kind that the detectors promise to find."""
    makers: list[Callable[[str], str]] = [
        seeds.card,
        seeds.jwt,
        seeds.bearer,
        seeds.github,
        seeds.stripe,
        seeds.aws,
        seeds.url,
    ]
    return " and ".join(make(f"{where}: {make.__name__}") for make in makers)


# --- the channels ---


def _model_fields(seeds: Seeds) -> None:
    person = Person.objects.create(
        nickname="nick",
        full_name=seeds.name("sealed name"),
        email=seeds.email("sealed email"),
        password=seeds.secret("password field"),
        api_token=seeds.secret("token field"),
        card_number=seeds.card("card field"),
        code_word=seeds.secret("field masked by the model"),
        noise=seeds.secret("excluded field"),
        notes=f"{_everything_known(seeds, 'notes')}, {seeds.email('email in notes')}",
        extra={
            "Password": seeds.secret("JSON field"),
            "deep": [{"apiKey": seeds.secret("JSON field, deep")}, {"n": seeds.card("JSON text")}],
            "meta": json.dumps({"secret": seeds.secret("JSON in a JSON field")}),
            "iban": seeds.iban("IBAN by name"),
            "who": seeds.email("email in JSON"),
        },
    )
    person.password = seeds.secret("password, changed")
    person.card_number = seeds.card("card, changed")
    person.notes = seeds.pem("private key in notes")
    person.extra = {
        "cvv": seeds.secret("CVV", "9Z3x1~7Kq"),
        "pin": seeds.secret("PIN", "8Q4y2~5Wd"),
    }
    person.save()
    # An open field: personal patterns are masked there as well.
    person.nickname = f"{seeds.iban('IBAN, open')} {seeds.email('email, open')}"
    person.save()
    person.nickname = seeds.card("card, open")
    person.save()
    person.nickname = seeds.jwt("JWT, open")
    person.save()
    person.delete()


def _labels(seeds: Seeds) -> None:
    category = Category.objects.create(name=seeds.card("label of a category"))
    product = Product.objects.create(name=seeds.bearer("label of a product"), category=category)
    product.tags.add(Tag.objects.create(name=seeds.github("label of a member")))
    product.description = seeds.basic("description")
    product.attributes = {"db_password": seeds.secret("attributes")}
    product.save()
    product.delete()
    category.delete()


def _recorded(seeds: Seeds) -> None:
    audit_log.record(
        "payment.refunded",
        reason=_everything_known(seeds, "reason"),
        data={
            "password": seeds.secret("data"),
            "deep": {"list": [{"access_token": seeds.secret("data, deep")}]},
            "gateway": _everything_known(seeds, "data text"),
            "json": json.dumps([{"client_secret": seeds.secret("JSON in data")}]),
            "customer": seeds.name("name in data"),
            "email": seeds.email("email in data"),
            "number": int(seeds.card("card as a number in data")),
        },
    )
    someone = User(pk=8, username=seeds.name("acting user"), email=seeds.email("acting"))
    with audit_log.acting(someone, reason=seeds.email("reason")):
        Category.objects.create(name="acted")


def _requests(seeds: Seeds, client: Client) -> None:
    headers = {
        "authorization": seeds.bearer("Authorization"),
        "x-api-key": seeds.secret("X-Api-Key"),
        "x-forwarded-for": seeds.secret("X-Forwarded-For"),
        "x-request-id": seeds.github("X-Request-ID"),
        "cookie": f"csrftoken={seeds.secret('cookie')}; sessionid={seeds.secret('session cookie')}",
        "referer": f"https://x.example/?token={seeds.secret('Referer')}",
        "user-agent": f"curl {seeds.bearer('user agent')}",
    }
    query = f"token={seeds.secret('query')}&PassWord={seeds.secret('query, any case')}"
    query += f"&q={seeds.card('card in the query')}&email={seeds.email('email in the query')}"
    body = {
        "password": seeds.secret("JSON body"),
        "items": [{"user": {"Api-Key": seeds.secret("JSON body, deep")}}],
        "text": _everything_known(seeds, "JSON body text"),
        "name": seeds.name("name in the body"),
        "card_number": seeds.card("card in the body"),
    }
    client.post(f"/create/?{query}", json.dumps(body), content_type=JSON, headers=headers)
    form = {
        "user[password]": seeds.secret("form body"),
        "note": seeds.aws("form body text"),
        "csrfmiddlewaretoken": seeds.secret("CSRF token"),
    }
    fields = "&".join(f"{name}={value}" for name, value in form.items())
    client.post("/create/", fields, content_type="application/x-www-form-urlencoded")
    raw = json.dumps({"password": seeds.secret("JSON sent as a form")})
    client.post("/create/", raw, content_type="application/x-www-form-urlencoded")
    for path in (
        f"/reset/{seeds.secret('token in the path')}/",
        f"/reset/{seeds.secret('token in a path without its slash')}",
        f"/reset/MQ/{seeds.secret('code in the path')}/",
        f"/reset-by/{seeds.secret('unnamed argument')}/",
        f"/people/{seeds.email('email in the path')}/",
        f"/nowhere/reset/{seeds.secret('token in a path of no view')}",
        f"/nowhere/{seeds.card('card in the path')}/",
        f"/log-in/?code={seeds.secret('query of a log-in')}",
    ):
        # The body of a log-in or reset is not kept whatever its names are.
        name = "x" if "reset" in path or "log-in" in path else "token"
        body = {name: seeds.secret(f"body of {path[:12]}")}
        client.post(path, json.dumps(body), content_type=JSON)


def _log_ins(seeds: Seeds, client: Client) -> None:
    name = seeds.email("user name")
    password = seeds.secret("password of a log-in")
    User.objects.create_user(name, seeds.email("user's email"), password)
    client.post("/log-in/", {"username": name, "password": seeds.secret("wrong password")})
    client.post("/log-in/", {"username": seeds.name("unknown user"), "password": password})
    client.post("/log-in/", {"username": seeds.jwt("JWT as a name"), "password": "x"})
    client.post("/log-in/", {"username": name, "password": password})
    seeds.secret("session key", client.session.session_key or "")
    client.get("/create/")
    user = User.objects.get(username=name)
    user.set_password(seeds.secret("new password"))
    user.save()
    seeds.secret("password hash", user.password)
    client.post("/log-out/")


def _tasks(seeds: Seeds, folder: Path) -> None:
    folder.mkdir()
    jobs = Jobs(
        "filesystem://",
        broker_transport_options={
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(folder / "control"),
        },
    )
    reason = f"{seeds.card('reason of a task')} {seeds.name('name in the reason of a task')}"
    with audit_log.acting(User(pk=7, username=seeds.email("actor of a task")), reason=reason):
        jobs.write.delay("task")
    jobs.app.close()


def _spooled(seeds: Seeds, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("the outbox is not there")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_insert", refused)
        Person.objects.create(
            nickname="spooled",
            password=seeds.secret("password, spooled"),
            full_name=seeds.name("name, spooled"),
            notes=seeds.jwt("JWT, spooled"),
        )
    assert spool.waiting()


# --- where they could be ---


def _columns() -> Iterator[tuple[str, bytes]]:
    """Every column of every table of ours, as bytes."""
    with connection.cursor() as cursor:
        for model in apps.get_app_config("audit_log").get_models():
            table = model._meta.db_table
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(names, row, strict=True):
                    raw = bytes(value) if isinstance(value, (bytes, memoryview)) else None
                    text = json.dumps(value, ensure_ascii=False, default=str).encode()
                    yield f"{table}.{name}", text if raw is None else raw


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            yield path.name, raw
            for part in raw.split(b'"'):
                if len(part) > 40:  # a message's body is base64
                    try:
                        yield f"{path.name} decoded", base64.b64decode(part)
                    except ValueError:
                        continue


def _log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, bytes]]:
    formatter = logging.Formatter("%(message)s")
    for entry in caplog.records:
        if not entry.name.startswith("django"):  # the project's own lines name its paths
            yield f"log {entry.name}", formatter.format(entry).encode("utf-8", "replace")


def _hits(values: dict[str, str], places: Iterator[tuple[str, bytes]]) -> list[tuple[str, str]]:
    wanted = [(where, value.encode()) for where, value in values.items()]
    return [(where, place) for place, raw in places for where, value in wanted if value in raw]


@pytest.fixture
def swept(tmp_path: Path, db: None) -> Iterator[Path]:
    folder = tmp_path / "spool"
    with override_settings(AUDIT_LOG={**settings.AUDIT_LOG, "SPOOL_DIR": str(folder)}):
        yield tmp_path


@pytest.mark.django_db(transaction=True)
def test_no_secret_is_anywhere_and_no_personal_data_in_clear(
    swept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """secrets_sweep, H1, H3"""
    caplog.set_level(logging.DEBUG)
    seeds = Seeds()
    context.clear()
    client = Client(raise_request_exception=False)
    _model_fields(seeds)
    _labels(seeds)
    _recorded(seeds)
    _requests(seeds, client)
    _log_ins(seeds, client)
    _tasks(seeds, swept / "broker")
    _spooled(seeds, monkeypatch)
    testing.flush()
    both = seeds.secrets | seeds.personal
    assert len(seeds.secrets) >= 60
    assert Outbox.objects.count() >= 20

    assert _hits(both, _columns()) == []  # the outbox
    assert _hits(both, _files(swept)) == []  # broker and spool
    assert len(list(_files(swept / "broker"))) >= 2

    testing.relay()
    assert not Outbox.objects.exists()
    assert Record.objects.count() >= 45
    assert _hits(both, _columns()) == []
    opened = ((str(r), json.dumps(contents(r), ensure_ascii=False)) for r in Record.objects.all())
    assert _hits(seeds.secrets, ((name, text.encode()) for name, text in opened)) == []
    assert _hits(both, _log_lines(caplog)) == []


@pytest.mark.django_db(transaction=True)
def test_the_sweep_would_find_them(swept: Path):
    """The same search finds what is sealed once it is opened, and the business tables' own."""
    seeds = Seeds()
    _recorded(seeds)
    Category.objects.create(name=seeds.secret("in a business table"))
    testing.relay()
    opened = [json.dumps(contents(r)).encode() for r in Record.objects.all()]
    found = {where for where, _ in _hits(seeds.personal, (("x", raw) for raw in opened))}
    assert "name in data" in found
    assert not any(contents(r)["closed"] for r in Record.objects.all())
    rows = ((c.name, c.name.encode()) for c in Category.objects.all())
    assert _hits(seeds.secrets, rows) != []
