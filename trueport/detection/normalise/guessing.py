"""Readings that only make sense if somebody meant them: digits for letters, ROT13, back to front.

Each is given only when it reads more like language than the text does, by the words that languages use most and the
words that injections cannot do without.
"""

import codecs
import re
from typing import Final

from trueport.detection.normalise.cues import Cue
from trueport.detection.normalise.view import Rewriter, View
from trueport.detection.normalise.words import COMMON, MIRRORED, ROTATED

_WORD: Final = re.compile(r"[a-z]{2,}")
_FEWEST_WORDS: Final = 3
_TIMES_MORE: Final = 2
_LOOKED_AT: Final = 65_536
"""Code points from the beginning that the guess looks at."""

_LEET: Final = {
    "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "i",
    "|": "l", "+": "t", "€": "e", "(": "c", "£": "l", "2": "z", "6": "g",
}  # fmt: skip
_LEET_WORD: Final = re.compile(r"(?<![\w@$!|])[A-Za-z0-9@$!|+(€£]*[A-Za-z][A-Za-z0-9@$!|+(€£]*")
_SPLIT: Final = re.compile(r"(?<=[A-Za-z])[._*~|^`'+-](?=[A-Za-z])")
_ODD: Final = re.compile(r"[0-9@$!|+(€£._*~^`'-](?=[A-Za-z])")
_LEET_SHARE: Final = 0.25
_ODD_SHARE: Final = 0.2
_FEWEST_SPLITS: Final = 3


def deleeted(view: View, cues: frozenset[Cue]) -> View | None:
    """Letters for the digits and signs that stand for them, and words without the signs that cut them.

    None unless a good part of the words is written so.
    """
    text = view.text
    spaces = text.count(" ")
    if "odd" not in cues or spaces < _FEWEST_WORDS - 1:
        return None
    if len(_ODD.findall(text)) < max(_FEWEST_WORDS, _ODD_SHARE * spaces):
        return None
    words = [match for match in _LEET_WORD.finditer(text) if len(match[0]) > 1 or match[0] in "aAiI"]
    odd = [match for match in words if _is_leet(match[0])]
    cuts = list(_SPLIT.finditer(text))
    is_leet = len(odd) >= _FEWEST_WORDS and len(odd) >= _LEET_SHARE * len(words)
    is_cut = len(cuts) >= _FEWEST_SPLITS and len(cuts) >= _LEET_SHARE * len(words)
    if not (is_leet or is_cut):
        return None
    writer = Rewriter(view)
    edits = [(cut.start(), "") for cut in cuts] if is_cut else []
    if is_leet:
        edits += [(at, new) for match in odd for at, new in _letters(match)]
    done = -1
    for at, new in sorted(edits):
        if at > done:
            writer.replace(at, at + 1, new)
            done = at
    return writer.view("deleeted")


def _is_leet(word: str) -> bool:
    letters = sum(char.isalpha() for char in word)
    signs = sum(char in _LEET for char in word.rstrip("!+("))
    return 0 < signs <= 2 * letters + 1


def _letters(match: re.Match[str]) -> list[tuple[int, str]]:
    start, word = match.start(), match[0].rstrip("!+(")
    return [(start + at, _LEET[char]) for at, char in enumerate(word) if char in _LEET]


def rotated(view: View, cues: frozenset[Cue]) -> View | None:
    """The text with its letters moved by thirteen places, where that has more words than it has as it stands."""
    if "rotated" not in cues or not _says_more(view.text, ROTATED):
        return None
    return View(codecs.encode(view.text, "rot13"), "rot13", view)


def mirrored(view: View, cues: frozenset[Cue]) -> View | None:
    """The text back to front, where that has more words than it has as it stands."""
    if "mirrored" not in cues or not _says_more(view.text, MIRRORED):
        return None
    return View(view.text[::-1], "reversed", view, is_mirrored=True)


def _says_more(text: str, disguised: frozenset[str]) -> bool:
    words = frozenset(_WORD.findall(text[:_LOOKED_AT].lower()))
    hidden = len(words & disguised)
    return hidden >= _FEWEST_WORDS and hidden > _TIMES_MORE * len(words & COMMON)
