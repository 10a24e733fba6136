"""What a text says once its disguises are off: the readings that detectors look at, each with its way back.

The first reading is the text as it stands. Others follow only where there is evidence for them, so that an ordinary
text costs one. Pure, and linear in the length of the text: decoding stops after three levels, after `cap_bytes` of
what was decoded, and after MOST_VIEWS readings.
"""

from collections.abc import Callable, Iterator
from typing import Final

from trueport.detection.normalise.cues import Cue, cues_in
from trueport.detection.normalise.decoding import decoded
from trueport.detection.normalise.folding import folded, skeleton
from trueport.detection.normalise.guessing import deleeted, mirrored, rotated
from trueport.detection.normalise.view import View

__all__ = ["MOST_VIEWS", "View", "unfolded"]

MOST_VIEWS: Final = 12
_LEVELS: Final = 3
_GUESSES: Final[tuple[Callable[[View, frozenset[Cue]], View | None], ...]] = (deleeted, rotated, mirrored)


def unfolded(text: str, *, cap_bytes: int = 256 << 10) -> tuple[View, ...]:
    """The readings of a text, the text itself first; no two have the same characters.

    cap_bytes: what is decoded beyond so many bytes in all stays as it is.
    """
    raw = View(text, "raw")
    found = [raw]
    known = {text}
    for view in _readings(raw, cap_bytes):
        if view.text not in known:
            known.add(view.text)
            found.append(view)
            if len(found) == MOST_VIEWS:
                break
    return tuple(found)


def _readings(raw: View, cap_bytes: int) -> Iterator[View]:
    cues = cues_in(raw.text)
    plain = folded(raw, cues)
    if plain is not None:
        yield plain
        cues = cues_in(plain.text)
    bases = [(plain or raw, cues)]
    bare = skeleton(plain or raw)
    if bare is not None:
        yield bare
    left = cap_bytes
    for _ in range(_LEVELS):
        opened = decoded(*bases[-1], left)
        if opened is None:
            break
        view, spent = opened
        left -= spent
        yield view
        cues = cues_in(view.text)
        again = folded(view, cues)
        if again is not None:
            yield again
            cues = cues_in(again.text)
        bases.append((again or view, cues))
    if bare is not None:
        bases.append((bare, cues_in(bare.text)))
    for base, cues in bases:
        for guess in _GUESSES:
            guessed = guess(base, cues)
            if guessed is not None:
                yield guessed
                # Such as base64 of which the letters were turned round.
                inner = decoded(guessed, cues_in(guessed.text), left)
                if inner is not None:
                    yield inner[0]
