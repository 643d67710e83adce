"""Words that are cut, and words of errors."""

from __future__ import annotations

import logging
import traceback

import pytest

from audit_log.privacy.words import cut, tellable, words_of
from audit_log.recording import losses

CARD = "4111 1111 1111 1111"
URL = "postgres://app:correct-horse-battery@db/x"


class HostileError(Exception):
    def __str__(self) -> str:
        raise ValueError(CARD)


def test_short_text_is_left_as_it_is():
    assert cut(CARD, len(CARD)) == CARD
    assert cut("a" * 300, 256) == "a" * 256


@pytest.mark.parametrize("before", range(200, 256))
def test_no_part_of_a_password_is_left_before_a_cut(before: int):
    text = f"{'x' * before} {URL} {'y' * 99}"
    left = cut(text, 256)
    assert len(left) == 256
    assert "correct" not in left
    assert left.startswith("x" * before)


def test_personal_data_is_cut_in_two_only_where_it_is_sealed():
    text = f"{'x' * 10} someone@example.org"
    assert cut(text, 20) == "x" * 10 + " someone@e"
    assert cut(text, 20, personal=True) == "x" * 10 + " s***@exam"


def test_words_of_an_error_are_its_type_and_first_line_without_secrets():
    error = ValueError(f"no {CARD}\nsecond")
    assert words_of(error, 500) == "ValueError: no **** **** **** 1111"
    assert words_of(error, 12) == "ValueError: "
    assert words_of(HostileError(), 500) == "HostileError: <ValueError>"
    assert "correct" not in words_of(ValueError(f"{'x' * 470} {URL}"), 500)


def test_error_that_says_nothing_secret_is_told_as_it_is():
    error = ValueError("no")
    assert tellable(error) == (ValueError, error, None)


def _raised() -> Exception:
    try:
        _raise()
    except LookupError as error:
        error.add_note(f"note {CARD}")
        return error
    pytest.fail("It did not raise.")


def _raise() -> None:
    try:
        dict[str, int]()[CARD]
    except KeyError as error:
        raise LookupError(f"not {CARD}") from error


def test_told_error_looks_like_the_raised_one_without_its_secrets():
    raised = _raised()
    told = "".join(traceback.format_exception(*tellable(raised)))
    expected = "".join(traceback.format_exception(raised))
    assert CARD in expected
    assert told == expected.replace(CARD, "**** **** **** 1111")


def test_causes_that_go_in_circles_are_told_once():
    first, second = ValueError(CARD), ValueError("second")
    first.__context__, second.__context__ = second, first
    told = "".join(traceback.format_exception(*tellable(second)))
    assert CARD not in told
    assert told.count("second") == 1


def test_group_of_errors_is_told_by_its_own_words_only():
    group = ExceptionGroup("several", [ValueError(CARD)])
    told = "".join(traceback.format_exception(*tellable(group)))
    assert CARD not in told
    assert "several (1 sub-exception)" in told


def test_loss_is_logged_without_what_its_error_quotes(caplog: pytest.LogCaptureFixture):
    try:
        _raise()
    except LookupError:
        losses.warn("test_words", "It failed.")
    assert CARD not in caplog.text
    assert "LookupError: not **** **** **** 1111" in caplog.text
    assert "Traceback" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
