"""Clients that leave: at every event of a stream, before the first byte, and while a plain answer is awaited."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from tests.support.chaos_load import chat, disagreements, in_flight, ledger, settled_books
from tests.support.installation import PATIENCE_S, Installation, eventually
from tests.support.simulator import request_bytes

Goodbye = Literal["fin", "rst"]

EVENTS: Final = 40
CLOSED_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Departure:
    """A client that leaves after this many events of its stream (None: before any answer), named by its request id."""

    name: str
    body: dict[str, object]
    goodbye: Goodbye
    events: int | None


@dataclass(frozen=True, slots=True)
class Left:
    """When the client left, in seconds since 1970."""

    departure: Departure
    at_s: float


def _departures() -> list[Departure]:
    both: tuple[Goodbye, Goodbye] = ("fin", "rst")
    found = []
    for goodbye in both:
        # The provider falls silent after the last event, so that even who leaves there leaves a running stream.
        for events in range(1, EVENTS + 1):
            name = f"event-{events}-{goodbye}"
            script = f"[[tokens: 60]][[pace: 15ms]][[fault: silence after={EVENTS}]]"
            found.append(Departure(name, chat(f"{name} {script}", stream=True), goodbye, events))
        for kind, stream in (("streamed", True), ("plain", False)):
            for fault in ("delay=20s", "hang", "slow-headers=500ms"):
                name = f"{kind}-{fault.partition('=')[0]}-{goodbye}"
                found.append(Departure(name, chat(f"{name} [[fault: {fault}]]", stream=stream), goodbye, None))
        name = f"plain-half-{goodbye}"
        found.append(Departure(name, chat(f"{name} [[fault: silence after=1]]"), goodbye, None))
    return found


async def _depart(place: Installation, departure: Departure, turn: asyncio.Semaphore) -> Left:
    async with turn:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        headers = {"content-type": "application/json", "x-request-id": departure.name}
        writer.write(request_bytes(json.dumps(departure.body).encode(), headers=headers, key=place.key))
        received = b""
        if departure.events is None:
            await asyncio.sleep(0.4)
        else:
            async with asyncio.timeout(PATIENCE_S):
                while received.count(b"data: ") < departure.events:
                    data = await reader.read(65536)
                    assert data, f"{departure.name}: the stream ended by itself"
                    received += data
        at_s = time.time()
        if departure.goodbye == "fin":
            # Only our direction: closing wholly would answer the gateway's next bytes with a reset.
            writer.write_eof()
            await _until_closed(reader)
        else:
            opened = writer.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await asyncio.sleep(0.01)  # the event loop closes the socket on its next turn
        return Left(departure, at_s)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while await reader.read(65536):
                pass


async def test_a_client_that_leaves_at_any_moment_is_recorded_and_metered_and_its_upstream_closed(
    place: Installation,
) -> None:
    place.serve()
    departures = _departures()
    turn = asyncio.Semaphore(24)

    left = await asyncio.gather(*(_depart(place, departure, turn) for departure in departures))

    await eventually(lambda: _all_over(place, len(departures)), within_s=PATIENCE_S)
    books = await settled_books(place, [])
    assert disagreements(books) == []
    rows = {row["_id"]: row for row in books.rows}
    assert {(row["end"], row["error"]) for row in rows.values()} == {("client_closed", "client_closed")}
    assert len(rows) == len(books.billed) == len(departures)
    slowest_s = 0.0
    for entry in books.billed:
        row = rows[entry["interaction"]]
        assert entry["client_gone"], entry
        assert not entry["completed"]
        assert row["usage_source"] == "estimated"
        assert row["input_tokens"] > 0
        if entry["events_sent"]:
            assert 0 < row["output_tokens"] <= entry["events_sent"]
    entries = {rows[entry["interaction"]]["request_id"]: entry for entry in books.billed}
    for each in left:
        ended_s = datetime.fromisoformat(entries[each.departure.name]["ended"]).timestamp()
        slowest_s = max(slowest_s, ended_s - each.at_s)
    print(f"{len(left)} departures, the slowest upstream closed {slowest_s * 1e3:.0f} ms after its client")  # noqa: T201
    assert slowest_s < CLOSED_WITHIN_S
    await eventually(lambda: in_flight(place) == 0)


def _all_over(place: Installation, count: int) -> bool:
    entries = ledger(place.simulator)
    return len(entries) == count and all(entry["ended"] for entry in entries)
