"""Anthropic's dialect on the wire."""

import json
from typing import Any

import pytest

from tests.support.simulator import RawReply, get, post, raw_call, request_bytes, sse_events
from trueport.simulator import Simulator

HEADERS = {"x-api-key": "sk-ant-wxyz", "anthropic-version": "2023-06-01"}
WEATHER = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
TWO_TOOLS = '[[tool: get_weather {"city": "Paris"}]] [[tool: get_weather {"city": "Oslo"}]]'


def body(prompt: str = "Hello", **members: Any) -> dict[str, object]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "claude-sim", "max_tokens": 2000, "messages": messages, **members}


async def call(simulator: Simulator, prompt: str = "Hello", *, script: str = "", **members: Any) -> RawReply:
    return await post(simulator.port, "/v1/messages", body(prompt, **members), headers=HEADERS, script=script)


async def message(simulator: Simulator, prompt: str = "Hello", **members: Any) -> Any:
    reply = await call(simulator, prompt, **members)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def events(simulator: Simulator, prompt: str = "Hello", **members: Any) -> list[tuple[str | None, Any]]:
    return sse_events((await call(simulator, prompt, stream=True, **members)).unchunked())


async def test_a_message_has_the_members_of_the_real_one(simulator: Simulator) -> None:
    reply = await call(simulator, "[[say: Yes, of course.]]")

    told = json.loads(reply.body)
    assert told.pop("id").startswith("msg_")
    assert told == {
        "type": "message",
        "role": "assistant",
        "model": "claude-sim",
        "content": [{"type": "text", "text": "Yes, of course."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 14,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 5,
            "service_tier": "standard",
            "inference_geo": "not_available",
        },
    }
    assert (reply.header("request-id") or "").startswith("req_")
    assert reply.header("anthropic-ratelimit-input-tokens-remaining")
    assert reply.header("x-request-id") is None
    entry = simulator.ledger.only_entry()
    assert (entry.dialect, entry.model, entry.key_hint) == ("anthropic", "claude-sim", "wxyz")
    assert (entry.prompt_tokens, entry.completion_tokens) == (14, 5)


async def test_events_come_in_the_order_of_the_real_stream(simulator: Simulator) -> None:
    found = await events(simulator, "[[tokens: 2]]")

    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in found)
    start, delta = found[0][1]["message"], found[-2][1]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 1)
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 2
    assert delta["usage"]["input_tokens"] == start["usage"]["input_tokens"]


async def test_a_stream_says_what_the_whole_message_says(simulator: Simulator) -> None:
    whole = await message(simulator)
    found = await events(simulator)

    deltas = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    assert "".join(deltas) == whole["content"][0]["text"]
    assert simulator.ledger.entries[0].completion_tokens == simulator.ledger.entries[1].completion_tokens


async def test_thoughts_come_first_and_are_signed_and_billed(simulator: Simulator) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    whole = await message(simulator, "[[think: Let me see.]] [[say: Done.]]", thinking=thinking)
    found = await events(simulator, "[[think: Let me see.]] [[say: Done.]]", thinking=thinking)

    thought, text = whole["content"]
    assert (thought["type"], thought["thinking"], text["text"]) == ("thinking", "Let me see.", "Done.")
    assert whole["usage"]["output_tokens"] == 4 + 2
    kinds = [data["delta"]["type"] for name, data in found if name == "content_block_delta"]
    assert kinds == ["thinking_delta"] * 4 + ["signature_delta"] + ["text_delta"] * 2
    signatures = [data["delta"].get("signature") for name, data in found if name == "content_block_delta"]
    assert signatures[4] == thought["signature"]
    assert [data["index"] for name, data in found if name == "content_block_start"] == [0, 1]
    assert [entry.reasoning_tokens for entry in simulator.ledger.entries] == [4, 4]


@pytest.mark.parametrize("change", [{}, {"thinking": "Something else."}, {"signature": "bm9uZQ=="}])
async def test_thoughts_that_were_edited_are_refused(simulator: Simulator, change: dict[str, str]) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = await message(simulator, thinking=thinking)
    thought = {**first["content"][0], **change}
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [thought, first["content"][1]]},
        {"role": "user", "content": "And then?"},
    ]

    reply = await call(simulator, messages=turns, thinking=thinking)

    assert reply.status == (400 if change else 200)
    assert (b"Invalid `signature` in `thinking` block" in reply.body) == bool(change)


async def test_offered_tools_are_called_in_parallel(simulator: Simulator) -> None:
    whole = await message(simulator, TWO_TOOLS, tools=[WEATHER])
    found = await events(simulator, TWO_TOOLS, tools=[WEATHER])

    assert whole["stop_reason"] == "tool_use"
    assert [block["input"] for block in whole["content"]] == [{"city": "Paris"}, {"city": "Oslo"}]
    assert len({block["id"] for block in whole["content"]}) == 2
    arguments: dict[int, str] = {}
    for name, data in found:
        if name == "content_block_delta":
            arguments[data["index"]] = arguments.get(data["index"], "") + data["delta"]["partial_json"]
    assert [json.loads(one) for one in arguments.values()] == [{"city": "Paris"}, {"city": "Oslo"}]
    starts = [data["content_block"] for name, data in found if name == "content_block_start"]
    assert [(block["type"], block["input"]) for block in starts] == [("tool_use", {})] * 2


async def test_a_tool_result_is_answered_in_words_and_one_nobody_asked_for_refused(simulator: Simulator) -> None:
    called = await message(simulator, TWO_TOOLS, tools=[WEATHER])

    def turns(tool_use_id: str) -> list[dict[str, object]]:
        result = {"type": "tool_result", "tool_use_id": tool_use_id, "content": [{"type": "text", "text": "21"}]}
        return [
            {"role": "user", "content": TWO_TOOLS},
            {"role": "assistant", "content": called["content"]},
            {"role": "user", "content": [result]},
        ]

    answered = await message(simulator, messages=turns(called["content"][0]["id"]), tools=[WEATHER])
    refused = await call(simulator, messages=turns("toolu_other"), tools=[WEATHER])

    assert (answered["stop_reason"], answered["content"][0]["type"]) == ("end_turn", "text")
    assert refused.status == 400


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_a_tool_that_is_insisted_on_is_called_with_fitting_arguments(
    simulator: Simulator, choice: dict[str, str]
) -> None:
    told = await message(simulator, tools=[WEATHER], tool_choice=choice)

    (block,) = told["content"]
    assert isinstance(block["input"]["city"], str)


@pytest.mark.parametrize("where", ["output_config", "output_format"])
async def test_a_schema_is_followed(simulator: Simulator, where: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"age": {"type": "integer"}}}}
    members = {"output_config": {"format": form}} if where == "output_config" else {"output_format": form}

    told = await message(simulator, **members)

    assert json.loads(told["content"][0]["text"]) == {"age": 7}


async def test_an_answer_ends_where_it_is_told_to(simulator: Simulator) -> None:
    stopped = await message(simulator, "[[say: one two STOP three]]", stop_sequences=["never", "STOP"])
    cut = await message(simulator, "[[tokens: 40]]", max_tokens=7)
    refused = await message(simulator, "[[filter: hate]]")
    named = await message(simulator, "[[finish: pause_turn]]")
    translated = await message(simulator, "[[finish: content_filter]]")

    assert stopped["content"][0]["text"] == "one two "
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "STOP")
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 7)
    assert (refused["stop_reason"], refused["stop_details"]["category"]) == ("refusal", "hate")
    assert refused["content"] == []
    assert (named["stop_reason"], translated["stop_reason"]) == ("pause_turn", "refusal")


async def test_a_marked_prefix_is_written_once_and_then_read(simulator: Simulator) -> None:
    system = [{"type": "text", "text": "one two three four", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    content = [{"type": "text", "text": "five six", "cache_control": {"type": "ephemeral"}}]
    members: dict[str, Any] = {"system": system, "messages": [{"role": "user", "content": content}]}

    first = (await message(simulator, **members))["usage"]
    second = (await message(simulator, **members))["usage"]

    # Four words are kept for an hour; three for the message and two words for five minutes.
    assert first["cache_creation"] == {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 4}
    assert (first["cache_creation_input_tokens"], first["cache_read_input_tokens"], first["input_tokens"]) == (9, 0, 0)
    assert (second["cache_creation_input_tokens"], second["cache_read_input_tokens"]) == (0, 9)
    written, read = simulator.ledger.entries
    assert (written.prompt_tokens, written.cache_write_tokens, written.cache_write_1h_tokens) == (9, 9, 4)
    assert (read.prompt_tokens, read.cached_tokens, read.cache_write_tokens) == (9, 9, 0)


async def test_stated_usage_is_put_into_anthropics_members(simulator: Simulator) -> None:
    prompt = "[[usage: prompt=100 cached=40 cache_write=30 cache_write_1h=10 completion=20 reasoning=5 web_searches=2]]"
    usage = (await message(simulator, prompt))["usage"]

    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (30, 40, 20)
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}
    assert usage["server_tool_use"]["web_search_requests"] == 2
    entry = simulator.ledger.only_entry()
    assert (entry.prompt_tokens, entry.cached_tokens, entry.cache_write_tokens, entry.web_searches) == (100, 40, 30, 2)
    assert (entry.completion_tokens, entry.reasoning_tokens, entry.cache_write_1h_tokens) == (20, 5, 10)


async def test_pictures_are_read_and_counted(simulator: Simulator) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "aaaa"}
    plain = await message(simulator)
    content = [{"type": "image", "source": source}, {"type": "text", "text": "Hello"}]
    seen = await message(simulator, messages=[{"role": "user", "content": content}])

    assert seen["usage"]["input_tokens"] - plain["usage"]["input_tokens"] == 1500


async def test_tokens_are_counted_as_they_are_billed(simulator: Simulator) -> None:
    asked = body("Where is the harbour?", system="Be brief.", tools=[WEATHER])
    billed = (await message(simulator, "Where is the harbour?", system="Be brief.", tools=[WEATHER]))["usage"]
    del asked["max_tokens"]

    counted = await post(simulator.port, "/v1/messages/count_tokens?beta=true", asked, headers=HEADERS)

    assert json.loads(counted.body) == {"input_tokens": billed["input_tokens"]}
    assert simulator.ledger.entries[-1].total_tokens == 0


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"max_tokens": None}, 400, "max_tokens: Expected `int`, got `null`"),
        ({"messages": []}, 400, "messages: at least one message is required"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "messages.0.role: Invalid enum value 'system'"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "messages.0: text content blocks must be non-empty"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, 400, "`max_tokens` must be greater than"),
        ({"thinking": {"type": "enabled", "budget_tokens": 3}}, 400, "thinking.enabled.budget_tokens: Input should"),
        ({"model": "missing-claude"}, 404, "model: missing-claude"),
    ],
)
async def test_what_anthropic_would_refuse_is_refused(
    simulator: Simulator, change: dict[str, Any], status: int, message: str
) -> None:
    reply = await call(simulator, **change)

    told = json.loads(reply.body)
    assert (reply.status, told["type"]) == (status, "error")
    assert told["error"]["message"].startswith(message)
    assert told["error"]["type"] == {400: "invalid_request_error", 404: "not_found_error"}[status]
    assert told["request_id"] == reply.header("request-id")


async def test_max_tokens_key_and_version_are_needed(simulator: Simulator) -> None:
    without_limit = body()
    del without_limit["max_tokens"]
    unlimited = await post(simulator.port, "/v1/messages", without_limit, headers=HEADERS)
    keyless = await post(simulator.port, "/v1/messages", body(), headers={"anthropic-version": "2023-06-01"})
    wrong = await post(simulator.port, "/v1/messages", body(), headers={**HEADERS, "x-api-key": "sk-invalid"})
    unversioned = await post(simulator.port, "/v1/messages", body(), headers={"x-api-key": "k"})
    bearer = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    by_bearer = await post(simulator.port, "/v1/messages", body(), headers=bearer)

    assert (unlimited.status, json.loads(unlimited.body)["error"]["message"]) == (400, "max_tokens: Field required")
    assert [keyless.status, wrong.status, unversioned.status, by_bearer.status] == [401, 401, 400, 200]
    assert json.loads(wrong.body)["error"] == {"type": "authentication_error", "message": "invalid x-api-key"}
    assert "anthropic-version: header is required" in json.loads(unversioned.body)["error"]["message"]


async def test_models_are_anthropics_when_the_request_looks_like_it(simulator: Simulator) -> None:
    listed = json.loads((await get(simulator.port, "/v1/models", headers=HEADERS)).body)
    one = json.loads((await get(simulator.port, "/v1/models/claude-x", headers=HEADERS)).body)
    other = json.loads((await get(simulator.port, "/v1/models", headers={"authorization": "Bearer k"})).body)

    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (
        False,
        listed["data"][0]["id"],
        listed["data"][-1]["id"],
    )
    assert (one["type"], one["id"]) == ("model", "claude-x")
    assert other["object"] == "list"


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/anthropic/v1/messages"])
async def test_paths_work_below_a_base_and_without_v1(simulator: Simulator, path: str) -> None:
    assert (await post(simulator.port, path, body(), headers=HEADERS)).status == 200


async def test_a_batch_is_worked_through_once_it_is_looked_at(simulator: Simulator) -> None:
    good, bad = {"custom_id": "a", "params": body("[[say: yes]]")}, {"custom_id": "b", "params": body(messages=[])}
    made = await post(simulator.port, "/v1/messages/batches", {"requests": [good, bad]}, headers=HEADERS)
    batch = json.loads(made.body)
    path = f"/v1/messages/batches/{batch['id']}"

    ended = json.loads((await get(simulator.port, path, headers=HEADERS)).body)
    results = (await get(simulator.port, f"{path}/results", headers=HEADERS)).body.splitlines()
    listed = json.loads((await get(simulator.port, "/v1/messages/batches?limit=1", headers=HEADERS)).body)

    assert (batch["processing_status"], batch["request_counts"]["processing"]) == ("in_progress", 2)
    assert ended["processing_status"] == "ended"
    assert (ended["request_counts"]["succeeded"], ended["request_counts"]["errored"]) == (1, 1)
    first, second = (json.loads(line) for line in results)
    assert (first["custom_id"], first["result"]["message"]["content"][0]["text"]) == ("a", "yes")
    assert second["result"]["error"]["error"]["type"] == "invalid_request_error"
    assert [one["id"] for one in listed["data"]] == [batch["id"]]
    assert simulator.ledger.totals.total_tokens == 0


async def test_a_batch_can_be_cancelled_and_deleted(simulator: Simulator) -> None:
    asked = {"requests": [{"custom_id": "a", "params": body()}]}
    batch = json.loads((await post(simulator.port, "/v1/messages/batches", asked, headers=HEADERS)).body)
    path = f"/v1/messages/batches/{batch['id']}"

    cancelling = json.loads((await post(simulator.port, f"{path}/cancel", {}, headers=HEADERS)).body)
    ended = json.loads((await get(simulator.port, path, headers=HEADERS)).body)
    deleted = await get(simulator.port, path, headers=HEADERS, method="DELETE")
    gone = await get(simulator.port, path, headers=HEADERS)

    assert (cancelling["processing_status"], ended["request_counts"]["canceled"]) == ("canceling", 1)
    assert json.loads(deleted.body)["type"] == "message_batch_deleted"
    assert gone.status == 404


async def test_unknown_paths_are_not_found_in_anthropics_words(simulator: Simulator) -> None:
    request = request_bytes(b"{}", path="/v1/messages/other", headers={**HEADERS, "connection": "close"})
    reply = await raw_call(simulator.port, request)

    assert (reply.status, json.loads(reply.body)["error"]["type"]) == (404, "not_found_error")
