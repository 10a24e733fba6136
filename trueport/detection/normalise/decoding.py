"""Base64, hexadecimal, percent signs, HTML's and JSON's escapes: where they hold text, the text.

A candidate counts only when what comes out of it is text, so that pictures, keys and identifiers stay as they are.
"""

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from trueport.detection.normalise.cues import Cue
from trueport.detection.normalise.view import Inner, Rewriter, Span, View

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}+(?:\r?\n[A-Za-z0-9+/_-]{4,}+)*={0,2}")
_HEX: Final = re.compile(r"(?:0x|\\x)?[0-9a-fA-F]{2}(?:(?:[ :,-]|, |\\x|0x| 0x|, 0x)?[0-9a-fA-F]{2}){7,}+")
_PERCENT: Final = re.compile(r"(?:%[0-9a-fA-F]{2}){1,}+")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPE: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]{1,6}\})++")
_HEX_PAIR: Final = re.compile(r"[0-9a-fA-F]{2}")
_CODE: Final = re.compile(r"[0-9a-fA-F]+")
_OTHER_ALPHABET: Final = str.maketrans("-_", "+/")
_TEXT_SHARE: Final = 0.9
_LETTER_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class _Piece:
    """The code points [start, end) say `text`; `inner` leads back from a part of it."""

    start: int
    end: int
    text: str
    inner: Inner | None = None


def decoded(view: View, cues: frozenset[Cue], most_bytes: int) -> tuple[View, int] | None:
    """The text with everything in it decoded once, and how many bytes that gave; None when there was nothing."""
    pieces = sorted(_pieces(view.text, cues), key=lambda piece: (piece.start, -piece.end))
    writer = Rewriter(view)
    read = spent = 0
    changed = False
    for piece in pieces:
        size = len(piece.text)
        if piece.start < read or spent + size > most_bytes:
            continue
        writer.replace(piece.start, piece.end, piece.text, piece.inner)
        read = piece.end
        spent += size
        changed = True
    return (writer.view("decoded"), spent) if changed else None


def _pieces(text: str, cues: frozenset[Cue]) -> Iterator[_Piece]:
    if "hex" in cues:
        yield from _opened(_HEX, text, _from_hex, _inner_of_hex)
    if "base64" in cues:
        yield from _opened(_BASE64, text, _from_base64, _inner_of_base64)
    if "percent" in cues:
        yield from _opened(_PERCENT, text, _from_percent, None, is_any_text=True)
    if "entity" in cues:
        for match in _ENTITY.finditer(text):
            meant = html.unescape(match[0])
            if meant != match[0]:
                yield _Piece(match.start(), match.end(), meant)
    if "escape" in cues:
        for match in _ESCAPE.finditer(text):
            yield _Piece(match.start(), match.end(), _from_escapes(match[0]))


def _opened(
    pattern: re.Pattern[str],
    text: str,
    decode: Callable[[str], bytes],
    inner: Inner | None,
    *,
    is_any_text: bool = False,
) -> Iterator[_Piece]:
    for match in pattern.finditer(text):
        data = decode(match[0])
        meant = _as_text(data, is_any=is_any_text) if data else None
        if meant is not None:
            yield _Piece(match.start(), match.end(), meant, inner)


def _as_text(data: bytes, *, is_any: bool) -> str | None:
    """The bytes as text, None when they are none. A character that was cut at the end is left out."""
    text = data.decode("utf-8", "ignore")
    if is_any:
        return text or None
    if len(text.encode()) < len(data) - 3 or not text:
        return None
    printable = sum(char.isprintable() or char in "\n\r\t" for char in text)
    wordy = sum(char.isalnum() or char in " ,.=+/-_" for char in text)
    if printable < _TEXT_SHARE * len(text) or wordy < _LETTER_SHARE * len(text):
        return None
    return text


def _from_base64(text: str) -> bytes:
    plain = "".join(text.split()).rstrip("=").translate(_OTHER_ALPHABET)
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""


def _inner_of_base64(encoded: str, meant: str, start: int, end: int) -> Span:
    """Three bytes stand in four characters; white space between them does not count."""
    first, last = _bytes_before(meant, start), _bytes_before(meant, end)
    places = [at for at, char in enumerate(encoded) if not char.isspace()]
    begin, stop = first // 3 * 4, min(-(-last // 3) * 4, len(places))
    return places[min(begin, len(places) - 1)], places[stop - 1] + 1


def _from_hex(text: str) -> bytes:
    return bytes(int(text[start:end], 16) for start, end in _hex_pairs(text))


def _inner_of_hex(encoded: str, meant: str, start: int, end: int) -> Span:
    pairs = _hex_pairs(encoded)
    first, last = _bytes_before(meant, start), max(_bytes_before(meant, end), 1)
    return pairs[min(first, len(pairs) - 1)][0], pairs[min(last, len(pairs)) - 1][1]


def _hex_pairs(text: str) -> list[Span]:
    """Where the bytes stand; the 0 of a `0x` is none of them."""
    blanked = text.replace("0x", "  ")
    return [match.span() for match in _HEX_PAIR.finditer(blanked)]


def _from_percent(text: str) -> bytes:
    return bytes.fromhex(text.replace("%", ""))


def _from_escapes(text: str) -> str:
    units = [int(match[0], 16) for match in _CODE.finditer(text.replace("\\u", " "))]
    data = b"".join(
        unit.to_bytes(2, "little") if unit < 0x10000 else chr(min(unit, 0x10FFFF)).encode("utf-16-le") for unit in units
    )
    return data.decode("utf-16-le", "replace")


def _bytes_before(text: str, at: int) -> int:
    return at if text.isascii() else len(text[:at].encode())
