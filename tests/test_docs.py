"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audit_log import checks, conf, registry
from audit_log.management import verbs

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
README = (ROOT / "README.md").read_text()


def _first_cells(text: str, heading: str) -> list[str]:
    """The code in the first column of the first table under a heading."""
    section = text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_the_settings_table_lists_every_key_and_no_other() -> None:
    assert sorted(_first_cells(SETTINGS, "`AUDIT_LOG`")) == sorted(conf.KEYS)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("ENABLED", "`True`"),
        ("MODELS", '`["*"]`'),
        ("REQUESTS", '`"notable"`'),
        ("REQUEST_BODY", '`"redacted"`'),
        ("TRUSTED_PROXIES", "`0`"),
        ("REQUEST_ID_HEADER", '`"X-Request-ID"`'),
        ("ON_FAILURE", '`"allow"`'),
    ],
)
def test_the_settings_table_shows_the_defaults_in_force(key: str, shown: str) -> None:
    row = next(line for line in SETTINGS.splitlines() if line.startswith(f"| `{key}` |"))
    assert row.split("|")[2].strip() == shown
    default = conf.default(key)
    default = list(default) if isinstance(default, tuple) else default
    assert eval(shown.strip("`")) == default


def test_the_table_of_checks_lists_every_id_and_no_other() -> None:
    source = Path(checks.__file__).read_text()
    ids = set(re.findall(r'id="(audit_log\.[EWI]\d+)"', source))
    assert ids == set(_first_cells(SETTINGS, "System checks"))


def test_the_table_of_commands_lists_every_verb_and_no_other() -> None:
    modules = {path.stem for path in Path(verbs.__path__[0]).glob("[a-z]*.py")}
    assert set(_first_cells(SETTINGS, "Commands")) == modules


def test_the_options_of_audited_are_all_documented() -> None:
    section = SETTINGS.split("## Options of", 1)[1].split("\n## ", 1)[0]
    for option in registry.Options.__dataclass_fields__:
        assert f"`{option}`" in section


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_architecture_names_only_rooms_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = "recording|privacy|ledger|delivery|capture|reading"
    for path in set(re.findall(rf"\b(?:{rooms})/[a-z_]+", text)):
        module = ROOT / "audit_log" / path
        assert module.with_suffix(".py").exists() or module.is_dir(), path
