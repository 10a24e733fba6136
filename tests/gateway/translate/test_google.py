"""Google's format: requests, answers and streams, read and written."""

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
    arguments,
    assistant,
    conversation,
    conversations,
    data_of,
    decoded,
    encoded,
    in_pieces,
    joined,
    json_objects,
    json_values,
    user,
    words,
)
from trueport.gateway.call import Usage
from trueport.gateway.translate.google import Google
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
    Started,
    Text,
    TextPiece,
    Thinking,
    ThinkingPiece,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from trueport.gateway.translate.openai_chat import OpenAIChat
from trueport.gateway.translate.rules import NotTranslatable, UnreadableAnswer
from trueport.kit.errors import InvalidRequest

GOOGLE = Google()
GOLDEN = Path(__file__).parent / "golden"
OLD, NEW = "gemini-2.5-flash", "gemini-3-flash"


def read(**members: Any) -> Conversation:
    said = {"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]} | members
    return GOOGLE.read_request(said, "some-model", streams=False)


def contents(*said: tuple[str, Any]) -> Conversation:
    """A request whose contents are these: role, and one part or several."""
    return read(
        contents=[{"role": role, "parts": parts if isinstance(parts, list) else [parts]} for role, parts in said]
    )


def configured(**config: Any) -> Conversation:
    return read(generationConfig=config)


def written(told: Conversation, model: str = NEW) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(msgspec.json.encode(GOOGLE.write_request(told, model)[1]))
    return sent


def asked(**members: Any) -> dict[str, Any]:
    return written(conversation(user("Hi."), **members))


# Requests, read


def test_a_request_is_understood() -> None:
    told = read(
        systemInstruction={"parts": [{"text": "Be brief."}]},
        contents=[
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "A tool knows.", "thought": True, "thoughtSignature": "sig1"},
                    {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "sig2"},
                ],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"result": "sunny"}}}],
            },
        ],
        tools=[
            {"functionDeclarations": [{"name": "f", "description": "F.", "parametersJsonSchema": {"type": "object"}}]}
        ],
        toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        generationConfig={
            "maxOutputTokens": 50,
            "temperature": 1.5,
            "topP": 0.9,
            "topK": 40.0,
            "stopSequences": ["END"],
            "seed": 3,
            "frequencyPenalty": 0.1,
            "presencePenalty": 0.2,
            "candidateCount": 2,
            "responseLogprobs": True,
            "logprobs": 4,
            "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
        },
    )

    assert told == Conversation(
        model="some-model",
        system=(Text("Be brief."),),
        turns=(
            user("Weather?"),
            assistant(Thinking("A tool knows.", "sig1", None, "google"), ToolCall("c1", "f", '{"x":1}', "sig2")),
            user(ToolResult("c1", "f", (Text("sunny"),))),
        ),
        tools=(Tool("f", "F.", {"type": "object"}),),
        tool_choice=ToolChoice("named", "f"),
        reasoning=Reasoning(None, 100, True),
        sampling=Sampling(50, 1.5, 0.9, 40, ("END",), 3, 0.1, 0.2, 2, True, 4),
    )


def test_snake_case_means_the_same() -> None:
    snake = read(
        system_instruction={"parts": [{"text": "S"}]},
        contents=[
            {"parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]},
            {
                "role": "model",
                "parts": [{"function_call": {"name": "f", "args": {"a_b": 1}}, "thought_signature": "s"}],
            },
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"a_b": 2}}}]},
        ],
        tools=[{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
        tool_config={"function_calling_config": {"mode": "AUTO"}},
        generation_config={"max_output_tokens": 5, "thinking_config": {"include_thoughts": True}},
    )

    assert snake.unknown == ()
    assert snake.sampling.max_tokens == 5
    assert snake.reasoning.is_shown is True
    assert snake.tools[0].parameters == {"type": "object"}
    assert snake.turns == (
        user(Media("image", "image/png", PIXEL)),
        assistant(ToolCall("call_0", "f", '{"a_b":1}', "s")),
        user(ToolResult("call_0", "f", (Text('{"a_b":2}'),))),
    )


def test_responses_without_ids_answer_the_calls_of_their_name_in_order() -> None:
    calls: list[dict[str, Any]] = [{"functionCall": {"name": name, "args": {}}} for name in ("f", "g", "f")]
    results = [
        {"functionResponse": {"name": name, "response": {"result": text}}}
        for name, text in (("f", "1"), ("f", "2"), ("g", "3"))
    ]

    told = contents(
        ("user", {"text": "Go."}), ("model", calls), ("user", results), ("model", calls[:1]), ("user", results[:1])
    )

    assert [part.id for part in told.turns[1].parts if isinstance(part, ToolCall)] == ["call_0", "call_1", "call_2"]
    assert [part.call_id for part in told.turns[2].parts if isinstance(part, ToolResult)] == [
        "call_0",
        "call_2",
        "call_1",
    ]
    assert [part.call_id for part in told.turns[4].parts if isinstance(part, ToolResult)] == ["call_3"]


def test_made_up_ids_keep_clear_of_the_clients_own() -> None:
    calls = [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f", "id": "call_0"}}]

    told = contents(("user", {"text": "Go."}), ("model", calls))

    ids = [part.id for part in told.turns[1].parts if isinstance(part, ToolCall)]
    assert ids[1] == "call_0"
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"result": "x"}, "x", False),
        ({"output": "x"}, "x", False),
        ({"error": "x"}, "x", True),
        ({"result": {"a": 1}}, '{"result":{"a":1}}', False),
        ({"result": "x", "more": 1}, '{"result":"x","more":1}', False),
        ({}, "{}", False),
    ],
)
def test_responses_are_text(response: dict[str, Any], text: str, is_error: bool) -> None:
    told = contents(
        ("user", {"text": "Go."}),
        ("model", {"functionCall": {"name": "f"}}),
        ("function", {"functionResponse": {"name": "f", "response": response}}),
    )

    assert told.turns[2] == user(ToolResult("call_0", "f", (Text(text),), is_error))


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"inlineData": {"mimeType": "image/png", "data": PIXEL}}, Media("image", "image/png", PIXEL)),
        # Google's own libraries write base64 for URLs, and leave the padding to others.
        ({"inlineData": {"mimeType": "audio/wav", "data": "-_8"}}, Media("audio", "audio/wav", "+/8=")),
        ({"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}}, Media("document", "application/pdf", "QQ==")),
        ({"fileData": {"fileUri": "https://a.example/b.PNG?x=1"}}, Media("image", url="https://a.example/b.PNG?x=1")),
        (
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/b"}},
            Media("document", "application/pdf", url="https://a.example/b"),
        ),
    ],
)
def test_media_are_understood(part: dict[str, Any], media: Any) -> None:
    told = contents(("user", part))

    assert told.turns == (user(media),)
    assert told.features == frozenset()


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/o.png"}}, "stored_file"),
        (
            {
                "fileData": {
                    "mimeType": "image/png",
                    "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x",
                }
            },
            "stored_file",
        ),
        ({"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}}, "video_input"),
        ({"inlineData": {"mimeType": "video/mp4", "data": "QQ=="}}, "video_input"),
        ({"executableCode": {"language": "PYTHON", "code": "1"}}, "hosted_tool_history"),
        ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, "hosted_tool_history"),
    ],
)
def test_parts_that_have_no_neutral_form_are_features(part: dict[str, Any], feature: str) -> None:
    assert contents(("user", part)).features == {feature}


@pytest.mark.parametrize(
    ("members", "features"),
    [
        ({"tools": [{"googleSearch": {}}]}, {"hosted_tool:web_search"}),
        ({"tools": [{"google_search_retrieval": {"x": 1}}]}, {"hosted_tool:web_search"}),
        ({"tools": [{"codeExecution": {}}]}, {"hosted_tool:code_interpreter"}),
        ({"tools": [{"computerUse": {}}]}, {"hosted_tool:computer"}),
        ({"tools": [{"urlContext": {}}]}, {"hosted_tool:other"}),
        ({"safetySettings": [{"category": "x"}]}, {"safety_settings"}),
        ({"cachedContent": "cachedContents/1"}, {"stored_state"}),
        ({"labels": {"a": "b"}}, {"labels"}),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, {"image_output"}),
        ({"generationConfig": {"responseModalities": ["audio"], "speechConfig": {"x": 1}}}, {"audio_output"}),
        ({"generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"}}, {"media_resolution"}),
        (
            {"generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"enum": ["a"]}}},
            {"output_media_type"},
        ),
        ({"safetySettings": [], "cachedContent": ""}, set()),
    ],
)
def test_what_has_no_neutral_form_is_a_feature(members: dict[str, Any], features: set[str]) -> None:
    assert read(**members).features == features


def test_members_nobody_knows_are_named() -> None:
    assert read(novelty=1, generationConfig={"zeal": 2}).unknown == ("novelty", "generationConfig.zeal")


@pytest.mark.parametrize(
    ("calling", "choice", "left"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto"), ("f", "g", "h")),
        ({"mode": "any"}, ToolChoice("required"), ("f", "g", "h")),
        ({"mode": "NONE"}, ToolChoice("none"), ("f", "g", "h")),
        ({"mode": "ANY", "allowedFunctionNames": ["g"]}, ToolChoice("named", "g"), ("g",)),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}, ToolChoice("required"), ("f", "g")),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["h"]}, ToolChoice("auto"), ("h",)),
    ],
)
def test_what_may_be_called_is_understood(calling: Any, choice: ToolChoice, left: tuple[str, ...]) -> None:
    told = read(
        tools=[{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}, {"functionDeclarations": [{"name": "h"}]}],
        toolConfig={"functionCallingConfig": calling},
    )

    assert told.tool_choice == choice
    assert tuple(tool.name for tool in told.tools) == left


def test_googles_own_schemas_become_json_schemas() -> None:
    openapi = {
        "type": "OBJECT",
        "propertyOrdering": ["a"],
        "properties": {
            "a": {"type": "STRING", "nullable": True, "format": "enum", "enum": ["x", "y"], "maxLength": "3"},
            "type": {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": 1},
            "b": {"anyOf": [{"type": "NUMBER"}, {"ref": "#/defs/D"}]},
        },
        "defs": {"D": {"type": "BOOLEAN", "example": True}},
        "required": ["a"],
    }

    told = read(tools=[{"functionDeclarations": [{"name": "f", "parameters": openapi}]}])

    assert told.tools[0].parameters == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", "y", None], "maxLength": 3},
            "type": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "b": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/D"}]},
        },
        "$defs": {"D": {"type": "boolean"}},
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("config", "output"),
    [
        ({}, OutputForm()),
        ({"responseMimeType": "text/plain"}, OutputForm()),
        ({"responseMimeType": "application/json"}, OutputForm("json")),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}},
            OutputForm("schema", schema={"type": "object"}, is_strict=True),
        ),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
            OutputForm("schema", schema={"type": "object"}, is_strict=True),
        ),
    ],
)
def test_the_form_of_the_answer_is_understood(config: Any, output: OutputForm) -> None:
    assert configured(**config).output == output


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingBudget": -1}, Reasoning()),
        ({"thinkingBudget": 0}, Reasoning(None, 0)),
        ({"thinkingLevel": "low", "includeThoughts": False}, Reasoning("low", is_shown=False)),
        ({"thinkingLevel": "HIGH"}, Reasoning("high")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, Reasoning()),
    ],
)
def test_thinking_is_understood(config: Any, reasoning: Reasoning) -> None:
    assert configured(thinkingConfig=config).reasoning == reasoning


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "tool", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"functionCall": {"name": "f"}}]}]}, "contents[0].parts[0].functionCall"),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
            "contents[0].parts[0].functionResponse.name",
        ),
        ({"contents": [{"parts": [{"inlineData": {"data": "QQ=="}}]}]}, "contents[0].parts[0].inlineData.mimeType"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": "*"}}]}]},
            "contents[0].parts[0].inlineData.data",
        ),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"systemInstruction": {"parts": [{}]}}, "systemInstruction.parts[0].text"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**members)

    assert refused.value.fields["param"] == param


_parts = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["text", "thought", "inlineData", "fileData", "functionCall", "functionResponse", "thoughtSignature"]
        ),
        json_values
        | st.dictionaries(
            st.sampled_from(["name", "args", "id", "response", "mimeType", "data", "fileUri", "parts"]), json_values
        ),
        max_size=2,
    ),
    max_size=3,
)


@a_few
@given(st.sampled_from(["user", "model"]), _parts)
def test_arbitrary_parts_are_read_or_refused(role: str, parts: list[dict[str, Any]]) -> None:
    with suppress(InvalidRequest):
        contents((role, parts))


@a_few
@given(
    st.dictionaries(
        st.sampled_from(["contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"]),
        json_values
        | st.dictionaries(
            st.sampled_from(
                ["functionCallingConfig", "responseSchema", "thinkingConfig", "parts", "topK", "stopSequences"]
            ),
            json_values
            | st.dictionaries(
                st.sampled_from(["type", "properties", "items", "mode", "enum", "nullable"]), json_values
            ),
        ),
    )
)
def test_arbitrary_requests_are_read_or_refused(members: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        read(**members)


# Requests, written


@a_few
@given(conversations())
def test_a_conversation_means_the_same_after_writing_and_reading(told: Conversation) -> None:
    # Models before Gemini 3: what stands in for a signature would come back as one.
    operation, body = GOOGLE.write_request(told, OLD)

    again = GOOGLE.read_request(json.loads(msgspec.json.encode(body)), told.model, streams=told.streams)

    if told.tool_choice.mode == "named":
        again = replace(again, tools=told.tools)  # the others may not be called anyway
    assert again == told
    assert operation == ("streamGenerateContent" if told.streams else "generateContent")


@pytest.mark.parametrize("case", sorted((GOLDEN / "google_request").glob("*.json")), ids=lambda path: path.stem)
def test_a_chat_request_becomes_the_request_on_file(case: Path) -> None:
    golden = json.loads(case.read_text())
    told = OpenAIChat().read_request(golden["asked"], golden["model"], streams=golden["asked"].get("stream", False))

    assert written(told, golden["model"]) == golden["written"]


@a_few
@given(
    words
    | json_objects.map(arguments)
    | st.sampled_from(['{"result":"x"}', '{"error":"x"}', '{"output":"{}"}', "{", "[1]", '{"a":1e999}']),
    st.booleans(),
)
def test_what_a_tool_said_comes_back_as_it_was(text: str, is_error: bool) -> None:
    result = ToolResult("c", "f", (Text(text),), is_error)
    told = conversation(user("Go."), assistant(ToolCall("c", "f", "{}")), user(result))

    body = written(told)

    assert GOOGLE.read_request(body, "m", streams=False).turns[2] == user(result)


def test_a_tools_json_object_is_the_response_itself() -> None:
    result = ToolResult("c", "f", (Text('{"sky": "blue"}'), Media("image", "image/png", PIXEL)))
    told = conversation(user("Go."), assistant(ToolCall("c", "f", "")), user("Hurry.", result))

    parts = written(told)["contents"][2]["parts"]

    assert parts == [
        {"functionResponse": {"id": "c", "name": "f", "response": {"sky": "blue"}}},
        {"text": "Hurry."},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ]


@pytest.mark.parametrize(
    ("model", "signature", "sent"),
    [
        (NEW, None, "skip_thought_signature_validator"),
        (NEW, "sig", "sig"),
        (OLD, None, None),
        (OLD, "sig", "sig"),
        ("gemini-2.0-flash", None, None),
        ("gemini-flash-latest", None, "skip_thought_signature_validator"),
    ],
)
def test_a_call_bears_googles_signature_or_what_stands_in_for_it(model: str, signature: str | None, sent: Any) -> None:
    calls = assistant(ToolCall("a", "f", "{}", signature), ToolCall("b", "f", "{}"))

    parts = written(conversation(user("Go."), calls), model)["contents"][1]["parts"]

    assert [part.get("thoughtSignature") for part in parts] == [sent, None]


def test_only_reasoning_that_google_signed_goes_back() -> None:
    thoughts = [Thinking("a", "sig", None, "google"), Thinking("b"), Thinking("c", "s", None, "anthropic")]

    body = written(conversation(user("Go."), assistant(*thoughts, "Done."), user("More.")))

    assert body["contents"][1]["parts"] == [
        {"text": "a", "thought": True, "thoughtSignature": "sig"},
        {"text": "Done."},
    ]


def test_turns_are_merged_until_they_alternate_and_the_user_begins() -> None:
    body = written(conversation(assistant("Welcome."), assistant(Refusal("No.")), user("A"), user("B")))

    assert [(one["role"], [part["text"] for part in one["parts"]]) for one in body["contents"]] == [
        ("user", ["Hello."]),
        ("model", ["Welcome.", "No."]),
        ("user", ["A", "B"]),
    ]


def test_system_text_alone_becomes_the_users() -> None:
    assert written(conversation(system=(Text("Tell a joke."),))) == {
        "contents": [{"role": "user", "parts": [{"text": "Tell a joke."}]}]
    }


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            Media("image", url="https://a.example/b.webp?s=1"),
            {"mimeType": "image/webp", "fileUri": "https://a.example/b.webp?s=1"},
        ),
        (Media("image", url="https://a.example/b"), {"mimeType": "image/jpeg", "fileUri": "https://a.example/b"}),
        (
            Media("document", url="https://a.example/b"),
            {"mimeType": "application/pdf", "fileUri": "https://a.example/b"},
        ),
        (Media("image", "image/png", reference="gs://b/o"), {"mimeType": "image/png", "fileUri": "gs://b/o"}),
    ],
)
def test_media_elsewhere_are_file_data(media: Any, part: dict[str, Any]) -> None:
    assert written(conversation(user(media)))["contents"][0]["parts"] == [{"fileData": part}]


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        (OLD, Reasoning(), None),
        (OLD, Reasoning("none"), {"thinkingBudget": 0}),
        (OLD, Reasoning("minimal"), {"thinkingBudget": 1024}),
        (OLD, Reasoning("medium", is_shown=True), {"thinkingBudget": 8192, "includeThoughts": True}),
        (OLD, Reasoning("high", 300), {"thinkingBudget": 300}),
        ("gemini-2.5-pro", Reasoning("none"), {"thinkingBudget": 128}),
        (NEW, Reasoning("none"), {"thinkingLevel": "minimal"}),
        (NEW, Reasoning("medium"), {"thinkingLevel": "medium"}),
        (NEW, Reasoning("xhigh"), {"thinkingLevel": "high"}),
        (NEW, Reasoning(None, 300), {"thinkingBudget": 300}),
        ("gemini-3-pro-preview", Reasoning("minimal"), {"thinkingLevel": "low"}),
    ],
)
def test_efforts_become_what_the_model_understands(model: str, reasoning: Reasoning, config: Any) -> None:
    body = written(conversation(user("Hi."), reasoning=reasoning), model)

    assert body.get("generationConfig", {}).get("thinkingConfig") == config


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice(), None),
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", "get_weather"), {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
    ],
)
def test_tool_choices_are_written(choice: ToolChoice, calling: Any) -> None:
    body = asked(tools=(WEATHER,), tool_choice=choice)

    assert body.get("toolConfig", {}).get("functionCallingConfig") == calling
    assert "toolConfig" not in asked(tool_choice=choice)


def test_log_probabilities_are_not_asked_for() -> None:
    assert asked(sampling=Sampling(logprobs=True, top_logprobs=3)) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi."}]}]
    }


@pytest.mark.parametrize("name", ["", "1st", "a b", "ü", "x" * 65])
def test_names_google_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(tools=(replace(WEATHER, name=name),))

    assert refused.value.fields["param"] == "tools"


def test_media_in_the_models_place_are_refused() -> None:
    with pytest.raises(NotTranslatable):
        written(conversation(user("Go."), assistant(Media("image", "image/png", PIXEL))))


# Answers


ANSWER = Answer(
    "resp-1",
    "gemini",
    (
        Candidate(
            (Thinking("Hm.", "s1", None, "google"), Text("Look."), ToolCall("c", "f", '{"x":1}', "s2")), "tool_calls"
        ),
        Candidate((Text("Or not."),), "length"),
    ),
    Usage(25, 9, cached_tokens=5, reasoning_tokens=2),
)


def test_an_answer_stays_the_same_through_writing_and_reading() -> None:
    assert GOOGLE.read_answer(GOOGLE.write_answer(ANSWER, SHAPE)) == ANSWER


@a_few
@given(answers())
def test_any_answer_stays_the_same_through_writing_and_reading(answer: Answer) -> None:
    again = GOOGLE.read_answer(json.loads(msgspec.json.encode(GOOGLE.write_answer(answer, SHAPE))))

    assert again == answer


@pytest.mark.parametrize(
    ("reason", "finish", "back"),
    [
        ("STOP", "stop", "STOP"),
        ("MAX_TOKENS", "length", "MAX_TOKENS"),
        ("SAFETY", "content_filter", "SAFETY"),
        ("RECITATION", "content_filter", "SAFETY"),
        ("BLOCKLIST", "content_filter", "SAFETY"),
        ("PROHIBITED_CONTENT", "content_filter", "SAFETY"),
        ("SPII", "content_filter", "SAFETY"),
        ("IMAGE_SAFETY", "content_filter", "SAFETY"),
        ("LANGUAGE", "error", "OTHER"),
        ("MALFORMED_FUNCTION_CALL", "error", "OTHER"),
        ("UNEXPECTED_TOOL_CALL", "error", "OTHER"),
        ("OTHER", "error", "OTHER"),
        ("NEWS_OF_TOMORROW", "error", "OTHER"),
    ],
)
def test_finish_reasons_both_ways(reason: str, finish: FinishReason, back: str) -> None:
    answer = GOOGLE.read_answer({"candidates": [{"finishReason": reason}]})

    assert answer.candidates == (Candidate((), finish),)
    candidates: Any = GOOGLE.write_answer(answer, SHAPE)["candidates"]
    assert candidates[0]["finishReason"] == back


@pytest.mark.parametrize("finish", ["stop", "stop_sequence", "tool_calls"])
def test_answers_that_ended_well_say_stop(finish: FinishReason) -> None:
    candidates: Any = GOOGLE.write_answer(Answer("r", "m", (Candidate((), finish),), None), SHAPE)["candidates"]

    assert candidates[0] == {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}


def test_a_blocked_prompt_is_told_as_such() -> None:
    body = {"promptFeedback": {"blockReason": "JAILBREAK"}, "responseId": "r", "modelVersion": "m"}

    answer = GOOGLE.read_answer(body)

    assert answer.blocked == "JAILBREAK"
    assert answer.candidates[0].finish == "content_filter"
    assert GOOGLE.write_answer(answer, SHAPE) == body
    unheard = GOOGLE.write_answer(replace(answer, blocked="A whim"), SHAPE)
    assert unheard["promptFeedback"] == {"blockReason": "OTHER"}


def test_thoughts_are_shown_only_to_clients_that_asked() -> None:
    answer = Answer("r", "m", (Candidate((Thinking("Hm."), Text("Yes.")), "stop"),), None)
    for config, texts in (({"includeThoughts": True}, ["Hm.", "Yes."]), ({}, ["Yes."])):
        shape = GOOGLE.shape({}, configured(thinkingConfig=config))

        candidates: Any = GOOGLE.write_answer(answer, shape)["candidates"]

        assert [part["text"] for part in candidates[0]["content"]["parts"]] == texts


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"candidates": "x"},
        {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
        {"error": {"code": 500}},
    ],
)
def test_what_is_no_answer_is_unreadable(body: Any) -> None:
    with pytest.raises(UnreadableAnswer):
        GOOGLE.read_answer(body)


def test_a_call_the_limit_cut_off_is_left_out_and_a_broken_one_is_an_error() -> None:
    cut = ToolCall("c", "f", '{"a": "b')

    whole: Any = GOOGLE.write_answer(Answer("r", "m", (Candidate((cut,), "length"),), None), SHAPE)["candidates"]

    assert whole[0]["content"]["parts"] == [{"text": ""}]
    with pytest.raises(UnreadableAnswer):
        GOOGLE.write_answer(Answer("r", "m", (Candidate((cut,), "tool_calls"),), None), SHAPE)


def test_calls_without_ids_get_some_that_differ_between_calls_and_answers() -> None:
    def ids(response_id: str) -> list[str]:
        part = {"functionCall": {"name": "f", "args": {}}}
        body = {"responseId": response_id, "candidates": [{"content": {"parts": [part, part]}, "finishReason": "STOP"}]}
        parts = GOOGLE.read_answer(body).candidates[0].parts
        return [one.id for one in parts if isinstance(one, ToolCall)]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b")}) == 4


@a_few
@given(
    st.dictionaries(
        st.sampled_from(["candidates", "promptFeedback", "usageMetadata", "responseId"]),
        json_values
        | st.lists(
            st.dictionaries(
                st.sampled_from(["content", "finishReason", "index"]),
                json_values | st.dictionaries(st.just("parts"), _parts),
            ),
            max_size=2,
        ),
    )
)
def test_arbitrary_answers_are_read_or_unreadable(body: Any) -> None:
    with suppress(UnreadableAnswer):
        GOOGLE.read_answer(body)


# Errors


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            b'{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":'
            b'[{"@type":"x"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}',
            Failure(429, "Quota", "RESOURCE_EXHAUSTED", retry_after_s=34.5),
        ),
        (b'[{"error":{"code":429,"message":"Quota","status":"X"}}]', Failure(429, "Quota", "X")),
        (b'{"error":{"details":[{"retryDelay":"soon"},5]}}', Failure(429, "The provider answered with 429.")),
        (
            b'{"error":{"details":[{"retryDelay":"s"},{"retryDelay":".s"}]}}',
            Failure(429, "The provider answered with 429."),
        ),
        (b"<html>", Failure(429, "The provider answered with 429.")),
        (b"[]", Failure(429, "The provider answered with 429.")),
    ],
)
def test_an_error_is_read_however_broken(body: Any, failure: Failure) -> None:
    assert GOOGLE.read_failure(429, body) == failure


# Streams


@pytest.mark.parametrize("case", sorted((GOLDEN / "google_stream").glob("*.sse")), ids=lambda path: path.stem)
def test_a_stream_on_file_is_read_as_the_answer_on_file(case: Path) -> None:
    pieces = decoded(GOOGLE, case.read_bytes())

    golden = json.loads(case.with_suffix(".json").read_text())
    failures = [json.loads(msgspec.json.encode(piece.failure)) for piece in pieces if isinstance(piece, Failed)]
    assert json.loads(msgspec.json.encode(joined(pieces))) == golden["answer"]
    assert (failures or [None]) == [golden["failure"]]
    assert not any(isinstance(piece, Ended) for piece in pieces)


@pytest.mark.parametrize("case", sorted((GOLDEN / "google_encoded").glob("*.openai.sse")), ids=lambda path: path.name)
def test_a_chat_stream_becomes_the_stream_on_file(case: Path) -> None:
    stream = encoded(GOOGLE, decoded(OpenAIChat(), case.read_bytes()))

    assert stream == case.with_name(case.name.replace(".openai.", ".")).read_bytes()


def test_a_stream_of_several_candidates_stays_the_same_through_writing_and_reading() -> None:
    assert joined(decoded(GOOGLE, encoded(GOOGLE, in_pieces(ANSWER)))) == ANSWER


@a_few
@given(answers(), st.integers(1, 8))
def test_any_stream_stays_the_same_through_writing_and_reading(answer: Answer, size: int) -> None:
    stream = encoded(GOOGLE, in_pieces(answer, size))

    assert joined(decoded(GOOGLE, stream)) == answer
    assert sum("finishReason" in chunk["candidates"][0] for chunk in data_of(stream)) == 1


def test_text_passes_a_call_whose_arguments_are_still_arriving() -> None:
    encoder = GOOGLE.stream_encoder(SHAPE)
    encoder.write(Started("r", "m"))

    assert encoder.write(CallPiece(0, 0, "a", "f")) == b""
    assert encoder.write(CallPiece(0, 0, arguments='{"x":"}')) == b""
    assert b"Hello" in encoder.write(TextPiece(0, 1, "Hello"))
    assert b'"args":{"x":"}"}' in encoder.write(CallPiece(0, 0, arguments='"}'))
    assert encoder.write(CallPiece(0, 0, arguments=" ")) == b""


def test_each_chunk_tells_the_numbers_known_so_far_and_the_last_one_all() -> None:
    pieces: list[Piece] = [
        Started("r", "m", usage=Usage(30, 1)),
        TextPiece(0, 0, "Hi"),
        Finished(0, "stop"),
        Counted(Usage(30, 5)),
        Ended(),
    ]

    chunks = data_of(encoded(GOOGLE, pieces))

    assert [chunk["usageMetadata"]["candidatesTokenCount"] for chunk in chunks] == [1, 5]


def test_a_stream_that_breaks_off_has_no_finish_reason() -> None:
    pieces: list[Piece] = [Started("r", "m"), TextPiece(0, 0, "Hi"), Finished(0, "stop"), Counted(Usage(1, 1))]

    assert b"finishReason" not in encoded(GOOGLE, pieces)


def test_a_failure_is_an_error_and_the_last_chunk() -> None:
    stream = encoded(GOOGLE, [Started("r", "m"), Failed(Failure(529, "Busy", "overloaded_error"))])

    assert data_of(stream) == [{"error": {"code": 503, "message": "Busy", "status": "UNAVAILABLE"}}]


def test_a_call_the_limit_cut_off_is_not_streamed_and_a_broken_one_is_an_error() -> None:
    pieces: list[Piece] = [Started("r", "m"), CallPiece(0, 0, "a", "f", '{"x":')]

    assert b"functionCall" not in encoded(GOOGLE, [*pieces, Finished(0, "length"), Ended()])
    with pytest.raises(UnreadableAnswer):
        encoded(GOOGLE, [*pieces, Finished(0, "tool_calls")])


def test_a_call_without_arguments_is_streamed_with_none() -> None:
    stream = encoded(GOOGLE, [Started("r", "m"), CallPiece(0, 0, "a", "f"), Finished(0, "tool_calls"), Ended()])

    assert data_of(stream)[0]["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "a", "name": "f", "args": {}}}
    ]


def test_thoughts_nobody_asked_for_are_not_streamed() -> None:
    pieces: list[Piece] = [Started("r", "m"), ThinkingPiece(0, 0, "Hm."), Finished(0, "stop"), Ended()]

    assert b"Hm." not in encoded(GOOGLE, pieces, replace(SHAPE, shows_thinking=False))
    assert b"Hm." in encoded(GOOGLE, pieces)


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"[]", b"\xff", b'{"candidates":3}', b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}'],
)
def test_chunks_that_are_not_of_the_format_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        GOOGLE.stream_decoder().read("", data)


def test_a_chunk_that_says_nothing_gives_nothing() -> None:
    decoder = GOOGLE.stream_decoder()
    decoder.read("", b'{"responseId":"r"}')

    assert list(decoder.read("", b'{"candidates":[{"content":{"parts":[{"text":""}]},"index":0}]}')) == []


def test_signatures_of_others_are_not_written_as_googles() -> None:
    piece = ThinkingPiece(0, 0, "Hm.", "asig", signed_by="anthropic")
    said = Answer("r", "m", (Candidate((Thinking("Hm.", "asig", None, "anthropic"),), "stop"),), None)

    assert b"asig" not in encoded(GOOGLE, [Started("r", "m"), piece])
    assert "asig" not in json.dumps(GOOGLE.write_answer(said, SHAPE))


def test_a_candidate_finishes_once() -> None:
    decoder = GOOGLE.stream_decoder()
    chunk = b'{"candidates":[{"finishReason":"STOP"}]}'

    pieces = [*decoder.read("", chunk), *decoder.read("", chunk)]

    assert [piece for piece in pieces if isinstance(piece, Finished)] == [Finished(0, "stop")]
