"""How much is held back for a tenant's own expression: as much as it can match, and no less."""

import pytest
import re2

from tests.support.streams_of_guard import policies
from trueport.detection.patterns.pack import PatternDetector
from trueport.gateway.guard.judge import rhythm_of
from trueport.gateway.guard.widths import longest_match

WIDTHS = {
    r"abc": 3,
    r"a|bcd|ef": 3,
    r"(?i)\bproject (aurora|borealis)\b": 16,
    r"[0-9]{4}(-[0-9]{4}){3}": 19,
    r"a{2,5}?b?": 6,
    r"a{0}b": 1,
    r"(?P<name>x(?:y|zz)){2}": 6,
    r"(?:(?:ab){3}){2,4}": 24,
    r"[]a][^]b][[:alpha:]\]]": 3,
    r"\pL\p{Greek}\x{1F600}\x41\.\101": 6,
    r"^\Aa$\z": 1,
    r"a{,3}": 5,
    r"日本(?i:語)": 3,
    r"": 0,
}
UNLIMITED = [r"a+", r"a*b", r"(a|b+)c", r"a{3,}", r"(?:a{2,})?x", r"\Qa.b\E"]


@pytest.mark.parametrize("expression", WIDTHS)
def test_an_expression_with_a_limit_is_as_long_as_it_can_match(expression: str) -> None:
    re2.compile(expression)

    assert longest_match(expression) == WIDTHS[expression]


@pytest.mark.parametrize("expression", UNLIMITED)
def test_an_expression_without_a_limit_has_none(expression: str) -> None:
    re2.compile(expression)

    assert longest_match(expression) is None


@pytest.mark.parametrize("expression", [r"(a", r"a)", r"(?<!a)b", "[a"])
def test_what_is_not_understood_has_none(expression: str) -> None:
    assert longest_match(expression) is None


def hold(*whens: dict[str, object], **members: object) -> int | None:
    active = policies(*({"when": when, "action": "redact", "on": ["output"], **members} for when in whens))
    rhythm = rhythm_of(active, PatternDetector.longest_match, frozenset())
    return None if rhythm is None else rhythm.hold


def test_the_hold_is_that_of_the_policy_which_needs_the_longest() -> None:
    assert hold({"keywords": ["moonshot"]}) == 10
    assert hold({"regex": r"[0-9]{4}"}) == 6
    assert hold({"regex": r"[0-9]{4}"}, {"keywords": ["moonshot"]}) == 10
    assert hold({"regex": r"a{1000}b{1000}"}) == 2_002
    assert hold({"keywords": ["moonshot"]}, {"category": "secrets"}) == PatternDetector.longest_match
    assert hold({"unscannable": True}, action="block") is None
