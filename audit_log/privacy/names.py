"""What a name says about its value: `password`, `cardNumber`, `X-Api-Key`, `user[email]`.

A name is split into tokens at case changes, digits and every other sign. The words of `_TABLE` are
then looked for as whole tokens or runs of them, joined or not (`api_key`, `apiKey`, `apikey`):

- `word*`   any token that begins with it (`passwords`, `tokenValue`), except `_HARMLESS_PREFIXES`
- `word`    anywhere in the name
- `word$`   only at its end, after which plain additions such as `_number`, `_old`, `_2` may follow:
            these words are too common elsewhere (`auth_backend`, `email_subject`, `pan_angle`)
- `word^`   only as the whole name: `hash` alone, not `commit_hash` (`password_hash` has `password`)

A name that is *about* the thing says nothing: one that ends in `_at`, `_count`, `_required`, ...
(`password_changed_at`, `token_count`, `passport_required`) or asks a question (`has_password`,
`is_secret_question`, `max_tokens`). The log would be poorer without them, and they hold no secret.
`passwordchangedat`, which cannot be split, is masked all the same: in doubt, hide.

Odd letter cases are read twice, split and unsplit, so `pAsSwOrD` is found as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum, auto
from functools import lru_cache
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a name promises its value to be. The first that fits wins, in this order."""

    SECRET = auto()
    CARD_SECRET = auto()
    CARD = auto()
    BANK = auto()
    IDENTITY = auto()
    HEALTH = auto()
    CONTACT = auto()


class Named(NamedTuple):
    """The kind of a name, and the rule that says so (it is what `redactions` shows)."""

    kind: Kind
    rule: str


_TABLE: Final = {
    Kind.SECRET: """
        password* passwd* passphrase* pwd secret* private_key* token* credential* csrf* xsrf*
        api_key access_key client_secret encryption_key signing_key master_key ssh_key auth_key
        auth$ authorization$ bearer$ session_id sessid session_key cookie$ jwt otp totp mfa_code
        passcode pin$ recovery_code backup_code signature$ salt$ hash^ pass^ user_pass$ db_pass$
        connection_string dsn database_url mysql_pwd
    """,
    Kind.CARD_SECRET: """
        cvv cvc cvv_2 csc$ card_security_code card_verification track_1 track_2 track_data
        card_exp card_expiry card_expiration
    """,
    Kind.CARD: "card_number card_no$ card_num$ cc_number ccnum$ credit_card$ debit_card$ pan$",
    Kind.BANK: """
        iban account_number bank_account$ routing_number sort_code bic$ swift_code
    """,
    Kind.IDENTITY: """
        ssn social_security tax_id itin$ nin$ nino$ aadhaar passport driver_license
        drivers_license driving_licence national_id dob date_of_birth birth_date birth_day$
    """,
    Kind.HEALTH: "mrn$ diagnosis diagnoses icd$ medication insurance_id insurance_number",
    Kind.CONTACT: """
        email$ e_mail$ email_id$ phone$ telephone$ mobile$ address addresses postcode post_code
        postal_code zip_code first_name last_name full_name middle_name given_name family_name
        surname
    """,
}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ORDER: Final = {kind: place for place, kind in enumerate(Kind)}
_LONGEST_RUN: Final = 3

_WORDS: Final = {
    entry.rstrip("*$^").replace("_", ""): (kind, entry[-1] if entry[-1] in "*$^" else "")
    for kind, entries in _TABLE.items()
    for entry in entries.split()
}
_STARRED: Final = tuple(word for word, (_, mark) in _WORDS.items() if mark == "*")
# These end a word written without a seam (`userpassword`, `accesstoken`). Shorter or commoner
# ones do not: `monkey`, `spin`, `japan`, `microphone`, `voicemail`.
_ENDINGS: Final = (*_STARRED, "apikey", "accesskey", "sessionid", "sessid", "cardnumber")
_HARMLESS_PREFIXES: Final = ("tokeniz", "tokenis", "secretar", "secretion", "passwordless")
_HARMLESS_RUNS: Final = frozenset(
    f"{place}address" for place in ("ip", "mac", "memory", "host", "bind", "server", "contract")
)
_ADDITIONS: Final = _set(
    """number no num nr value val code raw plain text str string hash hashed digest encrypted enc
    old new current previous confirm confirmation repeat again verify header field input param data
    base hex json list"""
)
_ABOUT: Final = _set(
    """at on by date time count counts length len size required optional enabled disabled allowed
    verified validated confirmed changed updated created expired expires expiry expiration until ttl
    age days hours minutes seconds type kind status state algorithm method version policy strength
    usable attempts retries limit check result validator validators"""
)
_ASKS: Final = _set("is has can should needs requires max min num total")

_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_]")
_PLAIN: Final = re.compile(r"[a-z]+|[0-9]+|[^\W_]")
_LONGEST_CACHED: Final = 100  # names come from strangers: long ones must not fill the cache


def tokens(name: str) -> tuple[str, ...]:
    """The lower-case words of a name: `userAPIKey2` is `user api key 2`."""
    return tuple(part.lower() for part in _CAMEL.findall(_fold(name)))


def kind_of(name: str) -> Kind | None:
    """What the name promises its value to be, or None. Microseconds once, then a look-up."""
    return _remembered(name) if len(name) <= _LONGEST_CACHED else _classify(name)


def judge(
    name: str, mask_keys: tuple[str, ...] = (), safe_keys: tuple[str, ...] = ()
) -> Named | None:
    """The kind of a name and its rule, after the project's own lists: safe wins, then masked.

    A safe key is that name alone, in any spelling; a masked one also ends longer names
    (`nickname` covers `user_nickname`).
    """
    if not mask_keys and not safe_keys:
        kind = kind_of(name)
        return None if kind is None else _NAMED[kind]
    remembered = _judged if len(name) <= _LONGEST_CACHED else _judge
    return remembered(name, mask_keys, safe_keys)


def is_safe(name: str, safe_keys: tuple[str, ...]) -> bool:
    """Whether the project lists this name, in any spelling, as one that hides nothing."""
    return bool(safe_keys) and _squashed(name) in _set_of(safe_keys)


def _judge(name: str, mask_keys: tuple[str, ...], safe_keys: tuple[str, ...]) -> Named | None:
    if is_safe(name, safe_keys):
        return None
    if mask_keys and any(end in _set_of(mask_keys) for end in _ends(name)):
        return Named(Kind.SECRET, "setting:MASK_KEYS")
    kind = kind_of(name)
    return None if kind is None else _NAMED[kind]


_NAMED: Final = {kind: Named(kind, f"name:{kind}") for kind in Kind}
_judged: Final = lru_cache(maxsize=4096)(_judge)


def _classify(name: str) -> Kind | None:
    folded = _fold(name)
    split = tuple(part.lower() for part in _CAMEL.findall(folded))
    found, kind = _match(split)
    if found:
        return kind
    unsplit = tuple(_PLAIN.findall(folded.lower()))
    return None if unsplit == split else _match(unsplit)[1]


_remembered: Final = lru_cache(maxsize=4096)(_classify)


def _fold(name: str) -> str:
    """Full-width letters as plain ones, invisible signs gone."""
    if name.isascii():
        return name
    plain = unicodedata.normalize("NFKC", name)
    return "".join(sign for sign in plain if unicodedata.category(sign) != "Cf")


def _match(parts: tuple[str, ...]) -> tuple[bool, Kind | None]:
    """Whether any word was found, and the gravest kind of those that are not merely about it."""
    hits = list(_hits(parts))
    if not hits:
        return False, None
    if parts[0] in _ASKS:
        return True, None
    about = parts[-1] in _ABOUT
    kinds = [kind for kind, stop in hits if not about or stop == len(parts)]
    return True, min(kinds, key=_ORDER.__getitem__, default=None)


def _hits(parts: tuple[str, ...]) -> Iterator[tuple[Kind, int]]:
    """Every word found, with the index behind its last token."""
    core = len(parts)
    while core and (parts[core - 1] in _ADDITIONS or parts[core - 1].isdecimal()):
        core -= 1
    for start, part in enumerate(parts):
        kind = _by_ends(part)
        if kind is not None:
            yield kind, start + 1
        for stop in range(start + 1, min(start + _LONGEST_RUN, len(parts)) + 1):
            run = "".join(parts[start:stop])
            found = _WORDS.get(run) or _WORDS.get(_singular(run))
            if found and _stands_well(found[1], parts, (start, stop), core):
                yield found[0], stop


def _by_ends(part: str) -> Kind | None:
    for word in _STARRED:
        if part.startswith(word) and not part.startswith(_HARMLESS_PREFIXES):
            return _WORDS[word][0]
    return _kind_of_ending(part) if part.endswith(_ENDINGS) else None


def _kind_of_ending(part: str) -> Kind:
    return Kind.CARD if part.endswith("cardnumber") else Kind.SECRET


def _singular(run: str) -> str:
    return run[:-1] if len(run) > 4 and run.endswith("s") else run  # noqa: PLR2004 - not `pins`


def _stands_well(mark: str, parts: tuple[str, ...], at: tuple[int, int], core: int) -> bool:
    start, stop = at
    if mark == "^":
        return start == 0 and stop == len(parts)
    if mark == "$":
        return stop >= core
    return "".join(parts[max(start - 1, 0) : stop]) not in _HARMLESS_RUNS


def _squashed(name: str) -> str:
    return "".join(_PLAIN.findall(_fold(name).lower()))


def _ends(name: str) -> Iterator[str]:
    yield _squashed(name)
    end = ""
    for part in reversed(tokens(name)):
        end = part + end
        yield end


@lru_cache(maxsize=64)
def _set_of(keys: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_squashed(key) for key in keys)
