"""What one of several gateway processes does: `python -m tests.support.limits_process URL PEPPER TIME_KEY TRIES LIMIT`.

Prints "ready", waits for a line on standard input, reserves TRIES times with several calls at once, and prints how many
passed and how many of all were decided without Redis.
"""

import asyncio
import sys

from tests.support.limits import ask, redis_limits, scripts_reading
from trueport.gateway.limits.base import Limit, RateLimited
from trueport.gateway.limits.keys import Pepper

AT_ONCE = 10


async def main(url: str, pepper: str, time_key: str, tries: int, limit: int) -> None:
    bounds = (
        Limit("key", "key_1", requests_per_minute=limit),
        Limit("tenant", "ten_a", requests_per_minute=10 * limit, tokens_per_minute=1000 * limit),
    )
    # Eight processes on two busy cores may be slow; a call decided locally would spoil the count.
    async with redis_limits(
        url, pepper=Pepper(bytes.fromhex(pepper)), scripts=scripts_reading(time_key), timeout_s=20
    ) as (limits, _):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        passed = 0
        for _ in range(tries // AT_ONCE):
            outcomes = await asyncio.gather(
                *(limits.reserve(ask(*bounds, tokens=7)) for _ in range(AT_ONCE)), return_exceptions=True
            )
            strange = [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, RateLimited)]
            if strange:
                raise strange[0]
            passed += sum(not isinstance(outcome, BaseException) for outcome in outcomes)
        sys.stdout.write(f"{passed} {limits.health().local_decisions}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
