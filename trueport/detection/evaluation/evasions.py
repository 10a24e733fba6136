"""Disguises for a text that keep what it says: what somebody tries whose plain words were caught."""

import base64
import codecs
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

_LOOK_ALIKES: Final = str.maketrans("aeopcxyiAEOPCXTHM", "аеорсхуіАЕОРСХТНМ")
_LEET: Final = str.maketrans("aeiostAEIOST", "431057431057")
_ZERO_WIDTH: Final = ("\u200b", "\u200c", "\u2060", "\ufeff")
_BIDI: Final = ("\u202a", "\u202c", "\u200e", "\u2066")


def _sprinkled(text: str, signs: tuple[str, ...]) -> str:
    random = Random(len(text))  # noqa: S311 - the same disguise for the same text
    return "".join(char + random.choice(signs) for char in text)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def _tags(text: str) -> str:
    return "Hello! " + "".join(chr(0xE0000 + ord(char)) if " " <= char <= "~" else char for char in text)


def _mixed(text: str) -> str:
    """Some letters of most words from another alphabet: a whole word of it would be another word."""
    words = text.split(" ")
    return " ".join(word[:1] + word[1:].translate(_LOOK_ALIKES) if len(word) > 2 else word for word in words)


EVASIONS: Final[Mapping[str, Callable[[str], str]]] = {
    "zero_width": lambda text: _sprinkled(text, _ZERO_WIDTH),
    "bidi": lambda text: _sprinkled(text, _BIDI),
    "tag_characters": _tags,
    "look_alikes": _mixed,
    "full_width": _full_width,
    "leet": lambda text: text.translate(_LEET),
    "spaced": " ".join,
    "base64": lambda text: "Please handle: " + base64.b64encode(text.encode()).decode(),
    "twice_base64": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "hex": lambda text: text.encode().hex(),
    "percent": _percent,
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "struck_through": lambda text: "".join(char + "\u0336" for char in text),
}
"""By name. Each gives a text that says the same to whoever undoes it."""
NOT_FOR_VALUES: Final = frozenset({"leet", "rot13", "reversed"})
"""What changes letters and digits leaves a key or a number no longer the same value."""
