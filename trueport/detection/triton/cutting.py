"""A text as the pieces that go to a model, one a row.

The tokenizer is on the server, so pieces are cut by a guess of their length in tokens. A model that tells how far it
read (the output READ) is asked again for what it left, so a wrong guess costs time and never leaves text unread; for
one that does not, pieces are so short that no more bytes than tokens fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_ASCII_PER_TOKEN: Final = 3
_OVERLAP: Final = 4
"""The share of a piece that the next one repeats is one in this many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Code points `start` up to `end` of a text."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Cutter:
    """`most_bytes` is the most a piece may have in UTF-8."""

    most_bytes: int

    @classmethod
    def for_model(cls, max_tokens: int, *, tells_how_far: bool) -> "Cutter":
        # Two tokens stand around every text. In scripts other than Latin a token has about three bytes too.
        return cls((max_tokens - 2) * (_ASCII_PER_TOKEN if tells_how_far else 1))

    def pieces(self, text: str, start: int = 0) -> Iterator[Piece]:
        """Everything from `start`, in overlapping pieces; none for an empty text.

        Where a piece ends depends on the text up to there alone, so that the pieces of a text that grows stay the
        same but for the last.
        """
        read = start
        while start < len(text):
            end = self._end(text, start)
            if end <= read:
                # What is repeated takes up the whole piece, next to a character of many bytes: without it, then.
                start, end = read, self._end(text, read)
            yield Piece(text[start:end], start)
            if end >= len(text):
                return
            start, read = self.next_start(start, end), end

    def next_start(self, start: int, end: int) -> int:
        """Where to go on behind a piece of which [start, end) was read."""
        return max(end - (end - start) // _OVERLAP, start + 1)

    def _end(self, text: str, start: int) -> int:
        """Behind the longest piece that fits, or behind its last word where more text follows."""
        piece = text[start : start + self.most_bytes]
        if not piece.isascii():
            # One byte for a lone surrogate, as it goes to the server; what is cut within a character is left out.
            fitting = piece.encode("utf-8", "replace")[: self.most_bytes].decode("utf-8", "ignore")
            piece = piece[: max(len(fitting), 1)]
        end = start + len(piece)
        return end if end >= len(text) else _behind_white_space(text, start, end)


def _behind_white_space(text: str, start: int, end: int) -> int:
    """The end of the last word that fits, or `end` where the last eighth has no white space."""
    for at in range(end, end - (end - start) // 8, -1):
        if text[at - 1].isspace():
            return at
    return end
