"""Every fault does on the wire what its row in the table says."""

import asyncio
import json
import math
import re
import time
import zlib
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.simulator.test_streams import data_of
from tests.support.simulator import PATIENCE_S, RawReply, chat_body, chat_call, connected, request_bytes
from trueport.simulator import Simulator
from trueport.simulator.faults import FAULTS
from trueport.simulator.usage import SHAPES

FIVE = "[[tokens: 5]]"
# Text that holds two-, three- and four-byte code points.
MIXED = "[[say: naïve €5 🙂 done]]"


async def call(simulator: Simulator, fault: str, prompt: str = FIVE, **members: object) -> RawReply:
    return await chat_call(simulator.port, prompt, script=f"fault={fault}", **members)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_status(simulator: Simulator, status: int, stream: bool) -> None:
    reply = await call(simulator, f"status={status}", stream=stream)

    assert reply.status == status
    assert json.loads(reply.body)["error"]["message"]
    entry = simulator.ledger.only_entry()
    assert (entry.status, entry.total_tokens, entry.fault, entry.completed) == (status, 0, f"status={status}", True)


@pytest.mark.parametrize("value", ["2", "-5", "1000000000", "soon"])
async def test_retry_after_is_sent_as_given(simulator: Simulator, value: str) -> None:
    reply = await call(simulator, f"status=429 retry-after={value}")

    assert reply.header("retry-after") == value


async def test_retry_after_can_be_a_date(simulator: Simulator) -> None:
    reply = await call(simulator, "status=429 retry-after=date:100")

    ahead = parsedate_to_datetime(reply.header("retry-after") or "").timestamp() - time.time()
    assert 60 < ahead < 101


async def test_echo_key(simulator: Simulator) -> None:
    reply = await call(simulator, "echo-key")

    assert reply.status == 401
    assert b"sk-test-abcd" in reply.body


async def test_redirect(simulator: Simulator) -> None:
    reply = await call(simulator, "redirect=302 location=http://169.254.169.254/secret")

    assert (reply.status, reply.header("location")) == (302, "http://169.254.169.254/secret")


async def test_delay_comes_before_the_first_byte(simulator: Simulator) -> None:
    started = time.monotonic()
    reply = await call(simulator, "delay=60ms")

    assert time.monotonic() - started >= 0.06
    assert reply.status == 200


async def test_slow_headers_come_byte_by_byte(simulator: Simulator) -> None:
    request = request_bytes(chat_body(), headers={"x-simulator": "fault=slow-headers=1ms"})
    async with connected(simulator.port) as (reader, writer):
        writer.write(request)
        first = await asyncio.wait_for(reader.read(65536), PATIENCE_S)
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)

    assert len(first) < 50
    assert (first + rest).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_hang_never_answers(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("[[fault: hang]]")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)

    await simulator.settled()
    entry = simulator.ledger.only_entry()
    assert (entry.client_gone, entry.bytes_sent, entry.total_tokens) == (True, 0, 0)


async def test_rst_before_the_headers(simulator: Simulator) -> None:
    reply = await call(simulator, "rst")

    assert (reply.wire, reply.was_reset) == (b"", True)
    entry = simulator.ledger.only_entry()
    assert (entry.completed, entry.client_gone, entry.total_tokens) == (False, False, 0)


async def test_rst_within_a_stream(simulator: Simulator) -> None:
    reply = await call(simulator, "rst after=3", stream=True)

    assert reply.was_reset
    assert len(data_of(reply)) == 3
    # The role, then two of five tokens.
    entry = simulator.ledger.only_entry()
    assert (entry.completion_tokens, entry.events_sent, entry.completed) == (2, 3, False)
    assert entry.prompt_tokens > 0


async def test_rst_within_a_plain_body(simulator: Simulator) -> None:
    reply = await call(simulator, "rst after=1")

    assert reply.was_reset
    assert 0 < len(reply.body) < int(reply.header("content-length") or 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_eof_closes_cleanly_without_a_length(simulator: Simulator, stream: bool) -> None:
    reply = await call(simulator, "eof after=1", stream=stream)

    assert not reply.was_reset
    assert reply.header("content-length") is None
    assert reply.header("transfer-encoding") is None
    assert reply.body.count(b"data: ") == int(stream)
    assert b"[DONE]" not in reply.body
    assert not simulator.ledger.only_entry().completed


async def test_truncate_within_a_chunk(simulator: Simulator) -> None:
    reply = await call(simulator, "truncate=chunk after=2", stream=True)

    assert len(data_of(reply)) == 2
    assert not reply.was_reset
    assert not reply.is_whole
    assert not reply.body.endswith(b"\r\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_truncate_before_the_announced_length(simulator: Simulator, stream: bool) -> None:
    reply = await call(simulator, "truncate=length after=1", stream=stream)

    assert 0 < len(reply.body) < int(reply.header("content-length") or 0)
    assert not reply.was_reset


async def test_silence_after_some_events(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body(f"{FIVE} [[fault: silence after=3]]", stream=True)))
        for _ in range(3):
            await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)

    await simulator.settled()
    entry = simulator.ledger.only_entry()
    assert (entry.events_sent, entry.completion_tokens, entry.client_gone) == (3, 2, True)


async def test_drip_sends_the_body_byte_by_byte(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("Hello"), headers={"x-simulator": "fault=drip=bytes every=5ms"}))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        first = await asyncio.wait_for(reader.read(65536), PATIENCE_S)

    assert len(first) < 20


async def test_drip_sends_comments_without_end(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("[[fault: drip=comments every=1ms after=2]]", stream=True)))
        received = b""
        for _ in range(30):
            received += await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)

    assert received.count(b"data: ") == 2
    assert received.count(b": still working\n\n") == 28


@pytest.mark.parametrize("stream", [False, True])
async def test_split_cuts_through_code_points_and_changes_nothing(simulator: Simulator, stream: bool) -> None:
    whole = await chat_call(simulator.port, MIXED, stream=stream)
    split = await call(simulator, "split=1", MIXED, stream=stream)

    assert split.body == whole.body
    assert "🙂".encode() in whole.body


async def test_split_really_makes_many_writes(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("Hello"), headers={"x-simulator": "fault=split=1; pace=0ms"}))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        sizes: list[int] = []
        while sum(sizes) < 300:
            sizes.append(len(await asyncio.wait_for(reader.read(65536), PATIENCE_S)))

    assert len(sizes) > 20


async def test_no_done(simulator: Simulator) -> None:
    whole = await call(simulator, "no-done", stream=True)
    short = await call(simulator, "no-done after=2", stream=True)

    assert whole.is_whole
    assert b"[DONE]" not in whole.body
    assert len(data_of(whole)) == 7
    assert short.is_whole
    assert len(data_of(short)) == 2
    assert [entry.completion_tokens for entry in simulator.ledger.entries] == [5, 1]


async def test_stream_error(simulator: Simulator) -> None:
    stream = await call(simulator, "stream-error after=2", stream=True)
    plain = await call(simulator, "stream-error")

    assert [("error" in data) for data in data_of(stream)] == [False, False, True]
    assert plain.status == 500


@pytest.mark.parametrize("stream", [False, True])
async def test_not_json(simulator: Simulator, stream: bool) -> None:
    reply = await call(simulator, "not-json", stream=stream)

    with pytest.raises(json.JSONDecodeError):
        _ = data_of(reply) if stream else json.loads(reply.body)


async def test_not_http(simulator: Simulator) -> None:
    reply = await call(simulator, "not-http")

    assert reply.wire
    assert not reply.wire.startswith(b"HTTP")


async def test_long_line(simulator: Simulator) -> None:
    stream = (await call(simulator, "long-line", stream=True)).unchunked()
    plain = await call(simulator, "long-line=100000")

    assert max(map(len, stream.split(b"\n"))) > 5_000_000
    assert len(json.loads(plain.body)["x_simulator_padding"]) == 100_000


async def test_giant_event(simulator: Simulator) -> None:
    stream = (await call(simulator, "giant-event", stream=True)).unchunked()

    events = stream.split(b"\n\n")
    assert max(map(len, events)) > 5_000_000
    assert max(map(len, stream.split(b"\n"))) < 2_000


async def test_gzip_although_nobody_asked(simulator: Simulator) -> None:
    plain = await chat_call(simulator.port, FIVE)
    reply = await call(simulator, "gzip")

    assert reply.header("content-encoding") == "gzip"
    unpacked = json.loads(zlib.decompress(reply.body, wbits=31))
    assert unpacked["choices"] == json.loads(plain.body)["choices"]


async def test_gzip_bomb(simulator: Simulator) -> None:
    reply = await call(simulator, "gzip=bomb size=20000000")

    unpack = zlib.decompressobj(wbits=31)
    size = len(unpack.decompress(reply.body))
    assert size >= 20_000_000
    assert unpack.eof  # the checksum and length at its end are right
    assert len(reply.body) < size / 500


@pytest.mark.parametrize("stream", [False, True])
async def test_invalid_utf8(simulator: Simulator, stream: bool) -> None:
    reply = await call(simulator, "invalid-utf8", stream=stream)

    with pytest.raises(UnicodeDecodeError):
        reply.body.decode()


async def test_bom(simulator: Simulator) -> None:
    plain = await call(simulator, "bom")
    stream = await call(simulator, "bom", stream=True)

    assert plain.body.startswith(b"\xef\xbb\xbf{")
    assert stream.unchunked().startswith(b"\xef\xbb\xbfdata: ")
    assert stream.unchunked().count(b"\xef\xbb\xbf") == 1


USAGES = {
    "missing": [],
    "null": ["null"],
    "duplicate": [5, 5],
    "decreasing": [5, 2],
    "growing": [0, 1, 2, 3, 4, 5, 5, 5],
    "negative": [-7],
    "nan": ["nan"],
    "huge": [10**18],
    "string": ["5"],
    "float": [5.5],
    "wrong-total": [5],
    "cached-over-prompt": [5],
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_usage_is_misreported_and_the_ledger_is_not(simulator: Simulator, shape: str) -> None:
    reply = await call(simulator, f"usage={shape}", stream=True, stream_options={"include_usage": True})

    told: list[object] = []
    for data in data_of(reply):
        usage = data["usage"]
        if usage is not None:
            number = usage["completion_tokens"]
            told.append("nan" if isinstance(number, float) and math.isnan(number) else number)
        elif not data["choices"]:
            told.append("null")
    assert told == USAGES[shape]
    assert simulator.ledger.only_entry().completion_tokens == 5
    if shape == "wrong-total":
        assert data_of(reply)[-1]["usage"]["total_tokens"] == 1
    if shape == "cached-over-prompt":
        usage = data_of(reply)[-1]["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"]


async def test_usage_of_a_plain_body_is_misreported_with_a_repeated_key(simulator: Simulator) -> None:
    decreasing = await call(simulator, "usage=decreasing")
    missing = await call(simulator, "usage=missing")

    pairs = json.loads(decreasing.body, object_pairs_hook=list)
    assert [dict(value)["completion_tokens"] for key, value in pairs if key == "usage"] == [5, 2]
    assert "usage" not in json.loads(missing.body)


async def test_finish_twice(simulator: Simulator) -> None:
    reply = await call(simulator, "finish-twice", stream=True)

    finishes = [data["choices"][0]["finish_reason"] for data in data_of(reply)]
    assert finishes[-2:] == ["stop", "stop"]
    assert simulator.ledger.only_entry().completion_tokens == 5


async def test_wrong_index_and_wrong_id(simulator: Simulator) -> None:
    indexed = data_of(await call(simulator, "wrong-index after=2", stream=True))
    named = data_of(await call(simulator, "wrong-id after=2", stream=True))

    assert [data["choices"][0]["index"] for data in indexed] == [0, 0, 7, 7, 7, 7, 7]
    assert [data["id"].partition("-")[0] for data in named] == ["chatcmpl"] * 2 + ["other"] * 5


async def test_many_and_big_headers_and_cookies(simulator: Simulator) -> None:
    many = await call(simulator, "headers")
    big = await call(simulator, "big-header")
    cookies = await call(simulator, "set-cookie")
    hops = await call(simulator, "hop-by-hop")
    typed = await call(simulator, "content-type=text/plain")

    assert many.head.count(b"\r\n") > 20_000
    assert max(map(len, big.head.split(b"\r\n"))) > 70_000
    assert cookies.head.count(b"\r\nset-cookie: ") == 2
    assert b"\r\nconnection: x-hop\r\n" in hops.head
    assert typed.header("content-type") == "text/plain"


async def test_faults_add_up(simulator: Simulator) -> None:
    reply = await chat_call(simulator.port, "[[fault: status=503]] [[fault: set-cookie]]", script="fault=delay=10ms")

    assert reply.status == 503
    assert reply.header("set-cookie")
    assert simulator.ledger.only_entry().fault == "status=503; set-cookie; delay=10ms"


async def test_a_fault_can_strike_a_number_of_times(simulator: Simulator) -> None:
    prompt = "Try again. [[fault: status=500 times=2]]"

    statuses = [(await chat_call(simulator.port, prompt, model=f"sim-{n}")).status for n in range(4)]
    other = await chat_call(simulator.port, f"{prompt} please")

    assert statuses == [500, 500, 200, 200]
    assert other.status == 500


async def test_a_fault_later_than_the_end_never_strikes(simulator: Simulator) -> None:
    for fault in ("rst", "eof", "truncate=chunk", "silence", "drip=comments"):
        reply = await call(simulator, f"{fault} after=100", stream=True)
        assert b"[DONE]" in reply.body, fault
        assert not reply.was_reset, fault
    assert simulator.ledger.totals.completed == 5


def test_every_fault_is_tried_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")

    untried = [name for name in FAULTS if not re.search(rf'"{name}\b|fault[=:] ?{name}\b', text)]
    assert untried == []
