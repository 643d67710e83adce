"""Names of people and places in prose: presidio-analyzer with spaCy, extra `free-text`.

It takes milliseconds a text and hundreds of megabytes, runs in the relay only, and is never right
all the time. Nothing of it may reach for the network: the language's model has to be installed
(presidio would fetch it), and the recognisers that ask for the list of public suffixes (e-mail
addresses and URLs, which the built-in detectors look for) are not used.

`detector` looks for persons and places in English. Another language or model, by a module of the
project's that DETECTORS names:

    german = free_text.for_language("de", model="de_core_news_md")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from audit_log.exceptions import ConfigurationError
from audit_log.privacy.detectors import Detector
from audit_log.privacy.finders import MASKS, Fingerprint, Span

ENTITIES: Final = ("PERSON", "LOCATION", "NRP")
MODEL: Final = "en_core_web_sm"
_NETWORKED: Final = frozenset({"EMAIL_ADDRESS", "URL"})
_SHORTEST: Final = 3


class Engine(Protocol):
    """What is used of `presidio_analyzer.AnalyzerEngine`."""

    def analyze(self, text: str, language: str, entities: list[str]) -> list[Any]: ...


def detector() -> Detector:
    """Finds persons and places in English text. Raises ConfigurationError without what it needs."""
    return for_language("en")


def for_language(
    language: str, *, model: str = MODEL, entities: tuple[str, ...] = ENTITIES
) -> Detector:
    """The same for another language, spaCy model (a package or a folder) and kinds.

    Raises ConfigurationError.
    """
    if find_spec("presidio_analyzer") is None:
        raise ConfigurationError(
            "It needs presidio-analyzer: pip install 'django-audit-ledger[free-text]'."
        )
    if find_spec(model) is None and not Path(model).is_dir():
        raise ConfigurationError(
            f"It needs spaCy's model {model!r}, which it does not fetch by itself: install it "
            "(spacy.io/models), or name a folder."
        )
    networked = sorted(_NETWORKED.intersection(entities))
    if networked:
        raise ConfigurationError(
            f"It does not look for {', '.join(networked)}: presidio asks the network "
            "about these, and the built-in detectors find them."
        )
    return over(lambda: _engine(language, model), language, entities)


def over(make: Any, language: str, entities: tuple[str, ...]) -> Detector:
    """A detector over the engine that `make()` gives, once there is text for it."""
    return Detector("free_text", _has_words, _Finder(make, language, entities), personal=True)


def _has_words(text: str) -> bool:
    # What a web process asks about, ids of requests, has none: no model is loaded there.
    return " " in text


class _Finder:
    """`Detector.find` over an engine that is made when it is first needed."""

    def __init__(self, make: Any, language: str, entities: tuple[str, ...]) -> None:
        self.make = make
        self.language = language
        self.entities = entities
        self.engine: Engine | None = None
        self.lock = threading.Lock()

    def __call__(
        self, text: str, start: int, stop: int, fingerprint: Fingerprint
    ) -> Iterator[Span]:
        with self.lock:
            if self.engine is None:
                self.engine = self.make()
            engine: Engine = self.engine
        part = text[start:stop]
        found = engine.analyze(text=part, language=self.language, entities=list(self.entities))
        masks = [mask.span() for mask in MASKS.finditer(part)]
        for one in sorted(found, key=lambda each: (each.start, -each.end)):
            if one.end - one.start < _SHORTEST or any(
                first < one.end and one.start < end for first, end in masks
            ):
                continue
            kind = one.entity_type.lower()
            mark = fingerprint(kind, part[one.start : one.end])
            yield start + one.start, start + one.end, f"[MASKED:{kind} fp={mark}]"


def _engine(language: str, model: str) -> Engine:
    from presidio_analyzer import AnalyzerEngine  # noqa: PLC0415 - seconds, and only in the relay
    from presidio_analyzer.nlp_engine import NlpEngineProvider  # noqa: PLC0415

    models = [{"lang_code": language, "model_name": model}]
    configuration = {"nlp_engine_name": "spacy", "models": models}
    provider = NlpEngineProvider(nlp_configuration=configuration)
    engine: Engine = AnalyzerEngine(
        nlp_engine=provider.create_engine(), supported_languages=[language]
    )
    return engine
