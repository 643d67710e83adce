"""Parts and manifests: the format, and every way to tamper with them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from audit_log.exceptions import InvalidProof, PartDamaged, UnknownVersion
from audit_log.ledger import notes
from audit_log.ledger.entries import entry_bytes
from audit_log.retention import parts
from audit_log.retention.parts import Manifest, part_facts, read_part, verify_part, write_part
from tests.retention.forging import KEY, a_ledger, a_row, fitted, lines_of, packed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
LEDGER = a_ledger(700)
PART, MANIFEST = LEDGER.part(100, 399)
KEYS = [KEY.verifier]


def verify(part: bytes, manifest: Manifest = MANIFEST) -> None:
    verify_part(manifest, io.BytesIO(part), KEYS)


# --- the format --------------------------------------------------------------------------------


def test_keys_sort_by_stream_day_and_number() -> None:
    key = parts.part_key("audit/bank", "default", date(2026, 1, 31), 0, 99_999)
    number = "00000000000000000000-00000000000000099999"
    assert key == f"audit/bank/default/date=2026-01-31/{number}.ndjson.gz"
    assert parts.manifest_key(key) == (f"audit/bank/default/date=2026-01-31/{number}.manifest.json")
    assert parts.part_key("", "default", date(2026, 1, 31), 0, 1).startswith("default/date=")
    assert parts.checkpoint_key("audit", "default", 700) == (
        "audit/default/checkpoints/00000000000000000700"
    )


@pytest.mark.parametrize(
    ("first", "last"), [(0, 699), (0, 0), (699, 699), (255, 256), (1, 698), (256, 511), (17, 42)]
)
def test_any_range_verifies_by_itself(first: int, last: int) -> None:
    part, manifest = LEDGER.part(first, last)
    verify(part, manifest)
    assert [line.sequence for line in read_part(io.BytesIO(part))] == [*range(first, last + 1)]
    assert manifest.count == last - first + 1


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 600), data=st.data())
def test_any_range_of_any_tree_verifies(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    part, manifest = a_ledger(size).part(first, last)
    verify(part, manifest)


def test_the_entry_comes_back_to_the_byte() -> None:
    for line, row in zip(read_part(io.BytesIO(PART)), LEDGER.rows[100:400], strict=True):
        assert line.entry.encode() == entry_bytes(row)
        assert line.changes == row["changes"]
        assert line.data == row["data"]
        assert line.salt == row["salt"]
        assert line.sealed_actor == row["sealed_actor"]
        assert line.sealed_data == row["sealed_data"]
        assert line.columns()["target_id"] == row["target_id"]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
)


@settings(deadline=None)
@given(changes=st.dictionaries(_TEXT, _JSON, max_size=4), service=_TEXT, sealed=st.binary())
def test_any_text_and_any_contents_come_back(changes: Any, service: str, sealed: bytes) -> None:
    row = a_row(5, service=service, changes=changes, sealed_data=sealed)
    file = io.BytesIO()
    write_part([row], file)
    file.seek(0)
    (line,) = read_part(file)
    assert line.entry.encode() == entry_bytes(row)
    assert line.changes == (changes or None)
    assert line.sealed_data == (sealed or None)


def test_the_same_rows_give_the_same_bytes() -> None:
    again, manifest = LEDGER.part(100, 399)
    assert again == PART
    assert manifest == MANIFEST
    assert PART[3:10] == b"\x00" + bytes(4) + PART[8:10]  # no name, no time


def test_facts_are_the_same_written_and_read() -> None:
    file = io.BytesIO()
    written = write_part(LEDGER.rows[100:400], file)
    file.seek(0)
    assert part_facts(file) == written
    assert written.sha256 == hashlib.sha256(PART).hexdigest()
    assert (written.first, written.last, written.count) == (100, 399, 300)
    assert written.size == len(PART)
    assert written.min_time == LEDGER.rows[100]["occurred_at"]
    assert written.max_time == LEDGER.rows[399]["occurred_at"]


def test_the_manifest_is_canonical_json_and_comes_back() -> None:
    data = replace(MANIFEST, version_id="v1", prev_manifest_sha256="0" * 64).encode()
    said = json.loads(data)
    assert json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == (
        data.decode()
    )
    assert set(said) == {
        *("version", "stream", "first", "last", "count", "sha256", "bytes", "min_time"),
        *("max_time", "version_id", "checkpoint", "left", "right", "prev_manifest_sha256"),
    }
    assert Manifest.parse(data).encode() == data
    assert Manifest.parse(data).digest == hashlib.sha256(data).hexdigest()


def test_writing_and_verifying_take_constant_memory(tmp_path: Path) -> None:
    def rows(count: int) -> Any:
        return (a_row(n, data={"n": os.urandom(2000).hex()}) for n in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            with (tmp_path / "part").open("wb") as file:
                write_part(rows(count), file)
            with (tmp_path / "part").open("rb") as file:
                part_facts(file)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(3000) < 2 * peak(300)


# --- golden files ------------------------------------------------------------------------------


def test_golden_part_still_reads_and_verifies() -> None:
    manifest = Manifest.parse((GOLDEN / "part.manifest.json").read_bytes())
    with (GOLDEN / "part.ndjson.gz").open("rb") as file:
        verify_part(manifest, file, KEYS)


def test_golden_part_is_still_what_is_written() -> None:
    """The lines and the manifest; another zlib may pack the same lines into other bytes."""
    part, manifest = a_ledger(40).part(3, 12)
    golden = (GOLDEN / "part.ndjson.gz").read_bytes()
    assert lines_of(part) == lines_of(golden)
    assert fitted(manifest, golden).encode() == (GOLDEN / "part.manifest.json").read_bytes()


def test_an_auditor_gets_by_with_the_standard_library(tmp_path: Path) -> None:
    """docs/archive_format.md gives the program; here it runs, on the golden files, alone."""
    text = (ROOT / "docs" / "archive_format.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "check_part.py").write_text(program)
    for name in ("part.ndjson.gz", "part.manifest.json"):
        shutil.copy(GOLDEN / name, tmp_path)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "check_part.py", "part.manifest.json"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )

    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert "records 3 to 12" in ended.stdout
    lines = lines_of((GOLDEN / "part.ndjson.gz").read_bytes())
    forged = packed([line.replace(b"update", b"delete") for line in lines])
    (tmp_path / "part.ndjson.gz").write_bytes(forged)
    manifest = Manifest.parse((GOLDEN / "part.manifest.json").read_bytes())
    (tmp_path / "part.manifest.json").write_bytes(fitted(manifest, forged).encode())
    ended = run()
    assert ended.returncode != 0
    assert "root" in ended.stderr


# --- rows that cannot be archived --------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no records"),
        ([a_row(1), a_row(3)], "Record 2 is missing: 3 stands there"),
        ([a_row(2), a_row(1)], "Record 3 is missing: 1 stands there"),
        ([a_row(1), a_row(1)], "Record 2 is missing"),
        ([a_row(1), a_row(2, "audit_log")], "Record 2 is of the stream 'audit_log'"),
        ([a_row(1), a_row(2, action=7)], "Record 2 cannot be archived: action"),
        ([a_row(1, salt=None)], "Record 1 cannot be archived"),
        ([a_row(1, changes={"a": 1.5})], "Record 1 cannot be archived"),
    ],
)
def test_rows_that_make_no_part_are_named(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(PartDamaged, match=message):
        write_part(rows, io.BytesIO())


# --- attacks on the part -----------------------------------------------------------------------


def test_every_flipped_byte_is_found() -> None:
    part, manifest = LEDGER.part(100, 103)
    for at in range(len(part)):
        flipped = bytearray(part)
        flipped[at] ^= 1 << random.randrange(8)
        with pytest.raises(PartDamaged):
            verify(bytes(flipped), manifest)


def test_every_cut_is_found() -> None:
    part, manifest = LEDGER.part(100, 103)
    for length in range(len(part)):
        with pytest.raises(PartDamaged):
            verify(part[:length], manifest)


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 8, b"tail", gzip.compress(b"", mtime=0), gzip.compress(b"{}\n", mtime=0)],
    ids=["zeros", "text", "an empty member", "a member"],
)
def test_whatever_is_appended_is_found(tail: bytes) -> None:
    with pytest.raises(PartDamaged):
        verify(PART + tail)


def _forged(change: Callable[[list[bytes]], list[bytes]]) -> tuple[bytes, Manifest]:
    """The lines changed, and the manifest's checksum with them."""
    part = packed(change(lines_of(PART)))
    return part, fitted(MANIFEST, part)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("swapped", lambda x: [x[0], x[2], x[1], *x[3:]], "Record 101 is missing: 102 stands"),
        ("removed", lambda x: x[:7] + x[8:], "Record 107 is missing: 108 stands there"),
        ("first removed", lambda x: x[1:], "has records 101 to 399, not 100 to 399"),
        ("last removed", lambda x: x[:-1], "has records 100 to 398, not 100 to 399"),
        ("twice", lambda x: x[:7] + x[6:], "Record 107 is missing: 106 stands there"),
        ("none", lambda x: [], "no records"),
        ("no json", lambda x: [*x[:7], b"{\n", *x[8:]], "Line 8 of the part is not a record"),
        ("not ended", lambda x: [*x[:-1], x[-1][:-1]], "Line 300 of the part is cut off"),
        ("empty line", lambda x: [*x, b"\n"], "Line 301 of the part is not a record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lines_that_are_moved_are_named(
    name: str, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    part, manifest = _forged(change)
    with pytest.raises(PartDamaged, match=message):
        verify(part, manifest)


def _with(number: int, **values: Any) -> tuple[bytes, Manifest]:
    """One line with other members; None removes one."""

    def change(lines: list[bytes]) -> list[bytes]:
        said = json.loads(lines[number]) | values
        said = {name: value for name, value in said.items() if value is not None}
        lines[number] = json.dumps(said).encode() + b"\n"
        return lines

    return _forged(change)


@pytest.mark.parametrize(
    "values",
    [
        {"changes": {"amount": ["1.00", "1000000.00"], "fee": [None, 107]}},
        {"changes": None},
        {"data": {"gateway": "another"}},
        {"data": None},
        {"salt": base64.b64encode(bytes(16)).decode()},
        {"salt": None},
        {"salt": base64.b64encode(bytes(15)).decode()},
        {"sealed_actor": base64.b64encode(b"another").decode()},
        {"sealed_actor": None},
        {"sealed_data": None},
        {"sequence": 107, "entry": "[]"},
        {"sequence": 107, "entry": "{}"},
    ],
)
def test_contents_that_are_not_the_entrys_are_named(values: dict[str, Any]) -> None:
    part, manifest = _with(7, **values)
    with pytest.raises(PartDamaged, match="Record 107 of the part is damaged"):
        verify(part, manifest)
    with pytest.raises(PartDamaged, match="Record 107 of the part is damaged"):
        list(read_part(io.BytesIO(part)))


def test_members_that_the_format_does_not_have_are_refused() -> None:
    part, manifest = _with(7, note="hidden")
    with pytest.raises(PartDamaged, match="Line 8 of the part is not a record"):
        verify(part, manifest)


def test_an_entry_rewritten_together_with_its_digests_does_not_give_the_root() -> None:
    row = LEDGER.rows[107] | {"changes": {"amount": ["1.00", "1000000.00"]}}
    rows = [*LEDGER.rows[100:107], row, *LEDGER.rows[108:400]]
    file = io.BytesIO()
    facts = write_part(rows, file)
    forged = Manifest.of(facts, "default", checkpoint=LEDGER.note, flanks=LEDGER.flanks(100, 399))
    with pytest.raises(PartDamaged, match=r"Records 100 to 399 are not those .* signed"):
        verify(file.getvalue(), forged)


def test_a_line_that_never_ends_is_not_read_into_memory() -> None:
    bomb = gzip.compress(b'{"entry":"' + b"a" * (40 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PartDamaged, match="longer than a record can be"):
            list(read_part(io.BytesIO(bomb)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * parts.MAX_LINE


# --- attacks on the manifest -------------------------------------------------------------------


def test_the_manifest_of_another_part_is_refused() -> None:
    for first, last in ((0, 99), (100, 398), (101, 399), (400, 699), (99, 399), (100, 400)):
        _, other = LEDGER.part(first, last)
        with pytest.raises(PartDamaged, match=rf"\b{first} to {last}\."):
            verify(PART, fitted(other, PART))


def test_the_part_of_another_stream_is_refused() -> None:
    part, manifest = a_ledger(20, "audit_log").part(3, 7)
    verify(part, manifest)
    default = a_ledger(20).part(3, 7)[1]
    with pytest.raises(PartDamaged, match="stream 'audit_log', not 'default'"):
        verify(part, fitted(default, part))
    with pytest.raises(InvalidProof, match="signed for bank/audit_log, not default"):
        verify(part, replace(manifest, stream="default"))


def test_a_checkpoint_that_nobody_trusted_signed_is_refused() -> None:
    mallory = notes.SigningKey.from_seed("bank", b"\x02" * 32)
    part, manifest = a_ledger(700, key=mallory).part(100, 399)
    with pytest.raises(InvalidProof, match="none of the note's keys is trusted"):
        verify(part, manifest)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"size": 1}, "not 1 "),
        ({"min_time": "2026-01-01T00:00:00.000000Z"}, "The part spans"),
        ({"max_time": "2026-12-31T00:00:00.000000Z"}, "The part spans"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_manifest_says_is_compared(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PartDamaged, match=message):
        verify(PART, replace(MANIFEST, **values))


def test_other_subtree_hashes_do_not_give_the_root() -> None:
    other = "0" * 64
    for side in ("left", "right"):
        hashes = getattr(MANIFEST, side)
        for at in range(len(hashes)):
            altered = (*hashes[:at], other, *hashes[at + 1 :])
            with pytest.raises(PartDamaged, match="signed"):
                verify(PART, replace(MANIFEST, **{side: altered}))
        for wrong in ((*hashes, other), hashes[1:]):
            with pytest.raises(InvalidProof):
                verify(PART, replace(MANIFEST, **{side: wrong}))


def _altered(**values: Any) -> bytes:
    said = json.loads(MANIFEST.encode()) | values
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        _altered(version=0),
        _altered(version="1"),
        _altered(first=-1, last=298),
        _altered(first=400),
        _altered(count=299),
        _altered(count=300.5),
        _altered(sha256="0"),
        _altered(left=["g" * 64]),
        _altered(right=None),
        _altered(checkpoint=None),
        _altered(note="more"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(PartDamaged, match=r"Not a manifest|The manifest is damaged"):
        Manifest.parse(data)


def test_a_newer_manifest_is_left_to_a_newer_reader() -> None:
    with pytest.raises(UnknownVersion, match="version 2"):
        Manifest.parse(_altered(version=2, something="new"))


# --- rows of a database ------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_rows_of_a_real_ledger_verify_under_its_own_checkpoint() -> None:
    """Every column type of every database gives the bytes that were hashed when it was written."""
    from audit_log.ledger import checkpoints, heads
    from audit_log.ledger.merkle import flanks
    from audit_log.ledger.rows import COLUMNS
    from audit_log.models import Record
    from tests.ledger.building import a_full_event, write

    write([a_full_event(n) for n in range(30)])
    checkpoint = checkpoints.sign("default", "default")
    assert checkpoint is not None
    rows = Record.objects.filter(sequence__range=(5, 24)).order_by("sequence").values(*COLUMNS)
    file = io.BytesIO()
    facts = write_part(rows.iterator(), file)
    head = heads.lock(["default"], "default")["default"]
    manifest = Manifest.of(
        facts,
        "default",
        checkpoint=checkpoint.note,
        flanks=flanks(5, 25, 30, heads.reader_of(head, "default")),
    )
    file.seek(0)
    verify_part(manifest, file, checkpoints.verifiers())
