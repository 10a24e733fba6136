"""Anthropic's streams, read into pieces and written from them.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate.calls import ObjectEnd, json_text
from trueport.gateway.translate.ids import safe_call_id
from trueport.gateway.translate.model import (
    CallPiece,
    Counted,
    Ended,
    Failed,
    Failure,
    Finished,
    FinishReason,
    Piece,
    Shape,
    Started,
    TextPiece,
    ThinkingPiece,
)
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import anthropic_usage, as_anthropic

FINISH_OF: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
STOP_REASON_OF: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    # Nothing says that the model failed; this at least does not pass for a whole answer.
    "error": "refusal",
}
STATUS_OF: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_KIND_OF: Final[Mapping[int, str]] = {status: kind for kind, status in STATUS_OF.items()} | {503: "overloaded_error"}
_NOTHING_USED: Final = Usage(0, 0)
_json: Final = msgspec.json.Decoder()


def failure_of(error: object, status: int | None) -> Failure:
    """The failure in an `error` object; `status` is None inside of a stream, where the kind stands for it."""
    said = error if isinstance(error, dict) else {}
    kind, message = said.get("type"), said.get("message")
    kind = kind if isinstance(kind, str) else None
    status = STATUS_OF.get(kind or "", 500) if status is None else status
    return Failure(status, message if isinstance(message, str) else f"The provider answered with {status}.", kind)


class AnthropicDecoder:
    """Implements StreamDecoder. Blocks are counted anew, so that those left out leave no gap."""

    __slots__ = ("_blocks", "_silent", "_start")

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}
        self._start: object = None
        self._silent: set[int] = set()

    def read(self, name: str, data: bytes) -> Sequence[Piece]:
        """The pieces in one event, whose data says its type too. Raises UnreadableAnswer."""
        try:
            event = _json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise UnreadableAnswer("The provider's stream holds an event that cannot be read.") from error
        if not isinstance(event, dict):
            raise UnreadableAnswer("The provider's stream holds an event that is no object.")
        kind = event.get("type")
        return tuple(self._pieces(kind if isinstance(kind, str) else name, event))

    def _pieces(self, kind: str, event: Mapping[str, object]) -> Iterator[Piece]:
        match kind:
            case "content_block_delta":
                yield from self._delta(event)
            case "content_block_start":
                yield from self._begun(event)
            case "content_block_stop":
                yield from self._stopped(event)
            case "message_start":
                yield self._started(event)
            case "message_delta":
                yield from self._finished(event)
            case "message_stop":
                yield Ended()
            case "error":
                yield Failed(failure_of(event.get("error"), None))

    def _started(self, event: Mapping[str, object]) -> Started:
        message = _object(event, "message")
        self._start = message.get("usage")
        usage = anthropic_usage(self._start).usage
        return Started(_text(message, "id"), _text(message, "model"), usage=usage)

    def _begun(self, event: Mapping[str, object]) -> Iterator[Piece]:
        index, begun = _index(event), _object(event, "content_block")
        kind = begun.get("type")
        if kind not in ("text", "thinking", "redacted_thinking", "tool_use"):
            return
        block = self._blocks[index] = len(self._blocks)
        match kind:
            case "text":
                if text := _text(begun, "text"):
                    yield TextPiece(0, block, text)
            case "thinking":
                text, signature = _text(begun, "thinking"), _text(begun, "signature")
                if text or signature:
                    yield ThinkingPiece(0, block, text, signature or None, signed_by="anthropic")
            case "redacted_thinking":
                yield ThinkingPiece(0, block, redacted=_text(begun, "data"), signed_by="anthropic")
            case "tool_use":
                given = begun.get("input")
                if not given:
                    self._silent.add(block)
                yield CallPiece(0, block, _text(begun, "id"), _text(begun, "name"), json_text(given) if given else "")

    def _delta(self, event: Mapping[str, object]) -> Iterator[Piece]:
        block, delta = self._blocks.get(_index(event)), _object(event, "delta")
        if block is None:
            return
        match delta.get("type"):
            case "text_delta":
                yield TextPiece(0, block, _text(delta, "text"))
            case "input_json_delta":
                if text := _text(delta, "partial_json"):
                    self._silent.discard(block)
                    yield CallPiece(0, block, arguments=text)
            case "thinking_delta":
                yield ThinkingPiece(0, block, _text(delta, "thinking"))
            case "signature_delta":
                yield ThinkingPiece(0, block, signature=_text(delta, "signature"), signed_by="anthropic")

    def _stopped(self, event: Mapping[str, object]) -> Iterator[Piece]:
        block = self._blocks.get(_index(event))
        if block is not None and block in self._silent:
            # A call without arguments has no deltas; everywhere else it has an empty object.
            self._silent.discard(block)
            yield CallPiece(0, block, arguments="{}")

    def _finished(self, event: Mapping[str, object]) -> Iterator[Piece]:
        delta = _object(event, "delta")
        reason, sequence = delta.get("stop_reason"), delta.get("stop_sequence")
        if isinstance(reason, str):
            yield Finished(0, FINISH_OF.get(reason, "stop"), sequence if isinstance(sequence, str) else None)
        usage = anthropic_usage(event.get("usage"), self._start).usage
        if usage is not None:
            yield Counted(usage)


def _object(said: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = said.get(name)
    if not isinstance(value, dict):
        raise UnreadableAnswer(f"The provider's stream holds an event without {name}.")
    return value


def _text(said: Mapping[str, object], name: str) -> str:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise UnreadableAnswer(f"The provider's answer has a {name} that is no text.")
    return value or ""


def _index(event: Mapping[str, object]) -> int:
    value = event.get("index")
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnreadableAnswer("The provider's stream holds a block event without an index.")
    return value


BlockPiece = TextPiece | ThinkingPiece | CallPiece


@dataclass(slots=True)
class _Open:
    """The block being written: the piece's block it belongs to, its kind, and whether a call in it is whole."""

    block: int
    kind: str
    end: ObjectEnd = field(default_factory=ObjectEnd)


class AnthropicEncoder:
    """Implements StreamEncoder.

    Anthropic's streams have one block open at a time. The open block is written as it comes. A piece of another block
    closes it and opens its own, unless the open one is a tool call whose arguments are still unfinished: then the
    other block's pieces wait, in order, until the arguments are a whole object or the answer has finished. Text is
    therefore written at once wherever a model may write it, before, between and behind its calls; what waits is a
    second call that a provider begins before it ends the first.

    A block that is taken up again after it was closed becomes one more block of its kind. Only the first candidate is
    written. The stop reason is written at the end and not when it is known: usage is part of that event, and comes
    after it from other providers.
    """

    __slots__ = ("_finished", "_has_started", "_index", "_open", "_shape", "_usage", "_waiting")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._usage: Usage | None = None
        self._finished = Finished(0, "stop")
        self._has_started = False
        self._index = 0
        self._open: _Open | None = None
        self._waiting: list[BlockPiece] = []

    def write(self, piece: Piece) -> bytes:
        return b"".join(self._events(piece))

    def _events(self, piece: Piece) -> Iterator[bytes]:
        match piece:
            case Started():
                yield from self._start(piece)
            case TextPiece() | ThinkingPiece() | CallPiece():
                if piece.candidate == 0 and self._is_shown(piece):
                    yield from self._start(None)
                    yield from self._take(piece)
            case Finished():
                if piece.candidate == 0:
                    self._finished = piece
                    yield from self._start(None)
                    yield from self._flush()
            case Counted():
                self._usage = piece.usage
            case Failed():
                yield _failed(piece.failure)
            case Ended():
                yield from self._start(None)
                yield from self._flush()
                yield from self._end()
            case _:
                assert_never(piece)

    def _is_shown(self, piece: BlockPiece) -> bool:
        return self._shape.shows_thinking or not isinstance(piece, ThinkingPiece)

    def _start(self, started: Started | None) -> Iterator[bytes]:
        if self._has_started:
            return
        self._has_started = True
        started = started or Started("", self._shape.model)
        self._usage = started.usage
        message: dict[str, object] = {
            "id": started.id or "msg",
            "type": "message",
            "role": "assistant",
            "model": started.model or self._shape.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": as_anthropic(started.usage or _NOTHING_USED),
        }
        yield _event("message_start", {"message": message})

    def _take(self, piece: BlockPiece) -> Iterator[bytes]:
        now = self._open
        if now is None or not self._is_amid_call(now):
            yield from self._place(piece)
        elif now.block != piece.block:
            self._waiting.append(piece)
        else:
            yield from self._place(piece)
            if not self._is_amid_call(now):
                yield from self._release()

    def _place(self, piece: BlockPiece) -> Iterator[bytes]:
        """Write a piece into the open block if it is of it, and into a new one otherwise."""
        now = self._open
        if now is None or now.block != piece.block or now.kind != _kind(piece):
            if isinstance(piece, CallPiece) and piece.name is None:
                return  # the rest of a call that was whole already: white space
            yield from self._close()
            now = self._open = _Open(piece.block, _kind(piece))
            yield _event("content_block_start", {"index": self._index, "content_block": _empty(piece)})
        yield from self._write(now, piece)

    def _write(self, now: _Open, piece: BlockPiece) -> Iterator[bytes]:
        if isinstance(piece, CallPiece):
            now.end.feed(piece.arguments)
        for delta in _deltas(piece):
            yield _event("content_block_delta", {"index": self._index, "delta": delta})

    def _release(self) -> Iterator[bytes]:
        """Write what waited, as far as it can be: up to the pieces behind the next unfinished call."""
        waiting, self._waiting = self._waiting, []
        for piece in waiting:
            yield from self._take(piece)

    def _flush(self) -> Iterator[bytes]:
        """Everything is here: write each waiting block as a whole, in the order in which they began."""
        waiting, self._waiting = self._waiting, []
        blocks = dict.fromkeys(piece.block for piece in waiting)
        for block in blocks:
            for piece in waiting:
                if piece.block == block:
                    yield from self._place(piece)
        yield from self._close()

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", {"index": self._index})
            self._index += 1

    def _end(self) -> Iterator[bytes]:
        delta = {"stop_reason": STOP_REASON_OF[self._finished.finish], "stop_sequence": self._finished.stop_sequence}
        yield _event("message_delta", {"delta": delta, "usage": as_anthropic(self._usage or _NOTHING_USED)})
        yield _event("message_stop", {})

    @staticmethod
    def _is_amid_call(now: _Open) -> bool:
        return now.kind == "tool_use" and not now.end.is_closed


def _kind(piece: BlockPiece) -> str:
    match piece:
        case TextPiece():
            return "text"
        case CallPiece():
            return "tool_use"
        case ThinkingPiece():
            return "thinking" if piece.redacted is None else "redacted_thinking"


def _empty(piece: BlockPiece) -> dict[str, object]:
    match piece:
        case TextPiece():
            return {"type": "text", "text": ""}
        case CallPiece():
            return {"type": "tool_use", "id": safe_call_id(piece.id or ""), "name": piece.name or "", "input": {}}
        case ThinkingPiece():
            if piece.redacted is not None:
                return {"type": "redacted_thinking", "data": piece.redacted}
            return {"type": "thinking", "thinking": "", "signature": ""}


def _deltas(piece: BlockPiece) -> Iterator[dict[str, object]]:
    match piece:
        case TextPiece():
            yield {"type": "text_delta", "text": piece.text}
        case CallPiece():
            yield {"type": "input_json_delta", "partial_json": piece.arguments}
        case ThinkingPiece():
            if piece.text:
                yield {"type": "thinking_delta", "thinking": piece.text}
            if piece.signature and piece.signed_by == "anthropic":
                yield {"type": "signature_delta", "signature": piece.signature}


def _failed(failure: Failure) -> bytes:
    kind = failure.kind if failure.kind in STATUS_OF else _KIND_OF.get(failure.status, "api_error")
    return _event("error", {"error": {"type": kind, "message": failure.message}})


def _event(name: str, members: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **members}))
