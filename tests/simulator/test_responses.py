"""OpenAI's responses: items, states and numbered events."""

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall

from tests.support.simulator import RawReply, get, post, sse_events
from trueport.simulator import Simulator

KEY = {"authorization": "Bearer sk-test"}
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TWO_TOOLS = '[[tool: get_weather {"city": "Paris"}]] [[tool: get_weather {"city": "Oslo"}]]'


async def call(simulator: Simulator, prompt: str = "Hello", **members: Any) -> RawReply:
    return await post(simulator.port, "/v1/responses", {"model": "gpt-x", "input": prompt, **members}, headers=KEY)


async def events(simulator: Simulator, prompt: str = "Hello", **members: Any) -> list[Any]:
    found = sse_events((await call(simulator, prompt, stream=True, **members)).unchunked())
    assert all(name == data["type"] for name, data in found)
    return [data for _, data in found]


async def test_a_response_has_items_and_usage(client: AsyncOpenAI, simulator: Simulator) -> None:
    reply = await client.responses.create(model="gpt-x", input="[[say: Yes, of course.]]", instructions="Be brief.")

    assert (reply.output_text, reply.status) == ("Yes, of course.", "completed")
    assert reply.usage is not None
    # The words and brackets of the prompt, three of the instructions, three for the item and three for the answer.
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (20, 5, 25)
    entry = simulator.ledger.only_entry()
    assert (entry.prompt_tokens, entry.completion_tokens, entry.dialect, entry.model) == (20, 5, "openai", "gpt-x")


async def test_events_are_numbered_and_in_order_and_repeat_the_text(simulator: Simulator) -> None:
    found = await events(simulator, "[[say: one two]]")

    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in found] == list(range(10))
    assert (found[6]["text"], found[7]["part"]["text"]) == ("one two", "one two")
    final = found[-1]["response"]
    assert final["output"] == [found[8]["item"]]
    assert final["output"][0]["content"][0]["text"] == "one two"
    assert (found[0]["response"]["usage"], final["usage"]["output_tokens"]) == (None, 2)


async def test_the_sdk_can_follow_a_stream(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(model="gpt-x", input="Hello")
    async with client.responses.stream(model="gpt-x", input="Hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()

    assert final.output_text == whole.output_text


async def test_functions_are_called_and_their_output_is_read(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="gpt-x", input=TWO_TOOLS, tools=[WEATHER])
    calls = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    second = await client.responses.create(
        model="gpt-x",
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": calls[0].call_id, "output": "21 degrees"}],
        tools=[WEATHER],
    )

    assert [json.loads(one.arguments)["city"] for one in calls] == ["Paris", "Oslo"]
    assert second.output_text
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        await client.responses.create(
            model="gpt-x", input=[{"type": "function_call_output", "call_id": "call_other", "output": "21"}]
        )


async def test_arguments_arrive_in_fragments(simulator: Simulator) -> None:
    found = await events(simulator, TWO_TOOLS, tools=[WEATHER])

    deltas: dict[int, str] = {}
    for event in found:
        if event["type"] == "response.function_call_arguments.delta":
            deltas[event["output_index"]] = deltas.get(event["output_index"], "") + event["delta"]
    done = [event["arguments"] for event in found if event["type"] == "response.function_call_arguments.done"]
    assert list(deltas.values()) == done
    assert [json.loads(one)["city"] for one in done] == ["Paris", "Oslo"]


async def test_a_function_that_is_insisted_on_is_called(client: AsyncOpenAI) -> None:
    reply = await client.responses.create(model="gpt-x", input="Hi", tools=[WEATHER], tool_choice="required")

    (called,) = reply.output
    assert isinstance(called, ResponseFunctionToolCall)
    assert isinstance(json.loads(called.arguments)["city"], str)


async def test_a_reasoning_summary_comes_by_directive_or_on_demand(simulator: Simulator) -> None:
    told = await events(simulator, "[[think: Let me see.]]")
    asked = await events(simulator, reasoning={"summary": "auto"})
    silent = await events(simulator, reasoning={"effort": "low"})

    deltas = [event["delta"] for event in told if event["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(deltas) == "Let me see."
    first = told[-1]["response"]["output"][0]
    assert (first["type"], first["summary"]) == ("reasoning", [{"type": "summary_text", "text": "Let me see."}])
    assert told[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] == 4
    assert [one[-1]["response"]["output"][0]["type"] for one in (asked, silent)] == ["reasoning", "message"]
    assert simulator.ledger.entries[0].reasoning_tokens == 4


async def test_a_schema_is_followed_and_a_limit_kept(client: AsyncOpenAI, simulator: Simulator) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"age": {"type": "integer"}}}
    shaped = await client.responses.create(
        model="gpt-x", input="Hi", text={"format": {"type": "json_schema", "name": "pet", "schema": schema}}
    )
    cut = await events(simulator, "[[tokens: 40]]", max_output_tokens=16)

    assert json.loads(shaped.output_text) == {"age": 7}
    assert cut[-1]["type"] == "response.incomplete"
    assert cut[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert cut[-1]["response"]["usage"]["output_tokens"] == 16


async def test_responses_are_stored_unless_told_otherwise(client: AsyncOpenAI, simulator: Simulator) -> None:
    kept = await client.responses.create(model="gpt-x", input="keep this")
    lost = await client.responses.create(model="gpt-x", input="lose this", store=False)

    again = await client.responses.retrieve(kept.id)
    items = await client.responses.input_items.list(kept.id)
    await client.responses.delete(kept.id)

    assert (again.output_text, again.usage) == (kept.output_text, kept.usage)
    assert [item.type for item in items.data] == ["message"]
    for gone in (kept.id, lost.id):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(gone)
        with pytest.raises(openai.BadRequestError) as unknown:
            await client.responses.create(model="gpt-x", input="x", previous_response_id=gone)
        assert unknown.value.code == "previous_response_not_found"
    kept_again = await client.responses.create(model="gpt-x", input="keep this")
    simulator.reset()
    assert (await get(simulator.port, f"/v1/responses/{kept_again.id}", headers=KEY)).status == 404


async def test_only_background_responses_can_be_cancelled(client: AsyncOpenAI) -> None:
    waiting = await client.responses.create(model="gpt-x", input="later", background=True)
    done = await client.responses.create(model="gpt-x", input="now")

    cancelled = await client.responses.cancel(waiting.id)

    assert (waiting.status, waiting.output, cancelled.status) == ("queued", [], "cancelled")
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(done.id)


async def test_input_tokens_are_counted_as_they_are_billed(simulator: Simulator) -> None:
    billed = json.loads((await call(simulator)).body)["usage"]["input_tokens"]
    asked = {"model": "gpt-x", "input": "Hello"}
    counted = await post(simulator.port, "/v1/responses/input_tokens", asked, headers=KEY)

    assert json.loads(counted.body) == {"object": "response.input_tokens", "input_tokens": billed}
    assert simulator.ledger.entries[-1].total_tokens == 0


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"model": "missing-x"}, 404, "model_not_found"),
        ({"input": []}, 400, "invalid_value"),
        ({"input": "[[filter]]"}, 400, "content_policy_violation"),
    ],
)
async def test_what_openai_would_refuse_is_refused(
    simulator: Simulator, members: dict[str, object], status: int, code: str
) -> None:
    reply = await post(simulator.port, "/v1/responses", {"model": "m", "input": "x", **members}, headers=KEY)

    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (status, code)
