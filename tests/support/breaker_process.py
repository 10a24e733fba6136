"""What one of several gateway processes does: `python -m tests.support.breaker_process DEED URL SCOPE …`.

Each prints "ready", waits for a line on standard input, and prints what it saw when it is done.

`call URL SCOPE PORT PER_SECOND SECONDS PATIENCE COOLDOWN`: calls a provider at a steady rate; a call fails when the
connection breaks or nothing came for PATIENCE seconds. Prints calls made, calls denied, and decisions without Redis.

`probe URL SCOPE EPOCHS TIME_KEY`: eight tasks want to probe as soon as a circuit is half open; every probe fails.
Prints, for each probe it had, the epoch and how many of its tasks held one at that moment; then "done".

`hold URL SCOPE TIME_KEY`: asks for leave, says what kind it got, and keeps it until it is killed.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress

from tests.support.breaker import LEASE_S, redis_breakers, scripts_reading
from trueport.gateway.breaker.base import BreakerRules, Permit
from trueport.gateway.breaker.redis import Pace

TASKS = 8


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def started() -> None:
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)


async def call(url: str, scope: str, port: str, per_second: str, seconds: str, patience: str, cooldown: str) -> None:
    rules = BreakerRules(base_cooldown_s=float(cooldown))
    made = refused = 0

    async def one() -> None:
        nonlocal made, refused
        permit = await breakers.acquire(scope, LEASE_S)
        if not isinstance(permit, Permit):
            refused += 1
            return
        made += 1
        is_good = False
        writer = None
        try:
            async with asyncio.timeout(float(patience)):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.write(b"hello\n")
                is_good = await reader.readline() == b"hello\n"
        except (OSError, TimeoutError):
            pass
        finally:
            breakers.report(permit, "ok" if is_good else "fail")
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async with redis_breakers(url, rules=rules) as breakers, asyncio.TaskGroup() as calls:
        await started()
        for _ in range(int(float(seconds) * int(per_second))):
            calls.create_task(one())
            await asyncio.sleep(1 / int(per_second))
    say(f"{made} {refused} {breakers.health().local_decisions}")


async def probe(url: str, scope: str, epochs: str, time_key: str) -> None:
    """Probe until this process has had so many probes.

    Cool-downs take no time, so the circuit is half open again at once.
    """
    rules = BreakerRules(base_cooldown_s=0, longest_cooldown_s=0)
    pace = Pace(closed_s=0, open_s=0, trial_s=0)
    held: set[str] = set()
    seen: list[str] = []

    async def probe_on() -> None:
        while len(seen) < int(epochs):
            permit = await breakers.acquire(scope, LEASE_S)
            if isinstance(permit, Permit) and permit.kind == "probe":
                held.add(permit.probe_id)
                seen.append(f"{permit.epoch} {len(held)}")
                await asyncio.sleep(0)
                held.discard(permit.probe_id)
                breakers.report(permit, "fail")
            else:
                await asyncio.sleep(0)

    async with redis_breakers(url, rules=rules, pace=pace, scripts=scripts_reading(time_key), timeout_s=20) as breakers:
        await started()
        await asyncio.gather(*(probe_on() for _ in range(TASKS)))
    for line in seen:
        say(line)
    say("done")


async def hold(url: str, scope: str, time_key: str) -> None:
    async with redis_breakers(url, scripts=scripts_reading(time_key), timeout_s=20) as breakers:
        await started()
        permit = await breakers.acquire(scope, LEASE_S)
        say(permit.kind if isinstance(permit, Permit) else "denied")
        await asyncio.Event().wait()


if __name__ == "__main__":
    deeds: dict[str, Callable[..., Coroutine[None, None, None]]] = {"call": call, "probe": probe, "hold": hold}
    asyncio.run(deeds[sys.argv[1]](*sys.argv[2:]))
