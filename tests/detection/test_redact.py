"""Placeholders in place of what may not pass."""

import re

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
