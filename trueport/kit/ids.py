"""Identifiers: a prefix that says what it is, then 26 characters that sort by time."""

import re
import time
from itertools import product
from typing import Final, NewType

from trueport.kit.randomness import random_bytes

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
KeyId = NewType("KeyId", str)
CredentialId = NewType("CredentialId", str)
InteractionId = NewType("InteractionId", str)

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
_PAIRS: Final = tuple(map("".join, product(_DIGITS, repeat=2)))
_BODY: Final = re.compile(r"[0-9a-v]{26}")


_newest = 0


def new_id(prefix: str) -> str:
    """A fresh `<prefix>_<26 characters>`.

    The body is 48 bits of Unix milliseconds and 80 random bits, as in a UUIDv7 or ULID, written in
    RFC 4648 base32hex in lower case: that alphabet keeps byte order, so ids sort by creation. Those of one process
    do so within a millisecond too, as in a monotonic ULID: a list shows what was made first, first.
    """
    global _newest  # noqa: PLW0603 - the order of ids is the process's
    body = time.time_ns() // 1_000_000 << 80 | int.from_bytes(random_bytes(10), "big")
    if body <= _newest:
        # A random step and not one: two threads that read the same newest id must not make the same next one.
        body = _newest + 1 + int.from_bytes(random_bytes(6), "big")
    _newest = body
    # 128 bits and two zero bits make 130: thirteen pairs of digits of ten bits each, looked up instead of computed.
    number = body << 2
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in range(120, -10, -10)])}"


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the form of an identifier with this prefix; says nothing about existence."""
    head, _, body = text.partition("_")
    return head == prefix and _BODY.fullmatch(body) is not None
