"""The provider's books, and what else the simulator tells about itself."""

import asyncio
import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

from tests.support.simulator import PATIENCE_S, chat_body, chat_call, connected, raw_call, request_bytes
from trueport.kit.clock import ManualClock
from trueport.simulator import Entry, Ledger, Simulator


async def control(simulator: Simulator, path: str, method: str = "GET", body: bytes = b"") -> Any:
    request = request_bytes(body, method=method, path=path, key=None, headers={"connection": "close"})
    return json.loads((await raw_call(simulator.port, request)).body)


def entry(seq: int) -> Entry:
    return Entry(
        seq=seq, at_us=0, method="POST", path="/", model=None, interaction=None, key_hint=None, stream=False,
        status=200, fault=None, body_sha256="", prompt_tokens=1,
    )  # fmt: skip


async def test_an_entry_tells_what_was_received_and_sent(simulator: Simulator) -> None:
    body = chat_body("[[usage: prompt=10 completion=5 cached=4 reasoning=2]]")
    headers = {"connection": "close", "x-client-request-id": "int_1"}
    reply = await raw_call(simulator.port, request_bytes(body, headers=headers, key="sk-secret-wxyz"))

    books = await control(simulator, "/_simulator/ledger")

    (told,) = books["entries"]
    moments = {told.pop("at"), told.pop("ended")}
    assert all(moment.endswith("Z") for moment in moments)
    assert told == {
        "seq": 1,
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "sim-model",
        "interaction": "int_1",
        "key_hint": "wxyz",
        "stream": False,
        "status": 200,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cached_tokens": 4,
        "reasoning_tokens": 2,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "audio_ms": 0,
        "images": 0,
        "web_searches": 0,
        "dialect": "openai",
        "total_tokens": 15,
        "events_sent": 0,
        "bytes_sent": len(reply.wire),
        "completed": True,
        "client_gone": False,
        "closed_after_ms": None,
        "fault": None,
        "body_sha256": sha256(body).hexdigest(),
    }
    assert books["totals"] == {
        "requests": 1,
        "completed": 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
    }


async def test_an_entry_is_there_while_its_call_lasts(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("[[pace: forever]] [[tokens: 5]]", stream=True)))
        await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)

        (told,) = (await control(simulator, "/_simulator/ledger"))["entries"]

    assert told["ended"] is None
    assert told["events_sent"] == 1


async def test_a_client_that_leaves_is_noticed_while_the_stream_pauses(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.write(request_bytes(chat_body("[[pace: forever]] [[tokens: 500]]", stream=True)))
        await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)
    await simulator.settled()

    left = simulator.ledger.only_entry()
    assert (left.client_gone, left.completed, left.events_sent) == (True, False, 1)
    assert left.closed_after_ms is not None
    assert left.closed_after_ms >= 0


async def test_a_client_that_does_not_read_holds_the_stream_up(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's transport can read too
        writer.write(request_bytes(chat_body("[[tokens: 200000]]", stream=True)))
        sizes = [-1, 0]
        async with asyncio.timeout(PATIENCE_S):
            while sizes[-1] == 0 or sizes[-1] != sizes[-2]:
                await asyncio.sleep(0.05)
                sizes.append(simulator.ledger.only_entry().bytes_sent)
        del reader

    held = simulator.ledger.only_entry()
    assert not held.completed
    assert 0 < held.completion_tokens < 200_000


async def test_a_stream_cut_by_its_client_is_billed_for_what_was_sent(simulator: Simulator) -> None:
    async with connected(simulator.port) as (reader, writer):
        prompt = "[[usage: prompt=10 completion=9 reasoning=4]] [[tokens: 5]] [[fault: silence after=3]]"
        writer.write(request_bytes(chat_body(prompt, stream=True)))
        for _ in range(3):
            await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)

    await simulator.settled()
    cut = simulator.ledger.only_entry()
    # Four tokens of reasoning with the role, then two of the five words.
    assert (cut.prompt_tokens, cut.completion_tokens, cut.reasoning_tokens) == (10, 6, 4)


async def test_stated_usage_is_what_a_whole_stream_is_billed(simulator: Simulator) -> None:
    for stated in (3, 50):
        await chat_call(simulator.port, f"[[usage: completion={stated}]] [[tokens: 10]]", stream=True)

    assert [one.completion_tokens for one in simulator.ledger.entries] == [3, 50]


async def test_the_books_come_in_pages_and_can_be_emptied(simulator: Simulator) -> None:
    for _ in range(4):
        await chat_call(simulator.port)

    page = await control(simulator, "/_simulator/ledger?after=1&limit=2")
    await control(simulator, "/_simulator/reset", "POST")
    await chat_call(simulator.port)
    rest = await control(simulator, "/_simulator/ledger")

    assert [one["seq"] for one in page["entries"]] == [2, 3]
    assert page["totals"]["requests"] == 4
    assert [one["seq"] for one in rest["entries"]] == [5]
    assert rest["totals"]["requests"] == 1
    assert (await control(simulator, "/_simulator/ledger", "DELETE")) == {"status": "reset"}
    assert simulator.ledger.entries == []
    assert "error" in await control(simulator, "/_simulator/ledger?after=x")


def test_the_oldest_entries_go_and_the_sums_stay() -> None:
    ledger = Ledger(capacity=2)
    for _ in range(3):
        kept = entry(ledger.take_seq())
        ledger.open(kept)
        ledger.close(kept)

    assert [one.seq for one in ledger.entries] == [2, 3]
    assert (ledger.totals.requests, ledger.totals.prompt_tokens) == (3, 3)


def test_a_call_in_flight_does_not_enter_the_books_opened_after_it() -> None:
    ledger = Ledger()
    before = entry(ledger.take_seq())
    ledger.open(before)

    ledger.clear()
    ledger.close(before)

    assert (ledger.totals.requests, ledger.totals.total_tokens) == (0, 0)


async def test_the_last_request_is_kept_byte_for_byte(simulator: Simulator) -> None:
    odd = b'{ "model":"sim-model",\t"messages":[{"role":"user","content":"caf\\u00e9"}] , "n" : 1, "stream":true}'
    headers = {"connection": "close", "x-client-request-id": "int_odd", "X-Odd-Case": "Kept"}
    reply = await raw_call(simulator.port, request_bytes(odd, headers=headers))
    await chat_call(simulator.port)

    kept = await control(simulator, "/_simulator/last?interaction=int_odd")
    latest = await control(simulator, "/_simulator/last")

    assert b64decode(kept["body"]) == odd
    assert ["X-Odd-Case", "Kept"] in kept["headers"]
    assert b64decode(kept["sent"]) == reply.unchunked()
    assert latest["seq"] == 2
    assert b64decode(latest["body"]) == chat_body()
    assert "error" in await control(simulator, "/_simulator/last?interaction=unknown")


async def test_of_an_interaction_tried_twice_the_later_request_is_shown(simulator: Simulator) -> None:
    for prompt in ("first", "second"):
        headers = {"connection": "close", "x-client-request-id": "int_retried"}
        await raw_call(simulator.port, request_bytes(chat_body(prompt), headers=headers))

    kept = await control(simulator, "/_simulator/last?interaction=int_retried")

    assert b64decode(kept["body"]) == chat_body("second")


async def test_a_cut_stream_is_never_billed_more_than_its_stated_usage(simulator: Simulator) -> None:
    await chat_call(simulator.port, "[[usage: completion=1]] [[tokens: 5]] [[fault: eof after=4]]", stream=True)

    assert simulator.ledger.only_entry().completion_tokens == 1


async def test_only_the_last_fifty_requests_are_kept(simulator: Simulator) -> None:
    for number in range(51):
        headers = {"connection": "close", "x-client-request-id": f"int_{number}"}
        await raw_call(simulator.port, request_bytes(chat_body(), headers=headers))

    assert simulator.recent.last("int_0") is None
    assert simulator.recent.last("int_1") is not None


async def test_a_script_can_be_set_for_every_request(simulator: Simulator) -> None:
    told = await control(simulator, "/_simulator/script", "PUT", b"fault=status=503")
    down = await chat_call(simulator.port)
    refused = await control(simulator, "/_simulator/script", "PUT", b"fault=nonsense")
    await control(simulator, "/_simulator/script", "PUT", b"")
    up = await chat_call(simulator.port)

    assert told == {"status": "obeyed"}
    assert "error" in refused
    assert (down.status, up.status) == (503, 200)


async def test_its_own_endpoints_are_in_nobodys_books(simulator: Simulator) -> None:
    assert await control(simulator, "/_simulator/health") == {"status": "ok"}
    assert "error" in await control(simulator, "/_simulator/other")
    assert simulator.ledger.entries == []


async def test_finished_calls_are_written_a_line_each() -> None:
    class Lines(list[bytes]):
        def write(self, data: bytes) -> None:
            self.append(data)

    lines = Lines()
    simulator = Simulator(ledger_file=lines, clock=ManualClock())
    await simulator.start()
    try:
        await chat_call(simulator.port)
    finally:
        await simulator.stop()

    (line,) = lines
    assert line.endswith(b"\n")
    assert json.loads(line)["ended"] == "2026-01-01T00:00:00.000Z"
