"""The documents say what the code does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from django.dispatch import Signal

from audit_log import checks, conf, metrics, registry, signals
from audit_log.conf import reference
from audit_log.management import verbs
from audit_log.privacy import key_checks, names
from audit_log.privacy.detectors import DETECTORS, scrub
from audit_log.privacy.finders import no_fingerprint
from audit_log.schedule import beat_schedule

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def _checks() -> str:
    """The source of every system check."""
    return "".join(Path(str(module.__file__)).read_text() for module in (checks, key_checks))


def _first_cells(text: str, heading: str) -> list[str]:
    """The code in the first column of the first table under a heading."""
    section = text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_the_settings_table_lists_every_key_and_no_other() -> None:
    assert sorted(_first_cells(SETTINGS, "`AUDIT_LOG`")) == sorted(conf.KEYS)


def test_the_settings_table_is_the_one_made_from_the_code() -> None:
    """`python -m audit_log.conf.reference docs/configuration.md` makes it anew."""
    assert reference.with_table(SETTINGS, conf.default) == SETTINGS


def test_the_table_of_checks_lists_every_id_and_no_other() -> None:
    source = _checks()
    ids = set(re.findall(r'id="(audit_log\.[EWI]\d+)"', source))
    assert ids == set(_first_cells(SETTINGS, "System checks"))


def test_the_table_of_commands_lists_every_verb_and_no_other() -> None:
    modules = {path.stem for path in Path(verbs.__path__[0]).glob("[a-z]*.py")}
    assert set(_first_cells(SETTINGS, "Commands")) == modules


def test_every_metric_is_told() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    told = re.findall(r"`([a-z_]+)(?:\{[a-z]+\})?`", page.split("| metric,", 1)[1])
    assert {kind.name for kind in metrics.KINDS} <= set(told)


def test_the_table_of_signals_lists_every_one_and_no_other() -> None:
    ours = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert set(_first_cells(SETTINGS, "Signals")) == ours


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_of_commands_checks_and_tasks_is_there(page: Path) -> None:
    text = page.read_text()
    ids = set(re.findall(r'id="(audit_log\.[EWI]\d+)"', _checks()))
    assert set(re.findall(r"audit_log\.[EWI]\d{3}", text)) <= ids
    for verb, rest in re.findall(r"(?:manage\.py|`)\s?audit_log ([a-z]+)([^`\n]*)", text):
        assert verb in verbs.NAMES
        parser = argparse.ArgumentParser()
        verbs.load(verb).add_arguments(parser)
        known = parser.format_help() + "--json --progress --database"
        assert [flag for flag in re.findall(r"--[a-z-]+", rest) if flag not in known] == []
    named = set(re.findall(r"`audit_log\.(relay|checkpoint|alerts|retention|sinks)`", text))
    assert {f"audit_log.{name}" for name in named} <= set(beat_schedule())


def test_the_options_of_audited_are_all_documented() -> None:
    section = SETTINGS.split("## Options of", 1)[1].split("\n## ", 1)[0]
    for option in registry.OPTIONS:
        assert f"`{option}`" in section


MASKING = (ROOT / "docs" / "masking.md").read_text()


def _rows(text: str, heading: str) -> list[list[str]]:
    """The code in each cell of the first table under a heading."""
    section = text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[*re.findall(r"`([^`]+)`", line)] for line in lines]


def test_the_table_of_names_has_every_kind_and_word() -> None:
    section = MASKING.split("## Names", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (\w+) \| (`.+`) \|.*\|.*\|$", section, re.MULTILINE)
    assert {kind: re.findall(r"`([^`]+)`", words) for kind, words in rows} == {
        kind.value: words.split() for kind, words in names._TABLE.items()
    }


def test_the_table_of_detectors_says_what_becomes_of_its_examples() -> None:
    rows = _rows(MASKING, "Detectors")
    assert [row[0] for row in rows] == [detector.name for detector in DETECTORS]
    for name, example, becomes in rows:
        detector = next(each for each in DETECTORS if each.name == name)
        left, rules = scrub(example, personal=detector.personal, fingerprint=no_fingerprint)
        assert (left.replace("00000000", "…"), rules) == (becomes, (detector.rule,))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_architecture_names_only_rooms_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = "recording|privacy|ledger|delivery|capture|reading"
    for path in set(re.findall(rf"\b(?:{rooms})/[a-z_]+", text)):
        module = ROOT / "audit_log" / path
        assert module.with_suffix(".py").exists() or module.is_dir(), path
