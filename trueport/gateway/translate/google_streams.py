"""Google's answers, whole and in chunks, read into pieces and written from them.

A chunk of a stream has the form of a whole answer, so one reader serves both.

Source: https://ai.google.dev/api/generate-content (GenerateContentResponse).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate.calls import ObjectEnd, arguments_object, json_text
from trueport.gateway.translate.google_reading import camel
from trueport.gateway.translate.ids import answered_call_id
from trueport.gateway.translate.model import (
    CallPiece,
    Counted,
    Ended,
    Failed,
    Failure,
    Finished,
    FinishReason,
    Format,
    Piece,
    Shape,
    Started,
    TextPiece,
    Thinking,
    ThinkingPiece,
)
from trueport.gateway.translate.openai_members import Members
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import as_google, google_usage
from trueport.kit.errors import InvalidRequest

_FINISH_OF: Final[Mapping[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_REASON_OF: Final[Mapping[FinishReason, str]] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "error": "OTHER",
}
_STATUS_NAMES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_json: Final = msgspec.json.Decoder()


def failure_of(said: object, status: int | None) -> Failure:
    """The failure in an error answer, `{"error": {…}}` or a list of one; `status` is None inside of a stream."""
    answer = said[0] if isinstance(said, list) and said else said
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    code, message, kind = error.get("code"), error.get("message"), error.get("status")
    if status is None:
        status = code if type(code) is int and 400 <= code <= 599 else 500
    message = message if isinstance(message, str) else f"The provider answered with {status}."
    return Failure(status, message, kind if isinstance(kind, str) else None, retry_after_s=_retry_after_s(error))


def _retry_after_s(error: Mapping[str, object]) -> float | None:
    """The seconds in a RetryInfo among the details, written as `12.5s`."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay[:-1].replace(".", "", 1).isdecimal() and delay.endswith("s"):
            return float(delay[:-1])
    return None


@dataclass(slots=True)
class _Progress:
    """How far one candidate has come: its present block, and whether it has called and finished."""

    block: int = -1
    kind: str = ""
    calls: int = 0
    has_finished: bool = False

    def block_for(self, kind: str) -> int:
        """The block that a part belongs to: the present one, or the next where its kind changes. Calls stand alone."""
        if kind != self.kind or kind == "call":
            self.block, self.kind = self.block + 1, kind
        return self.block


class GoogleDecoder:
    """Implements StreamDecoder. Never gives Ended: these streams have no end mark, they are over when they close."""

    __slots__ = ("_answer_id", "_candidates", "_has_started")

    def __init__(self) -> None:
        self._answer_id = ""
        self._has_started = False
        self._candidates: dict[int, _Progress] = {}

    def read(self, name: str, data: bytes) -> Sequence[Piece]:  # noqa: ARG002 - these events have no names
        """The pieces in one chunk. Raises UnreadableAnswer."""
        try:
            chunk = _json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise UnreadableAnswer("The provider's stream holds a chunk that cannot be read.") from error
        if not isinstance(chunk, dict):
            raise UnreadableAnswer("The provider's stream holds a chunk that is no object.")
        return self.read_chunk(chunk)

    def read_chunk(self, chunk: Mapping[str, object]) -> Sequence[Piece]:
        """The pieces in one chunk, or in a whole answer. Raises UnreadableAnswer."""
        if chunk.get("error") is not None:
            return (Failed(failure_of(chunk, None)),)
        try:
            return tuple(self._pieces(camel(Members(chunk))))
        except InvalidRequest as error:
            raise UnreadableAnswer("The provider's answer is not of Google's form.") from error

    def _pieces(self, chunk: Members) -> Iterator[Piece]:
        if not self._has_started:
            self._has_started = True
            self._answer_id = chunk.text("responseId") or ""
            yield Started(self._answer_id, chunk.text("modelVersion") or "")
        for position, listed in enumerate(chunk.objects("candidates")):
            candidate = camel(listed)
            index = candidate.count("index")
            yield from self._candidate(position if index is None else index, candidate)
        blocked = blocked_reason(chunk)
        if blocked is not None:
            yield TextPiece(0, 0, f"The provider refused the prompt: {blocked}.", is_refusal=True)
            yield from self._finish(0, "content_filter")
        usage = google_usage(chunk.values.get("usageMetadata")).usage
        if usage is not None:
            yield Counted(usage)

    def _candidate(self, index: int, candidate: Members) -> Iterator[Piece]:
        progress = self._candidates.setdefault(index, _Progress())
        content = candidate.inner("content")
        for listed in [] if content is None else content.objects("parts"):
            yield from self._part(index, progress, camel(listed))
        reason = candidate.text("finishReason")
        if reason not in (None, "", "FINISH_REASON_UNSPECIFIED"):
            finish = _FINISH_OF.get(reason or "", "error")
            yield from self._finish(index, "tool_calls" if finish == "stop" and progress.calls else finish)

    def _finish(self, index: int, finish: FinishReason) -> Iterator[Piece]:
        progress = self._candidates.setdefault(index, _Progress())
        if not progress.has_finished:
            progress.has_finished = True
            yield Finished(index, finish)

    def _part(self, index: int, progress: _Progress, part: Members) -> Iterator[Piece]:
        if part.has("functionCall"):
            yield self._call(index, progress, part)
        elif part.has("inlineData") or part.has("fileData"):
            # Left out, the client would pay for an image that it never gets and hear of no reason.
            raise UnreadableAnswer("The provider answered with media, which cannot be carried over to another format.")
        elif part.flag("thought"):
            yield from self._thought(index, progress, part)
        elif text := part.text("text"):
            yield TextPiece(index, progress.block_for("text"), text)

    def _thought(self, index: int, progress: _Progress, part: Members) -> Iterator[Piece]:
        text, signature = part.text("text") or "", part.text("thoughtSignature")
        if text or signature:
            signed_by: Format | None = "google" if signature else None
            yield ThinkingPiece(index, progress.block_for("thought"), text, signature, signed_by=signed_by)

    def _call(self, index: int, progress: _Progress, part: Members) -> CallPiece:
        call = camel(part.needed_inner("functionCall"))
        name = call.needed_text("name")
        call_id = call.text("id") or answered_call_id(self._answer_id, index, progress.calls, name)
        progress.calls += 1
        arguments = json_text(call.json("args") or {})
        return CallPiece(index, progress.block_for("call"), call_id, name, arguments, part.text("thoughtSignature"))


def blocked_reason(answer: Members) -> str | None:
    """Why the prompt itself was refused, None when it was not. Raises InvalidRequest for what is no answer."""
    feedback = answer.inner("promptFeedback")
    return None if feedback is None else camel(feedback).text("blockReason") or None


@dataclass(slots=True)
class _HeldCall:
    """A call whose arguments are still arriving."""

    id: str
    name: str
    signature: str | None
    pieces: list[str] = field(default_factory=list)
    end: ObjectEnd = field(default_factory=ObjectEnd)

    def part(self, *, was_cut: bool) -> dict[str, object] | None:
        return call_part(self.id, self.name, "".join(self.pieces), self.signature, was_cut=was_cut)


class GoogleEncoder:
    """Implements StreamEncoder.

    Text is written as it comes. A call is one part on this wire, so its pieces are kept until its arguments are a
    whole object, or the answer has finished; what comes meanwhile passes it. The finish reasons stand in a last chunk,
    written at the end: a stream without them counts as cut off. Each chunk carries the numbers known so far.
    """

    __slots__ = ("_calls", "_finished", "_shape", "_started", "_usage")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._started = Started("", shape.model)
        self._usage: Usage | None = None
        self._calls: dict[tuple[int, int], _HeldCall] = {}
        self._finished: dict[int, FinishReason] = {}

    def write(self, piece: Piece) -> bytes:
        return b"".join(self._chunks(piece))

    def _chunks(self, piece: Piece) -> Iterator[bytes]:
        match piece:
            case Started():
                self._started, self._usage = piece, piece.usage
            case TextPiece():
                if piece.text:
                    yield self._chunk(piece.candidate, {"text": piece.text})
            case ThinkingPiece():
                part = thought_part(piece)
                if part is not None and self._shape.shows_thinking:
                    yield self._chunk(piece.candidate, part)
            case CallPiece():
                yield from self._call(piece)
            case Finished():
                self._finished[piece.candidate] = piece.finish
                yield from self._flush(piece.candidate, was_cut=piece.finish == "length")
            case Counted():
                self._usage = piece.usage
            case Failed():
                yield _event(error_body(piece.failure))
            case Ended():
                yield from self._end()
            case _:
                assert_never(piece)

    def _call(self, piece: CallPiece) -> Iterator[bytes]:
        key = (piece.candidate, piece.block)
        if piece.name is not None:
            self._calls[key] = _HeldCall(piece.id or "", piece.name, piece.signature)
        held = self._calls.get(key)
        if held is None:
            return  # the rest of a call that was whole already: white space
        held.pieces.append(piece.arguments)
        held.end.feed(piece.arguments)
        if held.end.is_closed:
            del self._calls[key]
            yield from self._written(piece.candidate, held, was_cut=False)

    def _flush(self, candidate: int, *, was_cut: bool) -> Iterator[bytes]:
        for key in [key for key in self._calls if key[0] == candidate]:
            yield from self._written(candidate, self._calls.pop(key), was_cut=was_cut)

    def _written(self, candidate: int, held: _HeldCall, *, was_cut: bool) -> Iterator[bytes]:
        part = held.part(was_cut=was_cut)
        if part is not None:
            yield self._chunk(candidate, part)

    def _chunk(self, candidate: int, part: dict[str, object]) -> bytes:
        return self._answer([{"content": {"parts": [part], "role": "model"}, "index": candidate}])

    def _answer(self, candidates: list[dict[str, object]]) -> bytes:
        written: dict[str, object] = {"candidates": candidates}
        if self._usage is not None:
            written["usageMetadata"] = as_google(self._usage)
        written["modelVersion"] = self._started.model or self._shape.model
        written["responseId"] = self._started.id
        return _event(written)

    def _end(self) -> Iterator[bytes]:
        for candidate in {key[0] for key in self._calls}:
            yield from self._flush(candidate, was_cut=False)
        finished = self._finished or {0: "stop"}
        # Clients read the parts of every candidate, so there is one with nothing in it.
        yield self._answer(
            [
                {"content": {"parts": [{"text": ""}], "role": "model"}, "index": candidate}
                | {"finishReason": _REASON_OF[finish]}
                for candidate, finish in sorted(finished.items())
            ]
        )


def thought_part(thought: Thinking | ThinkingPiece) -> dict[str, object] | None:
    """The part for a thought, with a signature only of Google's own; None when there is nothing to show."""
    signature = thought.signature if thought.signed_by == "google" else None
    if not thought.text and signature is None:
        return None
    part: dict[str, object] = {"text": thought.text, "thought": True}
    return part if signature is None else part | {"thoughtSignature": signature}


def call_part(
    call_id: str, name: str, arguments: str, signature: str | None, *, was_cut: bool
) -> dict[str, object] | None:
    """The part for a call; None for one the length limit cut off. Raises UnreadableAnswer for arguments that are no
    object.
    """
    given = arguments_object(arguments, was_cut=was_cut)
    if given is None:
        return None
    part: dict[str, object] = {"functionCall": {"id": call_id, "name": name, "args": given}}
    return part if signature is None else part | {"thoughtSignature": signature}


def finish_reason(finish: FinishReason) -> str:
    return _REASON_OF[finish]


def error_body(failure: Failure) -> dict[str, object]:
    """An error as Google writes it."""
    status = 503 if failure.status == 529 else failure.status
    name = _STATUS_NAMES.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": failure.message, "status": name}}


def _event(body: Mapping[str, object]) -> bytes:
    return b"data: %b\r\n\r\n" % msgspec.json.encode(body)
