"""Streams of OpenAI's chat completions, read from providers and written for clients.

Source: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate.ids import answered_call_id
from trueport.gateway.translate.model import (
    CallPiece,
    Counted,
    Ended,
    Failed,
    Finished,
    JsonObject,
    Piece,
    Shape,
    Started,
    TextPiece,
    Thinking,
    ThinkingPiece,
)
from trueport.gateway.translate.openai_chat_answers import (
    arguments_of,
    completion_id,
    content_part,
    error_object,
    failure_in_stream,
    new_number,
    object_or_empty,
    objects_in,
    read_finish,
    read_usage,
    seal_of,
    signature_of,
    text_or_none,
    unix_now,
    whole_or_zero,
    write_usage,
    written_finish,
)
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import later

_json: Final = msgspec.json.Decoder()


def object_in(data: bytes) -> dict[str, object]:
    """The JSON object an event holds. Raises UnreadableAnswer for anything else."""
    try:
        value = _json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableAnswer("The provider's stream holds an event that is not JSON.") from error
    if not isinstance(value, dict):
        raise UnreadableAnswer("The provider's stream holds an event that is not a JSON object.")
    return value


@dataclass(slots=True)
class _Reading:
    """Where the stream of one candidate is."""

    block: int = -1
    channel: str = ""
    calls: dict[int, int] = field(default_factory=dict)
    has_refusal: bool = False

    def block_for(self, channel: str) -> int:
        """The block that a piece of this channel belongs to: the present one, or a new one when the channel changes."""
        if channel != self.channel:
            self.channel = channel
            self.block += 1
        return self.block


class ChatDecoder:
    """Reads a provider's stream of `chat.completion.chunk` objects."""

    def __init__(self) -> None:
        self._has_started = False
        self._id = ""
        self._readings: dict[int, _Reading] = {}

    def read(self, name: str, data: bytes) -> Sequence[Piece]:  # noqa: ARG002 - events of this form have no names
        if data.strip() == b"[DONE]":
            return [Ended()]
        chunk = object_in(data)
        if chunk.get("error") is not None:
            return [Failed(failure_in_stream(chunk["error"]))]
        choices = objects_in(chunk.get("choices"))
        pieces: list[Piece] = []
        # Azure's first chunk has neither: it only tells what its filters say of the prompt.
        if not self._has_started and (choices or chunk.get("id")):
            self._has_started = True
            self._id = text_or_none(chunk.get("id")) or ""
            pieces.append(
                Started(
                    id=self._id,
                    model=text_or_none(chunk.get("model")) or "",
                    created=whole_or_zero(chunk.get("created")),
                )
            )
        for choice in choices:
            pieces += self._choice(choice)
        usage = read_usage(chunk)
        return pieces if usage is None else [*pieces, Counted(usage)]

    def _choice(self, choice: Mapping[str, object]) -> list[Piece]:
        index = whole_or_zero(choice.get("index"))
        reading = self._readings.setdefault(index, _Reading())
        delta = object_or_empty(choice.get("delta"))
        pieces: list[Piece] = []
        thought = text_or_none(delta.get("reasoning_content")) or text_or_none(delta.get("reasoning"))
        if thought is not None:
            pieces.append(ThinkingPiece(index, reading.block_for("thinking"), thought))
        content = delta.get("content")
        if isinstance(content, str):
            pieces += [TextPiece(index, reading.block_for("text"), content)] if content else []
        else:
            for part in (part for item in objects_in(content) for part in content_part(item)):
                if isinstance(part, Thinking):
                    pieces.append(ThinkingPiece(index, reading.block_for("thinking"), part.text))
                else:
                    pieces.append(TextPiece(index, reading.block_for("text"), part.text))
        refusal = text_or_none(delta.get("refusal"))
        if refusal is not None:
            reading.has_refusal = True
            pieces.append(TextPiece(index, reading.block_for("refusal"), refusal, is_refusal=True))
        calls = objects_in(delta.get("tool_calls"))
        if isinstance(delta.get("function_call"), dict):
            calls.append({"index": 0, "function": delta["function_call"]})
        pieces += [piece for call in calls if (piece := self._call(index, reading, call)) is not None]
        said = choice.get("finish_reason")
        if said is not None:
            finish = read_finish(said, has_calls=bool(reading.calls), has_refusal=reading.has_refusal)
            pieces.append(Finished(index, finish))
        return pieces

    def _call(self, candidate: int, reading: _Reading, call: Mapping[str, object]) -> CallPiece | None:
        function = object_or_empty(call.get("function"))
        arguments, signature = arguments_of(function.get("arguments")), signature_of(call)
        said_id, index = text_or_none(call.get("id")), call.get("index")
        if not isinstance(index, int):
            # Servers that leave the index out send each call whole, or name it once.
            index = len(reading.calls) - (1 if said_id is None and reading.calls else 0)
        if index in reading.calls:
            is_empty = not arguments and signature is None
            return None if is_empty else CallPiece(candidate, reading.calls[index], None, None, arguments, signature)
        reading.calls[index] = reading.block_for(f"call {index}")
        name = text_or_none(function.get("name")) or ""
        call_id = said_id or answered_call_id(self._id, candidate, index, name)
        return CallPiece(candidate, reading.calls[index], call_id, name, arguments, signature)


@dataclass(slots=True)
class _Writing:
    """What one candidate's stream has said so far."""

    calls: dict[int, int] = field(default_factory=dict)
    without_arguments: dict[int, None] = field(default_factory=dict)
    has_refusal: bool = False


class ChatEncoder:
    """Writes a client's stream of `chat.completion.chunk` objects."""

    def __init__(
        self, shape: Shape, *, now: Callable[[], int] = unix_now, number: Callable[[], str] = new_number
    ) -> None:
        self._shape = shape
        self._now = now
        self._number = number
        self._head: dict[str, object] = {}
        self._writings: dict[int, _Writing] = {}
        self._usage: Usage | None = None
        self._has_failed = False
        self._calls_functions = "functions" in shape.echo

    def write(self, piece: Piece) -> bytes:
        written = b""
        match piece:
            case _ if self._has_failed:
                pass  # nothing follows an error
            case Started():
                self._usage = piece.usage
                self._start(piece)
                written = self._open(0)
            case TextPiece():
                written = self._text(piece)
            case ThinkingPiece():
                if piece.text and self._shape.shows_thinking:
                    written = self._delta(piece.candidate, {"reasoning_content": piece.text})
            case CallPiece():
                written = self._call(piece)
            case Finished():
                written = self._finish(piece)
            case Counted():
                self._usage = later(self._usage, piece.usage)
            case Failed():
                self._has_failed = True
                written = event({"error": error_object(piece.failure)})
            case Ended():
                written = self._end()
            case _:
                assert_never(piece)
        return written

    def _start(self, piece: Started) -> None:
        self._head = {
            "id": completion_id(piece.id or self._number(), "chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": piece.created or self._now(),
            "model": piece.model or self._shape.model,
        }

    def _open(self, candidate: int) -> bytes:
        """The role, which each candidate's first chunk carries."""
        if not self._head:
            self._start(Started("", ""))
        if candidate in self._writings:
            return b""
        self._writings[candidate] = _Writing()
        return self._chunk(candidate, {"role": "assistant", "content": "", "refusal": None}, None)

    def _chunk(self, candidate: int, delta: JsonObject, finish: str | None) -> bytes:
        choice = {"index": candidate, "delta": delta, "logprobs": None, "finish_reason": finish}
        # A client that asked for usage gets the member in each chunk, empty until the last one.
        usage = {"usage": None} if self._shape.wants_usage else {}
        return event({**self._head, "choices": [choice], **usage})

    def _delta(self, candidate: int, delta: JsonObject) -> bytes:
        return self._open(candidate) + self._chunk(candidate, delta, None)

    def _text(self, piece: TextPiece) -> bytes:
        opened = self._open(piece.candidate)
        if not piece.text:
            return opened
        if piece.is_refusal:
            self._writings[piece.candidate].has_refusal = True
        return opened + self._chunk(piece.candidate, {"refusal" if piece.is_refusal else "content": piece.text}, None)

    def _call(self, piece: CallPiece) -> bytes:
        opened = self._open(piece.candidate)
        writing = self._writings[piece.candidate]
        calls = writing.calls
        is_new = piece.block not in calls
        index = calls.setdefault(piece.block, len(calls))
        if piece.arguments:
            writing.without_arguments.pop(index, None)
        elif is_new:
            writing.without_arguments[index] = None
        elif piece.signature is None:
            return opened
        function: dict[str, object] = {"name": piece.name or ""} if is_new else {}
        function["arguments"] = piece.arguments
        if self._calls_functions:
            # The older form has room for one call.
            return opened + (self._chunk(piece.candidate, {"function_call": function}, None) if index == 0 else b"")
        call: dict[str, object] = {"index": index}
        if is_new:
            call |= {"id": piece.id or f"call_{piece.candidate}_{index}", "type": "function"}
        call |= {"function": function, **seal_of(piece.signature)}
        return opened + self._chunk(piece.candidate, {"tool_calls": [call]}, None)

    def _finish(self, piece: Finished) -> bytes:
        written = self._open(piece.candidate)
        writing = self._writings[piece.candidate]
        for index in writing.without_arguments:
            # Clients parse the arguments as JSON; other providers say nothing for a call without any.
            call = {"index": index, "function": {"arguments": "{}"}}
            delta = {"function_call": call["function"]} if self._calls_functions else {"tool_calls": [call]}
            written += self._chunk(piece.candidate, delta, None)
        finish = written_finish(piece.finish, has_refusal=writing.has_refusal)
        if finish == "tool_calls" and self._calls_functions:
            finish = "function_call"
        return written + self._chunk(piece.candidate, {}, finish)

    def _end(self) -> bytes:
        if self._usage is None or not self._shape.wants_usage:
            return b"data: [DONE]\n\n"
        if not self._head:
            self._start(Started("", ""))
        return event({**self._head, "choices": [], **write_usage(self._usage)}) + b"data: [DONE]\n\n"


def event(value: JsonObject) -> bytes:
    """An event without a name."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
