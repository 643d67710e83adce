"""What secrets and personal data look like: the patterns and checks behind `detectors`.

Every pattern is linear: quantifiers are bounded and not nested, or possessive. Each is made into a
finder (`finders`).
"""

from __future__ import annotations

import base64
import json
import re
import string
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

from audit_log.privacy import numbering
from audit_log.privacy.finders import ByPattern, Fingerprint, Span, no_fingerprint
from audit_log.privacy.redaction import MASK

# --- secrets ---

_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_JWT: Final = re.compile(
    # Looks ahead, so that a token is found wherever it starts; possessive, so that it is linear.
    r"(?=(eyJ[A-Za-z0-9_-]{5,2048}+)\.([A-Za-z0-9_-]{0,8192}+)((?:\.[A-Za-z0-9_-]{0,4096}+){1,3}))"
)
_SCHEME: Final = re.compile(
    r"(?<![A-Za-z0-9])(bearer|basic|token)(?:[ \t]{1,4}|[ \t]?[:=][ \t]?)"
    r"([A-Za-z0-9._~+/=-]{16,8192}+)",
    re.IGNORECASE,
)
_LONG: Final = 32
_VENDOR: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(gh[opsur]_|npm_)[A-Za-z0-9]{20,255}"
    r"|(github_pat_)[A-Za-z0-9_]{20,255}"
    r"|(glpat-|pypi-|AIza)[A-Za-z0-9_-]{20,255}"
    r"|(xox[abprs]-)[A-Za-z0-9-]{10,255}"
    r"|([sr]k_(?:live|test)_)[A-Za-z0-9]{16,255}"
    r"|(SG\.)[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"
    r"|(whsec_|hf_)[A-Za-z0-9]{20,255}"
    r"|(shp(?:at|ca|pa|ss)_|dop_v1_)[a-f0-9]{20,255}"
    r"|(GOCSPX-|ya29\.|sk-ant-|sk-proj-|sq0[ac][ts]p-|xapp-|hvs\.|dckr_pat_)[A-Za-z0-9_-]{20,255}"
    r")"
)
_AWS_ID: Final = re.compile(
    r"(?<![A-Za-z0-9])((?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16})(?![A-Za-z0-9])"
)
_AWS_SECRET: Final = re.compile(
    r"((?:aws[a-z_. -]{0,24}key|secret_?access_?key)[\"']?"
    r"(?:[ \t]{0,4}(?:=>|[:=])[ \t]{0,4}|[ \t]{1,4})[\"']?)"
    r"([A-Za-z0-9/+=]{40})(?!/?[A-Za-z0-9+=])",  # a path may go on with a slash
    re.IGNORECASE,
)
_URL: Final = re.compile(r"(://[^\s/?#:@\"'<>]{0,256}:)([^\s/?#\"'<>]{1,512})@")


_TOKEN_SIGNS: Final = (string.digits + string.ascii_letters + "_-").encode()
_WORD: Final = bytes.maketrans(_TOKEN_SIGNS, b"a" * len(_TOKEN_SIGNS))
_TOKEN: Final = b"a" * 15


def like_token(text: str) -> bool:
    """Fifteen letters, digits, dashes and underscores in a row: no vendor's token is shorter.

    One look at what is rare takes less time than one for each of their beginnings.
    """
    return _TOKEN in text.encode(errors="replace").translate(_WORD)


def find_private_key(
    text: str, start: int, _stop: int, _fingerprint: Fingerprint
) -> Iterator[Span]:
    """A PEM private key: the whole value goes, for a footer may be torn off."""
    if start == 0 and _PEM.search(text):
        yield 0, len(text), MASK


def find_jwt(text: str, start: int, stop: int, fingerprint: Fingerprint) -> Iterator[Span]:
    """JSON web tokens, signed or encrypted (RFC 7515, 7516)."""
    for match in _JWT.finditer(text, start, stop):
        header = _json_of(match[1])
        # A JWE's second part is an encrypted key, no JSON (RFC 7516).
        if header is None or ("enc" not in header and _json_of(match[2]) is None):
            continue
        token = f"{match[1]}.{match[2]}{match[3]}"
        algorithm = re.sub(r"[^A-Za-z0-9+_-]", "", str(header.get("alg", "")))[:20]
        yield (
            match.start(),
            match.start() + len(token),
            f"[JWT alg={algorithm} fp={fingerprint('jwt', token)}]",
        )


def _json_of(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _scheme(match: re.Match[str], fingerprint: Fingerprint) -> str | None:
    scheme, credentials = match[1], match[2]
    if scheme.lower() == "basic":
        secret = _is_basic(credentials)
    else:
        # Both are also words of prose, where other long words follow them.
        secret = any(map(str.isdigit, credentials)) or (
            len(credentials) >= _LONG and (scheme.lower() == "bearer" or _is_mixed(credentials))
        )
    if not secret:
        return None
    return f"{scheme} [MASKED fp={fingerprint(scheme.lower(), credentials)}]"


find_scheme: Final = ByPattern(_SCHEME, _scheme)


def _is_mixed(credentials: str) -> bool:
    """Whether letters change their case oftener than in a name: `token=request.session.get_new`."""
    changes = sum(first.isupper() != second.isupper() for first, second in pairwise(credentials))
    return changes * 3 > len(credentials)


def _is_basic(credentials: str) -> bool:
    """Whether it is base64 of `user:password` (RFC 7617), or looks too random for a word."""
    text = credentials.rstrip("=")
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        plain = ""
    looks_random = re.search("[0-9]", text) and re.search("[A-Z]", text)
    return (":" in plain and plain.isprintable()) or looks_random is not None


def _vendor(match: re.Match[str], fingerprint: Fingerprint) -> str:
    prefix = match[match.lastindex or 0]
    return f"{prefix}[MASKED fp={fingerprint('vendor', match[0])}]"


find_vendor: Final = ByPattern(_VENDOR, _vendor)


def _aws_id(match: re.Match[str], _fingerprint: Fingerprint) -> str:
    return f"{match[1][:4]}…{match[1][-4:]}"


find_aws_id: Final = ByPattern(_AWS_ID, _aws_id)


def _aws_secret(match: re.Match[str], fingerprint: Fingerprint) -> str:
    return f"{match[1]}[MASKED fp={fingerprint('aws_secret', match[2])}]"


find_aws_secret: Final = ByPattern(_AWS_SECRET, _aws_secret)


def _url(match: re.Match[str], _fingerprint: Fingerprint) -> str:
    return f"{match[1]}{MASK}@"


find_url: Final = ByPattern(_URL, _url)


# --- card numbers ---

# No-break spaces come with what is copied from documents.
_BLANKS: Final = " \u00a0\u202f"
_SEPARATORS: Final = str.maketrans("", "", f"{_BLANKS}.-")
_SEPARATING: Final = f"{_BLANKS}.-".encode()

# Digits as 0 and letters as a: what is searched for is then one string of bytes.
_SHAPE: Final = bytes.maketrans(
    (string.digits + string.ascii_letters).encode(), b"0" * 10 + b"a" * 52
)


def _shape(text: str, without: bytes = b"") -> bytes:
    return text.encode(errors="replace").translate(_SHAPE, without)


def like_card(text: str) -> bool:
    """Thirteen digits, whatever spaces, dashes and dots are between them."""
    return b"0" * 13 in _shape(text, _SEPARATING)


_CARD: Final = re.compile(
    # Not after "**** ": those are the last four of a card that is already masked.
    r"(?<![0-9])(?<!\*\*\*\* )(?<!0[xX])(?=("
    rf"[2-6](?:[{_BLANKS}-]?[0-9]){{12,18}}"
    # With dots in groups alone: a number with one is a decimal.
    r"|[2-6][0-9]{3}(?:(?:\.[0-9]{4}){2,3}\.[0-9]{1,4}|\.[0-9]{6}\.[0-9]{4,5})"
    r")(?![0-9]))"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DATE: Final = re.compile(
    r"(?<![0-9])[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
)
_HEX: Final = re.compile(r"[0-9a-fA-F]{32,}")  # as long as MD5, or longer
_FRACTION: Final = re.compile(r"(?<=[0-9])\.[0-9]{13,19}")  # floats travel as text
_AROUND: Final = 128


def find_card(text: str, start: int, stop: int, _fingerprint: Fingerprint) -> Iterator[Span]:
    """Card numbers, in one piece or in groups."""
    for match in _CARD.finditer(text, start, stop):
        length = _card_in(match[1])
        end = match.start() + length
        if length and not is_identifier(text, match.start(), end):
            yield match.start(), end, f"**** **** **** {_compact(match[1][:length])[-4:]}"


def _card_in(candidate: str) -> int:
    """How much of the candidate is a card number: the longest that ends with a group, or 0."""
    digits = _compact(candidate)
    for length in numbering.card_lengths(digits[:4]):
        if length <= len(digits) and numbering.passes_luhn(digits[:length]):
            end = _behind(candidate, length)
            if not candidate[end : end + 1].isdecimal() and not _DATE.search(candidate, 0, end):
                return end
    return 0


def _compact(number: str) -> str:
    return number.translate(_SEPARATORS)


def is_identifier(text: str, start: int, end: int) -> bool:
    """Whether these digits are part of a UUID, a hex digest, a fraction or an IBAN."""
    low, high = max(0, start - _AROUND), min(len(text), end + _AROUND)
    around = [
        match.span()
        for pattern in (_UUID, _HEX, _FRACTION)
        for match in pattern.finditer(text, low, high)
    ]
    around += [span[:2] for span in find_iban(text, low, high, no_fingerprint)]
    return any(first < end and start < last for first, last in around)


# --- personal data ---


def like_iban(text: str) -> bool:
    """Two letters and two digits."""
    return b"aa00" in _shape(text)


def like_ssn(text: str) -> bool:
    """Nine digits, whatever spaces and dashes are between them."""
    return b"0" * 9 in _shape(text, b" -")


def like_number(digits: int) -> Callable[[str], bool]:
    """A pretest for so many digits, whatever spaces, dashes and dots are between them."""
    wanted = b"0" * digits
    return lambda text: wanted in _shape(text, b" -.")


_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?="
    rf"([A-Z]{{2}}[0-9]{{2}}(?:[{_BLANKS}-]?[A-Z0-9]){{11,32}}"
    r"|[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{11,29}))"
)
_SSN: Final = re.compile(
    r"(?<![\w+-])(?!000|666|9)[0-9]{3}"
    # With spaces, no part of a longer number, such as a telephone's.
    r"(?:-(?!00)[0-9]{2}-(?!0000)[0-9]{4}|(?<![0-9] ...) (?!00)[0-9]{2} (?!0000)[0-9]{4}(?! [0-9]))"
    r"(?![\w-])"
    # Nine digits in a row are one only where the text says so.
    r"|(?i:(?<![a-z])(?:ssn|social security(?: (?:number|no\.?))?)[^\w]{1,4})"
    r"(?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4}(?!\w)"
)
_EMAIL: Final = re.compile(
    r"([\w.%+-]{1,64})@((?:[\w-]{1,63}\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[^\W\d_]{2,24}))(?![\w-])"
)
# `icon@2x.png`, `package@1.2.3-rc.beta`
_NO_HOST: Final = re.compile(
    r"[1-9]x\.(?:png|jpe?g|gif|webp|avif|svg)|[0-9]{1,5}\.[0-9]{1,5}\.", re.IGNORECASE
)
_PHONE: Final = re.compile(rf"(?<![\w+])\+([1-9](?:[{_BLANKS}.()/-]{{0,2}}[0-9]){{7,14}})(?![0-9])")
_DECIMAL: Final = re.compile(r"[0-9]{4,}\.[0-9]{1,2}")


def find_iban(text: str, start: int, stop: int, _fingerprint: Fingerprint) -> Iterator[Span]:
    """International bank account numbers, in one piece or in groups."""
    for match in _IBAN.finditer(text, start, stop):
        length = _behind(match[1], numbering.iban_length(match[1]))
        end = match.start() + length
        if not length or text[end : end + 1].isalnum():
            continue
        iban = _compact(match[1][:length]).upper()
        if numbering.passes_mod97(iban):
            yield match.start(), end, f"{iban[:2]}**…{iban[-4:]}"


def _behind(candidate: str, wanted: int) -> int:
    """The index behind the `wanted`-th letter or digit, or 0."""
    for index, sign in enumerate(candidate, 1):
        wanted -= sign.isalnum()
        if wanted == 0:
            return index
    return 0


def _ssn(match: re.Match[str], _fingerprint: Fingerprint) -> str:
    digits = 11 if match[0][-5] in "- " else 9
    return f"{match[0][:-digits]}***-**-{match[0][-4:]}"


find_ssn: Final = ByPattern(_SSN, _ssn)


def _email(match: re.Match[str], _fingerprint: Fingerprint) -> str | None:
    if _NO_HOST.match(match[2]):
        return None
    first = match[1][0] if len(match[1]) > 1 else ""
    return f"{first}***@{match[2]}"


find_email: Final = ByPattern(_EMAIL, _email)


def _phone(match: re.Match[str], _fingerprint: Fingerprint) -> str | None:
    digits = "".join(filter(str.isdecimal, match[1]))
    if _DATE.search(match[1]) or _DECIMAL.fullmatch(match[1]):
        return None
    return f"+{numbering.calling_code(digits)} *** *** {digits[-4:]}"


find_phone: Final = ByPattern(_PHONE, _phone)
