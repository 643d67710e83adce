"""Signed notes, against the vectors of the format's first implementation and a golden of ours."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_log.exceptions import ConfigurationError, EncodingError, InvalidProof
from audit_log.ledger import notes
from audit_log.ledger.notes import Checkpoint, SigningKey, VerifierKey, open_note, sign

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint.txt"
VKEY = "audit.example.com/default+3e940102+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
ORIGIN = "audit.example.com/default"
ROOT = bytes.fromhex("4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2")

# golang.org/x/mod/sumdb/note, note_test.go.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_SIGNATURE = (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"


def key(name: str = ORIGIN, seed: bytes = bytes(range(32))) -> SigningKey:
    return SigningKey.from_seed(name, seed)


def note(size: int = 1020) -> str:
    return sign(Checkpoint(ORIGIN, size, ROOT), [key()])


def signed_body(body: str) -> str:
    """A note over a text that `Checkpoint` would refuse to make."""
    signature = key().verifier.id + key().sign(body.encode())
    return f"{body}\n— {ORIGIN} {base64.b64encode(signature).decode()}\n"


def test_published_key_signs_the_published_signature():
    signer = SigningKey.from_seed("PeterNeumann", PETER_SEED)

    assert signer.vkey == PETER
    assert signer.name == "PeterNeumann"
    assert signer.verifier.id.hex() == "c74f20a3"
    signature = signer.verifier.id + signer.sign(PETER_TEXT.encode())
    assert base64.b64encode(signature).decode() == PETER_SIGNATURE


def test_published_key_verifies_the_published_signature():
    peter = VerifierKey.parse(PETER)
    signature = base64.b64decode(PETER_SIGNATURE)[4:]

    assert peter.verify(signature, PETER_TEXT.encode())
    assert not peter.verify(signature, PETER_TEXT.upper().encode())


def test_published_note_is_verified_before_it_is_read_as_a_checkpoint():
    text = f"{PETER_TEXT}\n— PeterNeumann {PETER_SIGNATURE}\n"

    with pytest.raises(InvalidProof, match="Malformed checkpoint"):
        open_note(text, [VerifierKey.parse(PETER)])
    with pytest.raises(InvalidProof, match="No known signature"):
        open_note(text, [VerifierKey.parse(ENOCH)])
    with pytest.raises(InvalidProof, match="Bad signature"):
        open_note(text.replace("answer", "question"), [VerifierKey.parse(PETER)])


def test_every_mangling_of_a_verifier_key_is_refused():
    cut = {PETER[i:j] for i in range(len(PETER)) for j in range(i, len(PETER) + 1)} - {PETER}
    shifted = {PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :] for i in range(len(PETER))}
    others = {
        # A key too long and an algorithm not ours, each with the id that fits.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER + "\n",
        PETER.replace("c74f20a3", "C74F20A3"),
    }
    for vkey in cut | shifted | others:
        with pytest.raises(ConfigurationError):
            VerifierKey.parse(vkey)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\x00", "\ud800"]
)
def test_key_names_the_format_cannot_hold_are_refused(name):
    with pytest.raises(ConfigurationError):
        SigningKey.from_seed(name, bytes(32))


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_seed_of_another_length_is_refused(seed):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        SigningKey.from_seed(ORIGIN, seed)


def test_signing_key_shows_its_public_half_only():
    assert repr(key()) == f"<SigningKey {VKEY}>"


def test_golden_checkpoint_is_signed_byte_for_byte():
    assert key().vkey == VKEY
    assert note() == GOLDEN.read_text(encoding="utf-8")


def test_golden_checkpoint_opens():
    checkpoint = open_note(GOLDEN.read_text(encoding="utf-8"), [VerifierKey.parse(VKEY)])

    assert checkpoint == Checkpoint(ORIGIN, 1020, ROOT)


@settings(max_examples=50, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_signed_opens_as_it_was(origin, size, root):
    checkpoint = Checkpoint(origin, size, root)

    assert Checkpoint.parse(checkpoint.body()) == checkpoint
    assert open_note(sign(checkpoint, [key()]), [key().verifier]) == checkpoint


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_altered_note_opens_as_another_checkpoint(data):
    text = note()
    at = data.draw(st.integers(0, len(text) - 1))
    altered = text[:at] + data.draw(st.characters(exclude_characters=text[at])) + text[at + 1 :]

    with pytest.raises(InvalidProof):
        open_note(altered, [key().verifier])


def test_signatures_of_unknown_keys_are_ignored():
    old, new = key("audit.example.com/old", bytes(32)), key()
    text = sign(Checkpoint(ORIGIN, 1020, ROOT), [old, new])

    for keys in ([old.verifier], [new.verifier], [old.verifier, new.verifier, new.verifier]):
        assert open_note(text, keys).size == 1020
    same_name = key(ORIGIN, bytes(32))
    with pytest.raises(InvalidProof, match="No known signature"):
        open_note(text, [same_name.verifier])
    with pytest.raises(InvalidProof, match="No known signature"):
        open_note(text, [])


def test_one_bad_signature_of_a_known_key_refuses_the_note():
    good, other = key(), key("witness.example.com", bytes(32))
    text = sign(Checkpoint(ORIGIN, 1020, ROOT), [good])
    zeros = base64.b64encode(other.verifier.id + bytes(64)).decode()
    short = base64.b64encode(other.verifier.id + bytes(63)).decode()

    for signature in (zeros, short):
        doubtful = f"{text}— {other.name} {signature}\n"
        assert open_note(doubtful, [good.verifier]).size == 1020
        with pytest.raises(InvalidProof, match="Bad signature"):
            open_note(doubtful, [good.verifier, other.verifier])


def test_two_keys_of_one_name_and_id_are_refused():
    one, other = key().verifier, key(ORIGIN, bytes(32)).verifier
    object.__setattr__(other, "id", one.id)  # as if the ids had collided

    with pytest.raises(ConfigurationError, match="Two keys"):
        open_note(note(), [one, other])


def test_as_many_signatures_as_the_limit_open_and_one_more_does_not():
    body, _, line = note().rpartition("\n\n")
    text = body + "\n\n" + line * notes.MAX_SIGNATURES

    assert open_note(text, [key().verifier]).size == 1020
    with pytest.raises(InvalidProof, match="more than 100"):
        open_note(text + line, [key().verifier])


BODY, _, LINE = note().rpartition("\n\n")
ENCODED = LINE.split(" ")[2].removesuffix("\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        BODY + "\n",
        BODY + "\n\n",
        BODY + "\n" + LINE,
        note().removesuffix("\n"),
        note() + "\n",
        note() + "Unexpected line.\n",
        "\x01" + note(),
        "\ud800" + note(),
        note().replace("\n", "\r\n"),
        note().replace("\u2014", "-"),
        note().replace("\u2014 ", "\u2014"),
        note().replace(f" {ENCODED}", f"  {ENCODED}"),
        note().replace(f" {ENCODED}", f" {ENCODED} "),
        note().replace(f"\u2014 {ORIGIN}", "\u2014 Bad Name"),
        note().replace(f"\u2014 {ORIGIN}", "\u2014 Bad+Name"),
        note().replace(f"\u2014 {ORIGIN}", "\u2014 "),
        note().replace(ENCODED, ENCODED.rstrip("=")),
        note().replace(ENCODED, "AAAAAA=="),
        note().replace(ENCODED, "AAAAAB=="),
        note().replace(ENCODED, "\u00e9" + ENCODED),
    ],
)
def test_malformed_notes_are_refused(text):
    with pytest.raises(InvalidProof, match="Malformed note"):
        open_note(text, [key().verifier])


ROOT_64 = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "body",
    [
        f"{ORIGIN}\n1020\n",
        f"{ORIGIN}\n1020\n{ROOT_64}\nextension\n",
        f"\n1020\n{ROOT_64}\n",
        f"{ORIGIN}\n01020\n{ROOT_64}\n",
        f"{ORIGIN}\n+1020\n{ROOT_64}\n",
        f"{ORIGIN}\n-1\n{ROOT_64}\n",
        f"{ORIGIN}\n1_020\n{ROOT_64}\n",
        f"{ORIGIN}\n\u0661\n{ROOT_64}\n",
        f"{ORIGIN}\n1020 \n{ROOT_64}\n",
        f"{ORIGIN}\n{2**63}\n{ROOT_64}\n",
        f"{ORIGIN}\n\n{ROOT_64}\n",
        f"{ORIGIN}\n1020\n{ROOT_64.rstrip('=')}\n",
        f"{ORIGIN}\n1020\n{ROOT_64[:-2]}J=\n",  # not canonical: its last bits are not zero
        f"{ORIGIN}\n1020\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n1020\n{base64.b64encode(ROOT + b'x').decode()}\n",
    ],
)
def test_malformed_checkpoints_are_refused_even_if_signed(body):
    with pytest.raises(InvalidProof, match="Malformed checkpoint"):
        open_note(signed_body(body), [key().verifier])


def test_body_without_its_last_newline_is_no_checkpoint():
    with pytest.raises(InvalidProof, match="a line each"):
        Checkpoint.parse(Checkpoint(ORIGIN, 1020, ROOT).body()[:-1] + "\nx")


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, ROOT),
        ("two\nlines", 1, ROOT),
        ("\ud800", 1, ROOT),
        (ORIGIN, -1, ROOT),
        (ORIGIN, 2**63, ROOT),
        (ORIGIN, 1, ROOT[:31]),
    ],
)
def test_checkpoint_refuses_what_a_note_cannot_hold(origin, size, root):
    with pytest.raises(EncodingError):
        Checkpoint(origin, size, root)


def test_checkpoint_is_not_signed_without_a_key():
    with pytest.raises(ConfigurationError):
        sign(Checkpoint(ORIGIN, 1020, ROOT), [])
