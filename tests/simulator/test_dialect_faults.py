"""Faults, extras and misreported usage in every dialect's own shape."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.simulator import test_anthropic, test_azure, test_google
from tests.support.simulator import RawReply, post, sse_events
from trueport.simulator import Simulator
from trueport.simulator.faults import FAULTS
from trueport.simulator.usage import SHAPES

FIVE = "[[tokens: 5]]"
BEARER = {"authorization": "Bearer sk-test-wxyz"}


@dataclass(frozen=True)
class Spoken:
    """How to ask in one dialect; `end` is what a whole stream ends with."""

    path: str
    stream_path: str
    headers: Mapping[str, str]
    body: Mapping[str, object]
    stream: Mapping[str, object]
    end: bytes

    async def call(self, simulator: Simulator, script: str, *, stream: bool) -> RawReply:
        path = self.stream_path if stream else self.path
        body = {**self.body, **self.stream} if stream else self.body
        return await post(simulator.port, path, body, headers=self.headers, script=script)


STREAM = {"stream": True}
CONTENTS = test_google.body(FIVE)
CHAT = {"model": "m", "messages": [{"role": "user", "content": FIVE}]}
DIALECTS = {
    "anthropic": Spoken(
        "/v1/messages",
        "/v1/messages",
        test_anthropic.HEADERS,
        test_anthropic.body(FIVE),
        STREAM,
        b"event: message_stop",
    ),
    "google": Spoken(
        "/v1beta/models/g:generateContent",
        "/v1beta/models/g:streamGenerateContent?alt=sse",
        test_google.KEY,
        CONTENTS,
        {},
        b'"finishReason":"STOP"',
    ),
    "google-array": Spoken(
        "/v1beta/models/g:generateContent",
        "/v1beta/models/g:streamGenerateContent",
        test_google.KEY,
        CONTENTS,
        {},
        b'"finishReason":"STOP"',
    ),
    "azure": Spoken(test_azure.CHAT, test_azure.CHAT, test_azure.KEY, CHAT, STREAM, b"data: [DONE]"),
    "responses": Spoken(
        "/v1/responses",
        "/v1/responses",
        BEARER,
        {"model": "m", "input": FIVE},
        STREAM,
        b"event: response.completed",
    ),
}
every_dialect = pytest.mark.parametrize("name", DIALECTS)

# What would take too long, or never end, with its defaults.
SHORTENED = {
    "delay": "delay=1ms",
    "slow-headers": "slow-headers=0ms",
    "hang": "rst",
    "silence": "rst after=1",
    "drip": "drip=bytes every=0ms",
    "long-line": "long-line=100000",
    "giant-event": "giant-event=100000",
    "gzip": "gzip=plain",
    "headers": "headers=50",
}


@every_dialect
async def test_every_fault_bends_every_dialect(simulator: Simulator, name: str) -> None:
    spoken = DIALECTS[name]
    for stream in (False, True):
        plain = await spoken.call(simulator, "", stream=stream)
        for fault in FAULTS:
            if fault in ("hang", "silence"):
                continue
            written = SHORTENED.get(fault, fault)
            reply = await spoken.call(simulator, f"fault={written}", stream=stream)
            entry = simulator.ledger.entries[-1]
            assert entry.fault == written
            assert entry.prompt_tokens <= simulator.ledger.entries[0].prompt_tokens
            assert entry.completion_tokens <= 5
            assert plain.status == 200
            assert reply.wire or fault == "rst"
    assert {entry.dialect for entry in simulator.ledger.entries} == {
        {"google-array": "google", "responses": "openai"}.get(name, name)
    }


@every_dialect
async def test_a_status_is_told_in_the_dialects_words(simulator: Simulator, name: str) -> None:
    replies = [await DIALECTS[name].call(simulator, f"fault=status={status}", stream=False) for status in (429, 500)]

    assert [reply.status for reply in replies] == [429, 500]
    errors = [json.loads(reply.body)["error"] for reply in replies]
    expected = {
        "anthropic": ("type", ["rate_limit_error", "api_error"]),
        "google": ("status", ["RESOURCE_EXHAUSTED", "INTERNAL"]),
        "google-array": ("code", [429, 500]),
        "azure": ("code", ["429", None]),
        "responses": ("type", ["rate_limit_error", "server_error"]),
    }
    member, values = expected[name]
    assert [error[member] for error in errors] == values


@every_dialect
async def test_a_stream_can_end_without_its_end_mark(simulator: Simulator, name: str) -> None:
    spoken = DIALECTS[name]
    whole = await spoken.call(simulator, "", stream=True)
    reply = await spoken.call(simulator, "fault=no-done", stream=True)

    assert spoken.end in whole.unchunked()
    assert spoken.end not in reply.unchunked()
    assert reply.is_whole
    assert whole.unchunked().startswith(reply.unchunked()[:-1])
    assert simulator.ledger.entries[-1].events_sent == simulator.ledger.entries[0].events_sent - 1


@every_dialect
async def test_an_error_within_a_stream_is_the_dialects_own(simulator: Simulator, name: str) -> None:
    reply = await DIALECTS[name].call(simulator, "fault=stream-error after=3", stream=True)
    wire = reply.unchunked()

    if name == "google-array":
        found = json.loads(wire)
        assert (len(found), found[-1]["error"]["status"]) == (4, "UNAVAILABLE")
        return
    found = sse_events(wire)
    assert len(found) == 4
    kind, told = found[-1]
    if name == "anthropic":
        assert (kind, told["type"], told["error"]["type"]) == ("error", "error", "overloaded_error")
        assert told["request_id"] == reply.header("request-id")
    elif name == "responses":
        assert (kind, told["type"], told["sequence_number"]) == ("error", "error", 3)
    else:
        assert (kind, told["error"]["code"]) == (None, 503 if name == "google" else None)


@every_dialect
async def test_a_plain_call_gets_a_500_instead(simulator: Simulator, name: str) -> None:
    assert (await DIALECTS[name].call(simulator, "fault=stream-error", stream=False)).status == 500


@every_dialect
async def test_the_whole_key_can_be_echoed(simulator: Simulator, name: str) -> None:
    reply = await DIALECTS[name].call(simulator, "fault=echo-key", stream=False)

    assert reply.status == 401
    assert b"wxyz" in reply.body


@every_dialect
async def test_a_stream_that_is_cut_is_billed_for_what_was_sent(simulator: Simulator, name: str) -> None:
    before_the_text = {"anthropic": 3, "google": 0, "google-array": 0, "azure": 2, "responses": 4}[name]
    reply = await DIALECTS[name].call(simulator, f"fault=rst after={before_the_text + 2}", stream=True)

    assert reply.was_reset
    entry = simulator.ledger.only_entry()
    assert (entry.completion_tokens, entry.completed) == (2, False)
    assert entry.prompt_tokens > 0


@every_dialect
@pytest.mark.parametrize("stated", [3, 50])
async def test_stated_usage_is_what_a_whole_answer_is_billed(simulator: Simulator, name: str, stated: int) -> None:
    for stream in (False, True):
        await DIALECTS[name].call(simulator, f"usage=prompt=20 completion={stated}", stream=stream)

    billed = [(entry.prompt_tokens, entry.completion_tokens) for entry in simulator.ledger.entries]
    assert billed == [(20, stated)] * 2


@every_dialect
@pytest.mark.parametrize(
    "fault", ["invalid-utf8", "not-json", "bom", "wrong-index", "wrong-id after=0", "finish-twice"]
)
async def test_bodies_are_bent_in_every_dialect(simulator: Simulator, name: str, fault: str) -> None:
    spoken = DIALECTS[name]
    straight = await spoken.call(simulator, "", stream=True)
    bent = await spoken.call(simulator, f"fault={fault}", stream=True)

    # Responses and arrays tell no id in some events, but every stream tells one somewhere.
    assert bent.unchunked() != straight.unchunked()
    assert bent.is_whole


# --- usage


def output_tokens(name: str, data: Any) -> object:
    """The output tokens an event tells; None when it tells no usage, and `null` when that is what it tells."""
    if name == "anthropic":
        if data["type"] != "message_delta":
            return None
        usage, member = data.get("usage", ...), "output_tokens"
    elif name == "responses":
        if data["type"] != "response.completed":
            return None
        usage, member = data["response"].get("usage", ...), "output_tokens"
    elif name == "azure":
        if data == "[DONE]" or data["choices"] or "prompt_filter_results" in data:
            return None
        usage, member = data.get("usage", ...), "completion_tokens"
    else:
        usage, member = data.get("usageMetadata", ...), "candidatesTokenCount"
    if usage is ...:
        return None
    number = None if usage is None else usage[member]
    return "nan" if isinstance(number, float) and math.isnan(number) else ("null" if usage is None else number)


# What the end of a stream tells in each shape; Google tells it in every chunk before as well.
USAGES: dict[str, list[object]] = {
    "missing": [],
    "null": ["null"],
    "duplicate": [5, 5],
    "decreasing": [5, 2],
    "growing": [5],
    "negative": [-7],
    "nan": ["nan"],
    "huge": [10**18],
    "string": ["5"],
    "float": [5.5],
    "wrong-total": [5],
    "cached-over-prompt": [5],
}


@every_dialect
@pytest.mark.parametrize("shape", SHAPES)
async def test_usage_is_misreported_and_the_ledger_is_not(simulator: Simulator, name: str, shape: str) -> None:
    spoken = DIALECTS[name]
    script = f"fault=usage={shape}"
    body = {**spoken.body, **spoken.stream}
    if name == "azure":
        body["stream_options"] = {"include_usage": True}
    reply = await post(simulator.port, spoken.stream_path, body, headers=spoken.headers, script=script)

    wire = reply.unchunked()
    found = json.loads(wire) if name == "google-array" else [data for _, data in sse_events(wire)]
    told = [one for data in found if (one := output_tokens(name, data)) is not None]
    expected = USAGES[shape]
    assert told[len(told) - len(expected) :] == expected
    if not name.startswith("google") and shape != "growing":
        assert told == expected
    if shape == "missing":
        assert told == []
    if name == "anthropic" and shape == "growing":
        assert told == [1, 2, 3, 4, 5, 5]
    entry = simulator.ledger.only_entry()
    assert (entry.completion_tokens, entry.completed) == (5, True)


@every_dialect
async def test_a_plain_body_repeats_the_key_to_tell_usage_twice(simulator: Simulator, name: str) -> None:
    reply = await DIALECTS[name].call(simulator, "fault=usage=decreasing", stream=False)
    member = b'"usageMetadata":' if name.startswith("google") else b'"usage":'

    assert reply.body.count(member) == 2
    assert json.loads(reply.body)
    assert simulator.ledger.only_entry().completion_tokens == 5


# --- extras


@every_dialect
async def test_extras_add_what_no_client_knows(simulator: Simulator, name: str) -> None:
    spoken = DIALECTS[name]
    whole = await spoken.call(simulator, "extra", stream=False)
    stream = (await spoken.call(simulator, "extra", stream=True)).unchunked()

    assert json.loads(whole.body)["x_simulator"]["big"] == 12345678901234567890
    assert b'"x_simulator": {"big": 12345678901234567890' in stream
    if name == "google-array":
        assert json.loads(stream)
        return
    assert b": simulator comment\n\n" in stream
    assert stream.count(b"event: custom\n") == 1


@every_dialect
@pytest.mark.parametrize("ends", ["crlf", "cr"])
async def test_line_ends_can_be_changed(simulator: Simulator, name: str, ends: str) -> None:
    stream = (await DIALECTS[name].call(simulator, f"extra={ends}", stream=True)).unchunked()

    if name != "google-array":
        assert (b"\r\n\r\n" if ends == "crlf" else b"}\r\r") in stream
        assert b"\r\r\n" not in stream
        assert (b"\n" in stream) == (ends == "crlf")


@every_dialect
async def test_a_directive_that_cannot_be_obeyed_is_answered_with_400(simulator: Simulator, name: str) -> None:
    reply = await DIALECTS[name].call(simulator, "fault=explode", stream=False)

    assert reply.status == 400
    assert "explode" in json.loads(reply.body)["error"]["message"]


@every_dialect
async def test_the_same_request_gets_the_same_answer(simulator: Simulator, name: str) -> None:
    for stream in (False, True):
        first, again = [await DIALECTS[name].call(simulator, "", stream=stream) for _ in range(2)]
        assert first.body == again.body
