"""What in a text is worth a second look, found in one linear pass: ordinary texts pay for nothing else."""

from typing import Final, Literal, cast, get_args

import re2

from trueport.detection.normalise.words import MIRRORED, ROTATED

Cue = Literal["apart", "base64", "hex", "percent", "entity", "escape", "odd", "rotated", "mirrored"]

_LETTER: Final = r"[\pL\pN]"
_GAP: Final = r"[._*|/\\~-]{1,3}"
_EXPRESSIONS: Final[dict[Cue, str]] = {
    "apart": r"(?:^|\s)\S(?:[ \t]{1,3}\S){5}(?:\s|$)"
    rf"|(?:^|[^\pL\pN]){_LETTER}(?:{_GAP}{_LETTER}){{4}}(?:[^\pL\pN]|$)",
    "base64": r"[A-Za-z0-9+/_-]{16}",
    "hex": r"[0-9a-fA-F]{2}(?:(?:[ :,-]|, |\\x|0x| 0x|, 0x)?[0-9a-fA-F]{2}){7}",
    "percent": r"%[0-9a-fA-F]{2}",
    "entity": r"&[#A-Za-z][A-Za-z0-9]{1,31};",
    "escape": r"\\u[{0-9a-fA-F]",
    "odd": r"[A-Za-z][0-9@$!|+(€£._*~^`'-][A-Za-z]",
    "rotated": rf"(?i)\b(?:{'|'.join(sorted(word for word in ROTATED if len(word) > 2))})\b",
    "mirrored": rf"(?i)\b(?:{'|'.join(sorted(word for word in MIRRORED if len(word) > 2))})\b",
}


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    return options


def _compiled() -> re2.Set:
    together = re2.Set.SearchSet(_options())
    for name in _NAMES:
        together.Add(_EXPRESSIONS[name])
    together.Compile()
    return together


_NAMES: Final[tuple[Cue, ...]] = get_args(Cue)
_SET: Final = _compiled()


def cues_in(text: str) -> frozenset[Cue]:
    """Which disguises the text may have."""
    found = cast("list[int] | None", _SET.Match(text.encode("utf-8", "replace")))  # the stub says it were a boolean
    return frozenset(_NAMES[number] for number in found or ())
