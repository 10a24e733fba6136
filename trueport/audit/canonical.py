"""One byte form for each record, so that everybody who hashes it hashes the same bytes.

JSON after RFC 8785: members sorted, no white space, UTF-8. Three of its freedoms are given up, which makes a second
implementation simpler: there are no fractions (money is integer nano-dollars, time integer microseconds), integers
stay within ±(2^53 − 1) so that every JSON reader gives them back unchanged, and keys are ASCII identifiers, for which
byte order and the UTF-16 order of the RFC agree.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

LARGEST_INTEGER: Final = 2**53 - 1

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(dict[str, Any])
_PLAIN: Final = frozenset({str, bool, type(None)})


def canonical(record: Mapping[str, object]) -> bytes:
    """The canonical bytes of a record made of str, int, bool, None, list, tuple and dict.

    Raises TypeError for a float or any other type, subclasses included, and for keys that are no strings; ValueError
    for integers beyond ±(2^53 − 1), keys that are not ASCII, and text with lone surrogates.
    """
    data = _encoder.encode(record)
    _check_members(record, may_be_wide=not data.isascii())
    return data


def parse(data: bytes) -> dict[str, Any]:
    """The record of canonical bytes. Raises ValueError for anything that is not a JSON object."""
    return _decoder.decode(data)


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 of a leaf of the Merkle tree: RFC 6962, section 2.1, puts 0x00 before a leaf's bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def _check_members(members: Mapping[str, object], *, may_be_wide: bool) -> None:
    """Look at what the encoder takes and a record does not hold; `may_be_wide`: something in it is not ASCII."""
    for key, value in members.items():
        if type(key) is not str:
            raise TypeError("a record's keys are strings")
        if may_be_wide and not key.isascii():
            raise ValueError("a record's keys are ASCII")
        kind = type(value)
        # What `_check` says of it too, without the call: most members are texts and numbers, in each record.
        if kind is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER:  # type: ignore[operator]  # it is an int
            continue
        if kind not in _PLAIN:
            _check(value, may_be_wide=may_be_wide)


def _check(value: object, *, may_be_wide: bool) -> None:
    # Exact types: msgspec would also write floats, dates and enums, each in a form of its own choosing.
    kind = type(value)
    if kind is int:
        if not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:  # type: ignore[operator]  # it is an int
            raise ValueError("a record's integers stay within ±(2^53 - 1)")
    elif kind is dict:
        _check_members(value, may_be_wide=may_be_wide)  # type: ignore[arg-type]  # it is a dict
    elif kind is list or kind is tuple:
        for item in value:  # type: ignore[attr-defined]  # it is a list or a tuple
            _check(item, may_be_wide=may_be_wide)
    elif kind not in _PLAIN:
        raise TypeError(f"a record does not hold {kind.__name__}")
