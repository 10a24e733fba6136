import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.limits import StoppedTime, ask, fresh_pepper, purse_keys, redis_limits, set_time
from tests.support.limits import budget as budget_of
from tests.support.redis_server import inspector
from trueport.gateway.limits.keys import KeyNames, Pepper
from trueport.kit.clock import SystemClock

PROCESSES = 8


@contextmanager
def gateways(
    url: str, pepper: Pepper, time_key: str, *mode: object, count: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes as in limits_process, told to go when all are ready."""
    arguments = [url, pepper.hex(), time_key, *(str(one) for one in mode)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.limits_process", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def outcomes_of(processes: list[subprocess.Popen[str]]) -> list[tuple[int, int, int]]:
    lines = [process.communicate(timeout=60)[0].split() for process in processes]
    return [(int(passed), int(local), int(alerts)) for passed, local, alerts in lines]


def test_eight_processes_together_admit_exactly_the_limit(redis_url: str) -> None:
    """Redis's clock stands still for the test, so that no minute's edge can add to the limit."""
    limit, tries = 300, 200
    time_key = f"test_clock_{os.urandom(8).hex()}"
    set_time(redis_url, time_key, SystemClock())

    with gateways(redis_url, fresh_pepper(), time_key, "limit", tries, limit, count=PROCESSES) as processes:
        outcomes = outcomes_of(processes)

    assert sum(passed for passed, _, _ in outcomes) == limit
    assert all(local == 0 for _, local, _ in outcomes)


def test_eight_processes_together_overspend_a_budget_by_at_most_one_call_and_alert_once(redis_url: str) -> None:
    limit, cost, tries = 10_050, 100, 100
    pepper, time_key = fresh_pepper(), f"test_clock_{os.urandom(8).hex()}"
    set_time(redis_url, time_key, SystemClock())

    with gateways(redis_url, pepper, time_key, "budget", tries, limit, cost, count=PROCESSES) as processes:
        outcomes = outcomes_of(processes)

    passed = sum(passed for passed, _, _ in outcomes)
    assert 100 <= passed <= 101
    assert all(local == 0 for _, local, _ in outcomes)
    assert sum(alerts for _, _, alerts in outcomes) == 1
    with inspector(redis_url) as looking:
        held = looking.hmget(purse_keys(KeyNames(pepper), budget_of(limit))[0], "spent", "held")
        assert held == [b"%d" % (passed * cost), b"0"]


async def test_what_a_killed_process_held_comes_back_when_it_expires(redis_url: str) -> None:
    pepper, time_ = fresh_pepper(), StoppedTime(redis_url)
    month = budget_of(1_000, alert_at=(0.5,))
    with gateways(redis_url, pepper, time_.key, "hold", 1_000, 700, count=1) as (process,):
        assert process.stdout is not None
        assert process.stdout.readline() == "1 0 0\n"
        process.kill()
        process.wait()

    async with redis_limits(redis_url, pepper=pepper, clock=time_.clock, scripts=time_.scripts) as (limits, _):
        assert (await limits.reserve(ask(month))).standing.budget_left_nano_usd == 300
        time_.clock.advance(601)
        time_.tell_redis()
        assert (await limits.reserve(ask(month))).standing.budget_left_nano_usd == 1_000
