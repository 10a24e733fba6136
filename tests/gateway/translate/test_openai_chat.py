"""OpenAI's chat completions in the neutral form and back."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.openai_translate import (
    NOW,
    USAGE,
    answers,
    conversations,
    events_in,
    golden,
    golden_names,
    json_values,
    objects_in,
    pieces_in,
    sdk_answered_by,
    shape,
    streams,
    words,
    written,
)
from trueport.gateway.call import Usage
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
from trueport.gateway.translate.openai_chat_reading import FEATURE_NAMES
from trueport.gateway.translate.rules import NotTranslatable, UnreadableAnswer
from trueport.gateway.usage import as_openai_chat
from trueport.kit.errors import InvalidRequest

CHAT = OpenAIChat(now=lambda: NOW, number=lambda: "fresh")
HI = {"role": "user", "content": "hi"}


def read(*messages: object, **members: object) -> Conversation:
    return CHAT.read_request({"model": "gpt-x", "messages": list(messages), **members}, "gpt-x", streams=False)


def write(conversation: Conversation) -> dict[str, object]:
    return CHAT.write_request(conversation, "gpt-y")[1]


def messages_of(*turns: Turn) -> object:
    return write(Conversation("m", turns))["messages"]


# Requests


@pytest.mark.parametrize("name", golden_names("openai_chat/requests"))
def test_a_golden_request_is_understood_and_written_as_a_provider_gets_it(name: str) -> None:
    case = golden(name)
    asked = case["asked"]
    assert isinstance(asked, dict)

    conversation = CHAT.read_request(asked, "gpt-x", streams=asked.get("stream") is True)

    assert CHAT.write_request(conversation, "gpt-y") == ("chat/completions", case["written"])
    assert sorted(conversation.features) == case["features"]
    assert list(conversation.unknown) == case["unknown"]


@given(conversations())
@settings(max_examples=60, deadline=None)
def test_a_written_request_means_what_it_was_written_from(conversation: Conversation) -> None:
    body = json.loads(json.dumps(write(conversation)))

    again = CHAT.read_request(body, "gpt-x", streams=conversation.streams)

    assert again == conversation


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "tools",
                "tool_choice",
                "stop",
                "n",
                "response_format",
                "functions",
                "stream_options",
                "modalities",
                "logit_bias",
            ]
        ),
        json_values,
    )
)
@settings(max_examples=50, deadline=None)
def test_no_request_however_odd_raises_anything_but_a_refusal(members: dict[str, object]) -> None:
    refused_for, features = None, None
    try:
        features = CHAT.read_request({"messages": [HI], **members}, "m", streams=False).features
    except InvalidRequest as refusal:
        refused_for = refusal.fields["param"]

    assert refused_for or (features is not None and features <= FEATURE_NAMES)


@given(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "function", "odd"])},
        optional={
            "content": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal"])},
                    optional={
                        "text": json_values,
                        "image_url": json_values,
                        "file": json_values,
                        "input_audio": json_values,
                        "refusal": json_values,
                    },
                )
            ),
            "tool_calls": json_values,
            "function_call": json_values,
            "tool_call_id": json_values,
            "name": json_values,
        },
    )
)
@settings(max_examples=60, deadline=None)
def test_no_message_however_odd_raises_anything_but_a_refusal(message: dict[str, object]) -> None:
    refused_for: object = "messages"
    try:
        read(message)
    except InvalidRequest as refusal:
        refused_for = refusal.fields["param"]

    assert str(refused_for).startswith("messages")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,#"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages[0].tool_call_id"),
        ({"messages": [HI], "temperature": "hot"}, "temperature"),
        ({"messages": [HI], "temperature": True}, "temperature"),
        ({"messages": [HI], "max_tokens": 1.5}, "max_tokens"),
        ({"messages": [HI], "max_tokens": -1}, "max_tokens"),
        ({"messages": [HI], "stop": [1]}, "stop"),
        ({"messages": [HI], "tools": [{"type": "function"}]}, "tools[0].function"),
        ({"messages": [HI], "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"messages": [HI], "tool_choice": "some"}, "tool_choice"),
        ({"messages": [HI], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"messages": [HI], "response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": [HI], "stream_options": True}, "stream_options"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_path(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        CHAT.read_request(members, "m", streams=True)

    assert refusal.value.fields["param"] == param


@pytest.mark.parametrize(
    ("members", "feature"),
    [
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"verbosity": "low"}, "verbosity"),
        ({"store": True}, "store"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"prompt_cache_key": "k"}, "prompt_cache"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache"),
        ({"moderation": {"model": "m"}}, "moderation"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            "stored_file",
        ),
        ({"web_search_options": {}}, "hosted_tool:web_search"),
        ({"modalities": ["text", "audio"]}, "audio_output"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio_output"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "custom_tool"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "custom_tool"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}}, "allowed_tools"),
    ],
)
def test_what_the_neutral_form_has_no_member_for_is_noted_as_a_feature(
    members: dict[str, object], feature: str
) -> None:
    conversation = CHAT.read_request({"messages": [HI], **members}, "m", streams=False)

    assert conversation.features == {feature}
    assert feature in FEATURE_NAMES
    assert conversation.unknown == ()


@pytest.mark.parametrize(
    "members",
    [
        {"logit_bias": {}},
        {"store": False},
        {"metadata": {}},
        {"metadata": None},
        {"service_tier": "auto"},
        {"modalities": ["text"]},
        {"verbosity": "medium"},
        {"moderation": None},
    ],
)
def test_a_member_that_asks_for_nothing_is_no_feature(members: dict[str, object]) -> None:
    conversation = read(HI, **members)

    assert conversation.features == frozenset()
    assert conversation.unknown == ()


def test_members_nobody_knows_are_noted_by_their_path() -> None:
    conversation = read(
        {"role": "user", "content": [{"type": "text", "text": "hi", "prompt_cache_breakpoint": {}}], "mood": "good"},
        tools=[{"type": "function", "function": {"name": "f", "colour": "red"}}],
        thinking_style="deep",
        nothing=None,
    )

    assert sorted(conversation.unknown) == [
        "messages[].content[].prompt_cache_breakpoint",
        "messages[].mood",
        "thinking_style",
        "tools[].function.colour",
    ]


def test_later_instructions_keep_their_place_and_are_written_as_instructions_again() -> None:
    conversation = read(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        HI,
        {"role": "system", "content": "three"},
    )

    assert conversation.system == (Text("one"), Text("two"))
    assert conversation.turns[1] == Turn("user", (Text("three"),), is_instruction=True)
    assert conversation.features == {"late_instructions"}
    assert write(conversation)["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        HI,
        {"role": "system", "content": "three"},
    ]


def test_the_older_functions_are_tools_and_their_results_find_their_calls() -> None:
    conversation = read(
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a":1}'}},
        {"role": "function", "name": "add", "content": "2"},
        functions=[{"name": "add", "parameters": {"type": "object"}}],
        function_call={"name": "add"},
    )

    assert conversation.tools == (Tool("add", None, {"type": "object"}),)
    assert conversation.tool_choice == ToolChoice("named", "add", one_at_a_time=True)
    assert conversation.turns[1:] == (
        Turn("assistant", (ToolCall("call_1", "add", '{"a":1}'),)),
        Turn("user", (ToolResult("call_1", "add", (Text("2"),)),)),
    )


def test_the_results_of_parallel_calls_are_one_turn_that_knows_the_names() -> None:
    def call(name: str) -> dict[str, object]:
        return {"id": f"c_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}

    conversation = read(
        HI,
        {"role": "assistant", "content": "", "tool_calls": [call("f"), call("g")]},
        {"role": "tool", "tool_call_id": "c_f", "content": "1"},
        {"role": "tool", "tool_call_id": "c_g", "content": [{"type": "text", "text": "2"}]},
        HI,
    )

    assert conversation.turns[1].parts == (ToolCall("c_f", "f", "{}"), ToolCall("c_g", "g", "{}"))
    assert conversation.turns[2].parts == (
        ToolResult("c_f", "f", (Text("1"),)),
        ToolResult("c_g", "g", (Text("2"),)),
    )
    assert conversation.turns[3] == Turn("user", (Text("hi"),))


def test_googles_seal_on_a_call_comes_back_with_the_call() -> None:
    answer = Answer("a", "m", (Candidate((ToolCall("c", "f", "{}", signature="SEAL"),), "tool_calls"),), None)
    body = CHAT.write_answer(answer, shape())
    choices = body["choices"]
    assert isinstance(choices, list)

    conversation = read(HI, choices[0]["message"])

    assert conversation.turns[1].parts == (ToolCall("c", "f", "{}", signature="SEAL"),)
    assert "SEAL" not in json.dumps(write(conversation))
    assert conversation.unknown == ()


def test_images_that_a_tool_returned_follow_in_a_users_message() -> None:
    image = Media("image", media_type="image/png", data="AAAA")
    turn = Turn("user", (ToolResult("c", "shoot", (Text("done"), image)), Text("well?")))

    assert messages_of(Turn("assistant", (ToolCall("c", "shoot", "{}"),)), turn) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "shoot", "arguments": "{}"}}],
        },
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": "done\n(See the next message for what else this tool returned.)",
        },
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "well?"},
            ],
        },
    ]


def test_a_failed_call_is_told_in_words() -> None:
    turn = Turn("user", (ToolResult("c", "f", (Text("no such file"),), is_error=True),))

    assert messages_of(turn) == [{"role": "tool", "tool_call_id": "c", "content": "Error:\nno such file"}]


def test_thoughts_and_cache_marks_are_not_sent_to_a_provider() -> None:
    turns = (
        Turn("user", (Text("hi", cache="5m"),)),
        Turn("assistant", (Thinking("SECRET", signature="S", signed_by="anthropic"), Text("hello"))),
        Turn("assistant", (Thinking("SECRET"),)),
    )

    assert messages_of(*turns) == [HI, {"role": "assistant", "content": "hello"}]


def test_a_text_document_is_sent_as_text_and_others_as_files() -> None:
    note = Media("document", media_type="text/plain", data="aGVsbG8=", name="note.txt")
    paper = Media("document", media_type="application/pdf", data="JVBERi0=")

    assert messages_of(Turn("user", (note, paper))) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "note.txt:\nhello"},
                {
                    "type": "file",
                    "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                },
            ],
        }
    ]


@pytest.mark.parametrize(
    "turn",
    [
        Turn("user", (Media("document", url="https://example.com/a.pdf"),)),
        Turn("user", (Media("audio", media_type="audio/flac", data="AAAA"),)),
        Turn("user", (Media("audio", url="https://example.com/a.wav"),)),
        Turn("user", (Media("image"),)),
        Turn("assistant", (Media("image", media_type="image/png", data="AAAA"),)),
    ],
)
def test_media_that_no_message_can_hold_is_refused_rather_than_lost(turn: Turn) -> None:
    with pytest.raises(NotTranslatable):
        messages_of(turn)


@pytest.mark.parametrize(
    ("part", "media"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAAA", "detail": "low"}},
            Media("image", media_type="image/png", data="AAAA", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg%2F%3E"}},
            Media("image", media_type="image/svg+xml", data="PHN2Zy8+"),
        ),
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.png"}}, Media("image", url="https://e.com/a.png")),
        ({"type": "image_url", "image_url": {"url": "gs://bucket/a"}}, Media("image", reference="gs://bucket/a")),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            Media("audio", media_type="audio/mpeg", data="AAAA"),
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
            Media("document", media_type="application/pdf", data="AAAA", name="a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": "AAAA", "filename": "a.txt"}},
            Media("document", media_type="text/plain", data="AAAA", name="a.txt"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, Media("document", reference="file-1")),
    ],
)
def test_each_kind_of_content_is_understood(part: dict[str, object], media: Media) -> None:
    assert read({"role": "user", "content": [part]}).turns[0].parts == (media,)


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (Reasoning(), None),
        (Reasoning(effort="xhigh"), "xhigh"),
        (Reasoning(budget_tokens=0), None),
        (Reasoning(budget_tokens=1_024), "low"),
        (Reasoning(budget_tokens=8_000), "medium"),
        (Reasoning(budget_tokens=32_000), "high"),
    ],
)
def test_a_budget_of_thoughts_becomes_an_effort(reasoning: Reasoning, effort: str | None) -> None:
    body = write(Conversation("m", (Turn("user", (Text("hi"),)),), reasoning=reasoning))

    assert body.get("reasoning_effort") == effort


def test_tool_choice_is_left_out_without_tools_because_openai_refuses_it() -> None:
    body = write(Conversation("m", (Turn("user", (Text("hi"),)),), tool_choice=ToolChoice("auto", one_at_a_time=True)))

    assert body == {"model": "gpt-y", "messages": [HI]}


def test_a_schema_without_a_name_gets_the_one_that_the_form_requires() -> None:
    body = write(
        Conversation("m", (Turn("user", (Text("hi"),)),), output=OutputForm("schema", schema={"type": "object"}))
    )

    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


def test_values_only_openai_has_reach_a_provider_of_its_kind() -> None:
    body = write(read(HI, logit_bias={"1": 2}, verbosity="low", prompt_cache_key="k", metadata={"a": "b"}))

    assert body["logit_bias"] == {"1": 2}
    assert body["verbosity"] == "low"
    assert "prompt_cache_key" not in body
    assert "metadata" not in body


def test_the_newer_limit_wins_over_the_older() -> None:
    assert read(HI, max_tokens=5, max_completion_tokens=7).sampling == Sampling(max_tokens=7)
    assert read(HI, max_tokens=5).sampling == Sampling(max_tokens=5)


def test_usage_in_a_stream_is_wanted_only_when_the_client_says_so() -> None:
    def wants(**members: object) -> bool:
        return CHAT.read_request({"messages": [HI], **members}, "m", streams=True).wants_usage

    assert wants(stream_options={"include_usage": True})
    assert not wants(stream_options={"include_usage": False})
    assert not wants()
    assert read(HI).wants_usage


# Answers


@pytest.mark.parametrize("name", golden_names("openai_chat/answers"))
def test_a_golden_answer_is_read_and_written_again_as_it_was(name: str) -> None:
    body = golden(name)

    assert CHAT.write_answer(CHAT.read_answer(body), shape()) == body
    ChatCompletion.model_validate(body, strict=True)


@given(answers)
@settings(max_examples=50, deadline=None)
def test_a_written_answer_means_what_it_was_written_from(answer: Answer) -> None:
    body = json.loads(json.dumps(CHAT.write_answer(answer, shape())))

    ChatCompletion.model_validate(body, strict=True)
    assert CHAT.read_answer(body) == answer


@given(json_values)
@settings(max_examples=60, deadline=None)
def test_no_answer_however_odd_raises_anything_but_that_it_is_unreadable(choice: object) -> None:
    for choices in (choice, [choice], [{"message": choice}], [{"message": {"content": choice, "tool_calls": choice}}]):
        try:
            CHAT.read_answer({"choices": choices, "usage": choice, "id": choice, "created": choice})
        except UnreadableAnswer:
            continue


def test_an_answer_without_choices_is_unreadable() -> None:
    bodies: list[dict[str, object]] = [{}, {"choices": None}, {"choices": [{}]}, {"choices": ["x"]}]
    for body in bodies:
        with pytest.raises(UnreadableAnswer):
            CHAT.read_answer(body)


def test_an_answer_gets_what_its_provider_left_out() -> None:
    body = CHAT.write_answer(Answer("", "", (Candidate((Text("hi"),), "stop"),), None), shape())

    assert (body["id"], body["created"], body["model"]) == ("chatcmpl-fresh", NOW, "gpt-x")
    assert "usage" not in body


def test_another_providers_id_gets_the_prefix_of_the_form() -> None:
    assert CHAT.write_answer(Answer("msg_01", "m", (), None), shape())["id"] == "chatcmpl-msg_01"


@pytest.mark.parametrize(
    ("finish", "said"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("pause", "stop"),
        ("error", "content_filter"),
    ],
)
def test_every_reason_to_finish_has_a_word_in_answers_and_streams(finish: FinishReason, said: str) -> None:
    body = CHAT.write_answer(Answer("a", "m", (Candidate((Text("x"),), finish),), None), shape())
    stream = written(CHAT.stream_encoder(shape()), [Started("a", "m"), Finished(0, finish)])

    assert ChatCompletion.model_validate(body, strict=True).choices[0].finish_reason == said
    assert ChatCompletionChunk.model_validate(objects_in(stream)[-1], strict=True).choices[0].finish_reason == said


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("error", "error"),
        ("something_new", "stop"),
        (None, "stop"),
        (7, "stop"),
    ],
)
def test_every_word_for_finishing_is_understood(said: object, finish: FinishReason) -> None:
    answer = CHAT.read_answer({"choices": [{"message": {"content": "x"}, "finish_reason": said}]})

    assert answer.candidates[0].finish == finish


def test_calls_make_an_answer_one_of_calls_even_where_the_server_says_stop() -> None:
    message = {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]}

    candidate = CHAT.read_answer({"choices": [{"message": message, "finish_reason": "stop"}]}).candidates[0]

    assert candidate == Candidate((ToolCall("c", "f", '{"a":1}'),), "tool_calls")


def test_calls_without_ids_get_different_ones_that_depend_on_their_answer() -> None:
    message = {"tool_calls": [{"function": {"name": "f"}}, {"function": {"name": "f"}}]}

    def call_ids(answer_id: str) -> list[str]:
        parts = CHAT.read_answer({"id": answer_id, "choices": [{"message": message}]}).candidates[0].parts
        return [part.id for part in parts if isinstance(part, ToolCall)]

    assert len({*call_ids("a"), *call_ids("b")}) == 4


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_thoughts_are_read_wherever_a_server_puts_them_and_shown_only_when_wanted(member: str) -> None:
    answer = CHAT.read_answer({"choices": [{"message": {"content": "4", member: "2+2"}, "finish_reason": "stop"}]})

    assert answer.candidates[0].parts == (Thinking("2+2"), Text("4"))
    assert '"reasoning_content": "2+2"' in json.dumps(CHAT.write_answer(answer, shape()))
    assert "2+2" not in json.dumps(CHAT.write_answer(answer, shape(shows_thinking=False)))


def test_content_in_parts_is_read_as_mistral_sends_it() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "4"}]

    answer = CHAT.read_answer({"choices": [{"message": {"content": content}}]})

    assert answer.candidates[0].parts == (Thinking("hm"), Text("4"))


def test_a_client_of_the_older_functions_is_answered_with_a_function_call() -> None:
    members = {"messages": [HI], "functions": [{"name": "f"}]}
    legacy = CHAT.shape(members, CHAT.read_request(members, "m", streams=False))
    answer = Answer("a", "m", (Candidate((ToolCall("c", "f", ""),), "tool_calls"),), None)

    choice = ChatCompletion.model_validate(CHAT.write_answer(answer, legacy), strict=True).choices[0]
    stream = written(
        CHAT.stream_encoder(legacy), [Started("a", "m"), CallPiece(0, 0, "c", "f"), Finished(0, "tool_calls")]
    )
    chunks = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in objects_in(stream)]

    assert choice.message.tool_calls is None
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("f", "{}")
    assert choice.finish_reason == "function_call"
    called = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert called[0].name == "f"
    assert "".join(call.arguments or "" for call in called) == "{}"
    assert chunks[-1].choices[0].finish_reason == "function_call"


def test_a_prompt_the_provider_refused_is_a_filtered_answer_that_says_why() -> None:
    body = CHAT.write_answer(Answer("a", "m", (), None, blocked="SAFETY"), shape())

    choice = ChatCompletion.model_validate(body, strict=True).choices[0]

    assert choice.finish_reason == "content_filter"
    assert choice.message.content is None
    assert "SAFETY" in (choice.message.refusal or "")


def test_a_picture_in_an_answer_is_not_lost() -> None:
    answer = Answer("a", "m", (Candidate((Media("image", "image/png", "AAAA"),), "stop"),), None)

    assert "data:image/png;base64,AAAA" in json.dumps(CHAT.write_answer(answer, shape()))


def test_a_service_tier_is_told_only_in_openais_words() -> None:
    def tier(name: str) -> object:
        answer = Answer("a", "m", (), Usage(1, 1, service_tier=name))
        return CHAT.write_answer(answer, shape()).get("service_tier")

    assert (tier("flex"), tier("batch")) == ("flex", None)


# Errors


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            b'{"error":{"message":"slow","type":"requests","param":null,"code":"rate_limit_exceeded"}}',
            Failure(429, "slow", "requests", "rate_limit_exceeded"),
        ),
        (b'[{"error":{"message":"bad key","code":400}}]', Failure(429, "bad key", None, "400")),
        (b'{"error":"model not found"}', Failure(429, "model not found")),
        (b'{"object":"error","message":"no","type":"invalid"}', Failure(429, "no", "invalid")),
        (b'{"detail":"Not Found"}', Failure(429, "Not Found")),
        (b"<html>", Failure(429, "The provider answered with status 429.")),
        (b"", Failure(429, "The provider answered with status 429.")),
        (b"[]", Failure(429, "The provider answered with status 429.")),
        (b"\xff", Failure(429, "The provider answered with status 429.")),
        (b"[" * 100_000, Failure(429, "The provider answered with status 429.")),
    ],
)
def test_an_error_is_read_however_it_looks(body: bytes, failure: Failure) -> None:
    assert CHAT.read_failure(429, body) == failure


# Streams


@pytest.mark.parametrize("name", golden_names("openai_chat/streams"))
def test_a_golden_stream_is_read_and_written_again_as_it_was(name: str) -> None:
    chunks = golden(name)["chunks"]
    assert isinstance(chunks, list)
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"

    again = written(CHAT.stream_encoder(shape()), pieces_in(CHAT.stream_decoder(), stream))

    assert objects_in(again) == chunks
    assert again.endswith(b"data: [DONE]\n\n")


@given(streams())
@settings(max_examples=50, deadline=None)
def test_a_written_stream_means_what_it_was_written_from(pieces: list[Piece]) -> None:
    stream = written(CHAT.stream_encoder(shape()), pieces)

    for chunk in objects_in(stream):
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert pieces_in(CHAT.stream_decoder(), stream) == pieces


@given(json_values)
@settings(max_examples=60, deadline=None)
def test_no_event_however_odd_raises_anything_but_that_it_is_unreadable(value: object) -> None:
    for chunk in (
        value,
        {"choices": value},
        {"choices": [value]},
        {"choices": [{"delta": value, "index": value}]},
        {"choices": [{"delta": {"tool_calls": [value], "content": value}}]},
        {"error": value},
    ):
        try:
            CHAT.stream_decoder().read("", json.dumps(chunk).encode())
        except UnreadableAnswer:
            continue


@pytest.mark.parametrize("data", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_an_event_that_is_no_json_object_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        CHAT.stream_decoder().read("", data)


def test_each_piece_is_written_at_once() -> None:
    encoder = CHAT.stream_encoder(shape())
    encoder.write(Started("a", "m"))

    for piece in (
        ThinkingPiece(0, 0, "hm"),
        TextPiece(0, 1, "4"),
        TextPiece(0, 2, "no", is_refusal=True),
        CallPiece(0, 3, "c", "f"),
        CallPiece(0, 3, arguments="{}"),
        Finished(0, "tool_calls"),
    ):
        assert len(events_in(encoder.write(piece))) == 1


def test_the_role_comes_first_for_each_candidate() -> None:
    stream = written(
        CHAT.stream_encoder(shape()),
        [Started("a", "m"), TextPiece(0, 0, "x"), TextPiece(1, 0, "y"), TextPiece(1, 0, "z")],
    )

    deltas = [
        (choice.index, choice.delta.role, choice.delta.content)
        for chunk in objects_in(stream)
        for choice in ChatCompletionChunk.model_validate(chunk, strict=True).choices
    ]

    assert deltas == [
        (0, "assistant", ""), (0, None, "x"), (1, "assistant", ""), (1, None, "y"), (1, None, "z"),
    ]  # fmt: skip


def test_usage_is_a_chunk_of_its_own_for_clients_that_asked_and_absent_for_others() -> None:
    pieces: list[Piece] = [Started("a", "m", usage=Usage(20, 0)), Finished(0, "stop"), Counted(USAGE), Ended()]

    asked = objects_in(written(CHAT.stream_encoder(shape()), pieces))
    other = objects_in(written(CHAT.stream_encoder(shape(wants_usage=False)), pieces))

    assert asked[-1]["choices"] == []
    assert ChatCompletionChunk.model_validate(asked[-1], strict=True).usage is not None
    assert asked[-1]["usage"] == as_openai_chat(USAGE)
    assert [chunk["usage"] for chunk in asked[:-1]] == [None, None]
    assert all("usage" not in chunk for chunk in other)
    assert len(other) == 2


def test_what_the_start_told_of_usage_counts_when_nothing_else_came() -> None:
    stream = written(CHAT.stream_encoder(shape()), [Started("a", "m", usage=Usage(20, 1)), Ended()])

    assert pieces_in(CHAT.stream_decoder(), stream)[-2] == Counted(Usage(20, 1))


def test_a_stream_that_breaks_off_has_no_end_mark() -> None:
    stream = written(CHAT.stream_encoder(shape()), [Started("a", "m"), TextPiece(0, 0, "x"), Finished(0, "stop")])

    assert b"[DONE]" not in stream


def test_an_error_in_a_stream_ends_it_without_an_end_mark() -> None:
    failure = Failure(529, "busy", "overloaded_error")

    stream = written(CHAT.stream_encoder(shape()), [Started("a", "m"), Failed(failure), TextPiece(0, 0, "x"), Ended()])

    assert b"[DONE]" not in stream
    assert objects_in(stream)[-1] == {
        "error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded_error"}
    }


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"message": "slow", "type": "rate_limit_error", "code": None}, Failure(429, "slow", "rate_limit_error")),
        ({"message": "busy", "code": 503}, Failure(503, "busy", None, "503")),
        ("broken", Failure(500, "broken")),
        ({}, Failure(500, "The provider answered with status 500.")),
    ],
)
def test_a_providers_error_in_a_stream_is_a_failure(error: object, failure: Failure) -> None:
    assert CHAT.stream_decoder().read("error", json.dumps({"error": error}).encode()) == [Failed(failure)]


def test_azures_first_chunk_about_its_filters_does_not_start_the_answer() -> None:
    decoder = CHAT.stream_decoder()

    first = decoder.read("", b'{"id":"","model":"","choices":[],"prompt_filter_results":[]}')
    second = decoder.read(
        "", b'{"id":"a","model":"m","created":7,"choices":[{"index":0,"delta":{"role":"assistant"}}]}'
    )

    assert (first, second) == ([], [Started("a", "m", 7)])


def test_calls_are_told_apart_where_a_server_leaves_out_their_index() -> None:
    decoder = CHAT.stream_decoder()

    def read_call(call: dict[str, object]) -> list[Piece]:
        chunk = {"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
        return [piece for piece in decoder.read("", json.dumps(chunk).encode()) if not isinstance(piece, Started)]

    assert read_call({"id": "c", "function": {"name": "f", "arguments": "{"}}) == [CallPiece(0, 0, "c", "f", "{")]
    assert read_call({"function": {"arguments": "}"}}) == [CallPiece(0, 0, arguments="}")]
    assert read_call({"id": "d", "function": {"name": "g", "arguments": "{}"}}) == [CallPiece(0, 1, "d", "g", "{}")]


def test_a_name_and_id_that_a_server_repeats_are_told_once() -> None:
    decoder = CHAT.stream_decoder()
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
    chunk = json.dumps({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode()

    assert list(decoder.read("", chunk))[1:] == [CallPiece(0, 0, "c", "f", "{")]
    assert list(decoder.read("", chunk)) == [CallPiece(0, 0, arguments="{")]


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    decoder = CHAT.stream_decoder()

    def blocks(delta: dict[str, object]) -> list[int]:
        chunk = {"id": "a", "choices": [{"index": 0, "delta": delta}]}
        return [
            piece.block
            for piece in decoder.read("", json.dumps(chunk).encode())
            if isinstance(piece, TextPiece | CallPiece | ThinkingPiece)
        ]

    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    deltas: list[dict[str, object]] = [{"reasoning": "h"}, {"content": "a"}, {"tool_calls": [call]}, {"content": "b"}]
    assert [blocks(delta) for delta in deltas] == [
        [0], [1], [2], [3],
    ]  # fmt: skip


@given(words, st.booleans())
def test_a_call_without_arguments_is_still_json(name: str, is_legacy: bool) -> None:
    as_asked: Shape = replace(shape(), echo={"functions": True} if is_legacy else {})
    pieces: list[Piece] = [Started("a", "m"), CallPiece(0, 0, "c", name), Finished(0, "tool_calls")]

    told = pieces_in(CHAT.stream_decoder(), written(CHAT.stream_encoder(as_asked), pieces))

    assert "".join(piece.arguments for piece in told if isinstance(piece, CallPiece)) == "{}"


def test_a_refusal_with_words_ends_as_openais_do() -> None:
    pieces: list[Piece] = [Started("a", "m"), TextPiece(0, 0, "no", is_refusal=True), Finished(0, "refusal")]
    answer = Answer("a", "m", (Candidate((Refusal("no"),), "refusal"),), None)

    chunks = objects_in(written(CHAT.stream_encoder(shape()), pieces))

    assert ChatCompletionChunk.model_validate(chunks[-1], strict=True).choices[0].finish_reason == "stop"
    assert ChatCompletion.model_validate(CHAT.write_answer(answer, shape())).choices[0].finish_reason == "stop"


def test_openais_sdk_puts_a_stream_together() -> None:
    pieces: list[Piece] = [
        Started("a", "m"),
        TextPiece(0, 0, "Hel"),
        TextPiece(0, 0, "lo"),
        CallPiece(0, 1, "c", "f"),
        CallPiece(0, 1, arguments='{"a":1}'),
        Finished(0, "tool_calls"),
        Counted(USAGE),
        Ended(),
    ]
    client = sdk_answered_by(written(CHAT.stream_encoder(shape()), pieces))

    with client.chat.completions.stream(model="gpt-x", messages=[{"role": "user", "content": "hi"}]) as stream:
        completion = stream.get_final_completion()

    message = completion.choices[0].message
    assert message.content == "Hello"
    assert [call.function.arguments for call in message.tool_calls or []] == ['{"a":1}']
    assert completion.usage is not None
    assert completion.usage.total_tokens == USAGE.total_tokens


def test_openais_sdk_raises_for_an_error_in_a_stream() -> None:
    pieces: list[Piece] = [Started("a", "m"), TextPiece(0, 0, "Hel"), Failed(Failure(529, "busy"))]
    client = sdk_answered_by(written(CHAT.stream_encoder(shape()), pieces))

    stream = client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "hi"}], stream=True)

    with pytest.raises(APIError, match="busy"):
        list(stream)
