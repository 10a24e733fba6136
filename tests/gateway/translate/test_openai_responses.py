"""OpenAI's Responses API in the neutral form, and the neutral form written as it."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.openai_translate import (
    NOW,
    USAGE,
    answers,
    events_in,
    golden,
    golden_names,
    json_values,
    objects_in,
    sdk_answered_by,
    streams,
    written,
)
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
from trueport.gateway.translate.openai_responses import FEATURE_NAMES, OpenAIResponses
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.kit.errors import InvalidRequest

RESPONSES = OpenAIResponses(now=lambda: NOW, number=lambda: "fresh")
ASKED: dict[str, object] = {"model": "gpt-x", "input": "hi"}
SUMMARISED: dict[str, object] = {"reasoning": {"effort": "low", "summary": "auto"}}
SEALED: dict[str, object] = {**SUMMARISED, "include": ["reasoning.encrypted_content"], "store": False}
_event: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def read(items: object = "hi", **members: object) -> Conversation:
    return RESPONSES.read_request({"model": "gpt-x", "input": items, **members}, "gpt-x", streams=False)


def shape_of(members: dict[str, object]) -> Shape:
    asked = ASKED | members
    return RESPONSES.shape(asked, RESPONSES.read_request(asked, "gpt-x", streams=True))


def write(answer: Answer, members: dict[str, object] | None = None) -> Response:
    """The written answer, as OpenAI's SDK understands it."""
    body = json.loads(json.dumps(RESPONSES.write_answer(answer, shape_of(members or {}))))
    return Response.model_validate(body, strict=True)


def output_of(response: Response) -> list[dict[str, object]]:
    """The items of a response as the client would send them back."""
    output = response.to_dict()["output"]
    assert isinstance(output, list)
    return output


def events_of(pieces: Iterable[Piece], members: dict[str, object] | None = None) -> list[dict[str, object]]:
    """The written events, each checked against OpenAI's SDK, its name and its number."""
    stream = written(RESPONSES.stream_encoder(shape_of(members or {})), pieces)
    found = objects_in(stream)
    assert [event["type"] for event in found] == [name for name, _ in events_in(stream)]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        _event.validate_python(event, strict=True)
    return found


def types_of(events: Iterable[dict[str, object]]) -> list[str]:
    return [str(event["type"]).removeprefix("response.") for event in events]


def response_in(event: dict[str, object]) -> Response:
    return Response.model_validate(event["response"], strict=True)


# Requests


@pytest.mark.parametrize("name", golden_names("openai_responses/requests"))
def test_a_golden_request_means_the_same_as_a_chat_completion(name: str) -> None:
    case = golden(name)
    asked = case["asked"]
    assert isinstance(asked, dict)

    conversation = RESPONSES.read_request(asked, "gpt-x", streams=asked.get("stream") is True)

    assert OpenAIChat().write_request(conversation, "gpt-y") == ("chat/completions", case["written"])
    assert sorted(conversation.features) == case["features"]
    assert list(conversation.unknown) == case["unknown"]


def test_the_items_of_the_model_are_one_turn_and_outputs_of_tools_another() -> None:
    conversation = read(
        [
            {"role": "user", "content": "Weather?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look it up."}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "One moment.", "annotations": []}],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [
                    {"type": "input_text", "text": "map"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                ],
            },
            {"role": "user", "content": "So?"},
        ]
    )

    assert conversation.turns == (
        Turn("user", (Text("Weather?"),)),
        Turn(
            "assistant",
            (Thinking("Look it up."), Text("One moment."), ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "")),
        ),
        Turn(
            "user",
            (
                ToolResult("c1", "f", (Text("rain"),)),
                ToolResult("c2", "g", (Text("map"), Media("image", "image/png", "AAAA", detail="auto"))),
            ),
        ),
        Turn("user", (Text("So?"),)),
    )
    assert conversation.features == frozenset()
    assert conversation.unknown == ()


def test_instructions_stand_first_and_later_ones_keep_their_place() -> None:
    conversation = read(
        [
            {"role": "developer", "content": "two"},
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"role": "system", "content": "three"},
        ],
        instructions="one",
    )

    assert conversation.system == (Text("one"), Text("two"))
    assert conversation.turns == (
        Turn("user", (Text("hi"),)),
        Turn("user", (Text("three"),), is_instruction=True),
    )
    assert conversation.features == {"late_instructions"}


@pytest.mark.parametrize(
    ("part", "media"),
    [
        (
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            Media("image", "image/png", "AAAA", detail="low"),
        ),
        ({"type": "input_image", "image_url": "https://e.com/a.png"}, Media("image", url="https://e.com/a.png")),
        (
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            Media("image", reference="file-1", detail="auto"),
        ),
        ({"type": "input_file", "file_id": "file-1"}, Media("document", reference="file-1")),
        ({"type": "input_file", "file_url": "https://e.com/a.pdf"}, Media("document", url="https://e.com/a.pdf")),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            Media("document", "application/pdf", "AAAA", name="a.pdf"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            Media("audio", "audio/wav", "AAAA"),
        ),
    ],
)
def test_each_kind_of_content_is_understood(part: dict[str, object], media: Media) -> None:
    assert read([{"role": "user", "content": [part]}]).turns == (Turn("user", (media,)),)


def test_settings_are_understood() -> None:
    conversation = read(
        tools=[{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "high", "summary": "detailed"},
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.25,
        user="u",
    )

    assert conversation == Conversation(
        model="gpt-x",
        turns=(Turn("user", (Text("hi"),)),),
        tools=(Tool("f", "d", {"type": "object"}, True),),
        tool_choice=ToolChoice("named", "f", one_at_a_time=True),
        output=OutputForm("schema", "n", {"type": "object"}, True),
        reasoning=Reasoning(effort="high", is_shown=True),
        sampling=Sampling(max_tokens=9, temperature=0.5, top_p=0.25),
        user="u",
    )


def test_members_of_chat_completions_are_no_part_of_this_form() -> None:
    conversation = read(stop="x", n=2, seed=1)

    assert conversation.sampling == Sampling()
    assert sorted(conversation.unknown) == ["n", "seed", "stop"]


@pytest.mark.parametrize("members", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}])
def test_logprobs_are_asked_for_in_two_ways(members: dict[str, object]) -> None:
    assert read(**members).sampling.logprobs is True
    assert read().sampling.logprobs is None


@pytest.mark.parametrize(
    ("members", "feature"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "stored_state"),
        ({"conversation": {"id": "conv_1"}}, "stored_state"),
        ({"prompt": {"id": "pmpt_1"}}, "stored_state"),
        ({"background": True}, "stored_state"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "stored_state"),
        ({"input": [{"id": "msg_1"}]}, "stored_state"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "stored_file"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"prompt_cache_key": "k"}, "prompt_cache"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"text": {"verbosity": "high"}}, "verbosity"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "allowed_tools"),
        ({"tool_choice": {"type": "custom", "name": "f"}}, "custom_tool"),
        ({"tool_choice": {"type": "web_search_preview"}}, "hosted_tool:web_search"),
        ({"tools": [{"type": "web_search_2025_08_26"}]}, "hosted_tool:web_search"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "hosted_tool:file_search"),
        ({"tools": [{"type": "computer_use_preview"}]}, "hosted_tool:computer"),
        ({"tools": [{"type": "mcp", "server_label": "a"}]}, "hosted_tool:mcp"),
        ({"tools": [{"type": "code_interpreter", "container": "c"}]}, "hosted_tool:code_interpreter"),
        ({"tools": [{"type": "image_generation"}]}, "hosted_tool:image_generation"),
        ({"tools": [{"type": "local_shell"}]}, "hosted_tool:local_shell"),
        ({"tools": [{"type": "shell"}]}, "hosted_tool:shell"),
        ({"tools": [{"type": "apply_patch"}]}, "hosted_tool:apply_patch"),
        ({"tools": [{"type": "tool_search"}]}, "hosted_tool:tool_search"),
        ({"tools": [{"type": "something_new"}]}, "hosted_tool:other"),
        ({"tools": [{"type": "custom", "name": "f"}]}, "custom_tool"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": []}]}, "tool_namespace"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "hosted_tool:web_search"),
        ({"input": [{"type": "mcp_list_tools", "id": "mcp_1"}]}, "hosted_tool:mcp"),
        ({"input": [{"type": "shell_call_output", "call_id": "c"}]}, "hosted_tool:shell"),
        ({"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": "x"}]}, "custom_tool"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "compacted_context"),
        ({"input": [{"type": "something_new"}]}, "unknown_item"),
    ],
)
def test_what_the_neutral_form_has_no_member_for_is_noted_as_a_feature(
    members: dict[str, object], feature: str
) -> None:
    conversation = RESPONSES.read_request(ASKED | members, "m", streams=False)

    assert conversation.features == {feature}
    assert feature in FEATURE_NAMES


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"store": False},
        {"background": False},
        {"previous_response_id": None},
        {"truncation": "disabled"},
        {"text": {"verbosity": "medium", "format": {"type": "text"}}},
        {"stream_options": {"include_obfuscation": False}},
        {"include": ["reasoning.encrypted_content"]},
    ],
)
def test_a_member_that_asks_for_nothing_is_no_feature(members: dict[str, object]) -> None:
    conversation = RESPONSES.read_request(ASKED | members, "m", streams=False)

    assert (conversation.features, conversation.unknown) == (frozenset(), ())


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": "much"}, "reasoning"),
        ({"instructions": 7}, "instructions"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_path(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        RESPONSES.read_request(ASKED | members, "m", streams=False)

    assert refusal.value.fields["param"] == param


_item_members = ("role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content")
_kinds = st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "odd", None])


@given(
    st.dictionaries(
        st.sampled_from(["tools", "tool_choice", "text", "reasoning", "include", "instructions", "top_logprobs",
                         "store", "metadata"]),
        json_values,
    ),
    json_values
    | st.lists(
        st.fixed_dictionaries(
            {"type": _kinds},
            optional=dict.fromkeys(_item_members, json_values),
        )
    ),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_request_however_odd_raises_anything_but_a_refusal(members: dict[str, object], items: object) -> None:
    refused_for, features = None, None
    try:
        features = RESPONSES.read_request({"input": items, **members}, "m", streams=False).features
    except InvalidRequest as refusal:
        refused_for = refusal.fields["param"]

    assert refused_for or (features is not None and features <= FEATURE_NAMES)


# Answers


@pytest.mark.parametrize("name", golden_names("openai_responses/answers"))
def test_a_golden_answer_is_written_as_openai_would(name: str) -> None:
    case = golden(name)
    asked, chat, expected = case["asked"], case["answer"], case["written"]
    assert isinstance(asked, dict)
    assert isinstance(chat, dict)
    assert isinstance(expected, dict)
    conversation = RESPONSES.read_request(asked, "gpt-x", streams=False)

    body = RESPONSES.write_answer(OpenAIChat().read_answer(chat), RESPONSES.shape(asked, conversation))

    assert body == expected
    Response.model_validate(expected, strict=True)


@given(answers, st.sampled_from([{}, SUMMARISED, SEALED]))
@settings(max_examples=40, deadline=None)
def test_every_answer_is_one_that_openais_sdk_understands(answer: Answer, members: dict[str, object]) -> None:
    said = answer.candidates[0].parts

    response = write(answer, members)

    assert response.output_text == "".join(part.text for part in said if isinstance(part, Text))
    assert [item.call_id for item in response.output if item.type == "function_call"] == [
        part.id for part in said if isinstance(part, ToolCall)
    ]
    assert len({item.id for item in response.output}) == len(response.output)


@given(answers)
@settings(max_examples=30, deadline=None)
def test_the_output_of_an_answer_is_understood_as_the_next_input(answer: Answer) -> None:
    output = output_of(write(answer, SUMMARISED))

    conversation = read([{"role": "user", "content": "hi"}, *output, {"role": "user", "content": "and?"}])

    said = answer.candidates[0].parts
    assert conversation.turns == (
        Turn("user", (Text("hi"),)),
        *((Turn("assistant", said),) if said else ()),
        Turn("user", (Text("and?"),)),
    )
    assert conversation.features == frozenset()
    assert conversation.unknown == ()


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_calls", "completed", None),
        ("pause", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("refusal", "incomplete", "content_filter"),
        ("error", "failed", None),
    ],
)
def test_every_reason_to_finish_has_a_status_in_answers_and_streams(
    finish: FinishReason, status: str, reason: str | None
) -> None:
    whole = write(Answer("a", "m", (Candidate((Text("x"),), finish),), None))
    events = events_of([Started("a", "m"), TextPiece(0, 0, "x"), Finished(0, finish), Ended()])

    for response in (whole, response_in(events[-1])):
        assert response.status == status
        assert (response.incomplete_details.reason if response.incomplete_details else None) == reason
        assert (response.error is not None) == (status == "failed")
        assert response.output_text == "x"
        assert response.output[0].to_dict()["status"] == ("incomplete" if status == "incomplete" else "completed")
    assert events[-1]["type"] == f"response.{status}"


def test_a_refusal_in_words_is_a_completed_answer() -> None:
    response = write(Answer("a", "m", (Candidate((Refusal("no"),), "refusal"),), None))

    assert response.status == "completed"
    assert response.output[0].to_dict()["content"] == [{"type": "refusal", "refusal": "no"}]


def test_a_prompt_the_provider_refused_is_an_incomplete_answer_that_says_why() -> None:
    response = write(Answer("a", "m", (), None, blocked="SAFETY"))

    assert response.status == "incomplete"
    assert "SAFETY" in json.dumps(response.output[0].to_dict())


def test_an_answer_repeats_its_request_and_says_that_nothing_was_stored() -> None:
    asked: dict[str, object] = {
        "instructions": "Be brief.",
        "metadata": {"run": "9"},
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 7,
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low", "summary": None},
        "store": True,
        "user": "u",
    }

    response = write(Answer("", "", (), USAGE), asked)

    assert (response.id, response.created_at, response.model) == ("resp_fresh", NOW, "gpt-x")
    told = response.to_dict()
    assert told["tools"] == [{**tool, "description": None, "strict": None} for tool in asked["tools"]]  # type: ignore[attr-defined]  # a list above
    for name in asked.keys() - {"tools", "store"}:
        assert told[name] == asked[name]
    assert told["store"] is False
    assert response.usage is not None
    assert response.usage.total_tokens == USAGE.total_tokens


def test_a_picture_in_an_answer_is_not_lost() -> None:
    response = write(Answer("a", "m", (Candidate((Media("image", "image/png", "AAAA"),), "stop"),), None))

    assert response.output[0].to_dict()["result"] == "AAAA"


def test_thoughts_are_summarised_only_for_clients_that_asked() -> None:
    answer = Answer("a", "m", (Candidate((Thinking("hm"), Text("4")), "stop"),), None)

    assert [item.type for item in write(answer).output] == ["message"]
    assert [item.type for item in write(answer, SUMMARISED).output] == ["reasoning", "message"]


@pytest.mark.parametrize(
    "thought",
    [
        Thinking("hm", signature="SIG:NED", signed_by="anthropic"),
        Thinking("", redacted="BLACK", signed_by="anthropic"),
    ],
)
def test_signed_thoughts_come_back_signed_when_the_client_wants_them_sealed(thought: Thinking) -> None:
    pieces: list[Piece] = [Started("a", "m")]
    if thought.text:
        pieces.append(ThinkingPiece(0, 0, thought.text))
    seal = ThinkingPiece(0, 0, signature=thought.signature, redacted=thought.redacted, signed_by=thought.signed_by)
    pieces += [seal, TextPiece(0, 1, "4"), Finished(0, "stop"), Ended()]
    whole = write(Answer("a", "m", (Candidate((thought, Text("4")), "stop"),), None), SEALED)

    for response in (whole, response_in(events_of(pieces, SEALED)[-1])):
        assert read(output_of(response)).turns[0].parts[0] == thought
    answer = Answer("a", "m", (Candidate((thought, Text("4")), "stop"),), None)
    unsealed = json.dumps([events_of(pieces, SUMMARISED), write(answer, SUMMARISED).to_dict()])
    assert "NED" not in unsealed
    assert "BLACK" not in unsealed


def test_reasoning_that_openai_sealed_is_marked_as_openais() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA:x"}

    assert read([item]).turns[0].parts == (Thinking("", redacted="gAAAA:x", signed_by="openai_responses"),)


# Streams


@pytest.mark.parametrize("name", golden_names("openai_responses/streams"))
def test_a_golden_stream_is_written_as_openai_would(name: str) -> None:
    case = golden(name)
    asked, chunks, expected = case["asked"], case["chunks"], case["written"]
    assert isinstance(asked, dict)
    assert isinstance(chunks, list)
    decoder = OpenAIChat().stream_decoder()
    pieces = [piece for chunk in chunks for piece in decoder.read("", json.dumps(chunk).encode())]

    assert events_of([*pieces, Ended()], asked) == expected


@given(streams(), st.sampled_from([{}, SUMMARISED, SEALED]))
@settings(max_examples=40, deadline=None)
def test_every_stream_is_one_that_openais_sdk_understands(pieces: list[Piece], members: dict[str, object]) -> None:
    events = events_of(pieces, members)

    response = response_in(events[-1])
    first = [piece for piece in pieces if getattr(piece, "candidate", None) == 0]
    assert response.output_text == "".join(p.text for p in first if isinstance(p, TextPiece) and not p.is_refusal)
    for kind, piece_type in (("function_call_arguments", CallPiece), ("reasoning_summary_text", ThinkingPiece)):
        deltas = "".join(str(event["delta"]) for event in events if event["type"] == f"response.{kind}.delta")
        said = "".join(p.arguments if isinstance(p, CallPiece) else p.text for p in first if isinstance(p, piece_type))
        if kind == "function_call_arguments" or members:
            assert deltas == said
        else:
            assert deltas == ""


@given(streams(most_candidates=1), st.sampled_from([{}, SUMMARISED]))
@settings(max_examples=30, deadline=None)
def test_items_begin_and_end_in_order_and_are_repeated_whole(pieces: list[Piece], members: dict[str, object]) -> None:
    events = events_of(pieces, members)

    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert [event["output_index"] for event in done] == list(range(len(added)))
    final = events[-1]["response"]
    assert isinstance(final, dict)
    assert final["output"] == [event["item"] for event in done]


def test_a_stream_of_text_has_openais_sequence_of_events() -> None:
    events = events_of(
        [Started("a", "m"), TextPiece(0, 0, "Hel"), TextPiece(0, 0, "lo"), Finished(0, "stop"), Counted(USAGE), Ended()]
    )

    assert types_of(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[6]["text"] == "Hello"
    response = response_in(events[-1])
    assert response.usage is not None
    assert response.usage.total_tokens == USAGE.total_tokens


def test_reasoning_and_calls_have_openais_sequence_of_events() -> None:
    events = events_of(
        [
            Started("a", "m"), ThinkingPiece(0, 0, "hm"), CallPiece(0, 1, "c", "f"),
            CallPiece(0, 1, arguments='{"a":'), CallPiece(0, 1, arguments="1}"), CallPiece(0, 2, "d", "g"),
            Finished(0, "tool_calls"), Ended(),
        ],
        SUMMARISED,
    )  # fmt: skip

    assert types_of(events)[2:] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event["arguments"] for event in events if "arguments" in event] == ['{"a":1}', "{}"]


def test_text_and_refusal_are_two_contents_of_one_message() -> None:
    events = events_of(
        [Started("a", "m"), TextPiece(0, 0, "a"), TextPiece(0, 1, "b"), TextPiece(0, 1, "c", is_refusal=True),
         Finished(0, "refusal"), Ended()]
    )  # fmt: skip

    contents = [item["content"] for item in output_of(response_in(events[-1]))]
    assert [[part["type"] for part in content] for content in contents if isinstance(content, list)] == [
        ["output_text", "output_text", "refusal"]
    ]
    assert [event["content_index"] for event in events if event["type"] == "response.content_part.added"] == [0, 1, 2]


def test_each_piece_is_written_at_once() -> None:
    encoder = RESPONSES.stream_encoder(shape_of(SUMMARISED))

    for piece in (
        Started("a", "m"),
        ThinkingPiece(0, 0, "a"),
        TextPiece(0, 1, "b"),
        TextPiece(0, 1, "c"),
        CallPiece(0, 2, "i", "f"),
        CallPiece(0, 2, arguments="{}"),
        Finished(0, "stop"),
        Ended(),
    ):
        assert encoder.write(piece)


def test_a_stream_that_breaks_off_is_not_completed() -> None:
    events = events_of([Started("a", "m"), TextPiece(0, 0, "x"), Finished(0, "stop"), Counted(USAGE)])

    assert types_of(events)[-1] == "output_item.done"


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limit_exceeded"), (529, "server_error"), (400, "server_error")]
)
def test_an_error_in_a_stream_is_a_failed_response_and_nothing_follows(status: int, code: str) -> None:
    events = events_of(
        [Started("a", "m"), TextPiece(0, 0, "x"), Failed(Failure(status, "no")), TextPiece(0, 0, "y"), Ended()]
    )

    assert types_of(events)[-1] == "failed"
    error = response_in(events[-1]).error
    assert error is not None
    assert (error.code, error.message) == (code, "no")


def test_an_error_before_the_answer_began_is_an_error_event() -> None:
    events = events_of([Failed(Failure(503, "busy", "overloaded_error")), Ended()])

    assert events == [
        {"type": "error", "sequence_number": 0, "code": "overloaded_error", "message": "busy", "param": None}
    ]


def test_a_call_that_goes_on_after_another_began_is_unreadable_rather_than_torn() -> None:
    encoder = RESPONSES.stream_encoder(shape_of({}))
    for piece in (Started("a", "m"), CallPiece(0, 0, "c", "f"), CallPiece(0, 1, "d", "g")):
        encoder.write(piece)

    with pytest.raises(UnreadableAnswer):
        encoder.write(CallPiece(0, 0, arguments="{}"))


def test_openais_sdk_puts_a_stream_together() -> None:
    pieces: list[Piece] = [
        Started("a", "m"),
        TextPiece(0, 0, "Hel"),
        TextPiece(0, 0, "lo"),
        CallPiece(0, 1, "c", "f", '{"a":'),
        CallPiece(0, 1, arguments="1}"),
        Finished(0, "tool_calls"),
        Counted(USAGE),
        Ended(),
    ]
    client = sdk_answered_by(written(RESPONSES.stream_encoder(shape_of({})), pieces))

    with client.responses.stream(model="gpt-x", input="hi") as stream:
        response = stream.get_final_response()

    assert response.output_text == "Hello"
    assert [item.arguments for item in response.output if item.type == "function_call"] == ['{"a":1}']
    assert response.usage is not None
    assert response.usage.total_tokens == USAGE.total_tokens
