"""A key that ends does so everywhere: on every worker, for new calls and for streams that run."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import pytest

from tests.chaos.conftest import Cluster
from tests.support.chaos_load import chat

REFUSED_AFTER_S: Final = 1.0
STREAM_ENDS_AFTER_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Poll:
    begun_s: float
    status: int
    code: str | None


@asynccontextmanager
async def _polling(cluster: Cluster, key: str) -> AsyncIterator[list[Poll]]:
    """What calls with this key get during the block; complete after it."""
    polls: list[Poll] = []
    stop = asyncio.Event()
    task = asyncio.create_task(_poll(cluster, key, stop, polls))
    try:
        yield polls
    finally:
        stop.set()
        await task


async def _poll(cluster: Cluster, key: str, stop: asyncio.Event, into: list[Poll]) -> None:
    """Call on fresh connections, several at a time, so that every worker is asked again and again."""
    headers = {"authorization": f"Bearer {key}"}

    async def caller(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            begun_s = time.monotonic()
            async with session.post(
                f"{cluster.place.url}/v1/chat/completions", json=chat("n"), headers=headers
            ) as reply:
                answer = await reply.json()
                code = answer["error"]["code"] if "error" in answer else None
                into.append(Poll(begun_s, reply.status, code))
            await asyncio.sleep(0.01)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        await asyncio.gather(*(caller(session) for _ in range(4)))


def _by_api(cluster: Cluster, key_id: str, action: str) -> None:
    if action == "delete":
        cluster.api(f"/{key_id}", method="DELETE")
    elif action == "rotate":
        cluster.api(f"/{key_id}/rotate", {"overlap_s": 0})
    else:
        cluster.api(f"/{key_id}/{action}")


def _by_command(cluster: Cluster, key_id: str, action: str) -> None:
    cluster.place.run("keys", action, key_id, "--tenant", cluster.place.tenant)


@pytest.mark.parametrize(
    ("how", "action"),
    [(_by_api, "disable"), (_by_api, "delete"), (_by_api, "rotate"), (_by_command, "disable")],
)
async def test_a_key_that_ends_is_refused_by_every_worker_within_a_second(
    cluster: Cluster, how: Callable[[Cluster, str, str], None], action: str
) -> None:
    key = cluster.new_key()
    async with _polling(cluster, key["key"]) as polls:
        await asyncio.sleep(0.4)

        await asyncio.to_thread(how, cluster, key["id"], action)

        ended_s = time.monotonic()
        await asyncio.sleep(REFUSED_AFTER_S + 1.0)
    later = [poll for poll in polls if poll.begun_s > ended_s + REFUSED_AFTER_S]
    assert len(later) > 10
    assert {(poll.status, poll.code) for poll in later} == {(401, "invalid_api_key")}
    earlier = [poll for poll in polls if poll not in later]
    assert {poll.status for poll in earlier} == {200, 401}
    last_s = max((poll.begun_s for poll in polls if poll.status == 200), default=ended_s) - ended_s
    print(f"{action}: last accepted {last_s * 1e3:.0f} ms after it, {len(later)} refused later")  # noqa: T201


@dataclass(frozen=True, slots=True)
class Streamed:
    interaction: str
    text: bytes
    ended_s: float


async def _stream(cluster: Cluster, session: aiohttp.ClientSession, key: str, directives: str) -> Streamed:
    headers = {"authorization": f"Bearer {key}"}
    url = f"{cluster.place.url}/v1/chat/completions"
    async with session.post(url, json=chat(f"n {directives}", stream=True), headers=headers) as reply:
        assert reply.status == 200
        text = await reply.read()
        return Streamed(reply.headers["x-trueport-interaction"], text, time.monotonic())


async def test_streams_of_a_revoked_key_end_and_those_of_another_go_on(cluster: Cluster) -> None:
    doomed, other = cluster.new_key(), cluster.new_key()
    lively, silent = "[[tokens: 70]][[pace: 50ms]]", "[[fault: silence after=3]]"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        ending = [
            asyncio.create_task(_stream(cluster, session, doomed["key"], directives))
            for directives in (*[lively] * 6, *[silent] * 6)
        ]
        going_on = [asyncio.create_task(_stream(cluster, session, other["key"], lively)) for _ in range(4)]
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in ending)

        await asyncio.to_thread(cluster.api, f"/{doomed['id']}/disable")
        revoked_s = time.monotonic()

        ended = await asyncio.wait_for(asyncio.gather(*ending), 20)
        whole = await asyncio.gather(*going_on)

    slowest_s = max(each.ended_s for each in ended) - revoked_s
    print(f"{len(ended)} streams ended within {slowest_s * 1e3:.0f} ms")  # noqa: T201
    assert slowest_s < STREAM_ENDS_AFTER_S
    for each in ended:
        assert _last_event(each.text) == ("error", "key_revoked")
        assert b"[DONE]" not in each.text
    assert all(each.text.endswith(b"data: [DONE]\n\n") for each in whole)
    assert await _ends(cluster, ended) == {"key_revoked"}


async def _ends(cluster: Cluster, streamed: list[Streamed]) -> set[str]:
    wanted = {each.interaction for each in streamed}
    until_s = time.monotonic() + 10
    while True:
        rows = await asyncio.to_thread(cluster.place.documents, "interactions")
        ends = {row["end"] for row in rows if row["_id"] in wanted}
        if "in_progress" not in ends or time.monotonic() > until_s:
            return ends
        await asyncio.sleep(0.2)


def _last_event(text: bytes) -> tuple[str | None, str | None]:
    fields: dict[str, str] = {}
    for line in text.decode().rstrip("\n").rpartition("\n\n")[2].splitlines():
        name, _, value = line.partition(": ")
        fields[name] = value
    data: Any = json.loads(fields["data"])
    return fields.get("event"), data.get("error", {}).get("code")


async def test_a_new_key_works_at_once_on_every_worker(cluster: Cluster) -> None:
    key = cluster.new_key()

    async with _polling(cluster, key["key"]) as polls:
        await asyncio.sleep(0.5)

    assert len(polls) > 10
    assert {poll.status for poll in polls} == {200}


async def test_a_rotated_key_has_two_texts_until_the_overlap_ends(cluster: Cluster) -> None:
    key = cluster.new_key()
    overlap_s = 2
    async with _polling(cluster, key["key"]) as old:
        await asyncio.sleep(0.3)

        rotating_s = time.monotonic()
        rotated = await asyncio.to_thread(cluster.api, f"/{key['id']}/rotate", {"overlap_s": overlap_s})
        rotated_s = time.monotonic()

        async with _polling(cluster, rotated["key"]) as new:
            await asyncio.sleep(1.0)
        await asyncio.sleep(overlap_s)
    assert {poll.status for poll in new} == {200}
    assert {poll.status for poll in old if poll.begun_s < rotating_s + overlap_s - 0.3} == {200}
    later = [poll for poll in old if poll.begun_s > rotated_s + overlap_s + 0.3]
    assert len(later) > 10
    assert {poll.status for poll in later} == {401}
