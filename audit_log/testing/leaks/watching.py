"""The alarm: secrets are made, sent, and looked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from django.db import DEFAULT_DB_ALIAS

from audit_log.router import ledger_alias
from audit_log.testing.events import flush, relay
from audit_log.testing.leaks import places as _places
from audit_log.testing.leaks.archives import archive
from audit_log.testing.leaks.logs import logs
from audit_log.testing.leaks.places import Place
from audit_log.testing.leaks.secrets import Makers, Promise, Secret, promise_of
from audit_log.testing.leaks.spellings import Search, spellings

SEED: Final = 20261130
_MAX_SHOWN: Final = 50
_ODDS: Final = 12
"""A shorter text may stand somewhere by chance."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret that is where it must not be. Its words never hold the secret itself."""

    secret: Secret
    place: str
    where: str
    spelling: str
    inside: str

    def __str__(self) -> str:
        through = f" sent through {self.secret.through}" if self.secret.through else ""
        inside = f", inside of {self.inside}" if self.inside else ""
        where = f"{self.place} ({_without(self.where, self.secret)})"
        return f"{self.secret!r}{through} is in {where}, {self.spelling}{inside}"


def _without(where: str, secret: Secret) -> str:
    """A row, a file or a page may itself be called by the secret."""
    for part in secret.parts:
        for _, raw in spellings(part):
            where = where.replace(raw.decode("utf-8", "replace"), "…")
    return where


class Watch:
    """Makes secrets, and looks for every one of them in every place. See `watch`."""

    def __init__(self, *, seed: int = SEED, databases: tuple[str, ...] = ()) -> None:
        self.seed = seed
        self.secrets: list[Secret] = []
        self.places: list[Place] = []
        self.asked = False
        self._makers = Makers(seed)
        self._databases = databases or tuple(dict.fromkeys((DEFAULT_DB_ALIAS, ledger_alias())))

    def secret(
        self, kind: str = "token", through: str = "", *, promise: Promise | None = None
    ) -> str:
        """A new secret of this kind, to be sent through what `through` says.

        It is promised to be nowhere, personal data to be sealed. Say `promise=Promise.SEALED` where
        neither a name nor a form tells what it is, and `Promise.LABEL` where somebody or something
        is called so. Raises ValueError for an unknown kind.
        """
        text, parts = self._makers.make(kind)
        self._add(kind, through, text, parts, promise or promise_of(kind))
        return text

    def known(
        self, text: str, kind: str, through: str = "", *, promise: Promise = Promise.NOWHERE
    ) -> str:
        """The same for a secret that others made: a session's key, a password's hash.

        Raises ValueError for one so short that it may stand somewhere by chance.
        """
        if len(text) < _ODDS:
            raise ValueError(f"{kind}: {len(text)} characters may stand somewhere by chance.")
        self._add(kind, through, text, (text,), promise)
        return text

    def _add(
        self, kind: str, through: str, text: str, parts: tuple[str, ...], promise: Promise
    ) -> None:
        number = len(self.secrets) + 1
        self.secrets.append(Secret(number, kind, through, promise, text, parts))

    def look_in(self, *places: Place) -> Self:
        """Look there as well."""
        self.places += places
        return self

    def found(self) -> list[Leak]:
        """Every secret that is in a place now where it may not be, once a place."""
        found: dict[tuple[int, str, str], Leak] = {}
        for shown, places in self._by_what_they_show().items():
            search = Search(each for each in self.secrets if each.promise not in shown)
            for place, where, raw in _pieces(places):
                for hit in search.hits(raw):
                    leak = Leak(hit.secret, place.name, where, hit.spelling, hit.inside)
                    # The first of them is the plainest.
                    found.setdefault((hit.secret.number, place.name, where), leak)
        return list(found.values())

    def _by_what_they_show(self) -> dict[frozenset[Promise], list[Place]]:
        groups: dict[frozenset[Promise], list[Place]] = {}
        for place in self.places:
            groups.setdefault(place.shows, []).append(place)
        return groups

    def assert_nowhere(self) -> None:
        """Look now, store what waits in the outboxes and the spool, and look again.

        Raises AssertionError, which says which secret is where. It says so too when no secret was
        made: an alarm that guards nothing is none.
        """
        self.asked = True
        if not self.secrets:
            raise AssertionError("No secret was made, so none can be found: watch.secret(...).")
        flush()
        leaks = self.found()
        for alias in self._databases:
            relay(alias)
        leaks += [leak for leak in self.found() if leak not in leaks]
        if leaks:
            raise AssertionError(self._words(leaks))

    def _words(self, leaks: list[Leak]) -> str:
        secrets = len({leak.secret.number for leak in leaks})
        lines = [
            f"{secrets} of {len(self.secrets)} secrets (seed {self.seed}) were found:",
            *(f"  {leak}" for leak in leaks[:_MAX_SHOWN]),
        ]
        if len(leaks) > _MAX_SHOWN:
            lines.append(f"  and {len(leaks) - _MAX_SHOWN} more times")
        return "\n".join(lines)

    def close(self) -> None:
        """Let go of what is listened to."""
        for place in self.places:
            place.close()


def _pieces(places: list[Place]) -> Iterator[tuple[Place, str, bytes]]:
    for place in places:
        for where, raw in place.read():
            yield place, where, raw


@contextmanager
def watch(*, seed: int = SEED, databases: tuple[str, ...] | list[str] = ()) -> Iterator[Watch]:
    """Watch over secrets that are made and sent inside the block.

    It looks into all tables of the log in `databases` (default: the default one and the ledger's),
    the spool, the archive, our own log lines, mails, and what opens of the records;
    `watch.look_in()` adds places. The end of the block asserts, unless you have.
    """
    watching = Watch(seed=seed, databases=tuple(databases))
    watching.look_in(
        _places.tables(*watching._databases),  # noqa: SLF001 - its own
        _places.opened(),
        _places.spool(),
        archive(),
        logs(),
        _places.mails(),
    )
    try:
        yield watching
        if not watching.asked:
            watching.assert_nowhere()
    finally:
        watching.close()
