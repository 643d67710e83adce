"""Stores: a folder, and a bucket of a real S3 server in a process of its own."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.exceptions import AlreadyThere, ConfigurationError, StoreError
from audit_log.retention.stores import Store, store_for
from audit_log.retention.stores.directory import Directory
from audit_log.retention.stores.s3 import Bucket

pytestmark = pytest.mark.slow

KEY = "prefix/default/date=2026-01-31/00000000000000000000-00000000000000000009.ndjson.gz"
TEXT = b"a part of the archive" * 1000


def put(store: Store, key: str = KEY, content: bytes = TEXT) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return store.put(key, io.BytesIO(content), size=len(content), sha256=digest)


def read(store: Store, key: str = KEY, version: str = "") -> bytes:
    with store.open(key, version) as source:
        return source.read()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(Archive("file", str(tmp_path / "archive")))


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


# --- both --------------------------------------------------------------------------------------


def test_what_was_put_is_read_back(store: Store) -> None:
    assert not store.exists(KEY)
    put(store)
    assert store.exists(KEY)
    assert read(store) == TEXT


def test_a_taken_key_is_never_overwritten(store: Store) -> None:
    put(store)
    with pytest.raises(AlreadyThere, match=KEY):
        put(store, content=b"something else")
    assert read(store) == TEXT


def test_of_several_writers_at_once_exactly_one_wins(store: Store) -> None:
    """**archive_two_beats**: two runs that archive the same range do no harm."""
    contents = [f"writer {n}".encode() * 5000 for n in range(6)]
    outcomes: list[bytes | None] = []
    start = threading.Barrier(len(contents))

    def write(content: bytes) -> None:
        start.wait()
        try:
            put(store, content=content)
        except AlreadyThere:
            outcomes.append(None)
        else:
            outcomes.append(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [content for content in outcomes if content is not None]
    assert len(outcomes) == len(contents)
    assert len(winners) == 1
    assert read(store) == winners[0]


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=f"{KEY} is not there"):
        read(store)


def test_large_parts_pass_in_constant_memory(store: Store, tmp_path: Path) -> None:
    size, chunk = 48 << 20, os.urandom(1 << 20)
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(chunk)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            store.put(KEY, file, size=size, sha256=digest)
        found = hashlib.sha256()
        with store.open(KEY) as source:
            while part := source.read(1 << 20):
                found.update(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.hexdigest() == digest
    assert peak < size / 3


def test_an_empty_file_is_a_file(store: Store) -> None:
    put(store, content=b"")
    assert read(store) == b""


# --- a folder ----------------------------------------------------------------------------------


def test_files_and_folders_are_their_owners_alone(directory: Directory, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put(directory)
    finally:
        os.umask(before)
    found = list((tmp_path / "archive").rglob("*"))
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in found}
    assert modes == {True: 0o700, False: 0o600}
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "key", ["../out", "a/../../out", "/etc/out", "a//b", "", "a/./b", "a\0b", "a\\..\\b"]
)
def test_a_key_that_leads_out_of_the_folder_is_refused(directory: Directory, key: str) -> None:
    for attempt in (put, read, Directory.exists):
        with pytest.raises(StoreError, match="no key"):
            attempt(directory, key)


def test_a_symbolic_link_out_of_the_folder_is_refused(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "archive" / "prefix").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        put(directory)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_other_bytes_than_promised_are_not_stored(directory: Directory, tmp_path: Path) -> None:
    digest = hashlib.sha256(TEXT).hexdigest()
    for content, size in ((TEXT[:-1], len(TEXT)), (b"x" + TEXT[1:], len(TEXT))):
        with pytest.raises(StoreError, match="the source changed"):
            directory.put(KEY, io.BytesIO(content), size=size, sha256=digest)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class _Failing(io.BytesIO):
    def __init__(self, error: BaseException) -> None:
        super().__init__(TEXT)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise self.error
        return super().read(100)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_write_that_is_cut_off_leaves_nothing(
    directory: Directory, tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises((StoreError, KeyboardInterrupt)):
        directory.put(KEY, _Failing(error), size=len(TEXT), sha256="0" * 64)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


_LIMITED = """
import hashlib, io, resource, signal, sys
from audit_log.conf.retention import Archive
from audit_log.exceptions import StoreError
from audit_log.retention.stores.directory import Directory
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write behind the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
content = bytes(2 << 20)
try:
    Directory(Archive("file", sys.argv[1])).put(
        "a/part", io.BytesIO(content), size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
except StoreError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_nothing_half(tmp_path: Path) -> None:
    """The kernel refuses, in a process of its own: files may have 1 MiB, the part has 2."""
    ended = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "archive")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "a/part: File too large" in ended.stdout
    assert "free space" in ended.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


_KILLED = """
import io, os, signal, sys
from audit_log.conf.retention import Archive
from audit_log.retention.stores.directory import Directory
class Dying(io.BytesIO):
    def read(self, size=-1, /):
        if self.tell():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(1 << 16)
Directory(Archive("file", sys.argv[1])).put(
    "a/part", Dying(bytes(1 << 20)), size=1 << 20, sha256="0" * 64
)
"""


def test_a_killed_writer_leaves_no_part_and_does_not_stop_the_next(tmp_path: Path) -> None:
    """**archive_crash_points**: what it had written stands under another name."""
    place = tmp_path / "archive"
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(place)], timeout=300, check=False)
    assert ended.returncode == -9
    directory = Directory(Archive("file", str(place)))
    assert not directory.exists("a/part")
    put(directory, "a/part")
    assert read(directory, "a/part") == TEXT


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="archive"):
        put(Directory(Archive("file", str(tmp_path / "archive"))))


# --- a bucket ----------------------------------------------------------------------------------


def test_an_object_has_a_checksum_a_version_and_is_encrypted(
    bucket: Bucket, bucket_name: str, s3: Any
) -> None:
    version = put(bucket)
    found = s3.head_object(Bucket=bucket_name, Key=KEY, ChecksumMode="ENABLED")
    assert version == found["VersionId"] != ""
    assert found["ServerSideEncryption"] == "AES256"
    assert found["ChecksumSHA256"]


def test_kms_and_storage_class_are_those_of_the_options(
    bucket_name: str, s3_endpoint: str, s3: Any
) -> None:
    options = ArchiveOptions(
        s3_endpoint, "eu-central-1", kms="alias/audit", storage_class="GLACIER_IR", path_style=True
    )
    store = store_for(Archive("s3", bucket_name), options)
    put(store, "large", bytes(128 * 1024))
    put(store, "small")
    large, small = (s3.head_object(Bucket=bucket_name, Key=key) for key in ("large", "small"))
    assert large["ServerSideEncryption"] == small["ServerSideEncryption"] == "aws:kms"
    assert large["SSEKMSKeyId"].endswith("alias/audit")
    assert large["StorageClass"] == "GLACIER_IR"
    assert "StorageClass" not in small  # it would be billed as 128 KiB


def test_a_deleted_object_or_version_is_not_there(
    bucket: Bucket, bucket_name: str, s3: Any
) -> None:
    """**s3_deleted_after_verify**: a delete marker hides the newest, not the version itself."""
    version = put(bucket)
    s3.delete_object(Bucket=bucket_name, Key=KEY)
    assert not bucket.exists(KEY)
    assert bucket.exists(KEY, version)
    assert read(bucket, version=version) == TEXT
    s3.delete_object(Bucket=bucket_name, Key=KEY, VersionId=version)
    assert not bucket.exists(KEY, version)


def test_a_bucket_that_does_not_exist_is_named_with_what_to_do(
    s3_options: ArchiveOptions,
) -> None:
    store = Bucket(Archive("s3", "no-such-bucket"), s3_options)
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/prefix.*Create the bucket"):
        put(store)


def test_a_server_that_is_not_there_is_named(s3_options: ArchiveOptions) -> None:
    options = ArchiveOptions("http://127.0.0.1:1", "eu-central-1", path_style=True)
    store = Bucket(Archive("s3", "bucket"), options, connect_seconds=1)
    with pytest.raises(StoreError, match=r"s3://bucket/prefix.*the next run tries again"):
        put(store)


# A server that fails in ways moto does not: its answers are given by the test.


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[Any], None]

    def log_message(self, *args: Any) -> None:
        pass

    def do_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        type(self).answer(self)

    do_GET = do_PUT = do_HEAD = do_any  # noqa: N815 - the names that the base class looks for


def _reply(handler: Any, status: int, code: str = "", body: bytes = b"", **headers: str) -> None:
    if code:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextmanager
def server(answer: Callable[[Any], None], read_seconds: float = 240) -> Iterator[Bucket]:
    handler = type("Answers", (_Answers,), {"answer": staticmethod(answer)})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        options = ArchiveOptions(
            f"http://127.0.0.1:{serving.server_port}", "eu-central-1", path_style=True
        )
        yield Bucket(
            Archive("s3", "bucket"), options, connect_seconds=240, read_seconds=read_seconds
        )
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


@pytest.fixture
def credentials(s3_endpoint: str) -> None:
    """Set by the session's server."""


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_a_server_in_trouble_is_asked_again(status: int, code: str) -> None:
    """**s3_500_503_timeout**: and the body is sent from its beginning."""
    bodies: list[bytes] = []

    def answer(handler: Any) -> None:
        bodies.append(handler.body)
        if len(bodies) == 1:
            _reply(handler, status, code)
        else:
            _reply(handler, 200, x_amz_version_id="v2")

    with server(answer) as store:
        assert put(store) == "v2"
    assert bodies == [TEXT, TEXT]


@pytest.mark.usefixtures("credentials")
def test_a_server_that_stalls_is_given_up() -> None:
    """**s3_500_503_timeout**: after a bounded number of bounded waits."""
    released, calls = threading.Event(), []

    def answer(handler: Any) -> None:
        calls.append(1)
        released.wait(300)
        handler.close_connection = True

    with server(answer, read_seconds=0.5) as store:
        try:
            with pytest.raises(StoreError, match="the next run tries again"):
                put(store)
            deadline = time.monotonic() + 240
            while len(calls) < 5 and time.monotonic() < deadline:
                time.sleep(0.01)  # they are still to be read
        finally:
            released.set()
    assert len(calls) == 5


@pytest.mark.usefixtures("credentials")
def test_a_body_that_breaks_off_is_no_end_of_file() -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(TEXT)))
        handler.end_headers()
        handler.wfile.write(TEXT[: len(TEXT) // 2])
        handler.close_connection = True

    with server(answer) as store, pytest.raises(StoreError, match=KEY):
        read(store)


@pytest.mark.usefixtures("credentials")
def test_altered_bytes_are_found_by_the_stores_own_checksum() -> None:
    """**s3_corrupt**: by whoever reads to the end, before anything is unpacked."""
    stored: dict[str, str] = {}

    def answer(handler: Any) -> None:
        if handler.command == "PUT":
            stored["x_amz_checksum_sha256"] = handler.headers["x-amz-checksum-sha256"]
            _reply(handler, 200)
        else:
            _reply(handler, 200, body=b"X" + TEXT[1:], **stored)

    with server(answer) as store:
        put(store)
        with pytest.raises(StoreError, match="checksum"):
            read(store)


@pytest.mark.usefixtures("credentials")
def test_a_store_without_conditional_writes_is_asked_first_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    objects: dict[str, bytes] = {}

    def answer(handler: Any) -> None:
        if handler.command == "PUT" and handler.headers.get("If-None-Match"):
            _reply(handler, 501, "NotImplemented")
        elif handler.command == "PUT":
            objects[handler.path] = handler.body
            _reply(handler, 200)
        elif handler.path in objects:
            _reply(handler, 200, body=objects[handler.path])
        else:
            _reply(handler, 404, "NoSuchKey")

    with server(answer) as store:
        put(store)
        with pytest.raises(AlreadyThere):
            put(store, content=b"something else")
        assert read(store) == TEXT
    assert [r.levelname for r in caplog.records if r.name == "audit_log"] == ["WARNING"]
    assert "If-None-Match" in caplog.text


# --- by the settings ---------------------------------------------------------------------------


def test_stores_are_named_as_they_are_configured(
    tmp_path: Path, bucket_name: str, s3_options: ArchiveOptions
) -> None:
    folder = store_for(Archive("file", str(tmp_path)), ArchiveOptions())
    bucket = store_for(Archive("s3", bucket_name, "prefix"), s3_options)
    assert folder.name == f"file://{tmp_path}"
    assert bucket.name == f"s3://{bucket_name}"


_WITHOUT = """
import sys
sys.modules["boto3"] = None  # what the import system does for a module that cannot be had
from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.exceptions import ConfigurationError
from audit_log.retention.stores import store_for
store_for(Archive("file", "/tmp"), ArchiveOptions())
assert "botocore" not in sys.modules
try:
    store_for(Archive("s3", "bucket"), ArchiveOptions())
except ConfigurationError as error:
    print(error)
"""


def test_without_boto3_a_bucket_says_what_to_install() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=300, check=True
    )
    assert "pip install 'django-audit-ledger[s3]'" in ended.stdout


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_class_that_cannot_be_read_back_is_refused(storage_class: str) -> None:
    from audit_log.conf.retention import archive_options

    with pytest.raises(ConfigurationError, match="read back"):
        archive_options("ARCHIVE_OPTIONS", {"storage_class": storage_class})
