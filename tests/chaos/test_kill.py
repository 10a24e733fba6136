"""kill -9 at seeded random moments under load: nothing that was sent to a provider is lost, doubled or altered.

A failing run prints its seed; CHAOS_SEED repeats it as far as the machine's scheduling lets it.
"""

import asyncio
import dataclasses
import os
import random
import signal
from collections.abc import Sequence

import aiohttp
import psutil
import pytest

from tests.chaos.conftest import Cluster
from tests.support.chaos_load import (
    Books,
    Seen,
    call,
    chat,
    database_of,
    disagreements,
    in_flight,
    load_until,
    settled_books,
    workers_of,
)
from tests.support.installation import PATIENCE_S, Installation, eventually

SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
ROUNDS = 10
MANY_ROUNDS = 200
# What is killed. "group" is supervisor and workers in one blow, "all" the database with them.
VICTIMS = ("supervisor", "worker", "group", "all")


def _strike(place: Installation, victim: str) -> list[psutil.Process]:
    """Kill; returns every process that has to be gone soon, or has to be replaced."""
    assert place.server is not None
    workers, database = workers_of(place), database_of(place)
    match victim:
        case "worker":
            workers[0].kill()
            return workers[:1]
        case "supervisor":
            place.server.kill()
        case "group":
            os.killpg(place.server.pid, signal.SIGKILL)
        case _:
            os.killpg(place.server.pid, signal.SIGKILL)
            database.kill()
    return [*workers, database]


async def _round(place: Installation, draw: random.Random, number: int) -> tuple[list[Seen], list[psutil.Process]]:
    """Start on the same data, load, kill at a random moment. A killed worker is replaced before the rest dies too.

    Returns what the clients saw and the processes that have to be gone soon.
    """
    await asyncio.to_thread(place.serve)
    victim = VICTIMS[number % len(VICTIMS)]
    # Some strikes come while the start before is still being finished: its adopter is then what dies.
    moment_s = draw.choice((draw.uniform(0.0, 0.1), draw.uniform(0.1, 0.8)))
    doomed: list[psutil.Process] = []

    async def deed() -> None:
        await asyncio.sleep(moment_s)
        doomed.extend(_strike(place, victim))
        if victim == "worker":
            await asyncio.to_thread(psutil.wait_procs, doomed, 10)
            await asyncio.to_thread(place.wait_ready)
            await asyncio.sleep(draw.uniform(0.0, 0.3))
            doomed.extend(_strike(place, "group"))

    seen = await load_until(place, place.key, draw.randrange(1 << 30), deed)
    place.stop()
    return seen, doomed


def _report(books: Books, rounds: int) -> str:
    whole = sum(seen.is_whole for seen in books.seen)
    return (
        f"{rounds} rounds, seed {SEED}: the client had {whole} whole answers of {len(books.seen)}, the provider "
        f"received {len(books.billed)} calls, {len(books.records)} records, rows {dict(books.ends)}"
    )


async def _survive(place: Installation, rounds: int) -> Books:
    draw = random.Random(SEED)
    seen: list[Seen] = []
    doomed: list[psutil.Process] = []
    for number in range(rounds):
        got, condemned = await _round(place, draw, number)
        seen += got
        doomed += condemned
    await asyncio.to_thread(place.serve)
    _, alive = psutil.wait_procs(doomed, 5)
    assert not alive, f"these outlived their supervisor: {alive}"
    books = await settled_books(place, seen)
    print(_report(books, rounds))  # noqa: T201 - the numbers of the run, shown with -s or on failure
    return books


def _held(books: Books, rounds: int) -> None:
    assert disagreements(books) == []
    # The run was worth something: calls were made, some were finished, and some were caught in the act.
    assert len(books.billed) > 5 * rounds
    assert books.ends["completed"] > rounds
    assert books.ends["abandoned"] > rounds
    usage = sum(row["total_tokens"] for row in books.rows if row["usage_source"] == "provider")
    metered = {row["_id"] for row in books.rows if row["usage_source"] == "provider"}
    assert usage == sum(entry["total_tokens"] for entry in books.billed if entry["interaction"] in metered) > 0


@pytest.mark.timeout(300)
async def test_killed_at_any_moment_the_server_loses_and_doubles_nothing(place: Installation) -> None:
    books = await _survive(place, ROUNDS)

    _held(books, ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_killed_two_hundred_times_the_server_loses_and_doubles_nothing(place: Installation) -> None:
    books = await _survive(place, MANY_ROUNDS)

    _held(books, MANY_ROUNDS)


async def test_calls_of_a_killed_worker_do_not_count_as_under_way_for_ever(cluster: Cluster) -> None:
    place = cluster.place
    key = cluster.new_key()["key"]
    silent = chat("n [[fault: silence after=2]]", stream=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        calls = [asyncio.create_task(call(session, place.url, key, silent)) for _ in range(12)]
        await eventually(lambda: in_flight(place) == len(calls))

        workers = workers_of(place)
        # Any of them may have taken all of the calls.
        max(workers, key=lambda worker: len(worker.net_connections())).kill()

        await eventually(lambda: {w.pid for w in workers_of(place)} - {w.pid for w in workers}, within_s=PATIENCE_S)
        await asyncio.sleep(0.5)
        broken = sum(task.done() for task in calls)
        assert broken > 0
        await eventually(lambda: in_flight(place) == len(calls) - broken, within_s=PATIENCE_S)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually(lambda: in_flight(place) == 0)


def _sound_books() -> Books:
    from hashlib import sha256

    def record(kind: str, wseq: int, prev: str) -> dict[str, object]:
        said = f'{{"kind":"{kind}","prev":"{prev}","rid":"int_1","writer":"w","wseq":{wseq}}}'.encode()
        return {"_id": f"int_1#{kind}", "tenant_id": "ten_1", "rid": "int_1", "kind": kind, "writer": "w",
                "wseq": wseq, "canonical": said, "leaf": sha256(b"\x00" + said).hexdigest()}  # fmt: skip

    intent = record("intent", 0, "0" * 64)
    outcome = record("outcome", 1, str(intent["leaf"]))
    return Books(
        seen=[Seen("int_1", 200, is_stream=False, is_whole=True, took_s=0.1)],
        billed=[{"interaction": "int_1", "total_tokens": 7}],
        records=[intent, outcome],
        rows=[{"_id": "int_1", "end": "completed", "usage_source": "provider", "total_tokens": 7}],
    )


def _changed(items: Sequence[object], **changes: object) -> list[object]:
    first, *rest = items
    assert isinstance(first, dict)
    return [{**first, **changes}, *rest]


@pytest.mark.parametrize(
    "damage",
    [
        lambda books: {"records": books.records[:1]},
        lambda books: {"records": books.records[1:]},
        lambda books: {"records": [*books.records, books.records[1]]},
        lambda books: {"records": _changed(books.records, leaf="00")},
        lambda books: {"records": _changed(books.records, wseq=3)},
        lambda _: {"rows": []},
        lambda books: {"rows": [*books.rows, *books.rows]},
        lambda books: {"rows": _changed(books.rows, total_tokens=8)},
        lambda books: {"rows": _changed(books.rows, end="abandoned")},
        lambda books: {"billed": [*books.billed, *books.billed]},
        lambda books: {"billed": [*books.billed, {"interaction": "int_2", "total_tokens": 1}]},
    ],
)
def test_books_that_do_not_agree_are_noticed(damage) -> None:  # type: ignore[no-untyped-def]  # a table of lambdas
    books = _sound_books()
    assert disagreements(books) == []

    assert disagreements(dataclasses.replace(books, **damage(books)))
