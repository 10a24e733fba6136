"""A text as overlapping windows of tokens, and the order to read them in.

Nothing is cut off: every token is in a window. Windows begin at fixed multiples of the stride, so that those of a text
that grows (a stream, a conversation) stay the same and are known from before.
"""

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

STRIDE: Final = 192
_PIECE: Final = 1_500
_PAUSE_S: Final = 0.000_5
_LONG_WORD: Final = 100
"""WordPiece makes one unknown token of a longer word, so a model would be blind to a sentence without spaces."""
# Letters alone: base64, hex and keys have digits within any hundred characters and stay one cheap unknown token.
_LONG_WORDS: Final = re.compile(r"[^\W\d_]{101,}")

TokenIds = NDArray[np.int32]
Offsets = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as tokens, without the special ones. ids: shape (n,); offsets: shape (n, 2), code points of the text."""

    ids: TokenIds
    offsets: Offsets


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to and not including `stop`."""

    start: int
    stop: int


def tokenise(tokenizer: Tokenizer, text: str) -> Tokens:
    """All tokens of `text`. Long work: about 0.3 ms for a thousand characters, and as much again in pauses.

    The text goes to the tokenizer in pieces cut at white space, where no word is cut. The tokenizer and making Python
    numbers of its answer hold the GIL, so that the event loop would wait for a whole text; after each piece it has
    its turn, without asking for it, which takes it the interpreter's switch interval each time.
    """
    ids: list[TokenIds] = []
    offsets: list[Offsets] = []
    rested_at = 0
    for piece in pieces(text):
        if piece.stop - rested_at > _PIECE:
            time.sleep(_PAUSE_S)
            rested_at = piece.start
        encoded = tokenizer.encode(text[piece.start : piece.stop], add_special_tokens=False)
        if encoded.ids:
            ids.append(np.array(encoded.ids, np.int32))
            offsets.append(np.array(encoded.offsets, np.int32) + piece.start)
    if not ids:
        return Tokens(np.zeros(0, np.int32), np.zeros((0, 2), np.int32))
    return Tokens(np.concatenate(ids), np.concatenate(offsets))


def pieces(text: str) -> Iterator[Span]:
    """The text in pieces of at most about 1,500 code points, cut at white space and within overlong words."""
    start = 0
    while start < len(text):
        stop = min(start + _PIECE, len(text))
        if stop < len(text):
            stop = _last_white_space(text, start, stop)
        # Searched piece by piece too: the whole of a long text would hold the GIL for ten milliseconds.
        words = _LONG_WORDS.finditer(text, start, stop)
        for end in [*(at for word in words for at in range(word.start(), word.end(), _LONG_WORD)), stop]:
            if end > start:
                yield Span(start, end)
                start = end


def cut(count: int, size: int, stride: int = STRIDE) -> list[Span]:
    """`count` tokens as windows of at most `size`, each starting `stride` after the one before; none for no tokens.

    The last one begins at a multiple of the stride too and may be short.
    """
    spans = [Span(0, min(size, count))] if count else []
    while spans and spans[-1].stop < count:
        start = spans[-1].start + stride
        spans.append(Span(start, min(start + size, count)))
    return spans


def reading_order(count: int, urgent: Collection[int] = (), *, first: int = 4, last: int = 2) -> list[int]:
    """The positions of `count` windows in the order to read them: beginning, end, the urgent ones, then the rest."""
    ranked = [*range(min(first, count)), *range(max(count - last, 0), count), *sorted(urgent), *range(count)]
    return list(dict.fromkeys(at for at in ranked if at < count))


def is_prose(text: str) -> bool:
    """Whether a stretch reads like written language: mostly letters, in words of ordinary length."""
    letters = sum(map(str.isalpha, text))
    words = len(text.split())
    return letters >= 0.7 * (len(text) - words) and (words == 0 or len(text) <= 12 * words)


def _last_white_space(text: str, start: int, stop: int) -> int:
    """Where to end a piece: behind the last white space before `stop`, or at `stop` where there is none."""
    for at in range(stop - 1, max(start, stop - 256), -1):
        if text[at].isspace():
            return at + 1
    return stop
