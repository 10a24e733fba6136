"""Placeholders in place of what may not pass, and the way back for those that have one.

A placeholder says what stood there and tells values apart: `[EMAIL_1]`, `[EMAIL_2]`, and the same value gets the same
one throughout a call. Numbers follow the order of appearance, so that a later call that repeats the conversation has
the same ones. Values are kept in memory for the length of a call and nowhere else.
"""

import re
from collections.abc import Sequence
from typing import Final

from trueport.detection.policy.decision import Span

_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[1-9][0-9]{0,6}\]")


class Placeholders:
    """Those of one call."""

    def __init__(self) -> None:
        self._by_value: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._originals: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Placeholders({sum(self._counts.values())})"

    @property
    def is_reversible(self) -> bool:
        """Whether anything was replaced that an answer may tell its client again."""
        return bool(self._originals)

    def redact(self, text: str, spans: Sequence[Span]) -> str:
        """The text with a placeholder for each span; spans are in order and do not overlap."""
        written, done = [], 0
        for span in spans:
            written += [text[done : span.start], self._placeholder(span, text[span.start : span.end])]
            done = span.end
        return "".join([*written, text[done:]])

    def restore(self, text: str) -> str:
        """The text with the values of reversible placeholders in their places again; all others stay."""
        if not self._originals:
            return text
        return _PLACEHOLDER.sub(lambda found: self._originals.get(found[0], found[0]), text)

    def _placeholder(self, span: Span, value: str) -> str:
        known = self._by_value.get((span.type, value))
        if known is None:
            number = self._counts[span.type] = self._counts.get(span.type, 0) + 1
            known = self._by_value[span.type, value] = f"[{span.type}_{number}]"
        if span.is_reversible:
            self._originals[known] = value
        return known
