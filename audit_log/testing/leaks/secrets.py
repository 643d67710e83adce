"""Secrets made for one test: the same for the same seed, and no two alike.

A secret is of a kind. What its kind promises is how the log is to know it: by the name it is sent
under, by its form, or not at all, so that it is only promised to be encrypted.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final

from audit_log.privacy.numbering import passes_luhn

_LETTERS: Final = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
_ODD: Final = "ö&\"<'\\%+/ß"
"""Signs that JSON, HTML, URLs and databases each write in ways of their own."""
_SHOWN: Final = 3


class Promise(StrEnum):
    """What the log promises of a secret."""

    NOWHERE = auto()
    """It is in no place, nor in what opens with the keys."""
    SEALED = auto()
    """It is nowhere in clear. What opens with the keys may hold it."""
    LABEL = auto()
    """The same, and who may see records may see it: somebody or something is called so."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret: what was sent, and the parts of it of which none may be found."""

    number: int
    kind: str
    through: str
    promise: Promise
    text: str
    parts: tuple[str, ...]

    def __repr__(self) -> str:
        longest = max(self.parts, key=len)
        return f"{self.kind} #{self.number} ({longest[:_SHOWN]}…, {len(longest)} characters)"


NAMES: Final[Mapping[str, str]] = {
    "password": "password",
    "odd_password": "new_password",
    "token": "access_token",
    "api_key": "apiKey",
    "client_secret": "client_secret",
    "session_id": "sessionid",
    "cookie": "cookie",
    "csrf": "csrfmiddlewaretoken",
    "otp": "otp",
    "pin": "pin",
    "cvv": "cvv",
    "signature": "X-Signature",
    "recovery_code": "recovery_code",
    "mysql_pwd": "MYSQL_PWD",
}
"""Kinds that nothing but their name gives away, each with a name that does."""

_Made = tuple[str, tuple[str, ...]]


class Makers:
    """Makes secrets of every kind, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be made again, not to be safe
        self._forms: dict[str, Callable[[], _Made]] = {
            "bearer": self._bearer,
            "basic": self._basic,
            "jwt": self._jwt,
            "aws_secret": self._aws_secret,
            "private_key": self._private_key,
            "url": self._url,
            "card": self._card,
            "card_in_groups": self._card_in_groups,
            "amex": lambda: self._numbered(f"37{self._digits(12)}"),
            "mastercard": lambda: self._numbered(f"5{self._of('12345', 1)}{self._digits(13)}"),
            "aws_id": lambda: _whole("AKIA" + self._of(string.ascii_uppercase + "234567", 16)),
            "github": lambda: _whole("ghp_" + self._word(36)),
            "gitlab": lambda: _whole("glpat-" + self._word(24)),
            "slack": lambda: _whole(f"xoxb-{self._digits(12)}-{self._word(24)}"),
            "stripe": lambda: _whole("sk_live_" + self._word(24)),
            "google": lambda: _whole("AIza" + self._word(35)),
            "sendgrid": lambda: _whole(f"SG.{self._word(22)}.{self._word(43)}"),
            "npm": lambda: _whole("npm_" + self._word(36)),
            "pypi": lambda: _whole("pypi-" + self._word(60)),
        }
        self._personal: dict[str, Callable[[], _Made]] = {
            "iban": self._iban,
            "ssn": self._ssn,
            "email": lambda: _whole(f"{self._word(14).lower()}@example.org"),
            "phone": lambda: _whole(f"+43 664 {self._digits(4)} {self._digits(4)}"),
            "name": lambda: _whole(f"{self._word(8).title()} {self._word(11).title()}"),
        }

    def make(self, kind: str) -> _Made:
        """The text of a new secret, and its parts. Raises ValueError for an unknown kind."""
        if kind in NAMES:
            return self._named(kind)
        maker = self._forms.get(kind) or self._personal.get(kind)
        if maker is None:
            known = sorted((*NAMES, *self._forms, *self._personal))
            raise ValueError(f"There is no kind {kind!r} of secret. Kinds: {', '.join(known)}.")
        return maker()

    def _named(self, kind: str) -> _Made:
        if kind == "odd_password":
            return _whole(self._word(12) + _ODD + self._word(8))
        return _whole(self._word(24))

    def _of(self, signs: str, count: int) -> str:
        return "".join(self._random.choices(signs, k=count))

    def _word(self, count: int) -> str:
        return self._of(_LETTERS, count)

    def _digits(self, count: int) -> str:
        return self._of(string.digits, count)

    def _bearer(self) -> _Made:
        token = f"{self._word(30)}{self._digits(10)}"
        return f"Bearer {token}", (token,)

    def _basic(self) -> _Made:
        password = self._word(20)
        sent = base64.b64encode(f"user:{password}".encode()).decode()
        return f"Basic {sent}", (sent.rstrip("="), password)

    def _jwt(self) -> _Made:
        def part(value: Any) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        claims = part({"sub": self._digits(12), "jti": self._word(12)})
        signature = self._word(43)
        return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{claims}.{signature}", (claims, signature)

    def _aws_secret(self) -> _Made:
        secret = self._of(_LETTERS + string.digits + "/+", 40)
        return f"aws_secret_access_key = {secret}", (secret,)

    def _private_key(self) -> _Made:
        lines = tuple(self._of(_LETTERS + string.digits + "/+", 64) for _ in range(3))
        body = "\n".join(lines)
        return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----", lines

    def _url(self) -> _Made:
        password = self._word(20)
        return f"postgres://app:{password}@db.internal:5432/x", (password,)

    def _card(self) -> _Made:
        return self._numbered(f"4{self._digits(14)}")

    def _card_in_groups(self) -> _Made:
        number, _ = self._card()
        sign = self._random.choice(" -")
        return sign.join(number[n : n + 4] for n in range(0, 16, 4)), (number,)

    def _numbered(self, body: str) -> _Made:
        """With the check digit behind it that makes it a card's number."""
        number = next(f"{body}{n}" for n in range(10) if passes_luhn(f"{body}{n}"))
        return _whole(number)

    def _iban(self) -> _Made:
        digits = self._digits(18)
        check = 98 - int(f"{digits}131400") % 97  # ISO 7064; "DE" is 1314
        return _whole(f"DE{check:02}{digits}")

    def _ssn(self) -> _Made:
        area, group = self._random.randint(101, 665), self._random.randint(10, 99)
        return _whole(f"{area}-{group}-{self._random.randint(1000, 9999)}")


def _whole(text: str) -> _Made:
    return text, (text,)


_EXAMPLE: Final = Makers(0)
BY_FORM: Final = tuple(_EXAMPLE._forms)  # noqa: SLF001 - its own
"""Kinds that detectors know in any text."""
PERSONAL: Final = tuple(_EXAMPLE._personal)  # noqa: SLF001 - its own
"""Kinds that are masked where they would stand open, and sealed elsewhere."""


def promise_of(kind: str) -> Promise:
    """What is promised of a kind, sent where its name or its form can be known."""
    return Promise.SEALED if kind in PERSONAL else Promise.NOWHERE
