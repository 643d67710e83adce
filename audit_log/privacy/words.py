"""Words that are made shorter, or that an error says: without the secrets that stand in them."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from audit_log.privacy.detectors import OVERLAP, scrub
from audit_log.privacy.encryption import fingerprint

_MAX_WORDS: Final = 4 * 1024
_MAX_CHAIN: Final = 20  # causes and contexts: nobody reads more

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def cut(text: str, limit: int, *, personal: bool = False) -> str:
    """The first `limit` characters. What a detector knows up to there is masked before.

    Half a secret is one that no detector would know later, and often as good as the whole: a
    password of a URL whose `@` is gone. `personal` is for what is to be stored open.
    """
    if len(text) <= limit:
        return text
    text, _ = scrub(text[: limit + OVERLAP], personal=personal, fingerprint=fingerprint)
    return text[:limit]


def words_of(error: BaseException, limit: int) -> str:
    """`Type: first line` of an error: it may quote the value it stumbled over."""
    try:
        said = (str(error).splitlines() or [""])[0]
    except Exception as again:  # noqa: BLE001 - somebody else's __str__ may raise anything
        said = f"<{type(again).__name__}>"
    return cut(f"{type(error).__name__}: {_scrubbed(said)}", limit)


def tellable(error: BaseException) -> ExcInfo:
    """An error as `exc_info` for our own log: itself, or one that looks like it without secrets."""
    chain = _chain(error)
    if all(_is_harmless(each) for each in chain):
        return type(error), error, error.__traceback__
    twins = {id(each): _twin(each) for each in chain}
    for each in chain:
        twin = twins[id(each)]
        twin.__cause__ = twins.get(id(each.__cause__))
        twin.__context__ = twins.get(id(each.__context__))
        twin.__suppress_context__ = each.__suppress_context__
    told = twins[id(error)]
    return type(told), told, told.__traceback__


def _chain(error: BaseException) -> list[BaseException]:
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting and len(found) < _MAX_CHAIN:
        one = waiting.pop()
        if one is not None and id(one) not in found:
            found[id(one)] = one
            waiting += [one.__context__, one.__cause__]
    return list(found.values())


def _is_harmless(error: BaseException) -> bool:
    # A group prints what it holds, which is not looked into.
    if isinstance(error, BaseExceptionGroup):
        return False
    said = _said(error)
    return all(text == _scrubbed(text) for text in said)


def _said(error: BaseException) -> list[str]:
    """Everything a traceback prints of it: its words, and its notes."""
    try:
        return [str(error), *map(str, getattr(error, "__notes__", ()))]
    except Exception as again:  # noqa: BLE001 - as above
        return [f"<{type(again).__name__}>"]


def _scrubbed(text: str) -> str:
    return scrub(cut(text, _MAX_WORDS), personal=True, fingerprint=fingerprint)[0]


def _twin(error: BaseException) -> BaseException:
    """Looks like `error` in a traceback, and says what it says without secrets."""
    kind = type(error)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made: BaseException = type(kind.__name__, (Exception,), named)(
        "\n".join(map(_scrubbed, _said(error)))
    )
    return made.with_traceback(error.__traceback__)
