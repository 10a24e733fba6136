"""Streams as the SDK reads them, and as they are on the wire."""

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from tests.simulator.test_answers import TWO_TOOLS, WEATHER, user
from tests.support.simulator import RawReply, chat_call
from trueport.simulator import Simulator


async def chunks_of(client: AsyncOpenAI, prompt: str, **members: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="sim-model", messages=user(prompt), stream=True, **members)
    return [chunk async for chunk in stream]


def data_of(reply: RawReply) -> list[Any]:
    """The JSON of every data line of a stream with plain line ends."""
    lines = [line.removeprefix(b"data: ") for line in reply.unchunked().split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


async def test_a_stream_says_what_the_whole_answer_says(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim-model", messages=user("Hello"))
    chunks = await chunks_of(client, "Hello")

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]


async def test_usage_comes_last_and_only_when_asked_for(client: AsyncOpenAI, simulator: Simulator) -> None:
    silent = await chunks_of(client, "[[tokens: 5]]")
    told = await chunks_of(client, "[[tokens: 5]]", stream_options={"include_usage": True})
    on_the_wire = await chat_call(simulator.port, stream=True, stream_options={"include_usage": True})

    assert all(chunk.usage is None for chunk in silent)
    assert told[-1].choices == []
    assert told[-1].usage is not None
    assert told[-1].usage.completion_tokens == 5
    assert all("usage" in data and data["usage"] is None for data in data_of(on_the_wire)[:-1])
    assert b'"usage"' not in (await chat_call(simulator.port, stream=True)).body
    assert on_the_wire.unchunked().endswith(b"data: [DONE]\n\n")


async def test_tool_arguments_arrive_in_fragments(client: AsyncOpenAI) -> None:
    chunks = await chunks_of(client, TWO_TOOLS, tools=[WEATHER])

    arguments: dict[int, list[str]] = {}
    names = []
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            arguments.setdefault(call.index, []).append(call.function.arguments or "")
            if call.function.name:
                names.append((call.id, call.function.name))
    assert [json.loads("".join(parts))["city"] for parts in arguments.values()] == ["Paris", "Oslo"]
    assert all(len(parts) > 2 for parts in arguments.values())
    assert len(set(names)) == 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_choices_take_turns(client: AsyncOpenAI) -> None:
    chunks = await chunks_of(client, "[[tokens: 3]]", n=2)

    assert [chunk.choices[0].index for chunk in chunks] == [0, 1] * 5


async def test_text_completions_stream_too(client: AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model="sim-model", prompt="[[say: one two]]", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "one two"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


async def test_a_long_stream_is_whole(simulator: Simulator) -> None:
    reply = await chat_call(simulator.port, "[[tokens: 3000]]", stream=True)

    entry = simulator.ledger.only_entry()
    assert reply.is_whole
    assert len(data_of(reply)) == 3002
    assert (entry.events_sent, entry.completion_tokens, entry.bytes_sent) == (3003, 3000, len(reply.wire))


async def test_extras_add_what_no_client_knows(simulator: Simulator) -> None:
    whole = await chat_call(simulator.port, "[[extra]]")
    stream = (await chat_call(simulator.port, "[[extra]]", stream=True)).unchunked()

    assert json.loads(whole.body)["x_simulator"]["big"] == 12345678901234567890
    assert stream.startswith(b": simulator comment\n\n")
    assert stream.count(b"event: custom\n") == 1
    assert stream.count(b'"x_simulator": {') == stream.count(b"chat.completion.chunk")


@pytest.mark.parametrize(
    ("name", "has", "lacks"), [("crlf", b"\r\n\r\n", b"}\n"), ("cr", b"}\r\r", b"\n"), ("mixed", b"}\r\n\r\n", b"\0")]
)
async def test_line_ends_can_be_changed(simulator: Simulator, name: str, has: bytes, lacks: bytes) -> None:
    stream = (await chat_call(simulator.port, f"[[extra: {name}]]", stream=True)).unchunked()

    assert has in stream
    assert lacks not in stream
    if name == "mixed":
        assert b"}\n\n" in stream
        assert b"}\r\rdata" in stream


async def test_an_error_within_a_stream_reaches_the_sdk(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIError, match="had an error"):
        await chunks_of(client, "[[fault: stream-error after=2]]")
