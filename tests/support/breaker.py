"""Circuit breakers to test: in memory and over a real Redis, both with hands of the clock that a test can turn."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from tests.support.redis_server import inspector
from trueport.gateway.breaker.base import RULES, BreakerRules, Breakers, Denied, Permit, Verdict
from trueport.gateway.breaker.local import LocalBreakers
from trueport.gateway.breaker.redis import Pace, RedisBreakers
from trueport.gateway.breaker.scripts import SCRIPTS, BreakerScripts
from trueport.gateway.limits.resp import Address, RespClient
from trueport.gateway.limits.scripts import Script
from trueport.kit.clock import Clock, ManualClock, SystemClock

LEASE_S: Final = 65.0
PACE: Final = Pace()


class Half(random.Random):
    """Draws the middle: cool-downs without jitter."""

    def random(self) -> float:
        return 0.5


def fresh_scope(provider: str = "openai") -> str:
    """A scope that no other test uses, even on a shared server."""
    return f"{provider}:crd_{os.urandom(8).hex()}"


async def permitted(breakers: Breakers, scope: str, lease_s: float = LEASE_S) -> Permit:
    """The permit of an attempt that has to be allowed."""
    permit = await breakers.acquire(scope, lease_s)
    assert isinstance(permit, Permit), permit
    return permit


async def denied(breakers: Breakers, scope: str) -> Denied:
    denial = await breakers.acquire(scope, LEASE_S)
    assert isinstance(denial, Denied), denial
    return denial


class World(Protocol):
    """Breakers and the time they live in."""

    breakers: Breakers

    async def advance(self, seconds: float) -> None:
        """Let time pass, here and in Redis."""

    async def flush(self) -> None:
        """Return when every report so far has taken effect."""


class LocalWorld:
    def __init__(self, rules: BreakerRules = RULES) -> None:
        self._clock = ManualClock()
        self.breakers: Breakers = LocalBreakers(self._clock, rules=rules, draw=Half().random)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def flush(self) -> None:
        """Reports take effect at once."""


class RedisWorld:
    """Over a real server whose scripts read the time from a key instead of TIME."""

    def __init__(self, url: str, rules: BreakerRules = RULES, pace: Pace = PACE) -> None:
        self._time = RedisTime(url)
        self.redis = RedisBreakers(
            RespClient(Address.parse(url), timeout_s=5, connect_timeout_s=5),
            self._time.clock,
            rules=rules,
            pace=pace,
            scripts=self._time.scripts,
            draw=Half(),
        )
        self.breakers: Breakers = self.redis

    async def advance(self, seconds: float) -> None:
        self._time.advance(seconds)

    async def flush(self) -> None:
        await self.redis.flush()


class RedisTime:
    """A clock that moves only when told to, for a process and for Redis."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self._url = url
        self.key = f"test_clock_{os.urandom(8).hex()}"
        self.scripts = scripts_reading(self.key)
        self.tell_redis()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tell_redis()

    def tell_redis(self) -> None:
        seconds, us = divmod(self.clock.epoch_us(), 1_000_000)
        with inspector(self._url) as client:
            client.hset(self.key, mapping={"s": seconds, "us": us})
            client.expire(self.key, 300)


def scripts_reading(time_key: str) -> BreakerScripts:
    """The product's scripts with `time_key` (a hash of s and us) in the place of Redis's clock."""

    def changed(script: Script) -> Script:
        assert "redis.call('TIME')" in script.source
        return Script(script.source.replace("redis.call('TIME')", f"redis.call('HMGET', '{time_key}', 's', 'us')"))

    return BreakerScripts(
        changed(SCRIPTS.acquire), changed(SCRIPTS.report), changed(SCRIPTS.look), changed(SCRIPTS.pin)
    )


@asynccontextmanager
async def redis_breakers(
    url: str,
    *,
    rules: BreakerRules = RULES,
    pace: Pace = PACE,
    clock: Clock | None = None,
    cluster: bool = False,
    timeout_s: float = 5,
    scripts: BreakerScripts = SCRIPTS,
) -> AsyncIterator[RedisBreakers]:
    """Breakers as the product runs them, except for their patience with a busy machine."""
    client = RespClient(Address.parse(url), timeout_s=timeout_s, connect_timeout_s=2 * timeout_s)
    breakers = RedisBreakers(
        client, clock or SystemClock(), rules=rules, pace=pace, cluster=cluster, scripts=scripts, draw=Half()
    )
    await breakers.open()
    try:
        yield breakers
    finally:
        await breakers.close()


async def fail(breakers: Breakers, scope: str, times: int, verdict: Verdict = "fail") -> None:
    """So many attempts, each of which has to be allowed, with this verdict."""
    for _ in range(times):
        breakers.report(await permitted(breakers, scope), verdict)
