"""Anthropic's format: requests, answers and streams, read and written."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.translate import (
    PIXEL,
    SHAPE,
    WEATHER,
    a_few,
    answers,
    assistant,
    conversation,
    conversations,
    data_of,
    decoded,
    encoded,
    events,
    in_pieces,
    joined,
    json_values,
    user,
)
from trueport.gateway.call import Usage
from trueport.gateway.translate.anthropic import Anthropic
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Candidate,
    Conversation,
    Counted,
    Ended,
    Failed,
    Failure,
    Finished,
    FinishReason,
    Media,
    OutputForm,
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
from trueport.gateway.translate.openai_chat import OpenAIChat
from trueport.gateway.translate.rules import NotTranslatable, UnreadableAnswer
from trueport.kit.errors import InvalidRequest

ANTHROPIC = Anthropic()
GOLDEN = Path(__file__).parent / "golden"
ADAPTIVE, BUDGETED = "claude-opus-5", "claude-sonnet-4-5-20250929"


def read(**members: Any) -> Conversation:
    """A request of a client, with what every request has to have."""
    said = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi."}]} | members
    return ANTHROPIC.read_request(said, "some-model", streams=False)


def written(told: Conversation, model: str = ADAPTIVE) -> dict[str, Any]:
    operation, body = ANTHROPIC.write_request(told, model)
    assert operation == "messages"
    sent: dict[str, Any] = json.loads(msgspec.json.encode(body))
    return sent


def asked(**members: Any) -> dict[str, Any]:
    return written(conversation(user("Hi."), **members))


# Requests, read


def test_a_request_is_understood() -> None:
    told = read(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[
            {"role": "user", "content": "Weather in Rome?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "A tool knows.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "enc"},
                    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"place": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such place", "is_error": True},
                    {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}},
                ],
            },
        ],
        tools=[{"name": "get_weather", "input_schema": {"type": "object"}, "strict": True}],
        tool_choice={"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        metadata={"user_id": "u-7"},
    )

    assert told == Conversation(
        model="some-model",
        system=(Text("Be brief.", cache="1h"),),
        turns=(
            user("Weather in Rome?"),
            assistant(
                Thinking("A tool knows.", "c2ln", None, "anthropic"),
                Thinking("", redacted="enc", signed_by="anthropic"),
                ToolCall("toolu_1", "get_weather", '{"place":"Rome"}'),
            ),
            user(
                ToolResult("toolu_1", "get_weather", (Text("no such place"),), is_error=True),
                Text("And now?", cache="5m"),
            ),
        ),
        tools=(Tool("get_weather", None, {"type": "object"}, True),),
        tool_choice=ToolChoice("named", "get_weather", one_at_a_time=True),
        sampling=Sampling(max_tokens=100, temperature=0.5, top_p=0.9, top_k=40, stop=("END",)),
        user="u-7",
    )


@pytest.mark.parametrize(
    ("block", "media"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            Media("image", "image/png", PIXEL),
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
            Media("image", url="https://a.example/b"),
        ),
        (
            {
                "type": "document",
                "title": "T",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
            },
            Media("document", "application/pdf", "QQ==", name="T"),
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
            Media("document", "text/plain", "w6k="),
        ),
        ({"type": "document", "source": {"type": "content", "content": "plain"}}, Text("plain")),
    ],
)
def test_media_are_understood(block: dict[str, Any], media: Any) -> None:
    assert read(messages=[{"role": "user", "content": [block]}]).turns == (user(media),)


def test_a_stored_file_is_a_feature_because_no_other_provider_has_it() -> None:
    block = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}

    told = read(messages=[{"role": "user", "content": [block]}])

    assert told.turns == (user(Media("image", reference="file_1")),)
    assert told.features == {"stored_file"}


@pytest.mark.parametrize(
    ("members", "features"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {"hosted_tool:web_search"}),
        ({"tools": [{"type": "code_execution_20250825", "name": "x"}]}, {"hosted_tool:code_interpreter"}),
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, {"hosted_tool:computer"}),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, {"hosted_tool:mcp"}),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, {"hosted_tool:other"}),
        ({"mcp_servers": [{"type": "url", "url": "https://a.example"}]}, {"hosted_tool:mcp"}),
        ({"container": "c_1"}, {"container"}),
        ({"context_management": {"edits": []}}, {"context_management"}),
        ({"cache_control": {"type": "ephemeral"}}, {"automatic_caching"}),
        ({"inference_geo": "us"}, {"inference_region"}),
        ({"service_tier": "standard_only"}, {"service_tier"}),
        ({"service_tier": "auto"}, set()),
        ({"speed": "fast"}, {"service_tier"}),
        ({"mcp_servers": [], "container": None}, set()),
    ],
)
def test_what_has_no_neutral_form_is_a_feature(members: dict[str, Any], features: set[str]) -> None:
    assert read(**members).features == features


@pytest.mark.parametrize(
    ("block", "feature"),
    [
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, "hosted_tool_history"),
        ({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, "hosted_tool_history"),
        ({"type": "search_result", "source": "s", "title": "t", "content": []}, "search_results"),
        (
            {"type": "document", "citations": {"enabled": True}, "source": {"type": "content", "content": "x"}},
            "citations",
        ),
    ],
)
def test_blocks_that_have_no_neutral_form_are_features(block: dict[str, Any], feature: str) -> None:
    assert read(messages=[{"role": "assistant", "content": [block]}]).features == {feature}


def test_members_nobody_knows_are_named_once_and_without_positions() -> None:
    told = read(
        diagnostics={},
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a", "x": 1}, {"type": "text", "text": "b", "x": 1}]}
        ],
        **{"bad\r\nname": 1},
    )

    assert told.unknown == ("diagnostics", "messages[].content[].x")


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        ({}, Reasoning()),
        ({"thinking": {"type": "disabled"}}, Reasoning("none", is_shown=False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Reasoning(None, 2000, True)),
        ({"thinking": {"type": "adaptive"}}, Reasoning("high", is_shown=True)),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}},
            Reasoning("low", is_shown=False),
        ),
        ({"output_config": {"effort": "max"}}, Reasoning("high")),
    ],
)
def test_thinking_is_understood(members: dict[str, Any], reasoning: Reasoning) -> None:
    assert read(**members).reasoning == reasoning


@pytest.mark.parametrize("name", ["output_format", "output_config"])
def test_a_schema_for_the_answer_is_understood(name: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}

    told = read(**{name: form if name == "output_format" else {"format": form}})

    assert told.output == OutputForm("schema", schema={"type": "object"}, is_strict=True)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"temperature": "warm"}, "temperature"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**members)

    assert refused.value.fields["param"] == param


@a_few
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "system",
                "tools",
                "thinking",
                "tool_choice",
                "max_tokens",
                "metadata",
                "output_config",
                "stop_sequences",
            ]
        ),
        json_values,
    )
)
def test_arbitrary_requests_are_read_or_refused(members: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        ANTHROPIC.read_request(members, "m", streams=False)


_blocks = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"]
            )
        },
        optional={
            name: json_values | st.sampled_from([{"type": "base64"}, {"type": "text", "data": "x"}, "x"])
            for name in ("text", "source", "id", "name", "input", "tool_use_id", "content", "thinking", "cache_control")
        },
    ),
    max_size=4,
)


@a_few
@given(_blocks)
def test_arbitrary_blocks_are_read_or_refused(blocks: list[dict[str, Any]]) -> None:
    with suppress(InvalidRequest):
        read(messages=[{"role": "user", "content": blocks}])


# Requests, written


@a_few
@given(conversations())
def test_a_conversation_means_the_same_after_writing_and_reading(told: Conversation) -> None:
    body = written(told)

    again = ANTHROPIC.read_request(body, told.model, streams=told.streams)

    # The output limit is required, and schemas of tools always say that they are objects.
    assert replace(again, sampling=told.sampling) == told
    assert body["max_tokens"] == 4096


@pytest.mark.parametrize("case", sorted((GOLDEN / "anthropic_request").glob("*.json")), ids=lambda path: path.stem)
def test_a_chat_request_becomes_the_message_request_on_file(case: Path) -> None:
    golden = json.loads(case.read_text())
    told = OpenAIChat().read_request(golden["asked"], golden["model"], streams=golden["asked"].get("stream", False))

    assert written(told, golden["model"]) == golden["written"]


def test_turns_are_merged_until_they_alternate_and_the_user_begins() -> None:
    body = written(
        conversation(
            assistant("Welcome."), assistant(Thinking("unsigned")), assistant("Ask me."), user("A"), user(""), user("B")
        )
    )

    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Welcome."}, {"type": "text", "text": "Ask me."}]},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
    ]


def test_results_of_tools_come_first_in_their_turn() -> None:
    body = written(
        conversation(
            user("Go."),
            assistant(ToolCall("a", "f", "{}"), ToolCall("b", "f", "")),
            user(ToolResult("a", "f", (Text("1"),))),
            user("Hurry."),
            user(ToolResult("b", "f", (Text("2"), Media("image", "image/png", PIXEL)))),
        )
    )

    kinds = [block["type"] for block in body["messages"][2]["content"]]
    assert kinds == ["tool_result", "tool_result", "text"]
    assert [block["type"] for block in body["messages"][2]["content"][1]["content"]] == ["text", "image"]


def test_ids_of_other_providers_are_mapped_the_same_way_on_call_and_result() -> None:
    body = written(
        conversation(
            user("Go."),
            assistant(ToolCall("call:1/ü", "f", "{}"), ToolCall("fine_1", "f", "{}")),
            user(ToolResult("call:1/ü", "f", (Text("1"),)), ToolResult("fine_1", "f", (Text("2"),))),
        )
    )

    called = [block["id"] for block in body["messages"][1]["content"]]
    answered = [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert called == answered
    assert called[0].startswith("call_")
    assert called[0].isascii()
    assert called[1] == "fine_1"


def test_system_text_alone_becomes_the_users() -> None:
    body = written(conversation(system=(Text("Tell a joke."),)))

    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Tell a joke."}]}]


def test_an_answer_begun_for_the_model_ends_without_white_space() -> None:
    body = written(conversation(user("Go."), assistant("The answer is \n")))

    assert body["messages"][1]["content"] == [{"type": "text", "text": "The answer is"}]


def test_only_reasoning_that_anthropic_signed_goes_back_and_as_it_was() -> None:
    mine = Thinking("a ", "sig", None, "anthropic")
    hidden = Thinking("", None, "enc", "anthropic")
    others = [Thinking("b"), Thinking("c", "gsig", None, "google"), Thinking("", None, "o", "openai_responses")]

    body = written(conversation(user("Go."), assistant(mine, hidden, *others, "Done."), user("More.")))

    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "a ", "signature": "sig"},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "text", "text": "Done."},
    ]


def test_cache_marks_are_written() -> None:
    body = written(
        conversation(
            user(Text("Hi.", cache="5m")), system=(Text("S", cache="1h"),), tools=(replace(WEATHER, cache="5m"),)
        )
    )

    assert body["system"] == [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(("given_value", "sent"), [(0.0, 0.0), (0.7, 0.7), (1.0, 1.0), (1.8, 1.0)])
def test_temperatures_are_cut_at_one(given_value: float, sent: Any) -> None:
    assert asked(sampling=Sampling(temperature=given_value))["temperature"] == sent


def test_a_top_p_that_changes_nothing_is_left_out_beside_a_temperature() -> None:
    assert "top_p" not in asked(sampling=Sampling(temperature=0.5, top_p=1.0))
    assert asked(sampling=Sampling(top_p=0.5))["top_p"] == 0.5


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(), None),
        (ToolChoice("auto"), {"type": "auto"}),
        (ToolChoice("required"), {"type": "any"}),
        (ToolChoice("none", one_at_a_time=True), {"type": "none"}),
        (ToolChoice("named", "get_weather"), {"type": "tool", "name": "get_weather"}),
        (ToolChoice(one_at_a_time=True), {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("required", one_at_a_time=False), {"type": "any", "disable_parallel_tool_use": False}),
    ],
)
def test_tool_choices_are_written(choice: ToolChoice, sent: Any) -> None:
    assert asked(tools=(WEATHER,), tool_choice=choice).get("tool_choice") == sent
    assert "tool_choice" not in asked(tool_choice=choice)


def test_a_schema_is_closed_and_its_bounds_are_told_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "Years."},
            "tags": {"type": "array", "items": {"oneOf": [{"type": "object", "properties": {}}]}, "maxItems": 2},
        },
        "required": ["age"],
    }

    body = asked(output=OutputForm("schema", "person", schema))

    assert body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "age": {"type": "integer", "description": "Years.\n\n{minimum: 0}"},
                "tags": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "object", "properties": {}, "additionalProperties": False}]},
                    "description": "{maxItems: 2}",
                },
            },
            "required": ["age"],
            "additionalProperties": False,
        },
    }


def test_any_json_is_asked_for_in_words() -> None:
    body = asked(system=(Text("Be brief."),), output=OutputForm("json"))

    assert body["system"][0]["text"] == "Be brief."
    assert "JSON object" in body["system"][1]["text"]
    assert "output_config" not in body


def test_strict_tools_stay_strict_where_the_model_knows_how() -> None:
    strict = replace(WEATHER, is_strict=True)

    new = written(conversation(user("Hi."), tools=(strict,)), ADAPTIVE)["tools"][0]
    old = written(conversation(user("Hi."), tools=(strict,)), "claude-opus-4-20250514")["tools"][0]

    assert new["strict"] is True
    assert new["input_schema"]["additionalProperties"] is False
    assert "strict" not in old
    assert old["input_schema"] == WEATHER.parameters


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "effort", "max_tokens"),
    [
        (ADAPTIVE, Reasoning("low"), {"type": "adaptive"}, "low", 4096),
        (ADAPTIVE, Reasoning("minimal", is_shown=True), {"type": "adaptive", "display": "summarized"}, "low", 4096),
        (ADAPTIVE, Reasoning(None, 20_000), {"type": "adaptive"}, "high", 4096),
        (ADAPTIVE, Reasoning("none"), {"type": "disabled"}, None, 4096),
        (ADAPTIVE, Reasoning(), None, None, 4096),
        ("claude-opus-4-6", Reasoning("medium"), {"type": "adaptive"}, "medium", 4096),
        ("my-own-name", Reasoning("high"), {"type": "adaptive"}, "high", 4096),
        (BUDGETED, Reasoning("low"), {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        (BUDGETED, Reasoning("medium"), {"type": "enabled", "budget_tokens": 8192}, None, 12_288),
        (BUDGETED, Reasoning("high"), {"type": "enabled", "budget_tokens": 24_576}, None, 28_672),
        (BUDGETED, Reasoning(None, 3000), {"type": "enabled", "budget_tokens": 3000}, None, 7096),
        (BUDGETED, Reasoning("none"), None, None, 4096),
        ("claude-3-7-sonnet-20250219", Reasoning("low"), {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        ("claude-3-5-haiku-20241022", Reasoning("low"), None, None, 4096),
        (
            "eu.anthropic.claude-opus-4-20250514-v1:0",
            Reasoning("low"),
            {"type": "enabled", "budget_tokens": 1024},
            None,
            5120,
        ),
    ],
)
def test_efforts_become_what_the_model_understands(
    model: str, reasoning: Reasoning, thinking: dict[str, Any] | None, effort: str | None, max_tokens: int
) -> None:
    body = written(conversation(user("Hi."), reasoning=reasoning), model)

    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == max_tokens


def test_a_budget_leaves_half_of_the_clients_limit_to_the_answer() -> None:
    body = written(
        conversation(user("Hi."), reasoning=Reasoning("high"), sampling=Sampling(max_tokens=10_000)), BUDGETED
    )

    assert body["thinking"] == {"type": "enabled", "budget_tokens": 5000}
    assert body["max_tokens"] == 10_000


@pytest.mark.parametrize(
    "members",
    [
        {"sampling": Sampling(temperature=0.2)},
        {"sampling": Sampling(top_k=5)},
        {"sampling": Sampling(top_p=0.5)},
        {"tools": (WEATHER,), "tool_choice": ToolChoice("required")},
        {"turns": (user("Hi."), assistant("The answer is"))},
    ],
)
@pytest.mark.parametrize("model", [ADAPTIVE, BUDGETED])
def test_thinking_is_left_out_where_it_would_be_refused(members: dict[str, Any], model: str) -> None:
    told = replace(conversation(user("Hi."), reasoning=Reasoning("high")), **members)

    body = written(told, model)

    assert "thinking" not in body
    assert body["max_tokens"] == 4096


def test_thinking_in_a_budget_needs_the_thinking_before_the_calls_it_continues() -> None:
    call, result = ToolCall("a", "f", "{}"), user(ToolResult("a", "f", (Text("1"),)))
    without = conversation(user("Go."), assistant(call), result, reasoning=Reasoning("low"))
    with_it = replace(without, turns=(user("Go."), assistant(Thinking("t", "sig", None, "anthropic"), call), result))

    assert "thinking" not in written(without, BUDGETED)
    assert "thinking" in written(with_it, BUDGETED)
    assert "thinking" in written(without, ADAPTIVE)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": (replace(WEATHER, name="a.b"),)}, "tools"),
        ({"tools": (replace(WEATHER, name="x" * 129),)}, "tools"),
        ({"sampling": Sampling(stop=("END", "\n"))}, "stop"),
        ({"turns": (user("Go."), assistant(ToolCall("a", "f", "[1]")))}, "messages"),
    ],
)
def test_what_anthropic_does_not_take_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        written(replace(conversation(user("Hi.")), **members))

    assert refused.value.fields["param"] == param


@pytest.mark.parametrize(
    "turn", [user(Media("audio", "audio/wav", "QQ==")), assistant(Media("image", url="https://a.example"))]
)
def test_media_anthropic_has_no_place_for_are_refused(turn: Turn) -> None:
    with pytest.raises(NotTranslatable):
        written(conversation(user("Hi."), turn, user("So?")))


def test_a_users_tag_is_written_unless_it_is_too_long() -> None:
    assert asked(user="u-1")["metadata"] == {"user_id": "u-1"}
    assert "metadata" not in asked(user="u" * 257)


# Answers


ANSWER = Answer(
    "msg_1",
    "claude",
    (
        Candidate(
            (
                Thinking("Hm.", "sig", None, "anthropic"),
                Thinking("", None, "enc", "anthropic"),
                Text("Let me see."),
                ToolCall("toolu_1", "get_weather", '{"place":"Rome"}'),
            ),
            "tool_calls",
        ),
    ),
    Usage(25, 9, cached_tokens=5),
)


def test_an_answer_stays_the_same_through_writing_and_reading() -> None:
    assert ANTHROPIC.read_answer(ANTHROPIC.write_answer(ANSWER, SHAPE)) == ANSWER


@a_few
@given(answers())
def test_any_answer_stays_the_same_through_writing_and_reading(answer: Answer) -> None:
    again = ANTHROPIC.read_answer(ANTHROPIC.write_answer(answer, SHAPE))

    assert replace(again, candidates=unsigned(again)) == answer


def unsigned(answer: Answer) -> tuple[Candidate, ...]:
    """The candidates as if nobody had signed their thoughts: Anthropic's format signs all, with nothing if need be."""
    return tuple(
        replace(
            one,
            parts=tuple(replace(part, signed_by=None) if isinstance(part, Thinking) else part for part in one.parts),
        )
        for one in answer.candidates
    )


@pytest.mark.parametrize(
    ("reason", "finish", "back"),
    [
        ("end_turn", "stop", "end_turn"),
        ("max_tokens", "length", "max_tokens"),
        ("model_context_window_exceeded", "length", "max_tokens"),
        ("stop_sequence", "stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls", "tool_use"),
        ("pause_turn", "pause", "pause_turn"),
        ("refusal", "refusal", "refusal"),
        ("something_new", "stop", "end_turn"),
    ],
)
def test_stop_reasons_both_ways(reason: str, finish: FinishReason, back: str) -> None:
    body = {"id": "m", "content": [], "stop_reason": reason, "usage": {"input_tokens": 1, "output_tokens": 1}}

    answer = ANTHROPIC.read_answer(body)

    assert answer.candidates[0].finish == finish
    assert ANTHROPIC.write_answer(answer, SHAPE)["stop_reason"] == back


@pytest.mark.parametrize("finish", ["content_filter", "error"])
def test_an_answer_that_went_wrong_does_not_look_whole(finish: FinishReason) -> None:
    assert ANTHROPIC.write_answer(Answer("m", "m", (Candidate((), finish),), None), SHAPE)["stop_reason"] == "refusal"


def test_thoughts_of_other_models_are_shown_only_to_clients_that_asked() -> None:
    answer = Answer("m", "m", (Candidate((Thinking("Hm.", "g", None, "google"), Text("Yes.")), "stop"),), None)
    asking = {"thinking": {"type": "adaptive"}}
    for members, kinds in ((asking, ["thinking", "text"]), ({}, ["text"])):
        told = read(**members)
        shape = ANTHROPIC.shape(members, told)

        content: Any = ANTHROPIC.write_answer(answer, shape)["content"]

        assert [block["type"] for block in content] == kinds
        assert content[0].get("signature", "") == ""


def test_a_call_the_limit_cut_off_is_left_out_and_a_broken_one_is_an_error() -> None:
    cut = ToolCall("c", "f", '{"a": "b')
    for finish, outcome in (("length", []), ("tool_calls", None)):
        answer = Answer("m", "m", (Candidate((cut,), finish),), None)  # type: ignore[arg-type] # two of the literals
        if outcome is None:
            with pytest.raises(UnreadableAnswer):
                ANTHROPIC.write_answer(answer, SHAPE)
        else:
            assert ANTHROPIC.write_answer(answer, SHAPE)["content"] == outcome


@a_few
@given(
    st.dictionaries(
        st.sampled_from(["id", "content", "model", "usage", "stop_reason"]),
        json_values
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "tool_use", "thinking"])},
                optional={"text": json_values, "input": json_values},
            )
        ),
    )
)
def test_arbitrary_answers_are_read_or_unreadable(body: Any) -> None:
    with suppress(UnreadableAnswer):
        ANTHROPIC.read_answer(body)


# Errors


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Failure(529, "Overloaded", "overloaded_error"),
        ),
        (b"<html>", Failure(529, "The provider answered with 529.")),
        (b"[]", Failure(529, "The provider answered with 529.")),
        (b'{"error":"x"}', Failure(529, "The provider answered with 529.")),
        (b"\xff", Failure(529, "The provider answered with 529.")),
    ],
)
def test_an_error_is_read_however_broken(body: Any, failure: Failure) -> None:
    assert ANTHROPIC.read_failure(529, body) == failure


# Streams


@pytest.mark.parametrize("case", sorted((GOLDEN / "anthropic_stream").glob("*.sse")), ids=lambda path: path.stem)
def test_a_stream_on_file_is_read_as_the_answer_on_file(case: Path) -> None:
    pieces = decoded(ANTHROPIC, case.read_bytes())

    golden = json.loads(case.with_suffix(".json").read_text())
    failures = [json.loads(msgspec.json.encode(piece.failure)) for piece in pieces if isinstance(piece, Failed)]
    assert json.loads(msgspec.json.encode(joined(pieces))) == golden["answer"]
    assert (failures or [None]) == [golden["failure"]]
    assert isinstance(pieces[-1], Ended) == golden["is_ended"]


@pytest.mark.parametrize(
    "case", sorted((GOLDEN / "anthropic_encoded").glob("*.openai.sse")), ids=lambda path: path.name
)
def test_a_chat_stream_becomes_the_message_stream_on_file(case: Path) -> None:
    pieces = decoded(OpenAIChat(), case.read_bytes())

    stream = encoded(ANTHROPIC, pieces)

    assert stream == case.with_name(case.name.replace(".openai.", ".")).read_bytes()


def test_a_stream_of_every_kind_of_block_stays_the_same_through_writing_and_reading() -> None:
    assert joined(decoded(ANTHROPIC, encoded(ANTHROPIC, in_pieces(ANSWER)))) == ANSWER


@a_few
@given(answers(), st.integers(1, 8))
def test_any_stream_stays_the_same_through_writing_and_reading(answer: Answer, size: int) -> None:
    stream = encoded(ANTHROPIC, in_pieces(answer, size))

    assert joined(decoded(ANTHROPIC, stream)) == answer
    check_order(stream)


def check_order(stream: bytes) -> None:
    """Blocks are numbered from 0, one is open at a time, and the events are named for what they are."""
    open_block, next_block, names = None, 0, []
    for name, data in events(stream):
        event = json.loads(data)
        assert event["type"] == name
        names.append(name)
        if name == "content_block_start":
            assert open_block is None
            assert event["index"] == next_block
            open_block = event["index"]
        elif name == "content_block_delta":
            assert event["index"] == open_block
        elif name == "content_block_stop":
            assert event["index"] == open_block
            open_block, next_block = None, next_block + 1
    assert open_block is None
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]


def interleaved() -> list[Piece]:
    return [
        Started("m", "gpt"),
        CallPiece(0, 0, "a", "f"),
        CallPiece(0, 0, arguments='{"x":'),
        CallPiece(0, 1, "b", "g"),
        CallPiece(0, 1, arguments='{"y":"}'),
        CallPiece(0, 2, "c", "h", "{}"),
        CallPiece(0, 0, arguments="1}"),
        CallPiece(0, 1, arguments='"}'),
        TextPiece(0, 3, "Done."),
        Finished(0, "tool_calls"),
        Ended(),
    ]


def test_parallel_calls_that_interleave_are_written_one_after_the_other() -> None:
    stream = encoded(ANTHROPIC, interleaved())

    check_order(stream)
    assert joined(decoded(ANTHROPIC, stream)).candidates[0].parts == (
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "g", '{"y":"}"}'),
        ToolCall("c", "h", "{}"),
        Text("Done."),
    )


def test_text_before_and_behind_calls_is_written_at_once() -> None:
    encoder = ANTHROPIC.stream_encoder(SHAPE)
    encoder.write(Started("m", "gpt"))

    assert b"Hello" in encoder.write(TextPiece(0, 0, "Hello"))
    encoder.write(CallPiece(0, 1, "a", "f", '{"x":"'))
    assert b'\\"}' in encoder.write(CallPiece(0, 1, arguments='"}'))
    assert b"Bye" in encoder.write(TextPiece(0, 2, "Bye"))


@a_few
@given(st.permutations(range(6)), st.data())
def test_calls_in_any_interleaving_arrive_whole(order: list[int], data: st.DataObject) -> None:
    wholes = {block: json.dumps({"n": block, "s": '"}{\\'}) for block in range(3)}
    texts = {block: data.draw(st.integers(0, len(whole))) for block, whole in wholes.items()}
    halves = {block: [whole[: texts[block]], whole[texts[block] :]] for block, whole in wholes.items()}
    pieces: list[Piece] = [Started("m", "gpt")]
    seen: list[int] = []
    for number in order:
        block = number % 3
        if block not in seen:
            pieces.append(CallPiece(0, block, f"id{block}", f"f{block}"))
            seen.append(block)
        pieces.append(CallPiece(0, block, arguments=halves[block].pop(0)))
    pieces += [Finished(0, "tool_calls"), Ended()]

    stream = encoded(ANTHROPIC, pieces)

    check_order(stream)
    assert joined(decoded(ANTHROPIC, stream)).candidates[0].parts == tuple(
        ToolCall(f"id{block}", f"f{block}", wholes[block]) for block in seen
    )


def test_the_end_tells_the_numbers_that_came_after_the_last_word() -> None:
    pieces: list[Piece] = [
        Started("m", "gpt"),
        TextPiece(0, 0, "Hi"),
        Finished(0, "stop"),
        Counted(Usage(30, 5, cached_tokens=10, reasoning_tokens=2)),
        Ended(),
    ]

    told = data_of(encoded(ANTHROPIC, pieces))

    assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert told[-2]["usage"]["input_tokens"] == 20
    assert told[-2]["usage"]["cache_read_input_tokens"] == 10
    assert told[-2]["usage"]["output_tokens"] == 5


def test_a_stream_that_breaks_off_has_no_end() -> None:
    pieces: list[Piece] = [Started("m", "gpt"), TextPiece(0, 0, "Hi"), Finished(0, "stop"), Counted(Usage(1, 1))]

    names = [name for name, _ in events(encoded(ANTHROPIC, pieces))]

    assert "message_delta" not in names
    assert "message_stop" not in names


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(529, "Busy", "overloaded_error"), "overloaded_error"),
        (Failure(429, "Slow down", "RESOURCE_EXHAUSTED"), "rate_limit_error"),
        (Failure(503, "Away", "UNAVAILABLE"), "overloaded_error"),
        (Failure(418, "Tea"), "api_error"),
    ],
)
def test_a_failure_is_an_error_event_and_the_last_one(failure: Failure, kind: str) -> None:
    last = events(encoded(ANTHROPIC, [Started("m", "gpt"), TextPiece(0, 0, "Hi"), Failed(failure)]))[-1]

    assert last[0] == "error"
    assert json.loads(last[1])["error"] == {"type": kind, "message": failure.message}


def test_other_candidates_are_left_out() -> None:
    pieces: list[Piece] = [
        Started("m", "gpt"),
        TextPiece(1, 0, "two"),
        TextPiece(0, 0, "one"),
        Finished(1, "length"),
        Finished(0, "stop"),
        Ended(),
    ]

    answer = joined(decoded(ANTHROPIC, encoded(ANTHROPIC, pieces)))

    assert answer.candidates == (Candidate((Text("one"),), "stop"),)


def test_thoughts_nobody_asked_for_are_not_streamed() -> None:
    pieces: list[Piece] = [
        Started("m", "gpt"),
        ThinkingPiece(0, 0, "Hm."),
        TextPiece(0, 1, "Yes."),
        Finished(0, "stop"),
        Ended(),
    ]

    answer = joined(decoded(ANTHROPIC, encoded(ANTHROPIC, pieces, replace(SHAPE, shows_thinking=False))))

    assert answer.candidates[0].parts == (Text("Yes."),)


def test_a_refusal_in_words_is_text_with_its_stop_reason() -> None:
    pieces: list[Piece] = [
        Started("m", "gpt"),
        TextPiece(0, 0, "No.", is_refusal=True),
        Finished(0, "refusal"),
        Ended(),
    ]

    assert joined(decoded(ANTHROPIC, encoded(ANTHROPIC, pieces))).candidates == (Candidate((Text("No."),), "refusal"),)
    whole = ANTHROPIC.write_answer(Answer("m", "m", (Candidate((Refusal("No."),), "refusal"),), None), SHAPE)
    assert whole["content"] == [{"type": "text", "text": "No."}]


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"[]", b"\xff", b'{"type":"content_block_delta"}', b'{"type":"message_start"}']
)
def test_events_that_are_not_of_the_format_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        ANTHROPIC.stream_decoder().read("content_block_delta", data)


@a_few
@given(
    st.sampled_from(
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "error",
            "ping",
        ]
    ),
    st.dictionaries(
        st.sampled_from(["message", "delta", "index", "content_block", "usage", "error"]),
        json_values
        | st.just(0)
        | st.dictionaries(
            st.sampled_from(["type", "text", "id", "input"]),
            json_values | st.sampled_from(["text", "tool_use", "text_delta"]),
        ),
    ),
)
def test_arbitrary_events_are_read_or_unreadable(kind: str, members: dict[str, Any]) -> None:
    decoder = ANTHROPIC.stream_decoder()
    try:
        decoder.read(
            "content_block_start", b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
        )
        decoder.read(kind, msgspec.json.encode({"type": kind, **members}))
    except UnreadableAnswer:
        pass


def test_the_shape_repeats_the_asked_model() -> None:
    told = read()

    assert ANTHROPIC.shape({}, told) == Shape("some-model", streams=False, wants_usage=True, shows_thinking=False)


def test_an_instruction_amid_the_conversation_is_said_in_the_users_place() -> None:
    told = read(messages=[{"role": "user", "content": "Hi."}, {"role": "system", "content": "Be brief."}])

    assert told.turns == (user("Hi."), Turn("user", (Text("Be brief."),), is_instruction=True))
    assert written(told)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi."}, {"type": "text", "text": "Be brief."}]}
    ]


def test_a_thinking_block_without_a_signature_is_nobodys() -> None:
    block = {"type": "thinking", "thinking": "Hm.", "signature": ""}

    assert read(messages=[{"role": "assistant", "content": [block]}]).turns == (assistant(Thinking("Hm.")),)


def test_signatures_of_others_are_not_streamed_as_anthropics() -> None:
    pieces: list[Piece] = [
        Started("m", "gemini"),
        ThinkingPiece(0, 0, "Hm.", "gsig", signed_by="google"),
        Finished(0, "stop"),
        Ended(),
    ]

    assert b"gsig" not in encoded(ANTHROPIC, pieces)


def test_ids_that_anthropic_would_not_take_back_are_mapped_in_answers() -> None:
    call = ToolCall("functions.f:0", "f", "{}")
    said = Answer("m", "kimi", (Candidate((call,), "tool_calls"),), None)

    whole: Any = ANTHROPIC.write_answer(said, SHAPE)["content"]
    streamed = joined(decoded(ANTHROPIC, encoded(ANTHROPIC, in_pieces(said)))).candidates[0].parts[0]

    assert isinstance(streamed, ToolCall)
    assert whole[0]["id"] == streamed.id
    assert streamed.id.replace("_", "").isalnum()
