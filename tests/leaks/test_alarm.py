"""The alarm rings: in every place, for every spelling. And it says what it is about."""

from __future__ import annotations

import base64
import gzip
import html
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from django.core import mail
from django.test import Client
from kombu import Connection

import audit_log
from audit_log import testing
from audit_log.models import ArchivePart, Outbox
from audit_log.recording import spool
from audit_log.retention.stores import store_for
from audit_log.testing import leaks
from audit_log.testing.leaks.secrets import Makers
from audit_log.testing.leaks.spellings import Search
from tests.faults.servers import Redis, redis_server
from tests.leaks.planting import columns, plant

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def _raw_deflate(raw: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(raw) + deflater.flush()


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda raw: raw,
    "in JSON": lambda raw: json.dumps({"k": raw.decode()}).encode(),
    "in JSON, unescaped": lambda raw: json.dumps(raw.decode(), ensure_ascii=False).encode(),
    "in JSON in JSON": lambda raw: json.dumps(json.dumps(raw.decode())).encode(),
    "in HTML": lambda raw: html.escape(raw.decode()).encode(),
    "in a URL": lambda raw: quote(raw).encode(),
    "in a form": lambda raw: quote_plus(raw.decode()).encode(),
    "by repr": lambda raw: repr(raw.decode()).encode(),
    "in UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "in lower case": lambda raw: raw.decode().lower().encode(),
    "in hexadecimal": lambda raw: raw.hex().encode(),
    "in bytea": lambda raw: b"\\x" + raw.hex().encode(),
    "in base64": base64.b64encode,
    "in base64 of more": lambda raw: base64.b64encode(b"ab" + raw + b"c"),
    "in base64 for URLs": lambda raw: base64.urlsafe_b64encode(b"a" + raw),
    "in base64 of JSON": lambda raw: base64.b64encode(json.dumps([raw.decode()]).encode()),
    "in base64 twice": lambda raw: base64.b64encode(base64.b64encode(raw)),
    "deflated": zlib.compress,
    "deflated, without a header": _raw_deflate,
    "gzipped": gzip.compress,
    "deflated in base64": lambda raw: base64.b64encode(zlib.compress(raw)),
    "deflated in bytea": lambda raw: zlib.compress(raw).hex().encode(),
    "gzipped JSON with base64": lambda raw: gzip.compress(
        json.dumps({"b": base64.b64encode(b"xy" + raw).decode()}).encode()
    ),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("around", [(b"", b""), (b"before ", b" after"), (b'{"a":"', b'"}')])
def test_secret_is_found_however_it_is_written(
    spelled: Callable[[bytes], bytes], around: tuple[bytes, bytes]
):
    with leaks.watch() as watch:
        watch.asked = True
        for kind in (*leaks.NAMES, *leaks.BY_FORM, *leaks.PERSONAL):
            watch.secret(kind)
        search = Search(watch.secrets)
        for secret in watch.secrets:
            for part in secret.parts:
                raw = spelled(around[0] + part.encode() + around[1])
                for shift in (b"", b"\n", b"\n\n\n"):
                    if shift and spelled is _raw_deflate:
                        continue  # nothing tells where it begins
                    assert {hit.secret for hit in search.hits(shift + raw)} == {secret}


def test_what_is_masked_is_not_found():
    with leaks.watch() as watch:
        watch.asked = True
        card = watch.secret("card")
        aws = watch.secret("aws_id")
        masked = f"**** **** **** {card[-4:]} {card[:6]}****** AKIA…{aws[-4:]} [MASKED]"
        assert list(Search(watch.secrets).hits(masked.encode())) == []


def test_most_of_a_secret_is_found_as_well():
    with leaks.watch() as watch:
        watch.asked = True
        token = watch.secret("github")
        [hit] = Search(watch.secrets).hits(f"x {token[:30]}…".encode())
        assert hit.spelling == "cut"


def test_same_seed_makes_the_same_secrets_and_no_two_alike():
    kinds = (*leaks.NAMES, *leaks.BY_FORM, *leaks.PERSONAL) * 20
    one, two, other = Makers(1), Makers(1), Makers(2)
    made = [one.make(kind) for kind in kinds]
    assert made == [two.make(kind) for kind in kinds]
    parts = [part for _, parts in made for part in parts]
    assert len(set(parts)) == len(parts)
    assert not {text for text, _ in made} & {other.make(kind)[0] for kind in kinds}
    with pytest.raises(ValueError, match=r"no kind 'pasword' of secret\. Kinds: amex, "):
        one.make("pasword")


def _rings(place: leaks.Place, watch: leaks.Watch, name: str) -> str:
    """Whether the only secret is found there; what is said of it."""
    watch.asked = True
    watch.places = [place]
    found = watch.found()
    place.close()
    assert found, f"{name} does not ring"
    assert {leak.secret.number for leak in found} == {1}
    assert all(watch.secrets[0].parts[0] not in str(leak) for leak in found)
    return str(found[0])


@pytest.fixture
def watch() -> Iterator[leaks.Watch]:
    with leaks.watch() as made:
        made.asked = True
        yield made


@pytest.mark.parametrize("column", columns(), ids=str)
def test_it_rings_in_every_column(watch: leaks.Watch, column: Any):
    plant(column, watch.secret("token", "planting"))
    assert column.table in _rings(leaks.tables("default"), watch, str(column))


def test_it_rings_in_a_table_that_no_model_has(watch: leaks.Watch, transactional_db: None):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE audit_log_strange (text varchar(100))")
        try:
            cursor.execute("INSERT INTO audit_log_strange VALUES (%s)", [watch.secret()])
            assert "audit_log_strange.text" in _rings(leaks.tables(), watch, "a table")
        finally:
            cursor.execute("DROP TABLE audit_log_strange")


def test_it_rings_in_every_database(watch: leaks.Watch):
    Outbox.objects.using("other").create(
        created_at=datetime.now(UTC), event_count=1, payload=watch.secret().encode()
    )
    assert "other: audit_log_outbox" in _rings(leaks.tables("default", "other"), watch, "other")


@pytest.mark.parametrize("where", ["reason", "data", "label"])
def test_it_rings_in_what_the_keys_open(watch: leaks.Watch, where: str):
    secret = watch.secret("token", "planting")
    with audit_log.acting(f"x {secret}" if where == "label" else "x"):
        reason = secret if where == "reason" else None
        audit_log.record("a.b", reason=reason, data={"note": secret} if where == "data" else None)
    testing.relay()
    assert "a.b" in _rings(leaks.opened(), watch, where)


def test_what_is_promised_to_be_sealed_may_open_and_be_nowhere_else(watch: leaks.Watch):
    secret = watch.secret("token", promise=leaks.Promise.SEALED)
    audit_log.record("a.b", reason=secret)
    watch.assert_nowhere()
    audit_log.record("a.b", data={"open": 1}, target=audit_log_target(secret))
    with pytest.raises(AssertionError, match=r"token #1 .* is in a table \(default: .*target_id"):
        watch.assert_nowhere()


def audit_log_target(id_: str) -> Any:
    from audit_log.events import Target

    return Target(type="a.b", id=id_)


def test_it_rings_in_the_spool_and_in_names_of_files(watch: leaks.Watch):
    folder = spool.folder()
    secret = watch.secret()
    (folder / "x.spool").write_bytes(b"\0\1" + secret.encode())
    assert "x.spool" in _rings(leaks.spool(), watch, "the spool")
    (folder / "x.spool").rename(folder / secret)
    (folder / secret).write_bytes(b"")
    watch.places = [leaks.files(folder)]
    assert watch.found()


def test_it_rings_in_an_archive(watch: leaks.Watch, settings: Any, tmp_path: Path):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ARCHIVE": f"file://{tmp_path / 'a'}"}
    (tmp_path / "a").mkdir()
    line = json.dumps({"sealed": base64.b64encode(watch.secret().encode()).decode()})
    (tmp_path / "a" / "part.ndjson.gz").write_bytes(gzip.compress(line.encode()))
    assert "part.ndjson.gz" in _rings(leaks.archive(), watch, "the archive")


def test_it_rings_in_a_bucket(
    watch: leaks.Watch, settings: Any, s3: Any, bucket_name: str, s3_endpoint: str
):
    from audit_log.conf import get_settings

    options = {"endpoint": s3_endpoint, "region": "eu-central-1", "path_style": True}
    where = {"ARCHIVE": f"s3://{bucket_name}/audit", "ARCHIVE_OPTIONS": options}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, **where}
    configured: Any = get_settings()
    store = store_for(configured.archive, configured.archive_options)
    assert not list(leaks.archive().read())
    plant(next(each for each in columns() if each.table.endswith("archivepart")), "x" * 30)
    ArchivePart.objects.update(key="audit/part.gz", version_id="")
    body = gzip.compress(watch.secret().encode())
    s3.put_object(Bucket=bucket_name, Key="audit/part.gz", Body=body)
    assert store.exists("audit/part.gz")
    assert "audit/part.gz" in _rings(leaks.archive(), watch, "the bucket")


@pytest.mark.parametrize("how", ["message", "argument", "exception", "below"])
def test_it_rings_in_a_log(watch: leaks.Watch, how: str):
    secret, place = watch.secret(), leaks.logs()
    logger = logging.getLogger("audit_log.some.place" if how == "below" else "audit_log")
    if how == "exception":
        logger.debug("failed", exc_info=ValueError(secret))
    elif how == "argument":
        logger.debug("%.3s", secret)
    else:
        logger.debug("see %s", secret)
    assert "audit_log" in _rings(place, watch, how)


def test_it_listens_to_other_loggers_where_it_is_told(watch: leaks.Watch):
    before = logging.getLogger("shop").level
    secret, ours, theirs = watch.secret(), leaks.logs(), leaks.logs("shop")
    logging.getLogger("shop.views").debug(secret)
    assert "shop.views" in _rings(theirs, watch, "the project's own")
    assert list(ours.read()) == []
    ours.close()
    assert logging.getLogger("shop").level == before
    logging.getLogger("shop").error(secret)
    assert len(list(theirs.read())) == 1


def test_it_rings_in_a_mail(watch: leaks.Watch):
    mail.send_mail("subject", f"é {watch.secret('odd_password')}", None, ["a@example.org"])
    _rings(leaks.mails(), watch, "a mail")


def test_it_rings_in_other_values(watch: leaks.Watch):
    secret = watch.secret()
    _rings(leaks.values("a result", {"a": [secret]}), watch, "a value")
    _rings(leaks.values("a result", secret.encode), watch, "a call")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.mark.parametrize("kind", ["string", "list", "hash", "set", "zset", "stream", "key"])
def test_it_rings_in_redis(watch: leaks.Watch, redis: Redis, kind: str):
    secret, client = watch.secret(), redis.client
    ways: dict[str, Callable[[], Any]] = {
        "string": lambda: client.set("k", secret),
        "list": lambda: client.lpush("k", "x", secret),
        "hash": lambda: client.hset("k", "f", secret),
        "set": lambda: client.sadd("k", secret),
        "zset": lambda: client.zadd("k", {secret: 1}),
        "stream": lambda: client.xadd("k", {"f": secret}),
        "key": lambda: client.set(secret, "v"),
    }
    ways[kind]()
    _rings(leaks.redis(redis.url), watch, kind)


def _sends(broker: Connection | str, body: Any, headers: dict[str, str]) -> None:
    with Connection(broker) if isinstance(broker, str) else broker.clone() as connection:
        connection.SimpleQueue("alarm").put(body, headers=headers)


@pytest.mark.parametrize("part", ["body", "header"])
@pytest.mark.parametrize(
    "broker",
    [
        "memory",
        pytest.param("redis"),
        pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.slow]),
    ],
)
def test_it_rings_in_a_queue(
    watch: leaks.Watch, broker: str, part: str, request: pytest.FixtureRequest
):
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory://",
        "redis": lambda: request.getfixturevalue("redis").url,
        "rabbitmq": lambda: request.getfixturevalue("rabbitmq_url"),
    }
    url, secret = urls[broker](), watch.secret()
    body = {"args": [secret if part == "body" else "x"]}
    _sends(url, body, {"h": secret if part == "header" else "x"})
    place = leaks.queues(url, "alarm")
    try:
        _rings(place, watch, broker)
        _rings(place, watch, f"{broker}, once more")  # it was given back
    finally:
        with Connection(url) as connection:
            connection.SimpleQueue("alarm").clear()
            channel: Any = connection.default_channel
            channel.queue_delete("alarm")


@pytest.mark.parametrize("place", ["admin", "api", "search"])
def test_it_rings_on_what_people_are_shown(watch: leaks.Watch, admin_client: Client, place: str):
    """Of the same record, it rings where it is opened and nowhere else."""
    audit_log.record("a.b", reason=watch.secret("token", "planting"))
    testing.relay()
    closed, opened = (
        _shown(place, admin_client, opened=False),
        _shown(place, admin_client, opened=True),
    )
    watch.places = [closed]
    assert watch.found() == []
    _rings(opened, watch, place)


@pytest.mark.parametrize("place", ["admin", "api", "search"])
def test_it_rings_on_lists_and_labels(watch: leaks.Watch, admin_client: Client, place: str):
    """Whoever may see records is shown who acted: that is no place for a secret."""
    with audit_log.acting(watch.secret("token", "planting")):
        audit_log.record("a.b")
    testing.relay()
    _rings(_shown(place, admin_client, opened=False), watch, place)


def _shown(place: str, client: Client, *, opened: bool) -> leaks.Place:
    if place == "search":
        return leaks.search(opened=opened)
    return {"admin": leaks.admin, "api": leaks.api}[place](client, opened=opened)


def test_page_that_is_not_shown_is_no_proof(watch: leaks.Watch):
    audit_log.record("a.b")
    testing.relay()
    for place in (leaks.admin(Client()), leaks.api(Client())):
        with pytest.raises(
            AssertionError, match=r"/\S* answers (302|403|401), so it was not looked"
        ):
            list(place.read())


def test_it_says_what_was_sent_through_what_and_is_where():
    with leaks.watch(seed=5) as watch:
        secret = watch.secret("token", "the name of a shelf")
        audit_log.record("a.b", target=audit_log_target(secret))
        with pytest.raises(AssertionError) as raised:
            watch.assert_nowhere()
    words = str(raised.value)
    assert words.startswith("1 of 1 secrets (seed 5) were found:\n  token #1 (")
    assert "24 characters) sent through the name of a shelf is in a table (default: " in words
    assert "audit_log_record.target_id, row " in words
    assert words.endswith("as it is")
    assert secret not in words
    assert secret[:3] in words
    assert secret[:5] not in words


def test_block_asserts_at_its_end_unless_it_has():
    with leaks.watch() as watch:
        audit_log.record("a.b", data={"password": watch.secret("password")})
        watch.assert_nowhere()
    with pytest.raises(AssertionError, match="is in a table"):
        _leak_in_a_block()
    with pytest.raises(KeyError):  # comes first
        _leak_in_a_block(KeyError)


def _leak_in_a_block(error: type[Exception] | None = None) -> None:
    with leaks.watch() as watch:
        audit_log.record("a.b", target=audit_log_target(watch.secret("token")))
        if error is not None:
            raise error


def test_alarm_that_guards_nothing_is_none():
    with pytest.raises(AssertionError, match="No secret was made"), leaks.watch():
        audit_log.record("a.b")


def test_short_text_is_no_secret_to_look_for(watch: leaks.Watch):
    with pytest.raises(ValueError, match="pin: 4 characters may stand somewhere by chance"):
        watch.known("1234", "pin")
    watch.known("123456789012", "pin")
