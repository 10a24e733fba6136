"""Streams of OpenAI's Responses API, written for clients.

Each item is told when it begins, as it grows, and once more whole when it is done; the whole response ends the stream.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, assert_never

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate.model import (
    CallPiece,
    Counted,
    Ended,
    Failed,
    Failure,
    Finished,
    FinishReason,
    JsonObject,
    Piece,
    Shape,
    Started,
    TextPiece,
    ThinkingPiece,
)
from trueport.gateway.translate.openai_chat_answers import completion_id, new_number, unix_now
from trueport.gateway.translate.openai_responses_answers import (
    BROKEN,
    Head,
    Status,
    call_item,
    ending,
    message_item,
    text_part,
)
from trueport.gateway.translate.openai_seal import sealed
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import later


@dataclass(slots=True)
class _Open:
    """The item that grows. `texts` are the finished contents of a message, `text` what the present one has so far."""

    kind: Literal["message", "reasoning", "call"]
    block: int
    id: str
    index: int
    text: list[str] = field(default_factory=list)
    content: list[JsonObject] = field(default_factory=list)
    is_refusal: bool = False
    call_id: str = ""
    name: str = ""
    seal: str | None = None


class ResponsesEncoder:
    """Writes a client's stream of response events, numbered without gaps."""

    def __init__(
        self, shape: Shape, *, now: Callable[[], int] = unix_now, number: Callable[[], str] = new_number
    ) -> None:
        self._shape = shape
        self._now = now
        self._number = number
        self._head = Head("", 0, shape.model, shape)
        self._has_started = False
        self._sequence = 0
        self._open: _Open | None = None
        self._output: list[JsonObject] = []
        self._calls: set[int] = set()
        self._usage: Usage | None = None
        self._finish: FinishReason = "stop"
        self._has_refusal = False
        self._has_failed = False

    def write(self, piece: Piece) -> bytes:
        """The events for a piece. Raises UnreadableAnswer when a call goes on after another part has begun.

        Nothing but the first candidate is written: this form has no place for more.
        """
        written = b""
        match piece:
            case _ if self._has_failed:
                pass  # nothing follows an error
            case Started():
                self._usage = piece.usage
                written = self._start(piece)
            case TextPiece(candidate=0):
                written = self._started() + self._text(piece)
            case ThinkingPiece(candidate=0):
                written = self._started() + self._thinking(piece)
            case CallPiece(candidate=0):
                written = self._started() + self._call(piece)
            case Finished(candidate=0):
                self._finish = piece.finish
                status, _ = ending(piece.finish, has_refusal=self._has_refusal)
                written = self._started() + self._close("incomplete" if status == "incomplete" else "completed")
            case TextPiece() | ThinkingPiece() | CallPiece() | Finished():
                pass
            case Counted():
                self._usage = later(self._usage, piece.usage)
            case Failed():
                self._has_failed = True
                written = self._fail(piece.failure)
            case Ended():
                written = self._started() + self._end()
            case _:
                assert_never(piece)
        return written

    def _event(self, kind: str, members: JsonObject) -> bytes:
        body = msgspec.json.encode({"type": kind, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"

    def _start(self, piece: Started) -> bytes:
        self._has_started = True
        self._head = Head(
            completion_id(piece.id or self._number(), "resp_"),
            piece.created or self._now(),
            piece.model or self._shape.model,
            self._shape,
        )
        response = self._head.response("in_progress", (), None)
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _started(self) -> bytes:
        return b"" if self._has_started else self._start(Started("", ""))

    def _begin(self, kind: Literal["message", "reasoning", "call"], prefix: str, block: int) -> tuple[bytes, _Open]:
        """Close what is open and begin an item, whose own event is still to be written."""
        closed = self._close("completed")
        index = len(self._output)
        self._open = _Open(kind, block, self._head.item_id(prefix, index), index)
        return closed, self._open

    def _added(self, item: _Open, value: JsonObject) -> bytes:
        return self._event("response.output_item.added", {"output_index": item.index, "item": value})

    def _text(self, piece: TextPiece) -> bytes:
        if not piece.text:
            return b""
        written, item = b"", self._open
        if item is None or item.kind != "message":
            written, item = self._begin("message", "msg", piece.block)
            written += self._added(item, message_item(item.id, "in_progress", [])) + self._begin_part(item, piece)
        elif item.block != piece.block or item.is_refusal != piece.is_refusal:
            written = self._end_part(item) + self._begin_part(item, piece)
        item.text.append(piece.text)
        self._has_refusal = self._has_refusal or piece.is_refusal
        kind = "response.refusal.delta" if piece.is_refusal else "response.output_text.delta"
        logprobs: dict[str, object] = {} if piece.is_refusal else {"logprobs": []}
        return written + self._event(kind, {**_content_place(item), "delta": piece.text, **logprobs})

    def _begin_part(self, item: _Open, piece: TextPiece) -> bytes:
        item.block, item.is_refusal, item.text = piece.block, piece.is_refusal, []
        part = text_part("", is_refusal=piece.is_refusal)
        return self._event("response.content_part.added", {**_content_place(item), "part": part})

    def _end_part(self, item: _Open) -> bytes:
        text = "".join(item.text)
        part, place = text_part(text, is_refusal=item.is_refusal), _content_place(item)
        if item.is_refusal:
            written = self._event("response.refusal.done", {**place, "refusal": text})
        else:
            written = self._event("response.output_text.done", {**place, "text": text, "logprobs": []})
        written += self._event("response.content_part.done", {**place, "part": part})
        item.content.append(part)
        return written

    def _thinking(self, piece: ThinkingPiece) -> bytes:
        seal = sealed(piece.signed_by, piece.signature, piece.redacted) if self._head.seals_reasoning else None
        text = piece.text if self._shape.shows_thinking else ""
        item, written = self._open, b""
        if not text and seal is None:
            return b""
        if item is None or item.kind != "reasoning" or item.block != piece.block:
            written, item = self._begin("reasoning", "rs", piece.block)
            written += self._added(item, {"id": item.id, "type": "reasoning", "summary": []})
        item.seal = seal or item.seal
        if not text:
            return written
        place = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
        if not item.text:
            part = {"type": "summary_text", "text": ""}
            written += self._event("response.reasoning_summary_part.added", {**place, "part": part})
        item.text.append(text)
        return written + self._event("response.reasoning_summary_text.delta", {**place, "delta": text})

    def _call(self, piece: CallPiece) -> bytes:
        item, written = self._open, b""
        if item is None or item.kind != "call" or item.block != piece.block:
            if piece.block in self._calls:
                raise UnreadableAnswer("The provider's stream goes on with a tool call after beginning another part.")
            self._calls.add(piece.block)
            written, item = self._begin("call", "fc", piece.block)
            item.call_id, item.name = piece.id or f"call_{item.id}", piece.name or ""
            written += self._added(item, call_item(item.id, item.call_id, item.name, "", "in_progress"))
        if not piece.arguments:
            return written
        item.text.append(piece.arguments)
        place = {"item_id": item.id, "output_index": item.index}
        return written + self._event("response.function_call_arguments.delta", {**place, "delta": piece.arguments})

    def _close(self, status: Status) -> bytes:
        """The end of the item that is open, if one is: its text whole, and itself."""
        item, self._open = self._open, None
        if item is None:
            return b""
        text, place = "".join(item.text), {"item_id": item.id, "output_index": item.index}
        written = b""
        match item.kind:
            case "message":
                written = self._end_part(item)
                value = message_item(item.id, status, item.content)
            case "reasoning":
                value = {"id": item.id, "type": "reasoning", "summary": []}
                if text:
                    part = {"type": "summary_text", "text": text}
                    place = {**place, "summary_index": 0}
                    written = self._event("response.reasoning_summary_text.done", {**place, "text": text})
                    written += self._event("response.reasoning_summary_part.done", {**place, "part": part})
                    value["summary"] = [part]
                if item.seal is not None:
                    value["encrypted_content"] = item.seal
            case "call":
                if not text:
                    # Clients parse this as JSON; providers say nothing for a call without arguments.
                    text = "{}"
                    written = self._event("response.function_call_arguments.delta", {**place, "delta": text})
                value = call_item(item.id, item.call_id, item.name, text, status)
                done = {**place, "name": item.name, "arguments": text}
                written += self._event("response.function_call_arguments.done", done)
            case _:
                assert_never(item.kind)
        self._output.append(value)
        return written + self._event("response.output_item.done", {"output_index": item.index, "item": value})

    def _end(self) -> bytes:
        closed = self._close("completed")
        status, reason = ending(self._finish, has_refusal=self._has_refusal)
        error = BROKEN if status == "failed" else None
        response = self._head.response(status, self._output, self._usage, reason=reason, error=error)
        return closed + self._event(f"response.{status}", {"response": response})

    def _fail(self, failure: Failure) -> bytes:
        if not self._has_started:
            error = {"code": failure.code or failure.kind, "message": failure.message, "param": None}
            return self._event("error", error)
        code = "rate_limit_exceeded" if failure.status == 429 else "server_error"
        response = self._head.response(
            "failed", self._output, self._usage, error={"code": code, "message": failure.message}
        )
        return self._event("response.failed", {"response": response})


def _content_place(item: _Open) -> dict[str, object]:
    return {"item_id": item.id, "output_index": item.index, "content_index": len(item.content)}
