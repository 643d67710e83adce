from __future__ import annotations

import re

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from audit_log.privacy.backtracking import MAX_STEPS, Refused, Weight, required_text, weigh
from audit_log.privacy.detectors import DETECTORS, OVERLAP
from audit_log.privacy.finders import ByPattern
from tests.privacy.matching import Counting

GOOD = r"""
EMP-[0-9]{6}
\bEMP-\d{4,8}\b
[A-Z]{2,3}-\d{4,8}
(?<![0-9])[0-9]{4,8}(?![0-9])
\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,255}\.[A-Za-z]{2,24}\b
[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}
\b[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){3,7}[ ]?[A-Z0-9]{1,4}\b
(?:AKIA|ASIA)[A-Z0-9]{16}
cus_[A-Za-z0-9]{14,24}
\bMRN[: ]{0,2}\d{6,10}\b
^ACC-(?:[A-Z0-9]{1,8}-){1,4}[A-Z0-9]{1,8}$
\bEMP(?:-[A-Z0-9]{1,8}){1,3}\b
(?i:patient|case)[ -]{1,3}\d{4,9}
[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}
(?>[a-z]{1,20})-[0-9]{4}
[a-z]{1,64}+[0-9]{3}
https://intranet\.example\.com/[^\s"']{1,200}
\b(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}\b
[A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}
\d{1,3}(?:,\d{3}){0,4}\.\d{2} EUR
(?P<area>\d{3})-(?P<number>\d{4})
(?<=id=)\w{8,32}
[\w-]{1,40}\.corp\.example\.com
.{1,100}secret
pat_[a-z0-9]{20}(?=[^a-z0-9]|$)
""".strip().splitlines()

# From write-ups of outages and from scanners' own tests, and the same with maxima that do not help.
HOSTILE = r"""
(a+)+$
([a-zA-Z]+)*$
(a|aa)+$
(a|a?)+$
(.*a){12}
(a*)*b
(x+x+)+y
^(([a-z])+.)+[A-Z]([a-z])+$
^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$
(?:(?:\"|'|\]|\}|\\|\d|(?:nan|infinity|true|false|null|undefined|symbol|math)|\`|\-|\+)+[)]*;?((?:\s|-|~|!|{}|\|\||\+)*.*(?:.*=.*)))
^\s+|\s+$
\w+@\w+\.com
EMP-\d+
(?:a(?=a++b)){2}
(\w{1,50}\s?){1,50}$
(.{0,50}a){12}
\d{1,200}\d{1,200}\d{1,200}x
(a{1,30}){1,30}b
(?:a|ab|b){1,30}c
([0-9]{1,20}[.,]?){1,20}EUR
^(?:[a-z0-9]{1,20}-?){1,10}$
(?:\s{0,50}\n){1,50}x
(?:[a-z]{1,20}[a-z0-9]{1,20}){1,4}!
[a-z]{1,200}[a-z0-9]{1,200}\Z
(?:(?:a?){20}a{20}){3}
(?i:(?:k{1,30}\u212a{1,30}){1,5}x)
.{1,9000}x.{1,9000}y
""".strip().splitlines()

REFUSED = [
    ("", "nothing at all"),
    ("a?", "nothing at all"),
    ("(?=a)", "nothing at all"),
    (r"\b|$", "nothing at all"),
    (r"(\w)\1", "refers back"),
    ("a(b)?(?(1)c|d)", "refers back"),
    (f".{{1,{OVERLAP + 1}}}+", "no more than"),
    ("a++", "without an end"),
    ("(?>a+)b", "without an end"),
    ("a{3,}", "without an end"),
    ("a*?b", "without an end"),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_ordinary_patterns_are_taken(pattern: str):
    weight = weigh(re.compile(pattern), longest=OVERLAP)
    assert 0 < weight.low <= weight.high < OVERLAP
    assert 0 < weight.steps <= MAX_STEPS


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_patterns_are_refused_with_the_reason(pattern: str):
    with pytest.raises(Refused, match=r"without an end|steps at each character"):
        weigh(re.compile(pattern), longest=OVERLAP)


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_what_else_is_refused_says_why(pattern: str, why: str):
    with pytest.raises(Refused, match=why):
        weigh(re.compile(pattern), longest=OVERLAP)


def test_a_pattern_of_bytes_is_refused():
    with pytest.raises(Refused, match="bytes"):
        weigh(re.compile(b"a"), longest=OVERLAP)  # type: ignore[arg-type]


def test_our_own_patterns_would_be_taken():
    refused = set()
    for detector in DETECTORS:
        if isinstance(detector.find, ByPattern):
            try:
                weigh(detector.find.pattern, longest=OVERLAP)
            except Refused:
                refused.add(detector.name)
    assert refused == {"bearer"}  # credentials of 8,192 characters behind one of three words


atoms = st.sampled_from(["a", "b", "-", "[ab]", "[^a]", r"\w", r"\W", ".", "[a-b-]", r"[\d-]"])
quantifiers = st.sampled_from(["", "", "?", "{1,3}", "{0,4}", "{2,5}", "{1,3}?", "{0,4}+", "{2}"])
places = st.sampled_from([r"\b", "$", r"\Z", "(?=a)", "(?!a)", "(?![ab])", "(?=[^b]|$)"])


def _groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sequences = st.lists(inner | places, min_size=1, max_size=3).map("".join)
    branches = st.lists(sequences, min_size=1, max_size=3).map("|".join)
    opened = st.sampled_from(["(?:", "(?>", "("])
    # Of lazy repeats of what may be nothing, each Python makes something else.
    greedy = quantifiers.filter(lambda quantifier: not quantifier.endswith("}?"))
    return st.tuples(opened, branches, st.just(")"), greedy).map("".join)


pieces = st.recursive(st.tuples(atoms, quantifiers).map("".join), _groups, max_leaves=8)
generated = st.lists(pieces | places, min_size=1, max_size=4).map("".join)
runs = st.lists(st.sampled_from(["a", "b", "-", "aaaa", "abab", "a-a-", "\n"]), max_size=8)


def weighed(pattern: str) -> Weight:
    """The weight of what is not refused."""
    try:
        return weigh(re.compile(pattern), longest=OVERLAP)
    except Refused:
        reject()


@given(generated, runs.map("".join))
def test_no_text_takes_more_steps_than_a_pattern_was_weighed_for(pattern: str, text: str):
    weight = weighed(pattern)
    counted = Counting(pattern, text)
    # Each shorter try fails at the first character of what follows, of which there may be several.
    others = 2 + sum(map(pattern.count, ("|", "?", "{0", "(")))
    assert counted.steps <= weight.steps * others


@given(generated, runs.map("".join))
def test_the_counting_matcher_matches_as_python_does(pattern: str, text: str):
    found = re.match(pattern, text)
    assert Counting(pattern, text).end == (None if found is None else found.end())


@given(generated, runs.map("".join))
def test_every_match_has_the_length_and_the_text_it_was_weighed_with(pattern: str, text: str):
    compiled, weight = re.compile(pattern), weighed(pattern)
    for found in compiled.finditer(text):
        assert weight.low <= len(found[0]) <= weight.high
        assert required_text(compiled) in found[0]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("EMP-[0-9]{6}", "EMP-"),
        (r"\d{3}(?:-ID-)\d", "-ID-"),
        ("(?:ab|cd)efg", "efg"),
        ("ab?cde", "cde"),
        ("(?:longer){0,2}ab", "ab"),
        ("(?:xyz){2,3}", "xyz"),
        ('"id":"[0-9]{4}', "id"),  # JSON writes quotes otherwise
        ("(?i)emp-[0-9]{6}", ""),
        ("[0-9]{6}", ""),
    ],
)
def test_the_text_that_every_match_has_is_known(pattern: str, text: str):
    assert required_text(re.compile(pattern)) == text
