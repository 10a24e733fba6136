"""Values of the neutral form for tests of OpenAI's formats, and readers of what these formats write."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx2
from hypothesis import strategies as st
from openai import OpenAI

from trueport.gateway.call import Usage
from trueport.gateway.streaming import SseSplitter, event_data, event_name
from trueport.gateway.translate.base import StreamDecoder, StreamEncoder
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Candidate,
    Conversation,
    Counted,
    Ended,
    Finished,
    FinishReason,
    Media,
    OutputForm,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Sampling,
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

GOLDEN = Path(__file__).parent.parent / "gateway/translate/golden"
NOW = 1_767_225_600
USAGE = Usage(20, 10, cached_tokens=5, reasoning_tokens=4)


def golden(name: str) -> dict[str, object]:
    """A golden file's JSON object, by its path below the golden folder."""
    value = json.loads((GOLDEN / name).read_text())
    assert isinstance(value, dict)
    return value


def golden_names(folder: str) -> list[str]:
    """The files of a golden folder, by their paths below it."""
    found = sorted(str(path.relative_to(GOLDEN)) for path in (GOLDEN / folder).glob("*.json"))
    assert found, folder
    return found


def shape(*, wants_usage: bool = True, shows_thinking: bool = True, echo: dict[str, object] | None = None) -> Shape:
    return Shape("gpt-x", streams=True, wants_usage=wants_usage, shows_thinking=shows_thinking, echo=echo or {})


def written(encoder: StreamEncoder, pieces: Iterable[Piece]) -> bytes:
    return b"".join(map(encoder.write, pieces))


def events_in(stream: bytes) -> list[tuple[str, bytes]]:
    """The events of a whole stream, by name and data. Fails when it does not end with a blank line."""
    splitter = SseSplitter()
    found = [(event_name(event), event_data(event)) for event in splitter.feed(stream)]
    assert splitter.finish() == b""
    return found


def objects_in(stream: bytes) -> list[dict[str, object]]:
    """The JSON objects in a stream's events, without an end mark."""
    return [json.loads(data) for _, data in events_in(stream) if data != b"[DONE]"]


def pieces_in(decoder: StreamDecoder, stream: bytes) -> list[Piece]:
    return [piece for name, data in events_in(stream) for piece in decoder.read(name, data)]


def sdk_answered_by(stream: bytes) -> OpenAI:
    """OpenAI's own client, which gets `stream` for whatever it asks."""
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    transport = httpx2.MockTransport(lambda _: answer)
    return OpenAI(base_url="http://gateway/v1", api_key="none", http_client=httpx2.Client(transport=transport))


# What hypothesis draws. Only what OpenAI's formats can say is in it.

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
ids = st.from_regex(r"[a-z]{3}_[a-zA-Z0-9]{1,12}", fullmatch=True)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
arguments = st.dictionaries(names, st.integers() | words, min_size=1, max_size=2).map(json.dumps)
images = st.builds(
    Media,
    st.just("image"),
    media_type=st.sampled_from(["image/png", "image/jpeg"]),
    data=st.sampled_from(["AAAA", "/9j/4A=="]),
    detail=st.none() | st.just("low"),
) | st.builds(Media, st.just("image"), url=st.just("https://example.com/a.png"))
sounds = st.builds(
    Media, st.just("audio"), media_type=st.sampled_from(["audio/wav", "audio/mpeg"]), data=st.just("UklGRg==")
)
documents = st.builds(
    Media,
    st.just("document"),
    media_type=st.just("application/pdf"),
    data=st.just("JVBERi0="),
    name=st.sampled_from(["a.pdf", "b.pdf"]),
) | st.builds(Media, st.just("document"), reference=ids)
texts = st.builds(Text, words)
calls = st.builds(ToolCall, ids, names, arguments)
user_turns = st.builds(
    Turn,
    st.just("user"),
    st.lists(texts | images | sounds | documents, min_size=1, max_size=3).map(tuple),
    name=st.none() | names,
)
instructions = st.builds(
    Turn, st.just("user"), st.lists(texts, min_size=1, max_size=2).map(tuple), is_instruction=st.just(True)
)
schemas = st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(names, st.just({}))})


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Turn, ...]:
    """What the model said, and the results of all it called in one turn behind it."""
    called = draw(st.lists(calls, max_size=2, unique_by=lambda call: call.id))
    said: list[Part] = list(draw(st.lists(texts, min_size=0 if called else 1, max_size=2)))
    if draw(st.booleans()):
        said.append(Refusal(draw(words)))
    answered = Turn("assistant", (*said, *called), name=draw(st.none() | names))
    if not called:
        return (answered,)
    results = (ToolResult(call.id, call.name, tuple(draw(st.lists(texts, max_size=1)))) for call in called)
    return (answered, Turn("user", tuple(results)))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A request that chat completions can say without a loss."""
    first = draw(user_turns)
    rest = draw(st.lists(exchanges() | st.tuples(user_turns) | st.tuples(instructions), max_size=4))
    turns = (first, *(turn for some in rest for turn in some))
    tools = tuple(
        draw(
            st.lists(
                st.builds(Tool, names, st.none() | words, st.none() | schemas, st.none() | st.booleans()), max_size=2
            )
        )
    )
    choices = st.builds(
        ToolChoice, st.sampled_from([None, "auto", "none", "required"]), one_at_a_time=st.none() | st.booleans()
    )
    named = st.builds(ToolChoice, st.just("named"), names)
    return Conversation(
        model="gpt-x",
        turns=turns,
        system=tuple(draw(st.lists(texts, max_size=2))),
        tools=tools,
        tool_choice=draw(choices | named) if tools else ToolChoice(),
        output=draw(
            st.sampled_from([OutputForm(), OutputForm("json")])
            | st.builds(OutputForm, st.just("schema"), names, schemas, st.none() | st.booleans(), st.none() | words)
        ),
        reasoning=Reasoning(effort=draw(st.sampled_from([None, "none", "low", "high"]))),
        sampling=draw(
            st.builds(
                Sampling,
                max_tokens=st.none() | st.integers(0, 10_000),
                temperature=st.none() | st.floats(0, 2),
                top_p=st.none() | st.floats(0, 1),
                stop=st.lists(words, max_size=2).map(tuple),
                seed=st.none() | st.integers(-5, 5),
                frequency_penalty=st.none() | st.floats(-2, 2),
                presence_penalty=st.none() | st.floats(-2, 2),
                candidates=st.none() | st.integers(1, 3),
                logprobs=st.none() | st.booleans(),
                top_logprobs=st.none() | st.integers(0, 5),
            )
        ),
        streams=draw(st.booleans()),
        user=draw(st.none() | words),
        features=_features(turns),
    )


def _features(turns: Iterable[Turn]) -> frozenset[str]:
    late = {"late_instructions" for turn in turns if turn.is_instruction}
    stored = {"stored_file" for turn in turns for part in turn.parts if isinstance(part, Media) and part.reference}
    return frozenset(late | stored)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    """An answer in the order in which chat completions tell its parts."""
    parts: list[Part] = [Thinking(draw(words))] if draw(st.booleans()) else []
    parts += [draw(texts)] if draw(st.booleans()) else []
    refused = draw(st.booleans())
    parts += [Refusal(draw(words))] if refused else []
    called = draw(st.lists(calls, max_size=2))
    reasons: list[FinishReason] = ["length", "content_filter"]
    reasons.append("tool_calls" if called else "refusal" if refused else "stop")
    return Candidate((*parts, *called), draw(st.sampled_from(reasons)))


usages = st.builds(
    Usage,
    input_tokens=st.integers(10, 1_000),
    output_tokens=st.integers(10, 1_000),
    cached_tokens=st.integers(0, 5),
    cache_write_tokens=st.integers(0, 5),
    reasoning_tokens=st.integers(0, 9),
)
answers = st.builds(
    Answer,
    id=st.from_regex(r"chatcmpl-[a-z0-9]{1,8}", fullmatch=True),
    model=names,
    candidates=st.lists(candidates(), min_size=1, max_size=2).map(tuple),
    usage=st.none() | usages,
    created=st.integers(1, 2_000_000_000),
)


@st.composite
def streams(draw: st.DrawFn, *, most_candidates: int = 2) -> list[Piece]:
    """A whole stream. Neighbouring blocks of a candidate are of different kinds, and candidates follow each other."""
    pieces: list[Piece] = [Started(draw(st.from_regex(r"chatcmpl-[a-z0-9]{1,8}", fullmatch=True)), draw(names), NOW)]
    for candidate in range(draw(st.integers(1, most_candidates))):
        pieces += draw(_candidate_pieces(candidate))
    usage = draw(st.none() | usages)
    return [*pieces, *([Counted(usage)] if usage else []), Ended()]


@st.composite
def _candidate_pieces(draw: st.DrawFn, candidate: int) -> list[Piece]:
    kinds = draw(st.lists(st.sampled_from(["text", "refusal", "thinking", "call"]), max_size=5))
    pieces: list[Piece] = []
    said: list[str] = []
    for kind in kinds:
        if said and said[-1] == kind != "call":
            continue
        block = len(said)
        said.append(kind)
        chunks: Sequence[str] = draw(st.lists(words, min_size=1, max_size=3))
        if kind == "call":
            pieces.append(CallPiece(candidate, block, draw(ids), draw(names), ""))
            pieces += [CallPiece(candidate, block, arguments=chunk) for chunk in chunks]
        elif kind == "thinking":
            pieces += [ThinkingPiece(candidate, block, chunk) for chunk in chunks]
        else:
            pieces += [TextPiece(candidate, block, chunk, is_refusal=kind == "refusal") for chunk in chunks]
    finish: FinishReason = "tool_calls" if "call" in said else "refusal" if "refusal" in said else "stop"
    return [*pieces, Finished(candidate, draw(st.sampled_from([finish, "length"])))]


json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
