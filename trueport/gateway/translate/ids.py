"""Ids of tool calls, where a format has none or does not take another's. Pure: the same id always becomes the same."""

import re
from collections.abc import Container
from hashlib import sha256
from typing import Final

_SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def safe_call_id(call_id: str) -> str:
    """`call_id` in the alphabet that every format takes (Anthropic's: letters, digits, _ and -).

    One that is of it stays as it is, and any other becomes a digest of itself, so that a call and its result still
    belong together wherever in a request they stand.
    """
    return call_id if _SAFE.fullmatch(call_id) else _digest(call_id)


def answered_call_id(answer_id: str, candidate: int, number: int, name: str) -> str:
    """An id for a call that came without one: the `number`-th of a candidate of this answer.

    The answer's id is part of it, because clients send calls of several answers back in one conversation.
    """
    return _digest(f"{answer_id}\n{candidate}\n{number}\n{name}")


def counted_call_id(number: int, taken: Container[str]) -> str:
    """An id for the `number`-th call of a conversation whose calls have none, not among those `taken`."""
    call_id = f"call_{number}"
    while call_id in taken:
        call_id += "_"
    return call_id


def _digest(text: str) -> str:
    return "call_" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
