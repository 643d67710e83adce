"""Strings that look like secrets or personal data, and are none."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from benchmarks.detection import checksums
from benchmarks.detection.checksums import DIGITS, HEX, LETTERS, LOWER, digits, word
from benchmarks.detection.samples import Sample, placed

_PROSE: Final = """the parcel was sent again to the office since nobody was at home on Tuesday and
    the refund of shipping was agreed with the manager who approved it the same day"""
_WORDS: Final = _PROSE.split()
_CODE: Final = (
    "token = get_token(request)",
    "if not bearer: raise AuthenticationFailed('bearer token missing')",
    "@property\ndef basic(self): return self._basic_configuration",
    "token=request.session.get_or_create_token_for_user",
    "Authorization: Bearer <your token goes here>",
    "basic authentication_required; token internationalisation",
    "const token = await fetchTokenFromStorage();",
    "@pytest.mark.parametrize('x', [1, 2])",
    "import numpy as np; a @ b.T",
    "SELECT * FROM card WHERE number = %s -- 16 digits",
    "git clone https://example.com/a/b.git && cd b@v1.2",
    "proxy_pass http://backend:8080/@user;",
    "for (let i = 0; i < 16; i++) { s += digits[i]; }",
    "AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY}",
    "aws key rotation is due; see aws s3 ls --recursive",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBg\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
    "redis://localhost:6379/0 postgres://db:5432/app",
    "x = 4_111 + 1_111; y = 0x4111111111111111",
    "npm_config_registry=… npm_package_version SG.x AIza glpat- ghp_",
    'password: ******** token: [redacted] Basic realm="admin area"',
    "ssh deploy@web-1 'sudo systemctl restart app'",
    "C++11 and C++17; +1 from me; a+b=c; UTC+01:00; GMT+2",
)


def _plain(name: str, make: Callable[[Random], str]) -> Callable[[Random], Sample]:
    def sample(random: Random) -> Sample:
        return Sample(placed(random, make(random)), name)

    return sample


def _has_card(value: str) -> bool:
    runs = re.findall(r"[0-9]+(?:[ .-][0-9]+)*", value)
    return any(checksums.is_card("".join(filter(str.isdecimal, run))) for run in runs)


def _number(name: str, make: Callable[[Random], str]) -> Callable[[Random], Sample]:
    """Digits of which some are, by chance, a valid number of a card."""

    def sample(random: Random) -> Sample:
        value = make(random)
        undecidable = "card" if _has_card(value) else None
        return Sample(placed(random, value), name, undecidable=undecidable)

    return sample


def _named(name: str, kind: str, make: Callable[[Random], str]) -> Callable[[Random], Sample]:
    """What has every sign of another thing: only its meaning differs."""

    def sample(random: Random) -> Sample:
        return Sample(placed(random, make(random)), name, undecidable=kind)

    return sample


def _account(random: Random) -> Sample:
    """A country, digits and a length that fit: by chance the check digits hold, too."""
    country = random.choice(["DE", "GB", "FR", "NL", "NO"])
    length = {"DE": 22, "GB": 22, "FR": 27, "NL": 18, "NO": 15}[country]
    body = digits(random, 2) + ("" if country in {"DE", "FR", "NO"} else word(random, LETTERS, 4))
    value = country + body + digits(random, length - 2 - len(body))
    undecidable = "iban" if checksums.mod97_holds(value) else None
    if undecidable is None and _has_card(value):
        undecidable = "card"
    return Sample(placed(random, value), "like an IBAN", undecidable=undecidable)


def _order(random: Random) -> str:
    return random.choice(["2026-{}", "ORD-{}", "#{}", "A{}"]).format(digits(random, 8))


def _epoch(random: Random) -> str:
    return str(random.randrange(1_500_000_000_000, 1_900_000_000_000))


def _microseconds(random: Random) -> str:
    return str(random.randrange(1_500_000_000_000_000, 1_900_000_000_000_000))


def _snowflake(random: Random) -> str:
    return str(random.randrange(10**17, 2 * 10**18))


def _uuid(random: Random) -> str:
    made = uuid.UUID(int=random.getrandbits(128), version=random.choice((1, 4, 5)))
    return random.choice([str(made), made.hex, str(made).upper(), made.urn])


def _hash(random: Random) -> str:
    kind = random.choice(["md5", "sha1", "sha256", "sha512"])
    found = hashlib.new(kind, random.randbytes(16), usedforsecurity=False).hexdigest()
    return random.choice([found, f"{kind}:{found}", found[:12], f"sha256-{found}"])


def _date(random: Random) -> str:
    year, month = random.randrange(1990, 2040), random.randrange(1, 13)
    day = f"{year}-{month:02d}-{random.randrange(1, 29):02d}"
    clock = f"{random.randrange(24):02d}:{random.randrange(60):02d}:{random.randrange(60):02d}"
    form = ["{0}", "{0}T{1}Z", "{0} {1}.{2}", "{0}T{1}.{2}+02:00", "{0} {0} {0}"]
    return random.choice(form).format(day, clock, digits(random, 6))


def _tracking(random: Random) -> str:
    return random.choice(
        [
            f"1Z{word(random, LETTERS + DIGITS, 16)}",
            f"RB{digits(random, 9)}DE",
            f"JD01{digits(random, 14)}",
            f"H{digits(random, 19)}",
        ]
    )


def _parcel(random: Random) -> str:
    return digits(random, random.choice([12, 14, 15, 20, 22]))


def _version(random: Random) -> str:
    numbers = ".".join(str(random.randrange(40)) for _ in range(random.randrange(2, 5)))
    return random.choice(["v{}", "{}", "{}-rc.1", "{}+build.20261124", "package=={}"]).format(
        numbers
    )


def _package(random: Random) -> str:
    name = word(random, LOWER, 6)
    numbers = ".".join(str(random.randrange(1, 40)) for _ in range(3))
    return random.choice(
        [
            f"{name}@{numbers}",
            f"@scope/{name}@^{numbers}",
            f"{name}@{numbers}-rc.beta",
            f"{name}@latest",
        ]
    )


def _image(random: Random) -> str:
    return (
        f"{word(random, LOWER, 6)}@{random.choice('23')}x.{random.choice(['png', 'jpg', 'webp'])}"
    )


def _amount(random: Random) -> str:
    whole, cents = random.randrange(10**9), random.randrange(100)
    return random.choice(
        [
            f"{whole:,}.{cents:02d}",
            f"{whole}.{cents:02d} EUR",
            f"+{whole % 10**6}.{cents:02d}",
            f"-{whole}",
        ]
    )


def _float(random: Random) -> str:
    return random.choice(
        [repr(random.random()), repr(random.random() * 1e6), f"{random.random():.17f}"]
    )


def _coordinates(random: Random) -> str:
    return f"{random.uniform(-90, 90):.14f}, {random.uniform(-180, 180):.14f}"


def _base64(random: Random) -> str:
    prose = " ".join(random.choices(_WORDS, k=random.randrange(5, 40)))
    return base64.b64encode(prose.encode()).decode()


def _cursor(random: Random) -> str:
    page = f'{{"id": {random.randrange(10**9)}, "after": "2026-11-24"}}'
    return base64.urlsafe_b64encode(page.encode()).decode().rstrip("=")


def _grouped_phone(random: Random) -> str:
    return random.choice(
        [
            f"0{digits(random, 3)} {digits(random, 7)}",
            f"({digits(random, 3)}) {digits(random, 3)}-{digits(random, 4)}",
            f"00{random.choice('1234')}{digits(random, 10)}",
            f"1-800-{digits(random, 3)}-{digits(random, 4)}",
        ]
    )


def _address(random: Random) -> str:
    numbers = [random.randrange(256) for _ in range(4)]
    mac = ":".join(word(random, HEX, 2) for _ in range(6))
    return random.choice([".".join(map(str, numbers)), mac, f"2001:db8::{word(random, HEX, 4)}"])


def _path(random: Random) -> str:
    parts = "/".join(random.choices(_WORDS, k=4))
    return random.choice(
        [f"/srv/{parts}/{digits(random, 14)}.log", f"https://example.com/{parts}?page=2#a:b"]
    )


def _prose(random: Random) -> str:
    return " ".join(random.choices(_WORDS, k=random.randrange(8, 60))).capitalize() + "."


def _date_string(random: Random) -> str:
    """Fourteen digits of a moment, as file names have them."""
    day = (
        f"{random.randrange(2000, 2040)}{random.randrange(1, 13):02d}{random.randrange(1, 29):02d}"
    )
    return f"{day}{random.randrange(24):02d}{random.randrange(60):02d}{random.randrange(60):02d}"


_EACH: Final = 800
LOOK_ALIKES: Final[dict[str, tuple[int, Callable[[Random], Sample]]]] = {
    "random 16 digits": (
        2400,
        _number("random 16 digits", lambda r: digits(r, 16)),
    ),
    "random 16 digits in fours": (
        1200,
        _number(
            "random 16 digits in fours",
            lambda r: r.choice(" -.").join(digits(r, 4) for _ in range(4)),
        ),
    ),
    "parcel numbers": (1200, _number("parcel numbers", _parcel)),
    "ISBN and EAN": (_EACH, _number("ISBN and EAN", checksums.isbn13)),
    "snowflakes": (_EACH, _number("snowflakes", _snowflake)),
    "tracking numbers": (_EACH, _number("tracking numbers", _tracking)),
    "like an IBAN": (1600, _account),
    "part numbers 123-45-6789": (
        200,
        _named(
            "part numbers 123-45-6789",
            "ssn",
            lambda r: (
                f"{r.randrange(1, 600):03d}-{r.randrange(1, 99):02d}-{r.randrange(1, 9999):04d}"
            ),
        ),
    ),
    "log-ins user@host.tld": (
        200,
        _named(
            "log-ins user@host.tld",
            "email",
            lambda r: f"{r.choice(['git', 'root', 'deploy'])}@{word(r, LOWER, 5)}.example.com",
        ),
    ),
    **{
        name: (_EACH, _plain(name, make))
        for name, make in (
            ("order numbers", _order),
            ("epoch milliseconds", _epoch),
            ("epoch microseconds", _microseconds),
            ("UUIDs", _uuid),
            ("hashes", _hash),
            ("dates and times", _date),
            ("moments in 14 digits", _date_string),
            ("versions", _version),
            ("packages", _package),
            ("image names", _image),
            ("amounts", _amount),
            ("floats", _float),
            ("coordinates", _coordinates),
            ("base64 of prose", _base64),
            ("page cursors", _cursor),
            ("phones without plus", _grouped_phone),
            ("IP and MAC addresses", _address),
            ("paths and URLs", _path),
            ("prose", _prose),
            ("code", lambda random: random.choice(_CODE)),
        )
    },
}


def look_alikes(seed: int, share: float) -> Iterator[Sample]:
    """The samples, the same for a seed, whatever the share."""
    for name, (count, make) in LOOK_ALIKES.items():
        random = Random(f"{seed}:{name}")  # noqa: S311 - the same corpus in every run
        for _ in range(max(1, round(count * share))):
            yield make(random)
