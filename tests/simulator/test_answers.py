"""What the official SDK sees when nothing misbehaves."""

import json
import math
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.support.simulator import chat_call, raw_call, request_bytes
from trueport.simulator import Simulator

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
TWO_TOOLS = '[[tool: get_weather {"city": "Paris"}]] [[tool: get_weather {"city": "Oslo"}]]'


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def test_the_same_request_gets_the_same_answer_and_another_prompt_another(client: AsyncOpenAI) -> None:
    first = await client.chat.completions.create(model="sim-model", messages=user("Where is the harbour?"))
    again = await client.chat.completions.create(model="sim-model", messages=user("Where is the harbour?"))
    other = await client.chat.completions.create(model="sim-model", messages=user("Where is the lighthouse?"))

    assert again == first
    assert other.choices[0].message.content != first.choices[0].message.content
    assert other.id != first.id


async def test_an_answer_does_not_repeat_the_prompt(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim-model", messages=user("canary-7f3a9 zebra"))

    text = reply.choices[0].message.content
    assert text
    assert "canary" not in text
    assert "zebra" not in text


async def test_tokens_are_words_and_punctuation_and_three_for_each_message_and_the_answer(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="sim-model",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "[[say: Yes, of course.]]"}],
    )

    assert reply.choices[0].message.content == "Yes, of course."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    # Be brief .  +  [ [ say : Yes , of course . ] ]  +  2 × 3 + 3
    assert reply.usage.prompt_tokens == 3 + 11 + 9
    assert reply.usage.completion_tokens == 5
    assert reply.usage.total_tokens == 28


async def test_reported_usage_can_be_stated(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="sim-model", messages=user("[[usage: prompt=10 completion=5 cached=4 reasoning=2]]")
    )

    usage = reply.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 2


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_the_answer(client: AsyncOpenAI, limit: str) -> None:
    members: dict[str, Any] = {limit: 7}
    reply = await client.chat.completions.create(model="sim-model", messages=user("[[tokens: 40]]"), **members)

    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 7


async def test_several_choices_differ(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim-model", messages=user("Hello"), n=3)

    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3


async def test_offered_tools_are_called_in_parallel(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim-model", messages=user(TWO_TOOLS), tools=[WEATHER])

    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    calls = [call for call in choice.message.tool_calls if call.type == "function"]
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Oslo"]
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_a_tool_that_is_insisted_on_is_called_with_fitting_arguments(client: AsyncOpenAI, choice: Any) -> None:
    parameters: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool: ChatCompletionToolParam = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}

    reply = await client.chat.completions.create(
        model="sim-model", messages=user("Hi"), tools=[tool], tool_choice=choice
    )

    (called,) = reply.choices[0].message.tool_calls or []
    assert called.type == "function"
    assert isinstance(json.loads(called.function.arguments)["city"], str)


@pytest.mark.parametrize("refusing", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
async def test_tools_that_are_not_offered_are_not_called(client: AsyncOpenAI, refusing: dict[str, Any]) -> None:
    reply = await client.chat.completions.create(model="sim-model", messages=user(TWO_TOOLS), **refusing)

    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].message.content


async def test_the_turn_that_brings_a_tool_result_is_answered_in_words(client: AsyncOpenAI) -> None:
    called = await client.chat.completions.create(model="sim-model", messages=user(TWO_TOOLS), tools=[WEATHER])
    assert called.choices[0].message.tool_calls is not None
    history: list[ChatCompletionMessageParam] = [
        *user(TWO_TOOLS),
        {"role": "tool", "tool_call_id": called.choices[0].message.tool_calls[0].id, "content": "21 degrees"},
    ]

    reply = await client.chat.completions.create(model="sim-model", messages=history, tools=[WEATHER])

    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content


async def test_json_mode_answers_json_and_a_schema_is_followed(client: AsyncOpenAI) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "kind": {"enum": ["cat", "dog"]},
            "home": {"$ref": "#/$defs/home"},
            "tags": {"type": "array", "items": {"type": ["string", "null"]}},
        },
        "$defs": {"home": {"anyOf": [{"type": "object", "properties": {"open": {"type": "boolean"}}}]}},
    }
    plain = await client.chat.completions.create(
        model="sim-model", messages=user("Hi"), response_format={"type": "json_object"}
    )
    shaped = await client.chat.completions.create(
        model="sim-model",
        messages=user("Hi"),
        response_format={"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}},
    )

    assert isinstance(json.loads(plain.choices[0].message.content or ""), dict)
    pet = json.loads(shaped.choices[0].message.content or "")
    assert pet["kind"] == "cat"
    assert pet["home"] == {"open": True}
    assert (type(pet["name"]), type(pet["age"]), type(pet["tags"][0])) == (str, int, str)


async def test_text_completions_answer_every_prompt(client: AsyncOpenAI) -> None:
    reply = await client.completions.create(model="sim-model", prompt=["One", "Two [[say: second]]"], max_tokens=3)

    assert [choice.text for choice in reply.choices] == ["second", "second"]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 1 + 8


async def test_embeddings_are_unit_vectors_the_same_in_both_encodings(client: AsyncOpenAI) -> None:
    numbers = await client.embeddings.create(
        model="sim-embedding", input=["alpha", "beta"], encoding_format="float", dimensions=8
    )
    as_text = await client.embeddings.create(model="sim-embedding", input=["alpha", "beta"], dimensions=8)

    first, second = (one.embedding for one in numbers.data)
    assert len(first) == 8
    assert first != second
    assert math.isclose(math.fsum(x * x for x in first), 1, rel_tol=1e-5)
    assert as_text.data[0].embedding == pytest.approx(first, rel=1e-6)
    assert numbers.usage.total_tokens == 2


async def test_moderations_flag_nothing(client: AsyncOpenAI) -> None:
    reply = await client.moderations.create(input=["one", "two"])

    assert [result.flagged for result in reply.results] == [False, False]


async def test_models_are_listed_and_found(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]

    assert "sim-model" in listed
    assert (await client.models.retrieve("some/other")).id == "some/other"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("missing-model")


async def test_the_sdk_meets_the_error_classes_it_knows(client: AsyncOpenAI, simulator: Simulator) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        await create(model="missing-model", messages=user("Hi"))
    with pytest.raises(openai.BadRequestError) as empty:
        await create(model="sim-model", messages=[])
    with pytest.raises(openai.RateLimitError) as limited:
        await create(model="sim-model", messages=user("[[fault: status=429 retry-after=7]]"))
    with pytest.raises(openai.InternalServerError):
        await create(model="sim-model", messages=user("[[fault: status=503]]"))
    with pytest.raises(openai.AuthenticationError) as wrong_key:
        await client.with_options(api_key="sk-invalid").chat.completions.create(model="sim-model", messages=user("Hi"))

    assert missing.value.code == "model_not_found"
    assert empty.value.param == "messages"
    assert limited.value.response.headers["retry-after"] == "7"
    assert wrong_key.value.code == "invalid_api_key"
    assert "sk-invalid" not in str(wrong_key.value)
    assert simulator.ledger.totals.total_tokens == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff", None),
        (b'{"model":"m"}', "messages"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"m","messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":null}]}', "messages.[0].content"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":0}', "n"),
        (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}',
            "stream_options",
        ),
    ],
)
async def test_a_request_openai_would_refuse_is_refused(simulator: Simulator, body: bytes, param: str | None) -> None:
    reply = await raw_call(simulator.port, request_bytes(body, headers={"connection": "close"}))

    error = json.loads(reply.body)["error"]
    assert reply.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


async def test_a_call_without_a_key_is_refused(simulator: Simulator) -> None:
    reply = await raw_call(simulator.port, request_bytes(b"{}", key=None, headers={"connection": "close"}))

    assert reply.status == 401
    assert simulator.ledger.only_entry().key_hint is None


async def test_replies_carry_the_headers_of_the_real_provider(simulator: Simulator) -> None:
    reply = await chat_call(simulator.port)

    assert (reply.header("x-request-id") or "").startswith("req_")
    assert reply.header("openai-processing-ms")
    assert reply.header("x-ratelimit-remaining-tokens")


async def test_other_known_paths_echo_and_unknown_ones_are_not_found(simulator: Simulator) -> None:
    close = {"connection": "close", "content-type": "multipart/form-data; boundary=b"}
    echoed = await raw_call(
        simulator.port, request_bytes(b"--b--", path="/v1/vector_stores?purpose=batch", headers=close)
    )
    unknown = await raw_call(simulator.port, request_bytes(path="/v1/nothing", headers=close))

    told = json.loads(echoed.body)
    assert (told["method"], told["path"], told["query"], told["body_bytes"]) == (
        "POST",
        "/v1/vector_stores",
        "purpose=batch",
        5,
    )
    assert told["content_type"] == close["content-type"]
    assert unknown.status == 404
    assert json.loads(unknown.body)["error"]["code"] == "unknown_url"


async def test_paths_work_without_v1(simulator: Simulator) -> None:
    reply = await raw_call(simulator.port, request_bytes(method="GET", path="/models", headers={"connection": "close"}))

    assert json.loads(reply.body)["object"] == "list"
