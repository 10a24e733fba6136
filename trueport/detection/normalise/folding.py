"""Invisible characters out, look-alikes to what they look like, letters written apart together."""

import re
import unicodedata
from functools import lru_cache
from typing import Final

from trueport.detection.normalise.confusables import LOOK_ALIKES
from trueport.detection.normalise.cues import Cue, cues_in
from trueport.detection.normalise.view import Rewriter, View

_TAGS: Final = range(0xE0020, 0xE007F)
"""Unicode's tag characters: ASCII, invisible, and read by language models."""
# Beside the format characters (category Cf): variation selectors, fillers, joiners, strokes through letters.
_INVISIBLE: Final = frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0,
              *range(0x334, 0x339), *range(0x20D2, 0x20E5)))
)  # fmt: skip
_MOST_MARKS: Final = 1
# Emoji are joined and coloured with these two; letters are not.
_TYPOGRAPHY: Final = frozenset("\u200d\ufe0f\u00ad²³¹ªº½¼¾™℠№")
_JOINED: Final = re.compile("[A-Za-z0-9][\u200d\ufe0f\u00ad]+[A-Za-z0-9]")
# Letters that each stand alone, with signs between them, and signs and letters with spaces between them. Possessive,
# so that nothing is tried twice.
_APART: Final = (
    re.compile(r"(?<!\S)\S(?:[ \t]{1,3}\S(?!\S)){5,}+"),
    re.compile(r"(?<![^\W_])[^\W_](?:[._*|/\\~-]{1,3}[^\W_](?![^\W_])){4,}+"),
)
_BETWEEN: Final = (re.compile(r"[ \t]+"), re.compile(r"[._*|/\\~-]+"))
_WORDY: Final = 0.6
_WORD: Final = re.compile(r"[^\W_]+")


def folded(view: View, cues: frozenset[Cue]) -> View | None:
    """The text as a reader sees it; None where nothing in it is disguised."""
    visible = _visible(view)
    if visible is not None:
        cues = cues_in(visible.text)
    together = _together(visible or view) if "apart" in cues else None
    return together or visible


def skeleton(view: View) -> View | None:
    """Every look-alike and accent replaced, also in words that are honestly of another script; None without any."""
    if view.text.isascii() or not any(_bare(char) != char for char in set(view.text)):
        return None
    writer = Rewriter(view)
    changed = False
    for at, char in enumerate(view.text):
        if char >= "\x80":
            bare = _bare(char)
            if bare != char:
                writer.replace(at, at + 1, bare)
                changed = True
    return writer.view("skeleton") if changed else None


def _visible(view: View) -> View | None:
    text = view.text
    if text.isascii() or not (any(map(_is_odd, set(text))) or _JOINED.search(text)):
        return None
    mixed = _mixed_words(text)
    writer = Rewriter(view)
    changed, marks = False, 0
    for at, char in enumerate(text):
        if char < "\x80":
            marks = 0
            continue
        new = _seen(char)
        if unicodedata.combining(char):
            marks += 1
            # One accent is writing; a pile of them is a disguise.
            new = "" if marks > _MOST_MARKS or _is_followed_by_mark(text, at) else new
        else:
            marks = 0
            if mixed and new == char and at in mixed:
                new = LOOK_ALIKES.get(char, char)
        if new != char:
            writer.replace(at, at + 1, new)
            # Dashes and quotes go along where something else is wrong; they alone are no reason.
            changed = changed or _is_odd(char)
    joined = _JOINED.search(text) is not None
    return writer.view("folded") if changed or joined else None


@lru_cache(maxsize=8_192)
def _is_odd(char: str) -> bool:
    """Whether the character is a reason to fold a text, and not only typography: quotes, dots, fractions, emoji."""
    if char < "\x80" or char in _TYPOGRAPHY:
        return False
    seen = _seen(char)
    if seen == char:
        return (char in LOOK_ALIKES and char.isalpha()) or unicodedata.combining(char) > 0
    return not seen or (seen.isascii() and seen.isalnum())


def _is_followed_by_mark(text: str, at: int) -> bool:
    return at + 1 < len(text) and unicodedata.combining(text[at + 1]) > 0


def _mixed_words(text: str) -> frozenset[int]:
    """The places of look-alikes in words that have ASCII letters too: nobody writes so honestly."""
    places: set[int] = set()
    for match in _WORD.finditer(text):
        word = match[0]
        if not word.isascii() and any(char < "\x80" and char.isalpha() for char in word):
            places.update(at for at, char in enumerate(word, start=match.start()) if char in LOOK_ALIKES)
    return frozenset(places)


@lru_cache(maxsize=8_192)
def _seen(char: str) -> str:
    """What one character beyond ASCII looks like on its own: itself, another one, several, or nothing."""
    code = ord(char)
    if code in _TAGS:
        return chr(code - 0xE0000)
    if char in _INVISIBLE or unicodedata.category(char) == "Cf":
        return ""
    digit = unicodedata.digit(char, None)
    if digit is not None and unicodedata.category(char) == "Nd":
        return str(digit)
    compatible = unicodedata.normalize("NFKC", char)
    if compatible != char:
        return compatible
    # These have no decomposition and no place in a word of their own.
    return LOOK_ALIKES.get(char, char) if unicodedata.category(char) in ("So", "No") else char


@lru_cache(maxsize=8_192)
def _bare(char: str) -> str:
    if char < "\x80":
        return char
    if char in LOOK_ALIKES:
        return LOOK_ALIKES[char]
    if unicodedata.category(char) == "Mn":
        return ""
    first = unicodedata.normalize("NFD", char)[0]
    # Only letters of the Latin alphabet: Hangul and others decompose into parts of a syllable.
    return first if first < "\x80" else char


def _together(view: View) -> View | None:
    """`i g n o r e   a l l` as `ignore all`: a wider gap than the usual one stands for a space."""
    found = view
    for expression, between in zip(_APART, _BETWEEN, strict=True):
        writer = Rewriter(found)
        changed = False
        for match in expression.finditer(found.text):
            if not _is_wordy(match[0]):
                continue
            gaps = [(gap.start() + match.start(), gap.end() + match.start()) for gap in between.finditer(match[0])]
            usual = min(end - start for start, end in gaps)
            for start, end in gaps:
                writer.replace(start, end, " " if end - start > usual else "")
                changed = True
        found = writer.view("folded") if changed else found
    return None if found is view else found


def _is_wordy(run: str) -> bool:
    """Whether it is mostly letters and digits that stand apart: not a sum, and not the rim of a table."""
    signs = [char for char in run if not char.isspace()]
    return sum(map(str.isalnum, signs)) >= (_WORDY if " " in run or "\t" in run else 0.5) * len(signs)
