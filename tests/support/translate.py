"""What tests of the wire formats share: streams cut into events, pieces put together, and made-up conversations."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from trueport.gateway.call import Usage
from trueport.gateway.streaming import SseSplitter, event_data, event_name
from trueport.gateway.translate.base import ClientFormat, ProviderFormat
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Candidate,
    Conversation,
    Counted,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Media,
    Part,
    Piece,
    Refusal,
    Shape,
    Started,
    Text,
    TextPiece,
    Thinking,
    ThinkingPiece,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

# No deadline: a slow machine is no failure.
a_few = settings(max_examples=50, deadline=None)

# A PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHAPE = Shape("asked-model", streams=True, wants_usage=True)


def events(stream: bytes) -> list[tuple[str, bytes]]:
    """The events of a stream, each as its name and its data. The stream has to end with a whole one."""
    splitter = SseSplitter()
    found = [(event_name(event), event_data(event)) for event in splitter.feed(stream)]
    rest = splitter.finish()
    assert not rest.strip(), "the stream ends inside an event"
    return found


def data_of(stream: bytes) -> list[dict[str, Any]]:
    """The JSON of a stream's events, in order, without OpenAI's end mark."""
    return [json.loads(data) for _, data in events(stream) if data != b"[DONE]"]


def decoded(form: ProviderFormat, stream: bytes) -> list[Piece]:
    """The pieces in a provider's stream."""
    decoder = form.stream_decoder()
    return [piece for name, data in events(stream) for piece in decoder.read(name, data)]


def encoded(form: ClientFormat, pieces: Iterable[Piece], shape: Shape = SHAPE) -> bytes:
    """The stream that a client gets."""
    encoder = form.stream_encoder(shape)
    return b"".join(encoder.write(piece) for piece in pieces)


def joined(pieces: Iterable[Piece]) -> Answer:
    """The whole answer that the pieces of a stream make."""
    answer = Answer("", "", (), None)
    parts: dict[int, dict[int, Part]] = {}
    ends: dict[int, Finished] = {}
    for piece in pieces:
        match piece:
            case Started():
                answer = Answer(piece.id, piece.model, (), piece.usage, piece.created)
            case TextPiece() | ThinkingPiece() | CallPiece():
                blocks = parts.setdefault(piece.candidate, {})
                blocks[piece.block] = _more(blocks.get(piece.block), piece)
            case Finished():
                ends[piece.candidate] = piece
            case Counted():
                answer = replace(answer, usage=piece.usage)
            case Failed() | Ended():
                pass
    candidates = tuple(
        Candidate(tuple(parts.get(index, {}).values()), end.finish, end.stop_sequence)
        for index, end in sorted(ends.items())
    )
    return replace(answer, candidates=candidates)


def _more(part: Part | None, piece: TextPiece | ThinkingPiece | CallPiece) -> Part:
    match piece:
        case TextPiece(is_refusal=True):
            assert part is None or isinstance(part, Refusal)
            return Refusal((part.text if part else "") + piece.text)
        case TextPiece():
            assert part is None or isinstance(part, Text)
            return Text((part.text if part else "") + piece.text)
        case ThinkingPiece():
            assert part is None or isinstance(part, Thinking)
            before = part or Thinking("")
            return Thinking(
                before.text + piece.text,
                piece.signature or before.signature,
                piece.redacted or before.redacted,
                piece.signed_by or before.signed_by,
            )
        case CallPiece():
            if piece.name is not None:
                assert part is None
                return ToolCall(piece.id or "", piece.name, piece.arguments, piece.signature)
            assert isinstance(part, ToolCall)
            return replace(part, arguments=part.arguments + piece.arguments)


def in_pieces(answer: Answer, size: int = 3) -> list[Piece]:
    """The answer as a stream might bring it: its texts in pieces of `size` characters."""
    pieces: list[Piece] = [Started(answer.id, answer.model, answer.created)]
    for index, candidate in enumerate(answer.candidates):
        for block, part in enumerate(candidate.parts):
            pieces.extend(_cut(index, block, part, size))
        pieces.append(Finished(index, candidate.finish, candidate.stop_sequence))
    if answer.usage is not None:
        pieces.append(Counted(answer.usage))
    return [*pieces, Ended()]


def _cut(index: int, block: int, part: Part, size: int) -> list[Piece]:
    match part:
        case Text() | Refusal():
            refused = isinstance(part, Refusal)
            return [TextPiece(index, block, text, is_refusal=refused) for text in _slices(part.text, size)]
        case Thinking(redacted=str()):
            return [ThinkingPiece(index, block, redacted=part.redacted, signed_by=part.signed_by)]
        case Thinking():
            said: list[Piece] = [ThinkingPiece(index, block, text) for text in _slices(part.text, size)]
            sealed = ThinkingPiece(index, block, signature=part.signature, signed_by=part.signed_by)
            return said if part.signature is None else [*said, sealed]
        case ToolCall():
            rest = [CallPiece(index, block, arguments=text) for text in _slices(part.arguments, size)]
            return [CallPiece(index, block, part.id, part.name, signature=part.signature), *rest]
    raise AssertionError(f"no model says a {type(part).__name__}")


def _slices(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


# Made-up values. Text has something to see in it: formats leave out what is empty.

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).map(lambda text: f"w{text}w")
names = st.from_regex(r"[a-z_][a-z0-9_-]{0,20}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(words, json_values, max_size=4)
schemas = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={"properties": st.dictionaries(names, st.just({"type": "string"}), max_size=3)},
)
usages = st.builds(
    lambda read, cached, written, thought: Usage(
        read + cached, written + thought, cached_tokens=cached, reasoning_tokens=thought
    ),
    *[st.integers(0, 10_000)] * 4,
)


def arguments(value: dict[str, Any]) -> str:
    """Arguments as the formats write them."""
    return msgspec.json.encode(value).decode()


def conversation(*turns: Turn, **members: Any) -> Conversation:
    """A conversation with a model that every rule knows nothing special of."""
    return Conversation(**{"model": "some-model", "turns": turns, **members})


def user(*parts: Part | str) -> Turn:
    return Turn("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part | str) -> Turn:
    return Turn("assistant", tuple(Text(part) if isinstance(part, str) else part for part in parts))


WEATHER = Tool(
    "get_weather",
    "The weather of a place.",
    {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Conversations that both Anthropic's and Google's format say without loss.

    Turns alternate and begin and end with the user's, calls are answered in the next turn by their order.
    """
    turns: list[Turn] = []
    for number in range(draw(st.integers(0, 3))):
        turns.append(user(*draw(st.lists(words, min_size=1, max_size=2))))
        called = draw(st.lists(st.tuples(names, json_objects), max_size=3))
        calls = [ToolCall(f"id_{number}_{index}", name, arguments(given)) for index, (name, given) in enumerate(called)]
        turns.append(assistant(*draw(st.lists(words, min_size=1, max_size=2)), *calls))
        if calls:
            answers = [
                ToolResult(call.id, call.name, (Text(draw(words)),), is_error=draw(st.booleans())) for call in calls
            ]
            turns += [user(*answers), assistant(draw(words))]
    pictures = [Media("image", "image/png", PIXEL)] if draw(st.booleans()) else []
    turns.append(user(*pictures, draw(words)))
    tools = tuple(
        Tool(name, draw(st.none() | words), draw(schemas)) for name in draw(st.lists(names, unique=True, max_size=3))
    )
    modes: Sequence[ToolChoice] = (
        [
            ToolChoice(),
            ToolChoice("auto"),
            ToolChoice("none"),
            ToolChoice("required"),
            ToolChoice("named", tools[0].name),
        ]
        if tools
        else [ToolChoice()]
    )
    return conversation(
        *turns,
        system=tuple(Text(text) for text in draw(st.lists(words, max_size=2))),
        tools=tools,
        tool_choice=draw(st.sampled_from(modes)),
        streams=draw(st.booleans()),
    )


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Whole answers of one candidate, whose kinds of parts are neighbours of other kinds only."""
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Thinking(draw(words)))
    if draw(st.booleans()):
        parts.append(Text(draw(words)))
    called = draw(st.lists(st.tuples(names, json_objects), max_size=3))
    parts += [ToolCall(f"call_{index}", name, arguments(given)) for index, (name, given) in enumerate(called)]
    plain: list[FinishReason] = ["stop", "length"]
    finish: FinishReason = "tool_calls" if called else draw(st.sampled_from(plain))
    return Answer("answer_1", "said-model", (Candidate(tuple(parts), finish),), draw(usages))
