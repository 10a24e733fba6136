"""What one of several gateway processes does: `python -m tests.support.limits_process URL PEPPER TIME_KEY MODE …`.

MODE is one of
    limit TRIES LIMIT          reserve TRIES times under a limit of requests, with several calls at once
    budget TRIES LIMIT COST    the same under a budget that alerts at its half; each call settles at what it reserved
    hold LIMIT COST            reserve once and never settle

Prints "ready" and waits for a line on standard input; then prints how many passed, how many of all were decided without
Redis, and how many alerts were told. "hold" then waits for its end.
"""

import asyncio
import sys

from tests.support.limits import ask, budget, redis_limits, scripts_reading
from trueport.gateway.limits.base import Ask, BudgetAlert, BudgetSpent, Limit, RateLimited
from trueport.gateway.limits.keys import Pepper
from trueport.gateway.limits.redis import RedisLimits

AT_ONCE = 10


def bound_by_limit(limit: int) -> Ask:
    return ask(
        Limit("key", "key_1", requests_per_minute=limit),
        Limit("tenant", "ten_a", requests_per_minute=10 * limit, tokens_per_minute=1000 * limit),
        tokens=7,
    )


def bound_by_budget(limit: int, cost: int) -> Ask:
    return ask(budget(limit, alert_at=(0.5,)), Limit("key", "key_1", requests_per_minute=10**6), cost=cost)


async def one_call(limits: RedisLimits, call: Ask) -> None:
    granted = await limits.reserve(call)
    if call.budgets:
        await asyncio.sleep(0.002)
        limits.settle(granted.reservation, 0, call.cost_nano_usd)


async def calls(limits: RedisLimits, tries: int, *numbers: int) -> int:
    """How many of `tries` calls pass, bound by a limit of one number or a budget of two."""
    passed = 0
    for _ in range(tries // AT_ONCE):
        asks = [bound_by_budget(*numbers) if len(numbers) > 1 else bound_by_limit(*numbers) for _ in range(AT_ONCE)]
        outcomes = await asyncio.gather(*(one_call(limits, one) for one in asks), return_exceptions=True)
        strange = [o for o in outcomes if o is not None and not isinstance(o, RateLimited | BudgetSpent)]
        if strange:
            raise strange[0]
        passed += outcomes.count(None)
    return passed


async def main(url: str, pepper: str, time_key: str, mode: str, *numbers: int) -> None:
    alerts: list[BudgetAlert] = []
    # Eight processes on two busy cores may be slow; a call decided locally would spoil the count.
    async with redis_limits(
        url,
        pepper=Pepper(bytes.fromhex(pepper)),
        scripts=scripts_reading(time_key),
        timeout_s=20,
        on_alert=alerts.append,
    ) as (limits, _):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        if mode == "hold":
            await limits.reserve(bound_by_budget(*numbers))
            passed = 1
        else:
            passed = await calls(limits, *numbers)
        await limits.flush()
        sys.stdout.write(f"{passed} {limits.health().local_decisions} {len(alerts)}\n")
        sys.stdout.flush()
        if mode == "hold":
            await asyncio.sleep(60)


if __name__ == "__main__":
    _, url, pepper, time_key, mode, *numbers = sys.argv
    asyncio.run(main(url, pepper, time_key, mode, *map(int, numbers)))
