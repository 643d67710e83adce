"""More than five hundred secrets, through every channel the app has, are found nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.test import Client

import audit_log
from audit_log import testing
from audit_log.alerts import sweeping
from audit_log.delivery import relay as delivery
from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart, DataKey, Outbox, Record
from audit_log.reading.contents import contents
from audit_log.retention import archive, planning
from audit_log.testing import leaks
from tests.leaks.senders import everything
from tests.shop.models import Category, Country, Person, Product, Tag

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.slow,
]
_SHOP = ("view_category", "view_country", "view_person", "view_product", "view_user", "view_tag")

BOTH = ["default", "other"]
Fill = Callable[[leaks.Watch], None]


@pytest.fixture
def fill(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Sends secrets through every channel."""

    def send(watch: leaks.Watch) -> None:
        everything(watch, Client(raise_request_exception=False), settings, monkeypatch)
        assert len(watch.secrets) >= 500

    return send


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive takes today for a day that is over."""
    later = timedelta(days=2)
    monkeypatch.setattr(planning, "database_now", lambda _using: datetime.now(UTC) + later)


@pytest.fixture
def somebody() -> Callable[..., Client]:
    """A client of somebody on the staff with these permissions of ours."""

    def make(*permissions: str) -> Client:
        user = User.objects.create_user("-".join(permissions), is_staff=True)
        for codename in (*permissions, *_SHOP):
            user.user_permissions.add(Permission.objects.get(codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return make


def test_secrets_sent_through_every_channel_are_nowhere(fill: Fill):
    """H1, H3, secrets_sweep"""
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        assert Outbox.objects.filter(parked_at__isnull=False).exists()
        watch.assert_nowhere()
    assert Record.objects.count() >= 500
    assert not any(contents(row)["closed"] for row in Record.objects.all()[:50])


def test_archive_holds_none(fill: Fill, settings: Any, tmp_path: Path, tomorrow: None):
    """H1: in a folder"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ARCHIVE": f"file://{tmp_path / 'archive'}"}
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        _archive()
        watch.assert_nowhere()


def test_bucket_holds_none(
    fill: Fill, settings: Any, s3: Any, bucket_name: str, s3_endpoint: str, tomorrow: None
):
    """H1: in S3, every version of every object"""
    options = {"endpoint": s3_endpoint, "region": "eu-central-1", "path_style": True}
    where = {"ARCHIVE": f"s3://{bucket_name}/audit", "ARCHIVE_OPTIONS": options}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, **where}

    def read() -> Iterator[tuple[str, bytes]]:
        for version in s3.list_object_versions(Bucket=bucket_name)["Versions"]:
            key, id_ = version["Key"], version["VersionId"]
            yield key, key.encode()
            yield key, s3.get_object(Bucket=bucket_name, Key=key, VersionId=id_)["Body"].read()

    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        _archive()
        assert len(list(read())) >= 2
        watch.look_in(leaks.Place("the bucket", read))
        watch.assert_nowhere()


def _relay() -> None:
    for alias in BOTH:
        testing.relay(alias)


def _archive() -> None:
    _relay()
    checkpoints.sign_all()
    assert archive.run().failures == []
    assert ArchivePart.objects.filter(count__gte=500).exists()
    assert verify().ok


def test_alerts_tell_none(fill: Fill, settings: Any):
    """H1: grouped by everything that is open and comes from outside."""
    columns = ("path", "actor_id", "actor_via", "tenant", "target_id", "request_id", "method")
    rules = [
        {"name": name, "group_by": name, "channels": ["log", "email"], "to": ["a@example.org"]}
        for name in columns
    ]
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ALERTS": rules}
    sweeping.sweep()  # what rules have not seen they do not tell of
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        testing.relay()
        sweeping.sweep()
        assert len(mail.outbox) >= len(columns)
        watch.assert_nowhere()


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
@pytest.mark.parametrize("place", ["admin", "api", "search"])
def test_people_are_shown_none(
    fill: Fill, somebody: Callable[..., Client], place: str, opened: bool
):
    """H1: who may see records sees nothing sealed; who may open them sees no secret."""
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        _relay()
        _wipe_the_shop()
        watch.asked = True
        there = _shown(place, somebody, opened=opened)
        read = list(there.read())
        assert len(read) >= 500
        watch.places = [leaks.Place(there.name, lambda: read, there.shows)]
        assert [str(leak) for leak in watch.found()] == []


def test_export_gives_a_person_none(fill: Fill):
    """H1: all that is held of everybody, opened"""
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)
        _relay()
        scopes = DataKey.objects.filter(scope__startswith="subject:")
        people = {scope.partition(":")[2] for scope in scopes.values_list("scope", flat=True)}
        named = [person for person in people if not person.startswith("subject:")]
        assert len(named) >= 10
        watch.asked = True
        watch.places = [leaks.export(*named)]
        assert [str(leak) for leak in watch.found()] == []


def _wipe_the_shop() -> None:
    """A history's page says what the object is called now: the project's data, not the log's."""
    with audit_log.suspended():
        for model in (Product, Category, Person, Tag, Country):
            model.objects.all().delete()


def _shown(place: str, somebody: Callable[..., Client], *, opened: bool) -> leaks.Place:
    if place == "search":
        return leaks.search(opened=opened)
    client = somebody("view_record", *["view_sealed"] * opened)
    return {"admin": leaks.admin, "api": leaks.api}[place](client, opened=opened)


def test_relay_that_fails_tells_none(fill: Fill, monkeypatch: pytest.MonkeyPatch):
    """H1: every claim fails, with all there is in its words."""
    with leaks.watch(databases=BOTH) as watch:
        fill(watch)

        def fails(*_: Any) -> Any:
            words = " ".join(secret.text for secret in watch.secrets if secret.kind == "card")
            raise RuntimeError(words)

        with monkeypatch.context() as patch:
            patch.setattr(delivery, "_move", fails)
            Category.objects.create(name="waits")
            assert testing.relay().failed
        watch.assert_nowhere()
