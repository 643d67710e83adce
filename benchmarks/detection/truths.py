"""Secrets and personal data, made up: each string holds one, and says which."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from benchmarks.detection import checksums
from benchmarks.detection.checksums import (
    ALPHANUMERIC,
    DIGITS,
    HEX,
    LETTERS,
    LOWER,
    URL_SAFE,
    digits,
    word,
)
from benchmarks.detection.samples import Sample, placed

_UPPER: Final = LETTERS + DIGITS
_NBSP: Final = "\u00a0"


def _of(kind: str, generator: str, make: Callable[[Random], str]) -> Callable[[Random], Sample]:
    """A sample of one value, anywhere."""

    def sample(random: Random) -> Sample:
        value = make(random)
        text = placed(random, value)
        # In JSON that is all ASCII it is written otherwise, and has to be gone as well.
        hidden = value if value in text else json.dumps(value)[1:-1]
        return Sample(text, generator, kind, hidden=hidden)

    return sample


# --- card numbers, bank accounts, social security ---


def card(random: Random, brand: str) -> str:
    """A number of a brand, without separators."""
    starts, lengths = checksums.BRANDS[brand]
    start = random.choice(starts)
    body = start + digits(random, random.choice(lengths) - len(start) - 1)
    return body + checksums.luhn_digit(body)


def grouped(number: str, separator: str) -> str:
    """As it is embossed: 4-6-5 for fifteen digits, 4-6-4 for fourteen, else in fours."""
    sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(len(number), (4, 4, 4, 4, 4))
    groups, place = [], 0
    for size in sizes:
        groups.append(number[place : place + size])
        place += size
    return separator.join(filter(None, groups))


def _card(random: Random, separators: tuple[str, ...]) -> str:
    number = card(random, random.choice(list(checksums.BRANDS)))
    return grouped(number, random.choice(separators))


def bank_account(random: Random, country: str) -> str:
    """An IBAN of a country, without separators."""
    alphabets = {"n": DIGITS, "a": LETTERS, "c": _UPPER}
    form = re.findall(r"(\d+)([nac])", checksums.IBAN_FORMS[country])
    return checksums.iban(
        country, "".join(word(random, alphabets[kind], int(count)) for count, kind in form)
    )


def _iban(random: Random, separators: tuple[str, ...]) -> str:
    number = bank_account(random, random.choice(list(checksums.IBAN_FORMS)))
    separator = random.choice(separators)
    written = separator.join(number[at : at + 4] for at in range(0, len(number), 4))
    return written.lower() if not separator and random.random() < 0.1 else written  # noqa: PLR2004


def _ssn(random: Random) -> tuple[str, str, str]:
    area = random.choice([n for n in range(1, 900) if n != 666])  # noqa: PLR2004 - never given out
    return f"{area:03d}", f"{random.randrange(1, 100):02d}", f"{random.randrange(1, 10000):04d}"


def _written_ssn(random: Random) -> str:
    return random.choice("- ").join(_ssn(random))


def _hinted_ssn(random: Random) -> Sample:
    number = "".join(_ssn(random))
    hint = random.choice(["SSN: {}", "ssn {}", "Social Security Number: {}", "SSN={}"])
    return Sample(placed(random, hint.format(number)), "SSN, named", "ssn", hidden=number)


# --- tokens ---


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _jwt(random: Random) -> str:
    header = {"alg": random.choice(["HS256", "RS256", "ES256", "EdDSA"]), "typ": "JWT"}
    claims = {
        "sub": digits(random, random.randrange(1, 12)),
        "iat": random.randrange(10**9, 2 * 10**9),
        "name": random.choice(["Ada", "Zoë", "李"]),
    }
    signature = word(random, URL_SAFE, random.choice([43, 86, 342]))
    return f"{_part(header)}.{_part(claims)}.{signature}"


def _jwe(random: Random) -> str:
    header = _part({"alg": random.choice(["dir", "RSA-OAEP"]), "enc": "A256GCM"})
    parts = [word(random, URL_SAFE, count) for count in (342, 16, random.randrange(20, 200), 22)]
    return ".".join((header, *parts))


def _bearer(random: Random) -> Sample:
    alphabet, length = random.choice([(URL_SAFE, 43), (HEX, 40), (ALPHANUMERIC, 32), (HEX, 64)])
    token = word(random, alphabet, length)
    scheme = random.choice(["Bearer", "bearer", "Token", "BEARER"])
    form = random.choice(["Authorization: {0} {1}", '{{"Authorization": "{0} {1}"}}', "{0} {1}"])
    return Sample(form.format(scheme, token), "bearer header", "bearer", hidden=token)


def _basic(random: Random) -> Sample:
    user = random.choice(["alice", "svc-billing", "a.b@example.com"])
    pair = f"{user}:{word(random, ALPHANUMERIC + '!$%', random.randrange(8, 24))}"
    token = base64.b64encode(pair.encode()).decode()
    form = random.choice(["Authorization: Basic {}", '"authorization": "basic {}"', "Basic {}"])
    return Sample(form.format(token), "basic header", "bearer", hidden=token)


_VENDOR_FORMS: Final[tuple[tuple[str, str, int], ...]] = (
    *((prefix, ALPHANUMERIC, 36) for prefix in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_")),
    ("github_pat_", ALPHANUMERIC + "_", 82),
    ("glpat-", URL_SAFE, 20),
    ("AIza", URL_SAFE, 35),
    ("pypi-AgEIcHlwaS5vcmc", URL_SAFE, 150),
    *((prefix, ALPHANUMERIC, 24) for prefix in ("sk_live_", "rk_live_", "sk_test_")),
    *((prefix, DIGITS + "-" + ALPHANUMERIC, 50) for prefix in ("xoxb-", "xoxp-", "xoxa-", "xoxs-")),
)
_FURTHER_FORMS: Final[tuple[tuple[str, str, int], ...]] = (
    ("whsec_", ALPHANUMERIC, 32),
    ("GOCSPX-", URL_SAFE, 28),
    ("ya29.", URL_SAFE, 120),
    ("shpat_", HEX, 32),
    ("dop_v1_", HEX, 64),
    ("hf_", ALPHANUMERIC, 34),
    ("sk-ant-api03-", URL_SAFE, 93),
    ("sk-proj-", URL_SAFE, 74),
    ("sq0csp-", URL_SAFE, 43),
    ("xapp-1-", DIGITS + "-" + ALPHANUMERIC, 64),
    ("hvs.", URL_SAFE, 90),
    ("dckr_pat_", URL_SAFE, 27),
)


def _by_prefix(forms: tuple[tuple[str, str, int], ...]) -> Callable[[Random], str]:
    def token(random: Random) -> str:
        prefix, alphabet, length = random.choice(forms)
        # Neither end is a sign that a sentence could have put there.
        return f"{prefix}{word(random, alphabet, length - 1)}{word(random, ALPHANUMERIC, 1)}"

    return token


def _sendgrid(random: Random) -> str:
    return f"SG.{word(random, URL_SAFE, 22)}.{word(random, URL_SAFE, 42)}x"


# --- keys and credentials ---


def _aws_id(random: Random) -> str:
    return random.choice(["AKIA", "ASIA", "ABIA", "ACCA"]) + word(random, _UPPER, 16)


_AWS_FORMS: Final = (
    "AWS_SECRET_ACCESS_KEY={}",
    "export AWS_SECRET_ACCESS_KEY='{}'",
    'aws_secret_access_key = "{}"',
    "aws_secret_access_key: {}",
    '"awsSecretAccessKey": "{}"',
    "aws.secretKey={}",
    "AWS_SECRET_KEY => '{}'",
)
_BARE_AWS_FORMS: Final = (
    '{{"SecretAccessKey": "{}"}}',
    "secret_access_key = {}",
    "secretAccessKey: '{}'",
    "SECRET_ACCESS_KEY={}",
)


def _aws_secret(generator: str, forms: tuple[str, ...]) -> Callable[[Random], Sample]:
    def sample(random: Random) -> Sample:
        secret = word(random, ALPHANUMERIC + "/+", 40)
        text = random.choice(forms).format(secret)
        return Sample(text, generator, "aws_secret", hidden=secret)

    return sample


def _private_key(random: Random) -> Sample:
    name = random.choice(["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "DSA ", ""])
    lines = [word(random, ALPHANUMERIC + "+/", 64) for _ in range(random.randrange(3, 30))]
    footer = random.choice([f"\n-----END {name}PRIVATE KEY-----", ""])  # it may be cut off
    pem = f"-----BEGIN {name}PRIVATE KEY-----\n" + "\n".join(lines) + footer
    text = random.choice([pem, json.dumps({"key": pem}), f"my key:\n{pem}"])
    return Sample(text, "PEM private key", "private_key", hidden=lines[0])


_SCHEMES: Final = (
    *("postgres", "postgresql", "redis", "rediss", "amqp", "https", "http", "mysql"),
    *("mongodb+srv", "ftp", "smtp"),
)


def _url(random: Random) -> Sample:
    password = word(random, ALPHANUMERIC + "!$-_.~*'", random.randrange(8, 30)).replace("'", "%27")
    user = random.choice(["", "user", "svc_1", "a.b%40c"])
    host = random.choice(["db.example.com:5432/app", "10.0.0.1/0", "localhost", "[::1]:6379"])
    value = f"{random.choice(_SCHEMES)}://{user}:{password}@{host}"
    return Sample(placed(random, value), "URL with password", "url_credentials", hidden=password)


# --- people ---

_HOSTS: Final = (
    *("example.com", "mail.example.co.uk", "qq.com", "163.com", "uni-köln.de", "example.museum"),
    *("a-b.example.org", "sub.sub.example.io", "EXAMPLE.COM", "пример.рф"),
)


def _email(random: Random) -> str:
    local = word(random, LOWER + DIGITS, random.randrange(1, 12))
    middle = random.choice(["", "", ".", "_", "-", "+"])
    if middle:
        local += middle + word(random, LOWER, random.randrange(1, 10))
    return f"{local}@{random.choice(_HOSTS)}"


def _punycode(random: Random) -> str:
    return f"{word(random, LOWER, 6)}@example.xn--{random.choice(['p1ai', 'fiqs8s', '80asehdb'])}"


# Country code, and the length of the national number (E.164).
_PLANS: Final = (
    *(("1", 10), ("7", 10), ("20", 10), ("27", 9), ("31", 9), ("33", 9), ("34", 9), ("39", 10)),
    *(("41", 9), ("44", 10), ("45", 8), ("46", 9), ("48", 9), ("49", 10), ("49", 11), ("52", 10)),
    *(("55", 11), ("61", 9), ("62", 10), ("65", 8), ("81", 10), ("82", 10), ("86", 11), ("90", 10)),
    *(("91", 10), ("234", 10), ("254", 9), ("351", 9), ("353", 9), ("358", 9), ("380", 9)),
    *(("420", 9), ("852", 8), ("886", 9), ("971", 9), ("972", 9)),
)


def _phone(random: Random, separators: tuple[str, ...]) -> str:
    code, length = random.choice(_PLANS)
    national = random.choice("23456789") + digits(random, length - 1)
    separator = random.choice(separators)
    if not separator:
        return f"+{code}{national}"
    cut = random.randrange(2, 4)
    rest = national[cut:]
    pieces = [rest[at : at + 4] for at in range(0, len(rest), 4)]
    area = f"({national[:cut]})" if random.random() < 0.2 else national[:cut]  # noqa: PLR2004
    return f"+{code}{separator}{area}{separator}{separator.join(pieces)}"


_PLAIN_SEPARATORS: Final = ("", " ", "-")

# Share of the corpus, and what makes a sample.
TRUTHS: Final[dict[str, tuple[int, Callable[[Random], Sample]]]] = {
    "card": (3400, _of("card", "card", lambda r: _card(r, _PLAIN_SEPARATORS))),
    "card, other separators": (
        600,
        _of("card", "card, other separators", lambda r: _card(r, (".", _NBSP))),
    ),
    "IBAN": (3000, _of("iban", "IBAN", lambda r: _iban(r, ("", " ", "-")))),
    "IBAN, no-break spaces": (
        300,
        _of("iban", "IBAN, no-break spaces", lambda r: _iban(r, (_NBSP,))),
    ),
    "SSN": (1000, _of("ssn", "SSN", _written_ssn)),
    "SSN, named": (500, _hinted_ssn),
    "JWT": (1200, _of("jwt", "JWT", _jwt)),
    "JWE": (300, _of("jwt", "JWE", _jwe)),
    "bearer header": (1200, _bearer),
    "basic header": (800, _basic),
    "vendor token": (1800, _of("vendor_token", "vendor token", _by_prefix(_VENDOR_FORMS))),
    "SendGrid key": (200, _of("vendor_token", "SendGrid key", _sendgrid)),
    "vendor token, further": (
        600,
        _of("vendor_token", "vendor token, further", _by_prefix(_FURTHER_FORMS)),
    ),
    "AWS key id": (800, _of("aws_key", "AWS key id", _aws_id)),
    "AWS secret": (700, _aws_secret("AWS secret", _AWS_FORMS)),
    "AWS secret without aws": (300, _aws_secret("AWS secret without aws", _BARE_AWS_FORMS)),
    "PEM private key": (400, _private_key),
    "URL with password": (1500, _url),
    "e-mail": (2300, _of("email", "e-mail", _email)),
    "e-mail, punycode": (100, _of("email", "e-mail, punycode", _punycode)),
    "phone": (2200, _of("phone", "phone", lambda r: _phone(r, ("", " ", "-", ".")))),
    "phone, no-break spaces": (
        200,
        _of("phone", "phone, no-break spaces", lambda r: _phone(r, (_NBSP,))),
    ),
}


def truths(seed: int, share: float) -> Iterator[Sample]:
    """The samples, the same for a seed, whatever the share."""
    for name, (count, make) in TRUTHS.items():
        random = Random(f"{seed}:{name}")  # noqa: S311 - the same corpus in every run
        for _ in range(max(1, round(count * share))):
            yield make(random)
