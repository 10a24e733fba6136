"""Placeholders in place of what may not pass, and the way back for those that have one.

A placeholder says what stood there and tells values apart: `[EMAIL_1]`, `[EMAIL_2]`, and the same value gets the same
one throughout a call. Numbers follow the order of appearance, so that a later call that repeats the conversation has
the same ones. Values are kept in memory for the length of a call and nowhere else.

Somebody may have written `[EMAIL_1]` as such. A placeholder that will be turned back must not be mistaken for that:
it takes the next number that the call's own texts do not have (`avoid`).
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from trueport.detection.policy.decision import Span

PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[1-9][0-9]{0,6}\]")
# A string with its closing quote, where it has one; a number; one of the three words. The rest is structure.
_JSON_TOKEN: Final = re.compile(
    r'"(?P<string>(?:[^"\\]|\\.)*+)"?|(?P<number>-?[0-9][0-9.eE+-]*)|true|false|null', re.DOTALL
)
_JSON_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)


class Placeholders:
    """Those of one call. Its values can be had back by their placeholders and in no other way."""

    def __init__(self) -> None:
        self._by_value: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._originals: dict[str, str] = {}
        self._final: set[str] = set()
        self._avoided: set[str] = set()

    def __repr__(self) -> str:
        return f"Placeholders({len(self._by_value)})"

    def __reduce__(self) -> NoReturn:
        # Nor may they be copied to where they outlive the call.
        raise TypeError("placeholders stay in the memory of the process that made them")

    @property
    def is_reversible(self) -> bool:
        """Whether anything was replaced that an answer may tell its client again."""
        return bool(self._originals)

    def avoid(self, texts: Iterable[str]) -> None:
        """Keep what looks like a placeholder in these texts from being one that is turned back.

        For all texts of a call, before any is redacted.
        """
        for text in texts:
            if "[" in text:
                self._avoided.update(PLACEHOLDER.findall(text))

    def redact(self, text: str, spans: Sequence[Span]) -> str:
        """The text with a placeholder for each span; spans are in order and do not overlap."""
        written, done = [], 0
        for span in spans:
            written += [text[done : span.start], self._placeholder(span, text[span.start : span.end])]
            done = span.end
        return "".join([*written, text[done:]])

    def redact_json(self, text: str, spans: Sequence[Span]) -> str:
        """A JSON text with a placeholder for each span, still JSON; spans count code points of the text as it stands.

        Marks of structure stay. A number or word that is touched becomes a string; of an escape all goes or nothing.
        What reaches over several values becomes its placeholder in the first and nothing in the others.
        """
        edits: list[tuple[int, int, str]] = []
        tokens = list(_json_tokens(text)) if spans else []
        for span in spans:
            pieces = list(_pieces(tokens, span, text))
            if not pieces:
                continue
            value = "".join(piece.value for piece in pieces)
            new = self._placeholder(replace(span, start=0, end=len(value)), value)
            for number, piece in enumerate(pieces):
                shown = new if number == 0 else ""
                edits.append((piece.start, piece.end, f'"{shown}"' if piece.is_bare else shown))
        written, done = [], 0
        for start, end, new in edits:
            if end <= done:
                continue
            written += [text[done : max(start, done)], new]
            done = end
        return "".join([*written, text[done:]])

    def restore(self, text: str) -> str:
        """The text with the values of reversible placeholders in their places again; all others stay."""
        if not self._originals:
            return text
        return PLACEHOLDER.sub(lambda found: self._originals.get(found[0], found[0]), text)

    def for_answer(self) -> "Placeholders":
        """Those of the answer to this call: none has the name of one of these, so that none is turned back."""
        fresh = Placeholders()
        fresh._counts.update(self._counts)
        return fresh

    def restorer(self) -> "Restorer":
        """What does the same for a text that comes in pieces. Of those that there are now."""
        return Restorer(self, tuple(self._originals))

    def _placeholder(self, span: Span, value: str) -> str:
        known = self._by_value.get((span.type, value))
        if known is None:
            known = self._by_value[span.type, value] = self._next(span)
        if not span.is_reversible:
            # Where anything says that a value does not come back, it does not.
            self._final.add(known)
            self._originals.pop(known, None)
        elif known not in self._final:
            self._originals[known] = value
        return known

    def _next(self, span: Span) -> str:
        while True:
            number = self._counts[span.type] = self._counts.get(span.type, 0) + 1
            name = f"[{span.type}_{number}]"
            if not (span.is_reversible and name in self._avoided):
                return name


class Restorer:
    """Placeholders turned back in a text that comes in pieces, however it is cut.

    What is held back is the beginning of a placeholder at the end of a piece, and so shorter than the longest one.
    """

    def __init__(self, placeholders: Placeholders, names: Sequence[str]) -> None:
        self._placeholders = placeholders
        self._beginnings = frozenset(name[:length] for name in names for length in range(1, len(name)))
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the text so far can leave."""
        text = self._held + text
        # A placeholder has no second bracket, so that only the last one may be the beginning of one.
        start = text.rfind("[")
        is_begun = start >= 0 and text[start:] in self._beginnings
        self._held = text[start:] if is_begun else ""
        return self._placeholders.restore(text[:start] if is_begun else text)

    def finish(self) -> str:
        """What was held back, once nothing follows."""
        held, self._held = self._held, ""
        return held


@dataclass(frozen=True, slots=True)
class _Piece:
    """Code points of a JSON text that go together: within a string, or a whole value without quotes."""

    start: int
    end: int
    value: str
    is_bare: bool


@dataclass(frozen=True, slots=True)
class _Token:
    """A string or another simple value of a JSON text; `start` and `end` leave out a string's quotes."""

    start: int
    end: int
    is_string: bool

    def within(self, span: Span, text: str) -> _Piece | None:
        """What of it a span touches, None where nothing."""
        start, end = max(span.start, self.start), min(span.end, self.end)
        if start >= end:
            return None
        if not self.is_string:
            return _Piece(self.start, self.end, text[self.start : self.end], is_bare=True)
        for escape in _JSON_ESCAPE.finditer(text, self.start, self.end):
            if escape.start() < start < escape.end():
                start = escape.start()
            if escape.start() < end < escape.end():
                end = escape.end()
        return _Piece(start, end, _unescaped(text[start:end]), is_bare=False)


def _pieces(tokens: Sequence[_Token], span: Span, text: str) -> Iterator[_Piece]:
    """What a span touches of the tokens, which are in order."""
    for token in tokens[bisect_right(tokens, span.start, key=lambda one: one.end) :]:
        if token.start >= span.end:
            return
        piece = token.within(span, text)
        if piece is not None:
            yield piece


def _json_tokens(text: str) -> Iterator[_Token]:
    for found in _JSON_TOKEN.finditer(text):
        if found["string"] is not None:
            yield _Token(found.start("string"), found.end("string"), is_string=True)
        else:
            yield _Token(found.start(), found.end(), is_string=False)


def _unescaped(string: str) -> str:
    """What the inside of a JSON string says; itself where it is no JSON."""
    if "\\" not in string:
        return string
    try:
        return str(json.loads(f'"{string}"', strict=False))
    except ValueError:
        return string
