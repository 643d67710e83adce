from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from django.test import override_settings

import audit_log
from audit_log.capture.headers import is_id
from audit_log.checks import check_settings
from audit_log.exceptions import ConfigurationError
from audit_log.ledger.scrubbing import Contents, contents_of_all
from audit_log.privacy import configured
from audit_log.privacy.detectors import (
    DETECTORS,
    UNCLASSIFIED,
    Detector,
    detect,
    in_force,
    scrub,
    suspects,
)
from audit_log.privacy.encryption import fingerprint
from audit_log.testing import capture_events

OWN = "tests.privacy.own_detectors"


def names() -> list[str]:
    return [detector.name for detector in in_force()]


def test_without_the_setting_the_built_in_ones_run_and_nothing_else():
    assert in_force() is DETECTORS


@pytest.mark.parametrize(
    ("listed", "added"),
    [
        (["badge"], ["badge"]),
        (["EMPLOYEE_ID"], ["employee_id"]),
        (["both"], ["badge", "employee"]),
        (["one", "employee"], ["badge", "employee"]),
    ],
)
def test_a_detector_a_pattern_and_callables_are_added_behind_ours(listed, added):
    with override_settings(AUDIT_LOG={"DETECTORS": [f"{OWN}.{name}" for name in listed]}):
        assert names() == [*(detector.name for detector in DETECTORS), *added]
    assert in_force() is DETECTORS


def test_they_are_read_once():
    with override_settings(AUDIT_LOG={"DETECTORS": [f"{OWN}.both"]}):
        assert in_force() is in_force()


def test_a_personal_one_of_ours_can_be_switched_off():
    text = "+442071838750 a@example.com"
    with override_settings(AUDIT_LOG={"DETECTORS": ["-phone"]}):
        assert "phone" not in names()
        assert detect(text, personal=True) == ("detector:email",)
    assert detect(text, personal=True) == ("detector:email", "detector:phone")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("-card", "finds secrets, and is never off"),
        ("-private_key", "can be switched off: iban, ssn, email, phone"),
        ("-nothing", "names none of ours"),
        ("nowhere", "leads nowhere"),
        ("tests.nowhere.detector", "No module named"),
        (f"{OWN}.missing", "leads nowhere"),
        (f"{OWN}.slow", r"the pattern '\(a\+\)\+\$' has a repeat without an end"),
        (f"{OWN}.slow_by_hand", "can take countless steps"),
        (f"{OWN}.second_card", "a second detector called 'card'"),
        (f"{OWN}.number", "It is a int, and no Detector"),
        (f"{OWN}.badly_named", "cannot be called 'No Name'"),
        (f"{OWN}.without_find", "must be callable"),
        (f"{OWN}.none", "gives no detector"),
        (f"{OWN}.mixed", "gives a str among its detectors"),
        (f"{OWN}.fails", "RuntimeError: no key server"),
    ],
)
def test_a_wrong_entry_is_e001_and_named(entry: str, said: str):
    with override_settings(AUDIT_LOG={"DETECTORS": [entry]}):
        (message,) = check_settings()
        assert message.id == "audit_log.E001"
        assert repr(entry) in message.msg
        assert re.search(said, message.msg), message.msg
        with pytest.raises(ConfigurationError, match=r'AUDIT_LOG\["DETECTORS"\]'):
            configured.detectors()


def test_two_of_one_name_are_refused():
    listed = [f"{OWN}.badge", f"{OWN}.second_badge"]
    with (
        override_settings(AUDIT_LOG={"DETECTORS": listed}),
        pytest.raises(ConfigurationError, match="a second detector called 'badge'"),
    ):
        configured.detectors()


def test_a_server_with_a_catastrophic_pattern_does_not_start():
    code = (
        "from django.conf import settings; settings.configure(INSTALLED_APPS=['audit_log'], "
        f"SECRET_KEY='x', AUDIT_LOG={{'DETECTORS': ['{OWN}.slow']}}); import django; django.setup()"
    )
    environment = {key: value for key, value in os.environ.items() if key[:6] != "DJANGO"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "(audit_log.E001)" in done.stderr
    assert "without an end" in done.stderr


@pytest.mark.parametrize(
    ("name", "pattern", "options", "said"),
    [
        ("Employee", "EMP-[0-9]{6}", {}, "cannot be called 'Employee'"),
        ("x" * 41, "EMP-[0-9]{6}", {}, "at most 40"),
        ("badge", "(a+)+$", {}, "without an end"),
        ("badge", "(a", {}, "is no regular expression"),
        ("badge", "a?", {}, "nothing at all"),
        ("badge", '"id":[0-9]{4}', {"pretest": '"id"'}, "quotes"),
        ("badge", "[0-9]{4}", {"pretest": ""}, "pretest must be text"),
    ],
)
def test_the_maker_refuses_by_name(name: str, pattern: str, options: dict[str, Any], said: str):
    with pytest.raises(ConfigurationError, match=said):
        Detector.of_pattern(name, pattern, **options)


def scrubbed(text: str, *detectors: Detector) -> tuple[str, tuple[str, ...]]:
    return scrub(text, personal=True, fingerprint=fingerprint, detectors=detectors or None)


def test_what_a_pattern_finds_is_replaced_by_a_mask_of_one_width():
    badge = Detector.of_pattern("badge", r"B-[0-9]{1,9}")
    for found in ("B-1", "B-123456789"):
        left, rules = scrubbed(f"see {found}.", badge)
        assert left == f"see [MASKED:badge fp={fingerprint('badge', found)}]."
        assert rules == ("detector:badge",)


def test_a_mask_is_not_masked_again():
    digits = Detector.of_pattern("digits", "[0-9a-f]{4,8}")
    badge = Detector.of_pattern("badge", "B-[0-9]{4}")
    once, _ = scrubbed("B-1234 and 12345678", badge, digits)
    assert once.count("[MASKED:") == 2
    assert scrubbed(once, badge, digits) == (once, ())


@pytest.mark.parametrize(
    ("pattern", "options", "text", "asked"),
    [
        ("EMP-[0-9]{6}", {}, "EMP-", True),
        ("EMP-[0-9]{6}", {}, "emp", False),
        ("(?i)emp-[0-9]{6}", {}, "anything", True),
        ("(?i)emp-[0-9]{6}", {"pretest": "Emp-"}, "EMP-", True),
        ("(?i)emp-[0-9]{6}", {"pretest": "Emp-"}, "anything", False),
        ("[0-9]{6}", {}, "anything", True),
    ],
)
def test_the_pretest_is_the_text_that_every_match_has(pattern, options, text, asked):
    detector = Detector.of_pattern("employee", pattern, **options)
    assert bool(detector.pretest(text)) is asked


@pytest.mark.parametrize("replacement", ["AB-1234", "<ab 1234>", "was AB1234 once"])
def test_a_replacement_that_still_holds_what_was_found_masks_the_string(replacement: str):
    leaky = Detector("leaky", bool, lambda text, *_: iter([(4, 11, replacement)]))
    assert scrubbed("see AB-1234.", leaky) == (UNCLASSIFIED, ("unclassified",))


def event(**values: Any) -> Any:
    with capture_events() as events:
        audit_log.record("badge.shown", **values)
    return events[0]


def contents(**values: Any) -> Contents:
    (found,) = contents_of_all([event(**values)])
    assert isinstance(found, Contents)
    return found


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(AUDIT_LOG={"DETECTORS": [f"{OWN}.badge", f"{OWN}.EMPLOYEE_ID"]})
def test_scrubbing_masks_what_they_find_in_every_value():
    found = contents(
        data={"note": 'shown "BADGE-1234"\n', "deep": [{"a": "EMP-123456"}]},
        reason="EMP-123456 was here",
    )
    said = b"".join(found.encoded)
    assert b"BADGE-1234" not in said
    assert b"EMP-123456" not in said
    assert said.count(fingerprint("badge", "BADGE-1234").encode()) == 1
    assert {mark.rule for mark in found.marks} == {"detector:badge", "detector:employee_id"}


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(AUDIT_LOG={"DETECTORS": [f"{OWN}.employee"]})
def test_a_personal_one_leaves_what_is_sealed():
    found = contents(data={"note": "EMP-123456"}, reason="by EMP-123456")
    assert found.marks == []
    assert b"EMP-123456" in b"".join(found.encoded)
    assert not is_id("EMP-123456")  # an id of a request is stored open
    assert is_id("EMP-12345")


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(AUDIT_LOG={"DETECTORS": [f"{OWN}.broken"]})
def test_one_that_raises_masks_the_string_alone():
    found = contents(data={"note": "please break me", "other": "whole"})
    said = b"".join(found.encoded)
    assert b"break me" not in said
    assert UNCLASSIFIED.encode() in said
    assert b"whole" in said


def test_a_pretest_that_raises_does_not_stop_the_others():
    def fail(_: str) -> bool:
        raise RuntimeError

    broken = Detector("broken", fail, lambda *_: iter(()))
    assert suspects("x", personal=True, detectors=(*DETECTORS, broken)) == (*DETECTORS, broken)
