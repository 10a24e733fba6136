"""What counts as a JSON body: one reading of it, the same for every detector, budget and provider behind the gate.

Parsers differ on duplicate keys, NaN, lone surrogates and depth, and each difference is a way to show the policy one
text and the provider another. What this gate lets through has a single reading, so the bytes may be forwarded.
"""

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from math import isinf
from typing import Final, NoReturn

from trueport.kit.errors import InvalidRequest

MOST_ITEMS: Final = 100_000


class InvalidJson(InvalidRequest):
    """The body is not a JSON object that every parser reads alike."""

    code = "invalid_json"


class DuplicateKey(InvalidRequest):
    """An object names the same member twice, however it is spelled."""

    code = "duplicate_key"


class JsonTooDeep(InvalidRequest):
    """Objects and arrays are nested further than allowed."""

    code = "json_too_deep"


class TooManyItems(InvalidRequest):
    """The body consists of more members and elements than allowed."""

    code = "too_many_items"


_STRING: Final = re.compile(rb'"[^"]*"')
# Maps an opening bracket to +1 and a closing one to -1 as a signed byte.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def read_object(body: bytes, *, max_depth: int = 128, most_items: int = MOST_ITEMS) -> dict[str, object]:
    """The JSON object that `body` is.

    Raises InvalidJson, DuplicateKey, JsonTooDeep beyond `max_depth` levels and TooManyItems beyond `most_items`
    members and elements in all; the two bounds are looked at before anything is built.
    """
    _check_bounds(body, max_depth, most_items)
    try:
        text = body.decode()
        value = _DECODER.decode(text)
    except InvalidRequest:
        raise
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError, JSONDecodeError and an integer beyond Python's 4300 digits are all ValueErrors.
        raise InvalidJson("The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise InvalidJson("The body must be a JSON object.")
    if b"\\ud" in body or b"\\uD" in body:
        _refuse_lone_surrogates(value)
    return value


def _check_bounds(body: bytes, max_depth: int, most_items: int) -> None:
    """Count brackets and commas: with those inside strings first, and only if that is too many without them."""
    # Each item takes a byte at least, so a short body needs no counting of them.
    may_be_many = len(body) > most_items
    opened = body.count(b"{") + body.count(b"[")
    if opened <= max_depth and not (may_be_many and opened + body.count(b",") > most_items):
        return
    # A run of backslashes pairs up from its left, so what remains before a quote is what escapes it.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    too_many = may_be_many and plain.count(b'"') > 4 * most_items
    if too_many:
        # Refused already; a look at its beginning tells which of the two bounds it broke first.
        plain = plain[:262_144]
    skeleton = _STRING.sub(b"", plain)
    # Within `most_items` there are at most twice as many brackets, so this prefix is then all of them.
    steps = memoryview(skeleton.translate(_STEPS, _NOT_BRACKETS)[: 2 * most_items + max_depth]).cast("b")
    if max(accumulate(steps), default=0) > max_depth:
        raise JsonTooDeep("The body is nested too deeply.")
    if too_many or (may_be_many and sum(map(skeleton.count, (b"{", b"[", b","))) > most_items):
        raise TooManyItems("The body has too many members and elements.")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("The body names a member twice.")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise InvalidJson("The body holds a number too large to represent.")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidJson("The body holds NaN or Infinity, which JSON does not have.")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidJson("The body holds half of a surrogate pair.") from error


_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SCAN: Final = json.JSONDecoder().raw_decode


def splice_members(body: bytes, obj: Mapping[str, object], changes: Mapping[str, object]) -> bytes:
    """`body` with top-level members replaced where they stand, or added at the end; every other byte stays.

    `obj` is what `read_object` made of `body`. Number spellings, member order and white space survive, which a
    second serialisation would not leave alone.
    """
    if not changes:
        return body
    text = body.decode()
    pieces = []
    done = 0
    for start, end, name in _spans(text, changes.keys() & obj.keys()):
        pieces += [text[done:start], _dump(changes[name])]
        done = end
    added = [f"{_dump(name)}:{_dump(value)}" for name, value in changes.items() if name not in obj]
    if added:
        brace = text.rindex("}")
        pieces += [text[done:brace], "," if obj else "", ",".join(added)]
        done = brace
    pieces.append(text[done:])
    return "".join(pieces).encode()


def _spans(text: str, wanted: set[str]) -> list[tuple[int, int, str]]:
    """Where the values of the `wanted` members of a valid JSON object begin and end, in order of appearance."""
    spans: list[tuple[int, int, str]] = []
    at = text.index("{") + 1
    while len(spans) < len(wanted):
        name, at = _SCAN(text, _skip(text, at))
        start = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = _SCAN(text, start)
        if name in wanted:
            spans.append((start, end, name))
        at = _skip(text, end) + 1  # past the comma
    return spans


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


# `json.dumps` with arguments makes a new encoder each time.
_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
