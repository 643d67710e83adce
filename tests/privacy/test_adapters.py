"""Detectors over other people's libraries: real ones, where they are installed."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from audit_log.exceptions import ConfigurationError
from audit_log.privacy import configured
from audit_log.privacy.adapters import free_text, national_ids, phone_numbers
from audit_log.privacy.backtracking import weigh
from audit_log.privacy.detectors import DETECTORS, OVERLAP, Detector, scrub
from audit_log.privacy.encryption import fingerprint
from audit_log.privacy.finders import ByPattern

ADAPTERS = "audit_log.privacy.adapters"
# The examples of python-stdnum's own documentation.
IDS = {
    "be.nn": "85.07.30-033 28",
    "bg.egn": "7523169263",
    "br.cpf": "390.533.447-05",
    "cn.ric": "360426199101010071",
    "de.idnr": "36 574 261 809",
    "ee.ik": "36805280109",
    "es.dni": "54362315-K",
    "es.nie": "X-2482300W",
    "fi.hetu": "131052-308T",
    "fr.nir": "2 95 10 99 126 111 93",
    "gb.nhs": "943-476-5870",
    "hr.oib": "33392005961",
    "in_.aadhaar": "234123412346",
    "it.codicefiscale": "RCCMNL83S18D969H",
    "mx.curp": "BOXW310820HNERXN09",
    "nl.bsn": "1112.22.333",
    "pl.pesel": "44051401359",
    "ro.cnp": "1630615123457",
    "se.personnummer": "880320-0016",
    "za.idnr": "7503305044089",
}


def scrubbed(text: str, *detectors: Detector) -> str:
    return scrub(text, personal=True, fingerprint=fingerprint, detectors=detectors)[0]


# --- telephone numbers ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call +49 (0)30 901820 ext. 5 now", "call +49 *** *** 1820 now"),
        ("+1 415-555-2671 and +442071838750", "+1 *** *** 2671 and +44 *** *** 8750"),
        ("\uff0b44 20 7183 8750", "+44 *** *** 8750"),
        ("+1 234 and 1+1=2, 030 901820", "+1 234 and 1+1=2, 030 901820"),
    ],
)
def test_international_numbers_are_found_by_their_plans(text: str, expected: str):
    assert scrubbed(text, phone_numbers.detector()) == expected


def test_numbers_as_written_in_a_country_are_found_for_it_alone():
    text = "Tel. 030 901820 (Berlin), (415) 555-2671"
    assert scrubbed(text, phone_numbers.for_regions("DE")) == (
        "Tel. +49 *** *** 1820 (Berlin), (415) 555-2671"
    )
    assert scrubbed(text, phone_numbers.for_regions("DE", "US")) == (
        "Tel. +49 *** *** 1820 (Berlin), +1 *** *** 2671"
    )


def test_ids_and_hashes_are_no_telephone_numbers():
    text = "12345678-0301-9018-2012-415555267112 2026-11-24 d41d8cd98f00b204e9800998ecf8427e"
    assert scrubbed(text, phone_numbers.for_regions("DE", "US")) == text


@pytest.mark.parametrize("regions", [(), ("XX",)])
def test_unknown_regions_are_refused(regions: tuple[str, ...]):
    with pytest.raises(ConfigurationError, match="for_regions"):
        phone_numbers.for_regions(*regions)


# --- national ids ---


@pytest.mark.parametrize("name", national_ids._WRITTEN)
def test_each_kind_of_id_is_found_and_no_other_digits(name: str):
    (detector,) = national_ids.for_ids(name)
    text = f"id {IDS[name]}, thanks"
    assert detector.pretest(text)
    mark = fingerprint(detector.name, IDS[name])
    assert scrubbed(text, detector) == f"id [MASKED:{detector.name} fp={mark}], thanks"
    digits = [place for place, sign in enumerate(IDS[name]) if sign.isdecimal()]
    wrong = [
        IDS[name][:at] + str((int(IDS[name][at]) + 1) % 10) + IDS[name][at + 1 :] for at in digits
    ]
    assert any(scrubbed(each, detector) == each for each in wrong)


def test_only_the_strong_ones_run_unless_named():
    assert [detector.name for detector in national_ids.detector()] == [
        name.replace(".", "_") for name in national_ids.STRONG
    ]


@pytest.mark.parametrize("detector", national_ids.for_ids(*national_ids._WRITTEN))
def test_their_patterns_are_bounded(detector: Detector):
    assert isinstance(detector.find, ByPattern)
    weigh(detector.find.pattern, longest=OVERLAP)


@pytest.mark.parametrize("names", [(), ("fr.nir", "xx.yy")])
def test_unknown_ids_are_refused(names: tuple[str, ...]):
    with pytest.raises(ConfigurationError, match=re.escape("pl.pesel")):
        national_ids.for_ids(*names)


# --- free text ---


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of spaCy's that knows one person and one place by rule, and needs no download."""
    pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed.")
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": "Ada Byron"}, {"label": "GPE", "pattern": "London"}]
    )
    path = tmp_path_factory.mktemp("spacy") / "model"
    nlp.to_disk(path)
    return str(path)


def test_presidio_finds_people_without_the_network(model: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        pytest.fail("presidio reached for the network.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = scrubbed("Met Ada Byron in London, a@b.org", free_text.for_language("en", model=model))
    assert found == (
        f"Met [MASKED:person fp={fingerprint('person', 'Ada Byron')}] in "
        f"[MASKED:location fp={fingerprint('location', 'London')}], a@b.org"
    )


class Found:
    """What presidio gives: a part of the text, and what it is."""

    def __init__(self, text: str, part: str, kind: str) -> None:
        self.start, self.entity_type = text.index(part), kind
        self.end = self.start + len(part)


class Engine:
    """The one method that is used of presidio's engine; made when it is first asked."""

    made = 0

    def __init__(self) -> None:
        Engine.made += 1

    def analyze(self, text: str, language: str, entities: list[str]) -> list[Any]:
        assert (language, entities) == ("en", ["PERSON"])
        people = ("Ada Byron", "person", "Al")
        return [Found(text, name, "PERSON") for name in people if name in text]


def test_what_the_engine_finds_is_masked_once():
    Engine.made = 0
    detector = free_text.over(Engine, "en", ("PERSON",))
    assert Engine.made == 0
    once = scrubbed("Al met Ada Byron", detector)
    assert once == f"Al met [MASKED:person fp={fingerprint('person', 'Ada Byron')}]"
    assert scrubbed(once, detector) == once
    assert Engine.made == 1


def test_an_engine_that_cannot_be_made_masks_the_text():
    def fail() -> Any:
        raise OSError("no model")

    assert (
        scrubbed("some prose", free_text.over(fail, "en", ("PERSON",))) == "[MASKED:unclassified]"
    )


def test_what_has_no_words_needs_no_engine():
    """Ids of requests are looked at in web processes."""
    assert not free_text.over(Engine, "en", ("PERSON",)).pretest("0af7651916cd43dd8448eb211c80319c")


# --- as the setting names them ---


@override_settings(
    AUDIT_LOG={
        "DETECTORS": [f"{ADAPTERS}.phone_numbers.detector", f"{ADAPTERS}.national_ids.detector"]
    }
)
def test_the_setting_names_adapters():
    found = [detector.name for detector in configured.detectors()]
    assert found[len(DETECTORS) :] == [
        "phone_number",
        *(name.replace(".", "_") for name in national_ids.STRONG),
    ]


@pytest.mark.parametrize(
    ("module", "client", "extra"),
    [
        ("phone_numbers", "phonenumbers", "phone"),
        ("national_ids", "stdnum", "national-ids"),
        ("free_text", "presidio_analyzer", "free-text"),
    ],
)
def test_a_missing_library_is_refused_by_its_extra(
    module: str, client: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(phone_numbers, "phonenumbers", None)
    for adapter in (national_ids, free_text):
        monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    with (
        override_settings(AUDIT_LOG={"DETECTORS": [f"{ADAPTERS}.{module}.detector"]}),
        pytest.raises(ConfigurationError, match=rf"pip install 'django-audit-ledger\[{extra}\]'"),
    ):
        configured.detectors()


def test_a_model_that_is_not_there_is_refused_and_not_fetched(monkeypatch: pytest.MonkeyPatch):
    there = "presidio_analyzer"
    monkeypatch.setattr(free_text, "find_spec", lambda name: there if name == there else None)
    with pytest.raises(ConfigurationError, match="'xx_core_news_sm', which it does not fetch"):
        free_text.for_language("xx", model="xx_core_news_sm")
    with pytest.raises(ConfigurationError, match="does not look for URL"):
        free_text.for_language("en", model=str(Path.cwd()), entities=("PERSON", "URL"))
