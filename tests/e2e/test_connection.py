"""What a connection is held to, whatever is asked over it: heads, framing, order, old clients, early answers."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.conftest import Gateway
from tests.support.simulator import PATIENCE_S, connected

CHAT = b'{"model":"sim-model","messages":[{"role":"user","content":"x"}]}'
STREAM = b'{"model":"sim-model","stream":true,"messages":[{"role":"user","content":"x"}]}'


@pytest.fixture(autouse=True)
def healthy_afterwards(gateway: Gateway) -> Any:
    yield
    assert gateway.is_ready()


def call(gateway: Gateway, body: bytes, *lines: bytes, version: bytes = b"HTTP/1.1", length: bool = True) -> bytes:
    head = [
        b"POST /v1/chat/completions " + version,
        b"host: gateway",
        b"content-type: application/json",
        b"authorization: Bearer " + gateway.key.encode(),
        *([b"content-length: %d" % len(body)] if length else []),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n%b\r\n"
FRAMED_TWICE = {
    "the same length twice": (b"content-length: %d" % len(CHAT),),
    "length and coding": (b"transfer-encoding: chunked",),
    "a coding that is not chunked": (b"transfer-encoding: gzip, chunked",),
}


@pytest.mark.parametrize("case", FRAMED_TWICE)
async def test_a_body_framed_in_two_ways_is_refused(gateway: Gateway, case: str) -> None:
    raw = await gateway.raw(call(gateway, CHAT, *FRAMED_TWICE[case]))

    assert raw.status == 400
    assert raw.wire.count(b"HTTP/1.1 ") == 1


async def test_a_coding_in_http_1_0_is_refused(gateway: Gateway) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT)

    raw = await gateway.raw(call(gateway, chunks, b"transfer-encoding: chunked", version=b"HTTP/1.0", length=False))

    assert raw.status == 400


@pytest.mark.parametrize(
    "line", [b"x-large: " + b"y" * 70_000, b"x-large: " + b"y" * 2_000_000, b"x: y\r\n" * 20_000 + b"x: y"],
    ids=["one", "endless", "many"],
)  # fmt: skip
async def test_a_head_that_is_too_large_is_refused(gateway: Gateway, line: bytes) -> None:
    raw = await gateway.raw(call(gateway, CHAT, b"connection: close", line))

    # An answer on a connection that is closed with bytes unread may be lost on its way.
    assert raw.was_reset or raw.status == 431
    assert b"chat.completion" not in raw.wire


@pytest.mark.slow
async def test_a_head_that_does_not_end_is_given_up(gateway: Gateway) -> None:
    async def drip(begun: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
            writer.write(begun)
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(b"x" if begun else b"")
                await asyncio.wait([reading], timeout=1)

    await asyncio.gather(drip(b""), drip(b"GET /healthz HTTP/1.1\r\nx-a: "))


async def test_requests_sent_ahead_are_answered_in_their_order(gateway: Gateway) -> None:
    raw = await gateway.raw(call(gateway, CHAT) + call(gateway, STREAM) + HEALTH % b"connection: close\r\n")

    assert raw.wire.count(b"HTTP/1.1 200 OK\r\n") == 3
    plain, stream, last = raw.wire.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert b'"chat.completion"' in plain
    assert b"data: [DONE]" in stream
    assert b"data: " not in last


async def test_a_request_sent_while_another_is_answered_waits_for_its_turn(gateway: Gateway) -> None:
    async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
        writer.write(call(gateway, STREAM))
        received = await reader.readuntil(b"data: ")
        writer.write(HEALTH % b"connection: close\r\n")
        received += await reader.read()

    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.index(b"data: [DONE]") < received.rindex(b"HTTP/1.1 200 OK")


async def test_a_stream_for_http_1_0_ends_with_the_connection_and_has_no_chunks(gateway: Gateway) -> None:
    raw = await gateway.raw(call(gateway, STREAM, version=b"HTTP/1.0"))

    assert raw.status == 200
    assert b"transfer-encoding" not in raw.head
    assert raw.wire.partition(b"\r\n\r\n")[2].startswith(b"data: ")
    assert raw.wire.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_asks_first_is_told_to_go_on(gateway: Gateway) -> None:
    request = call(gateway, CHAT, b"expect: 100-continue", b"connection: close")
    head, _, body = request.partition(b"\r\n\r\n")

    async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_an_offer_of_another_protocol_is_answered_in_this_one(gateway: Gateway, protocol: bytes) -> None:
    raw = await gateway.raw(call(gateway, CHAT, b"connection: upgrade", b"upgrade: " + protocol) + b"PRI * HTTP/2.0")

    assert raw.status == 200
    assert json.loads(raw.wire[raw.wire.index(b"\r\n\r\n{") + 4 :])["object"] == "chat.completion"


async def test_http_2_is_not_spoken(gateway: Gateway) -> None:
    raw = await gateway.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    assert not raw.wire or raw.status == 400


async def test_an_answer_given_before_the_body_came_ends_the_connection(gateway: Gateway) -> None:
    large = call(gateway, b"", b"content-length: 99999999", length=False)

    raw = await gateway.raw(large)

    assert raw.status == 413
    assert raw.header("connection") == "close"


async def test_a_trailer_is_no_header(gateway: Gateway) -> None:
    body = b"%x\r\n%b\r\n0\r\nx-request-id: from-a-trailer\r\n\r\n" % (len(CHAT), CHAT)

    raw = await gateway.raw(call(gateway, body, b"transfer-encoding: chunked", b"connection: close", length=False))

    assert raw.status == 200
    assert b"from-a-trailer" not in raw.wire


async def test_the_server_does_not_say_what_it_is(gateway: Gateway) -> None:
    raw = await gateway.raw(HEALTH % b"connection: close\r\n")

    assert raw.status == 200
    assert raw.header("server") is None
