"""Placeholders in place of what may not pass."""

import copy
import itertools
import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.detection.policy import Span
from trueport.detection.redact import Placeholders


def test_values_get_placeholders_of_their_type_in_the_order_they_appear() -> None:
    placeholders = Placeholders()

    first = placeholders.redact("ann and bob at home", [Span(0, 3, "PERSON"), Span(8, 11, "PERSON")])
    second = placeholders.redact("bob, then 1234", [Span(0, 3, "PERSON"), Span(10, 14, "CREDIT_CARD")])

    assert first == "[PERSON_1] and [PERSON_2] at home"
    assert second == "[PERSON_2], then [CREDIT_CARD_1]"


def test_only_reversible_placeholders_go_back() -> None:
    placeholders = Placeholders()
    placeholders.redact("ann@x.example and 1234", [Span(0, 13, "EMAIL", is_reversible=True), Span(18, 22, "PIN")])

    assert placeholders.is_reversible
    assert placeholders.restore("Wrote to [EMAIL_1], [EMAIL_2] and [PIN_1].") == (
        "Wrote to ann@x.example, [EMAIL_2] and [PIN_1]."
    )


def test_without_reversible_placeholders_nothing_is_restored() -> None:
    placeholders = Placeholders()
    placeholders.redact("1234", [Span(0, 4, "PIN")])

    assert not placeholders.is_reversible
    assert placeholders.restore("[PIN_1]") == "[PIN_1]"


def test_no_value_shows_when_placeholders_are_printed() -> None:
    placeholders = Placeholders()
    placeholders.redact("canary", [Span(0, 6, "WORD", is_reversible=True)])

    assert "canary" not in repr(placeholders)


@given(st.text(max_size=80), st.lists(st.integers(0, 80), max_size=8))
def test_what_is_redacted_and_restored_is_the_same_text(text: str, cuts: list[int]) -> None:
    borders = sorted({min(cut, len(text)) for cut in cuts})
    pairs = list(zip(borders[::2], borders[1::2], strict=False))
    spans = [Span(start, end, "WORD", is_reversible=True) for start, end in pairs]
    placeholders = Placeholders()

    redacted = placeholders.redact(text, spans)

    kept = re.sub(r"\[WORD_[0-9]+\]", "", redacted)
    assert len(kept) <= len(text)
    if "[WORD_" not in text:
        assert placeholders.restore(redacted) == text


# --- what somebody wrote as such ---------------------------------------------------------------------------------


def test_a_placeholder_that_goes_back_is_not_one_that_somebody_wrote() -> None:
    placeholders = Placeholders()
    text = "Is [EMAIL_1] a placeholder, ann@x.example?"
    start = text.index("ann")
    placeholders.avoid([text, "and [EMAIL_2] too"])

    redacted = placeholders.redact(text, [Span(start, start + 13, "EMAIL", is_reversible=True)])

    assert redacted == "Is [EMAIL_1] a placeholder, [EMAIL_3]?"
    assert placeholders.restore("No, [EMAIL_1] is not, [EMAIL_3].") == "No, [EMAIL_1] is not, ann@x.example."


def test_numbers_stay_where_nothing_goes_back() -> None:
    # The answer to the first call said [EMAIL_1], and the second call repeats it beside the value.
    placeholders = Placeholders()
    placeholders.avoid(["ann@x.example", "I wrote to [EMAIL_1]."])

    assert placeholders.redact("ann@x.example", [Span(0, 13, "EMAIL")]) == "[EMAIL_1]"


def test_a_value_that_any_policy_keeps_does_not_come_back() -> None:
    for first, second in ((True, False), (False, True)):
        placeholders = Placeholders()

        redacted = [placeholders.redact("ann", [Span(0, 3, "PERSON", kind)]) for kind in (first, second)]

        assert redacted == ["[PERSON_1]", "[PERSON_1]"]
        assert placeholders.restore("[PERSON_1]") == "[PERSON_1]"


def test_placeholders_of_the_answer_are_not_taken_for_those_of_the_call() -> None:
    placeholders = Placeholders()
    placeholders.redact("ann@x.example", [Span(0, 13, "EMAIL", is_reversible=True)])

    answer = placeholders.for_answer().redact("bob@x.example", [Span(0, 13, "EMAIL")])

    assert placeholders.restore(f"{answer} or [EMAIL_1]") == "[EMAIL_2] or ann@x.example"


def test_placeholders_cannot_be_copied_or_written_down() -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="memory"):
            leave(Placeholders())


# --- in pieces ---------------------------------------------------------------------------------------------------

VALUES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12, unique=True)
# Whatever looks like a placeholder, is one, or begins like one.
ANSWERS = st.lists(
    st.one_of(
        st.sampled_from(
            ["[", "]", "[[", "[NAME_", "[NAME_1", "[NAME_1]", "[NAME_12]", "[NAME_2", "[EMAIL_1]", "_1]", "\n"]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)


@given(VALUES, ANSWERS, st.lists(st.integers(0, 100), max_size=12))
def test_a_text_in_pieces_is_restored_as_the_whole_is(values: list[str], text: str, cuts: list[int]) -> None:
    placeholders = Placeholders()
    for value in values:
        placeholders.redact(value, [Span(0, len(value), "NAME", is_reversible=True)])
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    restorer = placeholders.restorer()
    given_out = ""

    for start, end in itertools.pairwise(borders):
        given_out += restorer.feed(text[start:end])
        # Never more than a placeholder waits.
        assert placeholders.restore(text[:end]).startswith(given_out)
        assert len(placeholders.restore(text[:end])) - len(given_out) < len("[NAME_12]")

    assert given_out + restorer.finish() == placeholders.restore(text)


def test_nothing_waits_that_cannot_become_a_placeholder() -> None:
    placeholders = Placeholders()
    placeholders.redact("ann", [Span(0, 3, "NAME", is_reversible=True)])
    restorer = placeholders.restorer()

    assert restorer.feed("see [1] and [NA") == "see [1] and "
    assert restorer.feed("ME_1") == ""
    assert restorer.feed("], [NAT") == "ann, [NAT"
    assert restorer.feed("O]") == "O]"
    assert restorer.finish() == ""


# --- in JSON -----------------------------------------------------------------------------------------------------


def mail(text: str, part: str, **given: bool) -> list[Span]:
    start = text.index(part)
    return [Span(start, start + len(part), "EMAIL", **given)]


@pytest.mark.parametrize(
    ("text", "part", "redacted"),
    [
        ('{"to": "ann@x"}', "ann@x", '{"to": "[EMAIL_1]"}'),
        ('{"ann@x": true}', "ann@x", '{"[EMAIL_1]": true}'),
        ('{"n": 4111, "m": 2}', "4111", '{"n": "[EMAIL_1]", "m": 2}'),
        ('{"n": 4111, "m": 2}', "11", '{"n": "[EMAIL_1]", "m": 2}'),
        ('["a", "b"]', 'a", "b', '["[EMAIL_1]", ""]'),
        ('["a", "b"]', '["a", ', '["[EMAIL_1]", "b"]'),
        ("[1, 2]", "1, 2", '["[EMAIL_1]", ""]'),
        ('["x\\u0040y"]', "0040y", '["x[EMAIL_1]"]'),
        ('["x\\"y"]', '"y', '["x[EMAIL_1]"]'),
        ('{"a": {"b": 1}}', "{", '{"a": {"b": 1}}'),
        ('{"cut": "ann@x', "ann@x", '{"cut": "[EMAIL_1]'),
    ],
)
def test_a_span_in_json_becomes_a_placeholder_and_json_stays_json(text: str, part: str, redacted: str) -> None:
    assert Placeholders().redact_json(text, mail(text, part)) == redacted


def test_a_value_is_the_same_however_json_writes_it() -> None:
    placeholders = Placeholders()

    plain = placeholders.redact_json('["a@x"]', mail('["a@x"]', "a@x", is_reversible=True))
    escaped = placeholders.redact_json('["a\\u0040x"]', mail('["a\\u0040x"]', "a\\u0040x", is_reversible=True))

    assert plain == escaped == '["[EMAIL_1]"]'
    assert placeholders.restore("[EMAIL_1]") == "a@x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans(), st.lists(st.integers(0, 200), max_size=8))
def test_no_span_makes_json_anything_else(value: object, is_ascii: bool, cuts: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    borders = sorted({min(cut, len(text)) for cut in cuts})
    spans = [Span(start, end, "WORD") for start, end in zip(borders[::2], borders[1::2], strict=False)]

    redacted = json.loads(Placeholders().redact_json(text, spans))

    assert shape(redacted) == shape(value)


def shape(value: object) -> object:
    """Lists and objects as they are, with as many entries or fewer where two names became one; nothing of the rest."""
    if isinstance(value, dict):
        return "object"
    return [shape(one) for one in value] if isinstance(value, list) else None


def test_what_no_span_touches_is_as_it_was() -> None:
    text = '{ "a" : [1.50, "\\u00e9", null ],\n "to": "ann@x" }'

    assert Placeholders().redact_json(text, mail(text, "ann@x")) == text.replace("ann@x", "[EMAIL_1]")
