"""Several gateway processes over one Redis."""

import asyncio
import socket
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tests.support.breaker import LEASE_S, RedisTime, denied, fail, fresh_scope, permitted, redis_breakers
from tests.support.redis_server import inspector
from trueport.gateway.breaker.base import BreakerRules
from trueport.gateway.breaker.scopes import ScopeKeys

PROCESSES: Final = 4
CALLS_PER_SECOND: Final = 50  # in each process


@asynccontextmanager
async def processes(*arguments: Sequence[str]) -> AsyncIterator[list[Process]]:
    """Processes that are ready and wait for a line; whatever is left of them is killed in the end."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.breaker_process", *words, stdin=PIPE, stdout=PIPE
        )
        for words in arguments
    ]
    try:
        for process in running:
            assert await line_of(process) == "ready"
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        yield running
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


class Provider:
    """Answers so many connections and dies; then it resets them, and counts how many still come."""

    def __init__(self, dies_after: int) -> None:
        self._dies_after = dies_after
        self.served = 0
        self.came_in_vain = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.served >= self._dies_after:
            self.came_in_vain += 1
            # Lingering for 0 s makes closing a reset.
            on_for_0_s = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_for_0_s)
            writer.transport.abort()
            return
        self.served += 1
        writer.write(await reader.readline())
        writer.close()


@pytest.mark.parametrize("dies_after", [0, 100])
async def test_a_dead_provider_receives_few_calls_from_all_processes_together(redis_url: str, dies_after: int) -> None:
    """200 calls a second: at most twenty reach it, and one more for each time the circuit opened."""
    scope, provider = fresh_scope(), Provider(dies_after)
    door = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    port = door.sockets[0].getsockname()[1]
    words = ("call", redis_url, scope, str(port), str(CALLS_PER_SECOND), "2", "30", "0.4")
    async with door, processes(*[words] * PROCESSES) as running:
        ends = [[int(word) for word in (await line_of(process)).split()] for process in running]

    made, refused, local = (sum(column) for column in zip(*ends, strict=True))
    with inspector(redis_url) as looking:
        trips = int(looking.hget(ScopeKeys.of(scope).meta, "trips") or 0)
    assert local == 0
    assert made == provider.served + provider.came_in_vain
    assert made + refused == 2 * CALLS_PER_SECOND * PROCESSES
    assert trips >= 1
    assert provider.came_in_vain <= 20 + trips
    assert refused > 0


@pytest.mark.parametrize("epochs", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_a_half_open_circuit_has_a_single_probe(redis_url: str, epochs: int) -> None:
    """Two processes with eight tasks each want to be it, again and again."""
    scope, time_ = fresh_scope(), RedisTime(redis_url)
    at_once = BreakerRules(base_cooldown_s=0, longest_cooldown_s=0)
    async with redis_breakers(redis_url, rules=at_once, clock=time_.clock, scripts=time_.scripts) as breakers:
        await fail(breakers, scope, 5)
        await breakers.flush()
    words = ("probe", redis_url, scope, str(epochs // 2), time_.key)
    seen: list[tuple[int, int]] = []
    async with processes(words, words) as running:
        for process in running:
            while (line := await line_of(process)) != "done":
                epoch, held_at_once = line.split()
                seen.append((int(epoch), int(held_at_once)))

    assert len(seen) >= epochs // 2 * 2
    assert len({epoch for epoch, _ in seen}) == len(seen)
    assert {held_at_once for _, held_at_once in seen} == {1}


async def test_the_probe_of_a_process_that_was_killed_is_given_up_with_its_lease(redis_url: str) -> None:
    scope, time_ = fresh_scope(), RedisTime(redis_url)
    async with redis_breakers(redis_url, clock=time_.clock, scripts=time_.scripts) as breakers:
        await fail(breakers, scope, 5)
        await breakers.flush()
        time_.advance(10)
        async with processes(("hold", redis_url, scope, time_.key)) as (holder,):
            assert await line_of(holder) == "probe"
            holder.kill()
            await holder.wait()
        assert (await denied(breakers, scope)).retry_after_ms == LEASE_S * 1_000
        time_.advance(LEASE_S - 1)
        await denied(breakers, scope)

        time_.advance(1)

        assert (await permitted(breakers, scope)).kind == "probe"
