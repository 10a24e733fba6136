"""The small HTTP server underneath: what it reads, and what it refuses."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simulator import PATIENCE_S, chat_body, connected, raw_call, request_bytes
from trueport.simulator import Simulator
from trueport.simulator.http import LARGEST_BODY, LARGEST_HEAD, BadRequest, RequestReader

CHUNKED = (
    b"POST /v1/files?a=b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Name:  value \r\n\r\n"
    b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n"
)


@given(st.lists(st.integers(0, len(CHUNKED) * 2), max_size=8))
def test_requests_are_read_however_their_bytes_are_cut(cuts: list[int]) -> None:
    data = CHUNKED + request_bytes(b"second")
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader, requests = RequestReader(), []

    for start, end in pairwise(bounds):
        reader.feed(data[start:end])
        while (request := reader.next_request()) is not None:
            requests.append(request)

    assert [(one.method, one.path, one.query, one.body) for one in requests] == [
        ("POST", "/v1/files", "a=b", b"hello world"),
        ("POST", "/v1/chat/completions", "", b"second"),
    ]
    assert requests[0].headers["x-name"] == "value"
    assert reader.waiting == 0


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (LARGEST_BODY + 1),
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 2000,
        b"x" * (LARGEST_HEAD + 1),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    reader = RequestReader()
    reader.feed(data)

    with pytest.raises(BadRequest):
        reader.next_request()


async def test_a_connection_that_brings_no_request_gets_400_and_is_closed(simulator: Simulator) -> None:
    reply = await raw_call(simulator.port, b"nonsense\r\n\r\n")

    assert reply.status == 400
    assert simulator.ledger.entries == []


async def test_a_connection_serves_one_request_after_another(simulator: Simulator) -> None:
    last = request_bytes(chat_body("[[say: last]]"), headers={"connection": "close"})
    reply = await raw_call(simulator.port, request_bytes(chat_body()) * 300 + last)

    assert reply.wire.count(b"HTTP/1.1 200 OK\r\n") == 301
    assert reply.wire.rpartition(b"HTTP/1.1")[2].count(b"last") == 1
    assert simulator.ledger.totals.completed == 301


async def test_a_client_that_waits_to_send_its_body_is_told_to_go_on(simulator: Simulator) -> None:
    head, _, body = request_bytes(chat_body(), headers={"expect": "100-continue"}).partition(b"\r\n\r\n")
    async with connected(simulator.port) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        writer.write(body)
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answered.startswith(b"HTTP/1.1 200")


async def test_a_client_that_floods_a_connection_under_an_answer_is_cut(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("[[fault: hang]]")))
        writer.write(b"x" * 4_000_000)
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read(1) == b"never"


async def test_stopping_cuts_open_connections() -> None:
    async with Simulator.running() as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(request_bytes(chat_body("[[fault: hang]]")))
        await writer.drain()
    try:
        left = await asyncio.wait_for(reader.read(), PATIENCE_S)
    except ConnectionResetError:
        left = b""
    writer.transport.abort()
    await asyncio.sleep(0)

    assert left == b""
