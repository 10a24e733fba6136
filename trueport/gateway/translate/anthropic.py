"""Anthropic's Messages API, as clients speak it and as its provider answers it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate import anthropic_reading, anthropic_writing
from trueport.gateway.translate.anthropic_streams import (
    FINISH_OF,
    STOP_REASON_OF,
    AnthropicDecoder,
    AnthropicEncoder,
    failure_of,
)
from trueport.gateway.translate.calls import arguments_object, json_text
from trueport.gateway.translate.ids import safe_call_id
from trueport.gateway.translate.model import (
    Answer,
    Candidate,
    Conversation,
    Failure,
    Format,
    Part,
    Refusal,
    Shape,
    Text,
    Thinking,
    ToolCall,
)
from trueport.gateway.translate.openai_members import Members
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import anthropic_usage, as_anthropic
from trueport.kit.errors import InvalidRequest

_json: Final = msgspec.json.Decoder()


class Anthropic:
    """Implements ProviderFormat and ClientFormat."""

    name: Format = "anthropic"

    # As a provider's format

    def write_request(self, conversation: Conversation, model: str) -> tuple[str, dict[str, object]]:
        """Always the operation `messages`. Raises InvalidRequest for names and values Anthropic does not take."""
        return "messages", anthropic_writing.body(conversation, model)

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """A whole message. Kinds of blocks nobody asked for are left out."""
        try:
            return _answer(Members(body))
        except InvalidRequest as error:
            raise UnreadableAnswer("The provider's answer is not a message.") from error

    def read_failure(self, status: int, body: bytes) -> Failure:
        """An error answer, however broken."""
        try:
            said = _json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            said = None
        return failure_of(said.get("error") if isinstance(said, dict) else None, status)

    def stream_decoder(self) -> AnthropicDecoder:
        return AnthropicDecoder()

    # As a client's format

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a request means. Raises InvalidRequest that names the member which cannot be understood."""
        return anthropic_reading.read_conversation(members, model, streams=streams)

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:
        """Thoughts of other models are shown to clients that asked for thinking, and to no other."""
        thinking = members.get("thinking")
        asked = isinstance(thinking, dict) and thinking.get("type") != "disabled"
        shown = asked and conversation.reasoning.is_shown is not False
        return Shape(conversation.model, conversation.streams, wants_usage=True, shows_thinking=shown)

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A whole message. Raises UnreadableAnswer for tool calls whose arguments are no object."""
        candidate = answer.candidates[0] if answer.candidates else Candidate((), "content_filter")
        blocks = [_block(part, candidate) for part in candidate.parts if shape.shows_thinking or not _is_thought(part)]
        return {
            "id": answer.id or "msg",
            "type": "message",
            "role": "assistant",
            "model": answer.model or shape.model,
            "content": [block for block in blocks if block is not None],
            "stop_reason": STOP_REASON_OF[candidate.finish],
            "stop_sequence": candidate.stop_sequence,
            "usage": as_anthropic(answer.usage or Usage(0, 0)),
        }

    def stream_encoder(self, shape: Shape) -> AnthropicEncoder:
        return AnthropicEncoder(shape)


def _answer(message: Members) -> Answer:
    parts = tuple(part for block in message.objects("content") if (part := _part(block)) is not None)
    reason = message.text("stop_reason")
    finish = FINISH_OF.get(reason or "", "stop")
    return Answer(
        id=message.needed_text("id"),
        model=message.text("model") or "",
        candidates=(Candidate(parts, finish, message.text("stop_sequence")),),
        usage=anthropic_usage(message.values.get("usage")).usage,
    )


def _part(block: Members) -> Part | None:
    match block.needed_text("type"):
        case "text":
            return Text(block.needed_text("text"))
        case "thinking":
            signature = block.text("signature") or None
            return Thinking(block.needed_text("thinking"), signature, signed_by="anthropic")
        case "redacted_thinking":
            return Thinking("", redacted=block.needed_text("data"), signed_by="anthropic")
        case "tool_use":
            given = json_text(block.json("input") or {})
            return ToolCall(block.needed_text("id"), block.needed_text("name"), given)
    return None


def _is_thought(part: Part) -> bool:
    return isinstance(part, Thinking)


def _block(part: Part, candidate: Candidate) -> dict[str, object] | None:
    match part:
        case Text() | Refusal():
            return {"type": "text", "text": part.text} if part.text else None
        case ToolCall():
            given = arguments_object(part.arguments, was_cut=candidate.finish == "length")
            if given is None:
                return None
            # Such a client may send the call to Anthropic itself the next time, which takes no other ids.
            return {"type": "tool_use", "id": safe_call_id(part.id), "name": part.name, "input": given}
        case Thinking():
            if part.redacted is not None:
                return {"type": "redacted_thinking", "data": part.redacted}
            signature = part.signature if part.signed_by == "anthropic" else None
            return {"type": "thinking", "thinking": part.text, "signature": signature or ""}
    return None
