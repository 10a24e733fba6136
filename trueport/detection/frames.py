"""What the gateway and the reading process say to each other, over a socket pair: a length, then msgpack."""

import asyncio
import struct
from typing import Final

import msgspec

from trueport.detection.accounting import Work
from trueport.detection.types import Category, FailureCode, Passage, Reading

_LENGTH: Final = struct.Struct("!I")


class Read(msgspec.Struct, frozen=True, tag=True):
    """Read these; the answer has the same number."""

    number: int
    passages: tuple[Passage, ...]
    wanted: frozenset[Category]


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for that answer any more."""

    number: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded. Said once, before any answer."""

    version: str


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be used, for this reason, and the process ends."""

    reason: str


class Answer(msgspec.Struct, frozen=True, tag=True):
    """One reading for each passage, or why there is none; and the work done since the answer before."""

    number: int
    work: Work
    readings: tuple[Reading, ...] = ()
    failed: FailureCode | None = None


Question = Read | Leave
Reply = Ready | Broken | Answer

_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_replies = msgspec.msgpack.Decoder(Reply)


def frame(message: Question | Reply) -> bytes:
    """Raises UnicodeEncodeError for a text with half of a surrogate pair."""
    content = _encoder.encode(message)
    return _LENGTH.pack(len(content)) + content


async def next_question(reader: asyncio.StreamReader) -> Question:
    """Raises EOFError when the gateway is gone."""
    question: Question = _questions.decode(await _content(reader))
    return question


async def next_reply(reader: asyncio.StreamReader) -> Reply:
    """Raises EOFError or OSError when the reading process is gone, msgspec.MsgspecError for what is no reply."""
    reply: Reply = _replies.decode(await _content(reader))
    return reply


async def _content(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)
