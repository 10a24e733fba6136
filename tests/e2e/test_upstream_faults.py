"""Every way in which the simulated provider can misbehave: what the client gets, and what is on record about it."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import OWN_PORT, Gateway, Reply
from tests.support.simulator import PATIENCE_S, RawReply, connected

DONE = b"data: [DONE]"


@dataclass(frozen=True)
class Expected:
    """What becomes of a call. `code` None is an answer like any other, `status` 0 whatever the provider's is."""

    end: str = "completed"
    status: int = 200
    code: str | None = None
    usage: str = "provider"
    doubtful: bool = False


FINE = Expected()
GUESSED = Expected(usage="estimated")
DOUBTED = Expected(usage="estimated", doubtful=True)


def broken(code: str, status: int = 502, usage: str = "estimated") -> Expected:
    return Expected("upstream_failed", status, code, usage)


def error(status: int) -> Expected:
    return Expected(status=status, usage="none")


# For each fault what becomes of a plain call and of a streamed one.
FAULTS: dict[str, tuple[Expected, Expected]] = {
    "status=400": (error(400), error(400)),
    "status=401": (broken("upstream_auth", usage="none"), broken("upstream_auth", usage="none")),
    "status=403": (broken("upstream_auth", usage="none"), broken("upstream_auth", usage="none")),
    "status=404": (error(404), error(404)),
    "status=429": (error(429), error(429)),
    "status=429 retry-after=2": (error(429), error(429)),
    "status=429 retry-after=date": (error(429), error(429)),
    "status=429 retry-after=-1": (error(429), error(429)),
    "status=429 retry-after=1000000000": (error(429), error(429)),
    "status=429 retry-after=soon": (error(429), error(429)),
    "status=500": (error(500), error(500)),
    "status=503": (error(503), error(503)),
    "status=529": (error(529), error(529)),
    "echo-key": (broken("upstream_auth", usage="none"), broken("upstream_auth", usage="none")),
    "redirect=307": (broken("upstream_redirect"), broken("upstream_redirect")),
    "redirect=302 location=/v1/models": (broken("upstream_redirect"), broken("upstream_redirect")),
    "delay=100ms": (FINE, FINE),
    "delay=5s": (broken("upstream_timeout", 504), broken("upstream_timeout", 504)),
    "slow-headers=0ms": (FINE, FINE),
    "slow-headers=50ms": (broken("upstream_timeout", 504), broken("upstream_timeout", 504)),
    "hang": (broken("upstream_timeout", 504), broken("upstream_timeout", 504)),
    "rst": (broken("upstream_connect"), broken("upstream_connect")),
    "rst after=1": (broken("upstream_truncated"), broken("upstream_truncated")),
    "rst after=3": (FINE, broken("upstream_truncated")),
    "eof": (GUESSED, broken("upstream_truncated")),
    "eof after=3": (FINE, broken("upstream_truncated")),
    "truncate=chunk": (broken("upstream_truncated"), broken("upstream_truncated")),
    "truncate=length": (broken("upstream_truncated"), broken("upstream_truncated")),
    "silence": (broken("upstream_timeout", 504), broken("upstream_stalled")),
    "silence after=4": (FINE, broken("upstream_stalled")),
    "drip=bytes every=1ms after=8": (FINE, FINE),
    "drip=bytes every=100ms after=1": (broken("upstream_timeout", 504), broken("upstream_stalled")),
    "drip=comments after=2": (FINE, broken("upstream_stalled")),
    "split=1": (FINE, FINE),
    "no-done": (FINE, broken("upstream_truncated", usage="provider")),
    "no-done after=3": (FINE, broken("upstream_truncated")),
    "stream-error": (error(500), broken("upstream_error_event")),
    "stream-error after=3": (error(500), broken("upstream_error_event")),
    "not-json": (GUESSED, FINE),
    "not-http": (broken("upstream_invalid"), broken("upstream_invalid")),
    "long-line=5000000": (FINE, broken("upstream_invalid")),
    "giant-event=5000000": (FINE, broken("upstream_invalid")),
    "gzip=plain": (broken("upstream_invalid"), broken("upstream_invalid")),
    "gzip=bomb": (broken("upstream_invalid"), broken("upstream_invalid")),
    "invalid-utf8": (FINE, broken("upstream_invalid")),
    "invalid-utf8 after=3": (FINE, broken("upstream_invalid")),
    "bom": (GUESSED, FINE),
    "usage=missing": (GUESSED, GUESSED),
    "usage=null": (GUESSED, GUESSED),
    "usage=duplicate": (FINE, FINE),
    "usage=decreasing": (FINE, FINE),
    "usage=growing": (FINE, FINE),
    "usage=negative": (DOUBTED, DOUBTED),
    "usage=nan": (GUESSED, GUESSED),
    "usage=huge": (DOUBTED, DOUBTED),
    "usage=string": (DOUBTED, DOUBTED),
    "usage=float": (DOUBTED, DOUBTED),
    "usage=wrong-total": (FINE, FINE),
    "usage=cached-over-prompt": (Expected(doubtful=True), Expected(doubtful=True)),
    "finish-twice": (FINE, FINE),
    "wrong-index": (FINE, FINE),
    "wrong-id": (FINE, FINE),
    "headers=20000": (broken("upstream_invalid"), broken("upstream_invalid")),
    "headers=100": (FINE, FINE),
    "big-header=70000": (broken("upstream_invalid"), broken("upstream_invalid")),
    "set-cookie": (FINE, FINE),
    "hop-by-hop": (FINE, FINE),
    "content-type=text/html": (FINE, GUESSED),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_plain_call(gateway: Gateway, fault: str) -> None:
    expected = FAULTS[fault][0]

    reply = await gateway.chat(f"Hi [[fault: {fault}]]", model="quick-model")

    assert reply.status == expected.status
    if expected.end == "upstream_failed":
        assert (reply.error["code"], reply.error["type"]) == (expected.code, "server_error")
    assert_on_record(gateway, reply, expected)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_streamed_call(gateway: Gateway, fault: str) -> None:
    expected = FAULTS[fault][1]

    reply = await gateway.chat(f"Hi [[tokens: 12]] [[fault: {fault}]]", model="quick-model", stream=True)

    began = reply.headers["content-type"].startswith("text/event-stream")
    if not began:
        assert reply.status == expected.status
        assert expected.code is None or reply.error["code"] == expected.code
    elif expected.end == "completed":
        assert reply.status == 200
        assert reply.body.count(DONE) == 1
        assert b"event: error" not in reply.body
    else:
        assert reply.status == 200
        assert DONE not in reply.body
        assert reply.body.count(b"event: error") == 1 or expected.code == "upstream_error_event"
        told = json.loads(reply.events[-1].partition(b"data: ")[2])["error"]
        if expected.code != "upstream_error_event":
            assert (told["code"], told["interaction_id"]) == (expected.code, reply.interaction)
    assert_on_record(gateway, reply, expected)


def assert_on_record(gateway: Gateway, reply: Reply, expected: Expected) -> None:
    """One outcome, true to what happened; and nothing of the provider's account has come out."""
    entry = gateway.record(reply.interaction)
    assert (entry["end"], entry["status"], entry["error"]) == (expected.end, reply.status, expected.code)
    assert (entry["usage_source"], entry["usage_doubtful"]) == (expected.usage, expected.doubtful)
    assert len(entry["attempts"]) == 1
    if expected.usage == "none":
        assert (entry["total_tokens"], entry["cost_nano_usd"]) == (0, None)
    else:
        assert 0 < entry["total_tokens"] < 10_000_000
        assert entry["cost_nano_usd"] > 0
    assert "sk-simulated-provider-key" not in str(reply)
    assert gateway.place.simulator.url not in reply.body.decode("utf-8", "replace")
    assert not {"set-cookie", "keep-alive", "upgrade", "location", "x-simulator-1"} & reply.headers.keys()


async def test_each_call_has_exactly_one_outcome(gateway: Gateway) -> None:
    replies = [
        await gateway.chat(f"Hi [[fault: {fault}]]", model="quick-model", stream=stream)
        for fault in ("rst", "rst after=1", "status=500", "not-http", "stream-error", "bom")
        for stream in (False, True)
    ]

    for reply in replies:
        gateway.record(reply.interaction)
    records = await asyncio.to_thread(gateway.place.documents, "audit_records")
    kept = [record["_id"] for record in records]
    for reply in replies:
        own = sorted(name for name in kept if name.startswith(reply.interaction))
        assert own == [f"{reply.interaction}#intent", f"{reply.interaction}#outcome"]


@pytest.mark.parametrize("is_cut", [False, True], ids=["silence", "cut"])
async def test_what_happens_to_a_connection_after_the_end_mark_changes_nothing(
    gateway: Gateway, *, is_cut: bool
) -> None:
    text = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    begun = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.write(begun + b"%x\r\n%b\r\n" % (len(text), text))
        await writer.drain()
        if is_cut:
            await asyncio.sleep(0.1)  # so that the data is read before the end is seen
        else:
            with suppress(ConnectionError):
                await reader.read()  # silence, until the gateway hangs up
        writer.transport.abort()

    async with await asyncio.start_server(provider, "127.0.0.1", OWN_PORT):
        reply = await gateway.chat(model="own-model", stream=True)

    assert reply.events == [DONE]
    entry = await asyncio.to_thread(gateway.record, reply.interaction)
    assert (entry["end"], entry["error"], entry["usage_source"]) == ("completed", None, "provider")
    assert (entry["input_tokens"], entry["output_tokens"]) == (3, 2)


# --- a client that leaves


@pytest.mark.parametrize("events", [0, 1, 5])
async def test_a_client_that_leaves_is_billed_for_what_came_and_the_provider_is_let_go(
    gateway: Gateway, events: int
) -> None:
    body = (
        b'{"model":"sim-model","stream":true,"messages":[{"role":"user","content":"[[tokens: 900]] [[pace: 20ms]]"}]}'
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {gateway.key}\r\ncontent-length: {len(body)}"
    received = b""
    async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
        writer.write(head.encode() + b"\r\n\r\n" + body)
        while received.count(b"data: ") < events or b"\r\n\r\n" not in received:
            received += await reader.read(4_096)

    interaction = RawReply(received, was_reset=False).header("x-trueport-interaction") or ""
    entry = await asyncio.to_thread(gateway.record, interaction)
    assert (entry["end"], entry["error"], entry["usage_source"]) == ("client_closed", "client_closed", "estimated")
    assert entry["input_tokens"] > 0
    assert entry["output_tokens"] < 800
    upstream = await asyncio.to_thread(gateway.billed_upstream, interaction)
    assert (upstream["client_gone"], upstream["completed"]) == (True, False)


# --- no provider at all


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_cannot_be_reached(gateway: Gateway, *, stream: bool) -> None:
    reply = await gateway.chat(model="closed-model", stream=stream)

    assert (reply.status, reply.error["code"]) == (502, "upstream_connect")
    entry = gateway.record(reply.interaction)
    # No byte of the request left the house, so there is nothing to pay for.
    assert (entry["end"], entry["usage_source"], entry["total_tokens"]) == ("upstream_failed", "none", 0)


async def test_a_provider_that_refuses_the_tenants_credential(gateway: Gateway) -> None:
    reply = await gateway.chat(model="refused-model")

    assert (reply.status, reply.error["code"]) == (502, "upstream_auth")
    assert reply.headers["x-should-retry"] == "false"
    assert "sk-invalid" not in str(reply)


# --- faults and several targets


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_after_the_first_byte_is_not_tried_again(gateway: Gateway, *, stream: bool) -> None:
    reply = await gateway.chat("Hi [[fault: rst after=1]]", model="second-model", stream=stream)

    assert reply.headers["x-trueport-attempts"] == "2"  # the first target cannot be reached, the second breaks off
    assert [attempt["status"] for attempt in gateway.record(reply.interaction)["attempts"]] == [None, 200]


# --- numbers


@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_numbers_are_metered_each_in_its_place(gateway: Gateway, *, stream: bool) -> None:
    prompt = "Hi [[usage: prompt=1000 completion=500 cached=400 reasoning=200]]"

    entry = gateway.record((await gateway.chat(prompt, stream=stream)).interaction)

    assert (entry["input_tokens"], entry["output_tokens"]) == (1_000, 500)
    assert (entry["cached_tokens"], entry["reasoning_tokens"]) == (400, 200)
    # 600 at 1.00, 400 at 0.25, 500 at 4.00 dollars a million.
    assert entry["cost_nano_usd"] == 600 * 1_000 + 400 * 250 + 500 * 4_000


async def test_a_stream_that_breaks_off_is_billed_for_what_came(gateway: Gateway) -> None:
    short = await gateway.chat("Hi [[tokens: 50]] [[fault: rst after=5]]", stream=True)
    long = await gateway.chat("Hi [[tokens: 50]] [[fault: rst after=40]]", stream=True)

    few, many = (gateway.record(reply.interaction)["output_tokens"] for reply in (short, long))
    assert 0 < few <= 5 < many <= 40
