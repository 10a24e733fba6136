"""Every client's format with every provider's: what is asked arrives, and what is answered comes back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pytest

from tests.support.translate import (
    PIXEL,
    WEATHER,
    assistant,
    conversation,
    data_of,
    decoded,
    encoded,
    events,
    in_pieces,
    joined,
    user,
)
from trueport.gateway.call import Usage
from trueport.gateway.translate.anthropic import Anthropic
from trueport.gateway.translate.base import ClientFormat, ProviderFormat
from trueport.gateway.translate.google import Google
from trueport.gateway.translate.model import (
    Answer,
    Candidate,
    Conversation,
    Ended,
    Failed,
    Failure,
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
    ToolCall,
    ToolChoice,
    ToolResult,
)
from trueport.gateway.translate.openai_chat import OpenAIChat
from trueport.gateway.translate.openai_completions import OpenAICompletions
from trueport.gateway.translate.openai_responses import OpenAIResponses

NOW: Final = 1_760_000_000
CHAT: Final = OpenAIChat(now=lambda: NOW, number=lambda: "fresh")
RESPONSES: Final = OpenAIResponses(now=lambda: NOW, number=lambda: "fresh")
COMPLETIONS: Final = OpenAICompletions(now=lambda: NOW, number=lambda: "fresh")
ANTHROPIC: Final = Anthropic()
GOOGLE: Final = Google()

PROVIDERS: Final[dict[str, tuple[ProviderFormat, str]]] = {
    "openai": (CHAT, "gpt-5"),
    "anthropic": (ANTHROPIC, "claude-opus-5"),
    "google": (GOOGLE, "gemini-2.5-flash"),
}
# Formats that clients and providers share: a request or an answer in one of them can be written and read.
BOTH_WAYS: Final[dict[str, OpenAIChat | Anthropic | Google]] = {
    "openai_chat": CHAT,
    "anthropic": ANTHROPIC,
    "google": GOOGLE,
}
CLIENTS: Final[dict[str, ClientFormat]] = {
    **BOTH_WAYS,
    "openai_responses": RESPONSES,
    "openai_completions": COMPLETIONS,
}


def sent(body: object) -> dict[str, Any]:
    """A body as it is after the wire."""
    value: dict[str, Any] = json.loads(msgspec.json.encode(body))
    return value


# Requests


@dataclass(frozen=True)
class Scenario:
    """A conversation, and how the formats that providers do not speak ask for it (None where they cannot)."""

    told: Conversation
    responses: Mapping[str, object] | None
    completions: Mapping[str, object] | None = None


_FUNCTION: Final = {
    "type": "function",
    "name": WEATHER.name,
    "description": WEATHER.description,
    "parameters": WEATHER.parameters,
}
_SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}

SCENARIOS: Final = {
    "one question": Scenario(
        conversation(user("Why?"), sampling=Sampling(max_tokens=50)),
        {"input": "Why?", "max_output_tokens": 50},
        {"prompt": "Why?", "max_tokens": 50},
    ),
    "system text and several turns": Scenario(
        conversation(
            user("Hi."),
            assistant("Hello!"),
            user("Who are you?"),
            system=(Text("You are brief."),),
            sampling=Sampling(max_tokens=50, temperature=0.5, top_p=0.5),
        ),
        {
            "instructions": "You are brief.",
            "input": [
                {"role": "user", "content": "Hi."},
                {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": [{"type": "input_text", "text": "Who are you?"}]},
            ],
            "max_output_tokens": 50,
            "temperature": 0.5,
            "top_p": 0.5,
        },
    ),
    "parallel calls and their results": Scenario(
        conversation(
            user("Rome and Oslo?"),
            assistant(
                "Let me see.",
                ToolCall("call_a", "get_weather", '{"place":"Rome"}'),
                ToolCall("call_b", "get_weather", '{"place":"Oslo"}'),
            ),
            user(
                ToolResult("call_a", "get_weather", (Text("sunny"),)),
                ToolResult("call_b", "get_weather", (Text('{"sky":"grey"}'),)),
            ),
            user("Which one is warmer?"),
            tools=(WEATHER,),
            tool_choice=ToolChoice("auto"),
            sampling=Sampling(max_tokens=50),
        ),
        {
            "input": [
                {"role": "user", "content": "Rome and Oslo?"},
                {"role": "assistant", "content": "Let me see."},
                {"type": "function_call", "call_id": "call_a", "name": "get_weather", "arguments": '{"place":"Rome"}'},
                {"type": "function_call", "call_id": "call_b", "name": "get_weather", "arguments": '{"place":"Oslo"}'},
                {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
                {"type": "function_call_output", "call_id": "call_b", "output": '{"sky":"grey"}'},
                {"role": "user", "content": "Which one is warmer?"},
            ],
            "tools": [_FUNCTION],
            "tool_choice": "auto",
            "max_output_tokens": 50,
        },
    ),
    "a tool that has to be called": Scenario(
        conversation(
            user("Rome?"),
            tools=(WEATHER,),
            tool_choice=ToolChoice("named", "get_weather"),
            sampling=Sampling(max_tokens=50),
        ),
        {
            "input": "Rome?",
            "tools": [_FUNCTION],
            "tool_choice": {"type": "function", "name": "get_weather"},
            "max_output_tokens": 50,
        },
    ),
    "pictures": Scenario(
        conversation(
            user("What is it?", Media("image", "image/png", PIXEL), Media("image", url="https://a.example/b.png")),
            sampling=Sampling(max_tokens=50),
        ),
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is it?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                        {"type": "input_image", "image_url": "https://a.example/b.png"},
                    ],
                }
            ],
            "max_output_tokens": 50,
        },
    ),
    "an answer after a schema": Scenario(
        conversation(
            user("Who?"),
            output=OutputForm("schema", "person", _SCHEMA, is_strict=True),
            sampling=Sampling(max_tokens=50),
        ),
        {
            "input": "Who?",
            "text": {"format": {"type": "json_schema", "name": "person", "schema": _SCHEMA, "strict": True}},
            "max_output_tokens": 50,
        },
    ),
    "reasoning": Scenario(
        conversation(user("Why?"), reasoning=Reasoning("medium"), sampling=Sampling(max_tokens=40_000)),
        {"input": "Why?", "reasoning": {"effort": "medium"}, "max_output_tokens": 40_000},
    ),
}


def as_client(client: str, scenario: Scenario) -> tuple[dict[str, Any], Conversation] | None:
    """The request a client makes, and what it is understood as; None when its format cannot ask for this."""
    if client in BOTH_WAYS:
        members = sent(BOTH_WAYS[client].write_request(scenario.told, "some-model")[1])
    else:
        asked = scenario.responses if client == "openai_responses" else scenario.completions
        if asked is None:
            return None
        members = {"model": "some-model", **asked}
    return members, CLIENTS[client].read_request(members, "some-model", streams=False)


ASKED: Final = [
    pytest.param(client, name, id=f"{client}, {name}")
    for client in CLIENTS
    for name, scenario in SCENARIOS.items()
    if as_client(client, scenario) is not None
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("client", "name"), ASKED)
def test_what_a_client_asks_arrives_at_any_provider(client: str, name: str, provider: str) -> None:
    scenario = SCENARIOS[name]
    request = as_client(client, scenario)
    assert request is not None
    form, model = PROVIDERS[provider]

    _, body = form.write_request(request[1], model)

    arrived = BOTH_WAYS[form.name].read_request(sent(body), "some-model", streams=False)
    assert meaning(arrived) == meaning(scenario.told)


def meaning(told: Conversation) -> dict[str, Any]:
    """What a conversation says, without how: turns merged, arguments parsed, results first in their turn."""
    turns: list[tuple[str, list[Any]]] = []
    for turn in told.turns:
        said = [_said(part) for part in turn.parts]
        if turns and turns[-1][0] == turn.role:
            turns[-1][1].extend(said)
        else:
            turns.append((turn.role, said))
    for _, parts in turns:
        parts.sort(key=lambda part: part[0] != "result")
    schema = told.output.schema
    return {
        "system": "\n".join(text.text for text in told.system),
        "turns": turns,
        "tools": [(tool.name, tool.description, tool.parameters) for tool in told.tools],
        "choice": (told.tool_choice.mode, told.tool_choice.name),
        "schema": None if schema is None else dict(schema),
        "thinks": told.reasoning.effort is not None or told.reasoning.budget_tokens is not None,
        "limits": (told.sampling.max_tokens, told.sampling.temperature, told.sampling.top_p, told.sampling.stop),
    }


def _said(part: Part) -> tuple[Any, ...]:
    match part:
        case Text():
            return ("text", part.text)
        case Media():
            return ("media", part.kind, part.data or part.url)
        case ToolCall():
            return ("call", part.id, part.name, json.loads(part.arguments))
        case ToolResult():
            return ("result", part.call_id, part.name, [_said(inner) for inner in part.parts])
    raise AssertionError(f"a {type(part).__name__} is in none of the scenarios")


# Answers


def answer(*parts: Part | str, finish: FinishReason = "stop") -> Answer:
    said = tuple(Text(part) if isinstance(part, str) else part for part in parts)
    return Answer("answer_1", "said-model", (Candidate(said, finish),), Usage(30, 12, cached_tokens=10), NOW)


CALLS: Final = (
    ToolCall("call_a", "get_weather", '{"place":"Rome"}'),
    ToolCall("call_b", "get_weather", '{"place":"O\\"}slo"}'),
)
ANSWERS: Final = {
    "text": answer("Because it is so."),
    "thinking": answer(Thinking("Why is it so?"), "Because."),
    "one call": answer(CALLS[0], finish="tool_calls"),
    "text and parallel calls": answer("Let me see.", *CALLS, finish="tool_calls"),
    "the limit": answer("Once upon a", finish="length"),
    "a filter": answer("Once", finish="content_filter"),
    "nothing": answer(),
}
# How a finish reason reads after a provider's own words for it: not every one has a word for each.
FINISH: Final[dict[tuple[str, FinishReason], FinishReason]] = {("anthropic", "content_filter"): "refusal"}
ASKED_THINKING: Final[dict[str, dict[str, Any]]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi."}], "stream_options": {"include_usage": True}},
    "openai_responses": {"input": "Hi.", "reasoning": {"effort": "low", "summary": "auto"}},
    "openai_completions": {"prompt": "Hi.", "stream_options": {"include_usage": True}},
    "anthropic": {
        "messages": [{"role": "user", "content": "Hi."}],
        "max_tokens": 100,
        "thinking": {"type": "adaptive"},
    },
    "google": {
        "contents": [{"parts": [{"text": "Hi."}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    },
}


def shape_for(client: str) -> Shape:
    """The shape of a request that wants to see everything."""
    members = {"model": "some-model", **ASKED_THINKING[client]}
    return CLIENTS[client].shape(members, CLIENTS[client].read_request(members, "some-model", streams=True))


def whole_and_streamed(client: str, provider: str, said: Answer) -> tuple[dict[str, Any], bytes]:
    """What a client gets when the provider answers this at once, and when it streams it."""
    form, _ = PROVIDERS[provider]
    wire, shape = BOTH_WAYS[form.name], replace(shape_for(client), shows_thinking=client != "openai_completions")
    everything = Shape("said-model", streams=True, wants_usage=True)
    whole = CLIENTS[client].write_answer(form.read_answer(sent(wire.write_answer(said, everything))), shape)
    stream = decoded(form, encoded(wire, in_pieces(said), everything))
    ends: list[Piece] = [] if isinstance(stream[-1], Ended) else [Ended()]
    return sent(whole), encoded(CLIENTS[client], [*stream, *ends], shape)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("client", BOTH_WAYS)
@pytest.mark.parametrize("name", ANSWERS)
def test_what_any_provider_answers_comes_back_whole_and_streamed(client: str, provider: str, name: str) -> None:
    said, form = ANSWERS[name], BOTH_WAYS[client]

    whole, stream = whole_and_streamed(client, provider, said)

    first, second = form.read_answer(whole), joined(decoded(form, stream))
    assert essence(first) == essence(second)
    finish = said.candidates[0].finish
    for end in (provider, client):
        finish = FINISH.get((end, finish), finish)
    assert essence(first) == (*essence(said)[:-1], finish if client == "anthropic" else _plain(finish))


def _plain(finish: FinishReason) -> FinishReason:
    return "content_filter" if finish == "refusal" else finish


def essence(said: Answer) -> tuple[Any, ...]:
    """What an answer says, without ids, signatures and empty texts."""
    parts: list[Any] = []
    for part in said.candidates[0].parts:
        match part:
            case ToolCall():
                parts.append((part.id, part.name, json.loads(part.arguments)))
            case Thinking() | Text() | Refusal():
                if part.text:
                    parts.append((type(part).__name__, part.text))
    return (said.model, parts, said.usage, said.candidates[0].finish)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ANSWERS)
def test_what_any_provider_answers_comes_back_as_a_response(provider: str, name: str) -> None:
    whole, stream = whole_and_streamed("openai_responses", provider, ANSWERS[name])

    last = data_of(stream)[-1]
    assert last["type"] == f"response.{whole['status']}"
    assert _without_ids(last["response"]) == _without_ids(whole)


def _without_ids(response: dict[str, Any]) -> dict[str, Any]:
    items = [{key: value for key, value in item.items() if key != "id"} for item in response["output"]]
    return {**response, "output": items}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ANSWERS)
def test_what_any_provider_answers_comes_back_as_a_completion(provider: str, name: str) -> None:
    whole, stream = whole_and_streamed("openai_completions", provider, ANSWERS[name])

    chunks = [choice for chunk in data_of(stream) for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert [chunk["usage"] for chunk in data_of(stream) if chunk.get("usage")][-1] == whole["usage"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_breaks_off_looks_broken_to_any_client(client: str, provider: str) -> None:
    form, _ = PROVIDERS[provider]
    wire = BOTH_WAYS[form.name]
    broken = encoded(wire, [Started("a", "said-model"), TextPiece(0, 0, "Once upon")])

    stream = encoded(CLIENTS[client], decoded(form, broken), shape_for(client))

    marks = (b"[DONE]", b"message_stop", b"message_delta", b"finishReason", b"response.completed", b'"finish_reason":"')
    assert b"Once upon" in stream
    assert not any(mark in stream for mark in marks)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failure_inside_a_stream_is_one_to_any_client(client: str, provider: str) -> None:
    form, _ = PROVIDERS[provider]
    wire = BOTH_WAYS[form.name]
    failing = encoded(wire, [Started("a", "said-model"), TextPiece(0, 0, "Once"), Failed(Failure(529, "Too busy"))])

    stream = encoded(CLIENTS[client], decoded(form, failing), shape_for(client))

    last = json.loads(events(stream)[-1][1])
    assert "Too busy" in json.dumps(last)
    assert "error" in json.dumps(last)


def test_a_prompt_google_blocks_ends_as_filtered_for_every_client() -> None:
    blocked = b'data: {"promptFeedback":{"blockReason":"SAFETY"},"responseId":"r","modelVersion":"m"}\n\n'
    pieces = decoded(GOOGLE, blocked)

    assert any(isinstance(piece, Finished) and piece.finish == "content_filter" for piece in pieces)
    for name, client in CLIENTS.items():
        stream = encoded(client, [*pieces, Ended()], shape_for(name))
        assert b"SAFETY" in stream
