"""Google's generateContent, as clients speak it and as its provider answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from trueport.gateway.translate import google_reading, google_writing
from trueport.gateway.translate.google_streams import (
    GoogleDecoder,
    GoogleEncoder,
    blocked_reason,
    call_part,
    failure_of,
    finish_reason,
    thought_part,
)
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Candidate,
    Conversation,
    Counted,
    Failed,
    Failure,
    Finished,
    FinishReason,
    Format,
    Part,
    Piece,
    Refusal,
    Shape,
    Started,
    Text,
    TextPiece,
    Thinking,
    ThinkingPiece,
    ToolCall,
)
from trueport.gateway.translate.openai_members import Members
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import as_google

_BLOCK_REASONS: Final = frozenset(
    {"SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR", "JAILBREAK"}
)
_json: Final = msgspec.json.Decoder()


class Google:
    """Implements ProviderFormat and ClientFormat."""

    name: Format = "google"

    # As a provider's format

    def write_request(self, conversation: Conversation, model: str) -> tuple[str, dict[str, object]]:
        """The verb that stands behind the model in the path. Raises InvalidRequest for what Google does not take."""
        operation = "streamGenerateContent" if conversation.streams else "generateContent"
        return operation, google_writing.body(conversation, model)

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """A whole answer, read as a stream of one chunk. Raises UnreadableAnswer when it is none."""
        pieces = GoogleDecoder().read_chunk(body)
        if isinstance(pieces[0], Failed):
            raise UnreadableAnswer("The provider's answer holds an error.")
        blocked = blocked_reason(google_reading.camel(Members(body)))
        answer = replace(_answer(pieces), blocked=blocked)
        if not answer.candidates:
            raise UnreadableAnswer("The provider's answer has no candidates.")
        return answer

    def read_failure(self, status: int, body: bytes) -> Failure:
        """An error answer, however broken."""
        try:
            said = _json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            said = None
        return failure_of(said, status)

    def stream_decoder(self) -> GoogleDecoder:
        return GoogleDecoder()

    # As a client's format

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a request means. Raises InvalidRequest that names the member which cannot be understood."""
        return google_reading.read_conversation(members, model, streams=streams)

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:  # noqa: ARG002 - the seam's
        """Thoughts are shown to clients that asked for them, as Google does."""
        shown = conversation.reasoning.is_shown is True
        return Shape(conversation.model, conversation.streams, wants_usage=True, shows_thinking=shown)

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A whole answer. Raises UnreadableAnswer for tool calls whose arguments are no object."""
        written: dict[str, object] = {}
        if answer.blocked is not None:
            reason = answer.blocked if answer.blocked in _BLOCK_REASONS else "OTHER"
            written["promptFeedback"] = {"blockReason": reason}
        else:
            written["candidates"] = [
                _candidate(index, candidate, shape) for index, candidate in enumerate(answer.candidates)
            ]
        if answer.usage is not None:
            written["usageMetadata"] = as_google(answer.usage)
        return written | {"modelVersion": answer.model or shape.model, "responseId": answer.id}

    def stream_encoder(self, shape: Shape) -> GoogleEncoder:
        return GoogleEncoder(shape)


def _candidate(index: int, candidate: Candidate, shape: Shape) -> dict[str, object]:
    parts = [_part(part, shape, was_cut=candidate.finish == "length") for part in candidate.parts]
    said = [part for part in parts if part is not None] or [{"text": ""}]
    return {
        "content": {"parts": said, "role": "model"},
        "finishReason": finish_reason(candidate.finish),
        "index": index,
    }


def _part(part: Part, shape: Shape, *, was_cut: bool) -> dict[str, object] | None:
    match part:
        case Text() | Refusal():
            return {"text": part.text} if part.text else None
        case Thinking():
            return thought_part(part) if shape.shows_thinking else None
        case ToolCall():
            return call_part(part.id, part.name, part.arguments, part.signature, was_cut=was_cut)
    return None


def _answer(pieces: Sequence[Piece]) -> Answer:
    """The answer whose pieces these are."""
    answer = Answer("", "", (), None)
    parts: dict[int, dict[int, Part]] = {}
    finishes: dict[int, FinishReason] = {}
    for piece in pieces:
        match piece:
            case Started():
                answer = replace(answer, id=piece.id, model=piece.model)
            case TextPiece() | ThinkingPiece() | CallPiece():
                blocks = parts.setdefault(piece.candidate, {})
                blocks[piece.block] = _joined(blocks.get(piece.block), piece)
            case Finished():
                finishes[piece.candidate] = piece.finish
            case Counted():
                answer = replace(answer, usage=piece.usage)
    candidates = (
        Candidate(tuple(parts.get(index, {}).values()), finishes.get(index, "stop"))
        for index in sorted(parts.keys() | finishes.keys())
    )
    return replace(answer, candidates=tuple(candidates))


def _joined(before: Part | None, piece: TextPiece | ThinkingPiece | CallPiece) -> Part:
    match piece:
        case TextPiece(is_refusal=True):
            return Refusal(piece.text)
        case TextPiece():
            return Text((before.text if isinstance(before, Text) else "") + piece.text)
        case ThinkingPiece():
            earlier = before if isinstance(before, Thinking) else Thinking("")
            signature, signed_by = piece.signature or earlier.signature, piece.signed_by or earlier.signed_by
            return Thinking(earlier.text + piece.text, signature, None, signed_by)
        case CallPiece():
            return ToolCall(piece.id or "", piece.name or "", piece.arguments, piece.signature)
