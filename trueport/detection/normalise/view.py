"""Readings of a text, each with the way back to the original's offsets."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "raw",
    "folded",  # invisible characters out, compatibility forms and look-alikes in mixed words replaced
    "skeleton",  # every look-alike and accent replaced, also where a word is honestly written in another script
    "deleeted",
    "decoded",
    "rot13",
    "reversed",
]
Span = tuple[int, int]
Inner = Callable[[str, str, int, int], Span]


@dataclass(frozen=True, slots=True)
class Edit:
    """The view's [at, to) stands for the parent's [parent_at, parent_to).

    `inner(encoded, decoded, start, end)` gives the encoded characters that a part of the replacement came from,
    relative to its beginning; without it any part stands for the whole.
    """

    at: int
    to: int
    parent_at: int
    parent_to: int
    inner: Inner | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text. Between its edits it is the parent's text, code point for code point."""

    text: str = field(repr=False)
    kind: Kind
    parent: "View | None" = field(default=None, repr=False)
    edits: Sequence[Edit] = field(default=(), repr=False)
    is_mirrored: bool = False

    @property
    def is_for_models(self) -> bool:
        """Whether a model should read it too. Without its accents a language is only harder to read."""
        return self.kind != "skeleton"

    def original(self, start: int, end: int) -> Span:
        """The original code points that this view's [start, end) was made of, as [start, end)."""
        if self.parent is None:
            return start, end
        if self.is_mirrored:
            return self.parent.original(len(self.text) - end, len(self.text) - start)
        first, _ = self._in_parent(start, min(start + 1, max(end, start)))
        last = self._in_parent(end - 1, end)[1] if end > start else first
        return self.parent.original(first, max(first, last))

    def _in_parent(self, start: int, end: int) -> Span:
        index = bisect_right(self.edits, start, key=_at) - 1
        if index < 0:
            return start, end
        edit = self.edits[index]
        if start >= edit.to:
            moved = edit.parent_to - edit.to
            return start + moved, end + moved
        if edit.inner is None or self.parent is None:
            return edit.parent_at, edit.parent_to
        encoded = self.parent.text[edit.parent_at : edit.parent_to]
        first, last = edit.inner(encoded, self.text[edit.at : edit.to], start - edit.at, end - edit.at)
        return edit.parent_at + first, edit.parent_at + last


def _at(edit: Edit) -> int:
    return edit.at


class Rewriter:
    """Collects replacements of a parent's text, in order, into a view."""

    def __init__(self, parent: View) -> None:
        self._parent = parent
        self._pieces: list[str] = []
        self._edits: list[Edit] = []
        self._read = 0
        self._length = 0

    def replace(self, start: int, end: int, new: str, inner: Inner | None = None) -> None:
        """Put `new` where the parent has [start, end). Calls come in order and do not overlap."""
        if start > self._read:
            self._pieces.append(self._parent.text[self._read : start])
            self._length += start - self._read
        self._edits.append(Edit(self._length, self._length + len(new), start, end, inner))
        self._pieces.append(new)
        self._length += len(new)
        self._read = end

    def view(self, kind: Kind) -> View:
        """The view of everything replaced so far, with the rest of the parent after it."""
        self._pieces.append(self._parent.text[self._read :])
        return View("".join(self._pieces), kind, self._parent, self._edits)
