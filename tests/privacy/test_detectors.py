from __future__ import annotations

import base64
import hashlib
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audit_log.events import Redaction
from audit_log.privacy import numbering
from audit_log.privacy.detectors import (
    DETECTORS,
    UNCLASSIFIED,
    WINDOW,
    Detector,
    detect,
    is_suspect,
    scrub,
    scrub_value,
    suspects,
)

CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117"]
CARDS += ["30569309025904", "3530111333300000", "2223003122003222", "6759649826438453"]
IBANS = ["GB82WEST12345698765432", "DE89370400440532013000", "NO9386011117947"]


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JWT = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': '1234567890'})}.dBjftJeZ4CVP-mB92K27"
JWE = f"{part({'alg': 'dir', 'enc': 'A128GCM'})}..48V1_ALb6US04U3b.5eym8TW_c8SuK0lt.XFBoMYUZod"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def fingerprint(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:8]


def scrubbed(text: str, *, personal: bool = True) -> str:
    return scrub(text, personal=personal, fingerprint=fingerprint)[0]


@pytest.mark.parametrize(
    ("text", "expected", "rule"),
    [
        ("card 4111111111111111.", "card **** **** **** 1111.", "card"),
        ("4111 1111 1111 1111", "**** **** **** 1111", "card"),
        ("3782-822463-10005", "**** **** **** 0005", "card"),
        ("x6011111111111117y", "x**** **** **** 1117y", "card"),
        ("12 5555 5555 5555 4444 99", "12 **** **** **** 4444 99", "card"),
        ("4111111111111111.00", "**** **** **** 1111.00", "card"),
        ("2026-11-24 4111111111111111", "2026-11-24 **** **** **** 1111", "card"),
        ("to GB82WEST12345698765432 now", "to GB**…5432 now", "iban"),
        ("GB82 WEST 1234 5698 7654 32 PLEASE", "GB**…5432 PLEASE", "iban"),
        ("ref AB12 de89370400440532013000", "ref AB12 DE**…3000", "iban"),
        ("ssn 123-45-6789", "ssn ***-**-6789", "ssn"),
        ("SSN: 123456789", "SSN: ***-**-6789", "ssn"),
        (f"a {JWT} b", f"a [JWT alg=HS256 fp={fingerprint('jwt', JWT)}] b", "jwt"),
        (f"Bearer {JWT}", f"Bearer [JWT alg=HS256 fp={fingerprint('jwt', JWT)}]", "jwt"),
        (
            "Authorization: Bearer abcdefghijklmnop1",
            f"Authorization: Bearer [MASKED fp={fingerprint('bearer', 'abcdefghijklmnop1')}]",
            "bearer",
        ),
        (
            "basic dXNlcjpwYXNzd29yZA==",
            f"basic [MASKED fp={fingerprint('basic', 'dXNlcjpwYXNzd29yZA==')}]",
            "bearer",
        ),
        ("key AKIAIOSFODNN7EXAMPLE.", "key AKIA…MPLE.", "aws_key"),
        (
            f"aws_secret_access_key = '{AWS_SECRET}'",
            f"aws_secret_access_key = '[MASKED fp={fingerprint('aws_secret', AWS_SECRET)}]'",
            "aws_secret",
        ),
        (
            f"/a/aws_secret_access_key={AWS_SECRET}/",  # a path goes on with a slash
            f"/a/aws_secret_access_key=[MASKED fp={fingerprint('aws_secret', AWS_SECRET)}]/",
            "aws_secret",
        ),
        ("postgres://u:p@ss:w@host/db", "postgres://u:[MASKED]@host/db", "url_credentials"),
        ("redis://:pw@host:6379/0", "redis://:[MASKED]@host:6379/0", "url_credentials"),
        (f"my key:\n{PEM}\nkeep it", "[MASKED]", "private_key"),
        ("-----BEGIN PRIVATE KEY-----\ntorn", "[MASKED]", "private_key"),
        ("mail alice@example.com!", "mail a***@example.com!", "email"),
        ("a@example.co.uk", "***@example.co.uk", "email"),
        ("call +1 (415) 555-2671", "call +1 *** *** 2671", "phone"),
        ("+442071838750", "+44 *** *** 8750", "phone"),
        ("+353 1 234 5678", "+353 *** *** 5678", "phone"),
    ],
)
def test_what_is_found_is_replaced_by_its_mask(text: str, expected: str, rule: str):
    assert scrub(text, personal=True, fingerprint=fingerprint) == (expected, (f"detector:{rule}",))


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1_B" * 8,
        "glpat-" + "a1B2c" * 4,
        "xoxb-123456789012-abcdef",
        "sk_live_" + "a1B2" * 6,
        "AIza" + "SyD-9" * 7,
        "SG." + "a1B2c" * 4 + "." + "d3E4f" * 8,
        "npm_" + "a1B2" * 9,
        "pypi-" + "AgEIcHlwaS5vcmc" * 2,
    ],
)
def test_vendor_tokens_keep_their_prefix(token: str):
    left, rules = scrub(f"use {token}, please", personal=False, fingerprint=fingerprint)
    assert left.startswith("use ")
    assert left.endswith(f"[MASKED fp={fingerprint('vendor', token)}], please")
    assert left.removeprefix("use ")[:3] == token[:3]
    assert rules == ("detector:vendor_token",)


def test_an_encrypted_token_is_found():
    assert scrubbed(f"a {JWE} b") == f"a [JWT alg=dir fp={fingerprint('jwt', JWE)}] b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "An ordinary sentence of 12 words, paid on 2026-11-24 at 10:15:00.",
        "2026-11-24T10:15:00.123456Z 2026-04-30 2026-05-01",
        "30 2026-05-01 0004",
        "2441406d-a51a-43a9-a231-0b46e2ec59b6",
        "40000000-0000-4000-8000-000000000002",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        hashlib.sha256(b"x").hexdigest(),
        "1732406400000 1732406400000000",
        "1234567890123456",
        "4111111111111112",
        "41111111111111112",
        "0.4539578763621486",
        "GB82WEST12345698765433",
        "000-12-3456 666-12-3456 912-12-3456 123-00-4567 123-45-0000 123456789",
        "basic responsibilities and token internationalisation",
        "bearer bonds",
        "https://example.com/a:b@c http://host:8000/x",
        "author tokenizer passport hashtag keyboard",
        "-----BEGIN CERTIFICATE-----",
        "eyJhbGciOiJIUzI1NiJ9 eyJ.eyJ.eyJ",
        "@home a@b 1+1=2 +49 C++11 +1 2026-11-24",
        "price: 1,250.00 EUR (ref. 2026-00124)",
    ],
)
def test_clean_text_is_untouched(text: str):
    assert scrub(text, personal=True, fingerprint=fingerprint) == (text, ())


def test_personal_data_is_left_where_it_will_be_sealed():
    text = "alice@example.com +442071838750 123-45-6789 DE89 3704 0044 0532 0130 00"
    assert scrub(text, personal=False, fingerprint=fingerprint) == (text, ())
    assert len(scrub(text, personal=True, fingerprint=fingerprint)[1]) == 4


@pytest.mark.parametrize(
    "value", [uuid.UUID(int=n**9, version=4) for n in range(10**4, 10**4 + 300)]
)
def test_uuids_are_no_card_numbers(value: uuid.UUID):
    assert scrubbed(f"id {value}") == f"id {value}"


around = st.text(st.sampled_from("ghijk XYZ,;:!?()\n\u00e9\u2603"), max_size=30)


def grouped(digits: str, separator: str) -> str:
    return separator.join(digits[n : n + 4] for n in range(0, len(digits), 4))


@given(around, st.sampled_from(CARDS), st.sampled_from(["", " ", "-"]), around)
def test_a_card_number_is_removed_wherever_it_stands(
    before: str, card: str, separator: str, after: str
):
    written = grouped(card, separator)
    assert scrubbed(f"{before}{written}{after}") == f"{before}**** **** **** {card[-4:]}{after}"


@given(around, st.sampled_from(IBANS), st.sampled_from(["", " "]), around)
def test_an_iban_is_removed_wherever_it_stands(before: str, iban: str, separator: str, after: str):
    text = f"{before} {grouped(iban, separator)}.{after}"
    assert scrubbed(text) == f"{before} {iban[:2]}**…{iban[-4:]}.{after}"


@given(around, around)
@example("eyJ", "eyJ")
def test_a_token_is_removed_wherever_it_stands(before: str, after: str):
    left = scrubbed(f"{before}{JWT}{after}")
    assert JWT[:60] not in left
    assert "[JWT alg=HS256 fp=" in left


FOUND = (*CARDS, *IBANS, JWT, "Bearer abcdefghijklmnop1", "a.b@example.com", "+442071838750")
FOUND += ("123-45-6789", "AKIAIOSFODNN7EXAMPLE", "x://u:p@h.de", "ghp_" + "a1B2" * 9)
found = st.sampled_from(FOUND)
mixed = st.lists(found | around | st.sampled_from([" ", "-", "1", "4", "@", "ab"]), max_size=8)


@given(mixed.map("".join))
def test_scrubbing_twice_finds_nothing_more(text: str):
    left = scrubbed(text)
    assert detect(left, personal=True) == ()
    assert scrubbed(left) == left


@given(st.text(), st.booleans())
def test_no_text_breaks_a_detector(text: str, personal: bool):
    assert "unclassified" not in scrub(text, personal=personal, fingerprint=fingerprint)[1]


@pytest.mark.parametrize("edge", [WINDOW, 2 * WINDOW])
@pytest.mark.parametrize("secret", [CARDS[0], IBANS[0], JWT, "alice@example.com", "+442071838750"])
def test_what_stands_across_two_windows_is_found(edge: int, secret: str):
    for offset in range(0, len(secret) + 2, 3):
        text = "." * (edge - offset - 1) + f" {secret} " + "." * WINDOW
        assert secret not in scrubbed(text), offset


def test_a_long_text_keeps_everything_but_the_secrets():
    piece = f"paid with {CARDS[0]} by alice@example.com, and so on; "
    text = piece * 3000
    assert scrubbed(text) == scrubbed(piece) * 3000


HARD = """4 4_ 4111_ 1- eyJ eyJaaaaa.bbb.c a@ @a. ://a: GB82_ +1_ bearer_ aws token= 123-45-
    -----BEGIN_ deadbeef xox"""


@pytest.mark.parametrize("piece", HARD.split())
def test_no_text_of_200_kb_stops_the_worker(piece: str):
    text = (piece.replace("_", " ") * 200_000)[:200_000]
    assert "unclassified" not in scrub(text, personal=True, fingerprint=fingerprint)[1]


def test_a_detector_that_fails_masks_the_string_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
):
    """H3."""

    def fail(text: str, start: int, stop: int, fingerprint: Any) -> Iterator[tuple[int, int, str]]:
        raise RuntimeError(text)

    broken = Detector("broken", lambda text: "hunter2" in text, fail)
    with caplog.at_level(logging.DEBUG):
        left, redactions = scrub_value(
            {"a": "my hunter2", "b": "fine"},
            "data",
            personal=False,
            fingerprint=fingerprint,
            detectors=(*DETECTORS, broken),
        )
    assert left == {"a": UNCLASSIFIED, "b": "fine"}
    assert redactions == [Redaction("data.a", "unclassified")]
    assert "hunter2" not in caplog.text


def test_a_fingerprint_that_fails_masks_the_string():
    def fail(kind: str, value: str) -> str:
        raise ValueError(value)

    assert scrub(f"x {JWT}", personal=False, fingerprint=fail) == (UNCLASSIFIED, ("unclassified",))


@pytest.mark.parametrize("span", [(0, 99, "x"), (0, 2, None)])
def test_a_detector_that_talks_nonsense_masks_the_string(span: Any):
    broken = Detector("broken", bool, lambda *_: iter([span]))
    assert scrub("text", personal=False, fingerprint=fingerprint, detectors=(broken,)) == (
        UNCLASSIFIED,
        ("unclassified",),
    )


def test_a_projects_detector_works_like_our_own():
    def badges(text: str, start: int, stop: int, _: Any) -> Iterator[tuple[int, int, str]]:
        at = text.find("BADGE-", start, stop)
        if at >= 0:
            yield at, at + 10, "BADGE-****"
            yield at + 1, at + 3, "inside what was found: not used"

    badge = Detector("badge", lambda text: "BADGE-" in text, badges)
    assert scrub(
        "see BADGE-1234.", personal=False, fingerprint=fingerprint, detectors=(*DETECTORS, badge)
    ) == ("see BADGE-****.", ("detector:badge",))


def test_values_are_walked_with_their_keys_and_long_numbers():
    value = {
        "items": [{"note": f"card {CARDS[0]}"}, 4111111111111111, 1732406400000, True, None, 1.5],
        f"to {CARDS[1]}": {"x": CARDS[0]},
        "plain": "text",
    }
    before = repr(value)
    left, redactions = scrub_value(value, "data", personal=False, fingerprint=fingerprint)
    mask = "**** **** **** 1111"
    assert left == {
        "items": [{"note": f"card {mask}"}, mask, 1732406400000, True, None, 1.5],
        "to **** **** **** 4444": {"x": mask},
        "plain": "text",
    }
    paths = ["data.items.0.note", "data.items.1", "data", "data.*.x"]
    assert redactions == [Redaction(path, "detector:card") for path in paths]
    assert repr(value) == before


def test_two_keys_that_are_masked_alike_stay_two():
    value = {f"{CARDS[0]}": 1, "4111 1111 1111 1111": 2}
    left, _ = scrub_value(value, "data", personal=False, fingerprint=fingerprint)
    assert left == {"**** **** **** 1111": 1, "**** **** **** 1111*": 2}


def test_a_value_deeper_than_any_event_is_masked():
    value: Any = "4111111111111111"
    for _ in range(500):
        value = [value]
    left, redactions = scrub_value(value, "data", personal=False, fingerprint=fingerprint)
    assert UNCLASSIFIED in repr(left)
    assert "4111111111111111" not in repr(left)
    assert [redaction.rule for redaction in redactions] == ["limit:depth"]


def test_a_look_tells_the_rules_without_a_key():
    assert detect(f"{CARDS[0]} a@example.com", personal=False) == ("detector:card",)
    assert detect(f"x {JWT}", personal=False) == ("detector:jwt",)
    assert detect("clean", personal=True) == ()


@pytest.mark.parametrize("card", CARDS)
def test_one_wrong_digit_is_no_card_number(card: str):
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert numbering.passes_luhn(card)
    assert not numbering.passes_luhn(wrong)


@pytest.mark.parametrize("iban", IBANS)
def test_one_wrong_digit_is_no_iban(iban: str):
    assert numbering.iban_length(iban) == len(iban)
    assert numbering.passes_mod97(iban)
    assert not numbering.passes_mod97(iban[:-1] + str((int(iban[-1]) + 1) % 10))


MARKS = ["-----BEGIN", "eyJ", "Bearer", "toKen", "gho_", "github_pat_", "glpat-", "xoxb", "k_live_"]
MARKS += [
    "AIza",
    "SG.",
    "npm_",
    "pypi-",
    "AKIA",
    "A3T",
    "AwS",
    "://",
    "DE89",
    "4111 1111-1111 1111",
]
MARKS += ["078-05-1120", "@", "+", "ghp_" + "a1B2" * 9, "xoxb-0123456789", "whsec_" + "a1" * 10]
MARKS += [
    "AKIAIOSFODNN7EXAMPLE",
    "SG." + "a1B2" * 4 + "." + "a1B2" * 4,
    "4111\u00a01111\u202f1111.1111",
]


@given(st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=8)), min_size=1, max_size=6))
def test_pretests_hold_for_a_longer_text_if_they_do_for_a_part(texts: list[str]):
    """Else what is asked about all values of an event at once could miss one."""
    together = suspects("\n".join(texts), personal=True)
    encoded = suspects(json.dumps({"k": texts}, ensure_ascii=False), personal=True)
    for text in texts:
        assert {*suspects(text, personal=True)} <= {*together} & {*encoded}
        assert is_suspect(text, together) or not is_suspect(text, DETECTORS)


def test_a_pretest_that_fails_makes_everything_suspect():
    def fail(text: str) -> bool:
        raise ValueError(text)

    broken = Detector("broken", fail, lambda *_: iter(()))
    assert suspects("text", personal=True, detectors=(broken,)) == (broken,)
    assert is_suspect("text", (broken,))
