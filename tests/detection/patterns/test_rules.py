"""What the rule book promises whatever its rules are: bounded, linear, and steady while a text grows."""

import re
import time
from importlib import import_module
from typing import Final

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from tests.support.patterns import named_examples, token_examples
from trueport.detection.patterns import exfiltration, phi, pii, secrets
from trueport.detection.patterns.rules import AFTER_BYTES, BEFORE_BYTES, LONGEST_MATCH, Match, Rule, RuleBook
from trueport.detection.types import Category

RULES: Final = (*pii.RULES, *phi.RULES, *secrets.RULES, *exfiltration.RULES)
BOOK: Final = RuleBook(RULES)
ALL: Final[frozenset[Category]] = frozenset({"pii", "phi", "secrets", "data_exfiltration"})

FRAGMENTS: Final = [
    *(example.text for example in [*token_examples(), *named_examples()]),
    "jane@example.org", "4012 8888 8888 1881", "DE89 3704 0044 0532 0130 00", "536-90-4399", "+49 30 901820", "8.8.4.4",
    "🙂", "é", "\n", " ", ", ", "日本語", "password: ", "phone ", "card ", "my ssn is ", "1", "-", "x",
    "Lorem ipsum dolor sit amet. ",
    "![x](https://evil.example/i?d=abcdefghijklmnop", "-----BEGIN PRIV" + "ATE KEY-----\n" + "QUJD" * 12,
    "curl -u bob:",
]  # fmt: skip


def width(expression: str) -> int:
    """The most code points a match can have."""
    readable = re.sub(r"\\x\{([0-9a-f]+)\}", r"\\x\1", expression).replace("(?-i:", "(?:")
    # The standard library's own parser is the only thing that can tell; nothing is matched with it.
    return int(import_module("re._parser").parse(readable).getwidth()[1])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_no_match_is_longer_than_what_streams_hold_back(rule: Rule) -> None:
    around = BEFORE_BYTES + AFTER_BYTES if rule.near else 0

    assert width(rule.expression) + around <= LONGEST_MATCH


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_a_rule_can_report_something(rule: Rule) -> None:
    assert 0.0 <= rule.score <= 1.0
    assert 0.3 <= max(rule.score, rule.near_score) <= 1.0
    assert bool(rule.near) == bool(rule.near_score)
    assert rule.cues


def test_no_two_rules_share_a_reason_code() -> None:
    reasons = [rule.reason for rule in RULES]

    assert len(reasons) == len(set(reasons))


def test_the_version_changes_with_a_rule() -> None:
    rule = Rule("pii", "X", "x", "abc", ("abc",), 0.5)
    other = Rule("pii", "X", "x", "abd", ("abc",), 0.5)

    assert RuleBook([rule]).version == RuleBook([rule]).version
    assert RuleBook([rule]).version != RuleBook([other]).version


def test_only_the_wanted_categories_are_read() -> None:
    text = "jane@example.org password: " + "Sunny" + "Day88!"

    assert {m.rule.category for m in BOOK.find(text, frozenset({"pii"}))} == {"pii"}


def test_a_match_far_into_a_long_text_is_found() -> None:
    padding = "The quick brown fox jumps over the lazy dog 12 times, says report 7. " * 3_000

    for example in [*token_examples(), *named_examples()]:
        text = f"{padding[:150_000]}\n{example.text}"
        if not any(m.rule.reason == example.reason for m in BOOK.find(text, ALL)):
            pytest.fail(example.reason)


def test_a_guard_shared_by_two_matches_serves_both() -> None:
    book = RuleBook([Rule("pii", "X", "x", r"(?:^|,)(?P<v>a+)(?:,|$)", ("a",), 0.5)])

    assert [(m.start, m.end) for m in book.find("aa,aaa,a", ALL)] == [(0, 2), (3, 6), (7, 8)]


def test_a_refused_match_gives_back_what_follows_its_first_group() -> None:
    book = RuleBook([Rule("pii", "X", "x", r"\d+ \d+", (r"\d",), 0.5, check=lambda text: text == "2 3", retries=True)])

    assert [(m.start, m.end) for m in book.find("1 2 3", ALL)] == [(2, 5)]


def test_a_cue_that_is_needed_as_well_is_waited_for() -> None:
    book = RuleBook([Rule("pii", "X", "x", "abc", ("abc",), 0.5, also="z")])

    assert book.find("abc", ALL) == []
    assert len(book.find("abc z", ALL)) == 1


def settled(matches: list[Match], before: int) -> set[tuple[str, int, int, float]]:
    return {(m.rule.reason, m.start, m.end, m.score) for m in matches if m.end <= before}


def begun(matches: list[Match], before: int) -> set[tuple[str, int, float]]:
    return {(m.rule.reason, m.start, m.score) for m in matches if m.start < before}


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=40)), max_size=30), st.floats(0, 1))
def test_what_ends_well_before_the_end_stays_as_it_is_while_the_text_grows(pieces: list[str], place: float) -> None:
    text = "".join(pieces)
    cut = int(len(text) * place)
    line = cut - LONGEST_MATCH

    part, whole = BOOK.find(text[:cut], ALL), BOOK.find(text, ALL)

    assert settled(part, line) == settled(whole, line)
    assert begun(part, line) == begun(whole, line)


NASTY: Final = [
    "1 " * 4_000, "a" * 8_000, "-" * 8_000, "a@" * 4_000, "password=" * 900, "((((" * 2_000, "1-" * 4_000,
    "a.b." * 2_000, "![" * 4_000, "sk-" * 2_700, "://a:" * 1_600, "eyJ" * 2_700, "\u00e9@" * 4_000, "0" * 8_000,
    "call 030 90182 " * 550, "card 4444 4444 4444 4444 " * 330, "DE89 3704 0044 0532 " * 400, "key=a1b2c3d4e5f6 " * 480,
    "-----BEGIN PRIV" + "ATE KEY-----\n" + "A" * 7_900, "curl -u a:" * 800, "+1 (" * 2_000, "token token " * 700,
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=lambda text: text[:12])
def test_time_grows_with_length_and_not_faster(text: str) -> None:
    BOOK.find(text * 4, ALL)  # the automata are built while they read

    def cost(text: str) -> float:
        start = time.thread_time()
        BOOK.find(text, ALL)
        return time.thread_time() - start

    once = min(cost(text) for _ in range(3))
    four_times = min(cost(text * 4) for _ in range(3))

    # A quadratic reader would take sixteen times as long; the slack is for a busy machine.
    assert four_times < max(once, 0.001) * 10


def test_every_expression_is_one_that_cannot_backtrack() -> None:
    for rule in RULES:
        for expression in (rule.expression, rule.near, rule.tail, rule.also, *rule.cues):
            re2.compile(expression)
