"""Limiters to test: in memory and over a real Redis, both with hands of the clock that a test can turn."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from tests.support.redis_server import inspector
from trueport.gateway.limits.base import Ask, Limit, Limits, Window
from trueport.gateway.limits.keys import KeyNames, Pepper
from trueport.gateway.limits.local import LocalLimits
from trueport.gateway.limits.redis import OnLoss, Pace, RedisLimits
from trueport.gateway.limits.resp import Address, RespClient
from trueport.gateway.limits.scripts import SCRIPTS, Script, Scripts
from trueport.kit.clock import Clock, ManualClock, SystemClock, from_epoch_us
from trueport.kit.ids import TenantId

TENANT: Final = TenantId("ten_a")
_calls = itertools.count()


def fresh_pepper() -> Pepper:
    """Names that no other test shares, even on a shared server."""
    return Pepper(os.urandom(32))


def ask(*limits: Limit, tokens: int = 0, call_id: str = "", tenant: TenantId = TENANT, longest_s: float = 600) -> Ask:
    return Ask(tenant, limits, tokens, call_id or f"call_{next(_calls)}", longest_s)


class World(Protocol):
    """A limiter and the time it lives in, which begins with a minute."""

    limits: Limits

    async def advance(self, seconds: float) -> None:
        """Let time pass, here and in Redis."""

    async def flush(self) -> None:
        """Return when every settlement so far has taken effect."""


class LocalWorld:
    def __init__(self, window: Window) -> None:
        self._clock = ManualClock()
        self.limits: Limits = LocalLimits(self._clock, window=window)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def flush(self) -> None:
        """Settlements take effect at once."""


class RedisWorld:
    """Over a real server whose scripts read the time from a key instead of TIME."""

    def __init__(self, url: str, window: Window) -> None:
        self._clock = ManualClock()
        self._url = url
        self._time_key = f"test_clock_{os.urandom(8).hex()}"
        self._redis = RedisLimits(
            RespClient(Address.parse(url), timeout_s=5, connect_timeout_s=5),
            KeyNames(fresh_pepper()),
            self._clock,
            window=window,
            scripts=scripts_reading(self._time_key),
        )
        self.limits: Limits = self._redis

    async def open(self) -> None:
        set_time(self._url, self._time_key, self._clock)
        await self._redis.open()

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        set_time(self._url, self._time_key, self._clock)

    async def flush(self) -> None:
        await self._redis.flush()


def scripts_reading(time_key: str) -> Scripts:
    """The product's scripts with `time_key` (a hash of s and us) in the place of Redis's clock."""

    def changed(script: Script) -> Script:
        assert "redis.call('TIME')" in script.source
        return Script(script.source.replace("redis.call('TIME')", f"redis.call('HMGET', '{time_key}', 's', 'us')"))

    return replace(SCRIPTS, take=changed(SCRIPTS.take), add=changed(SCRIPTS.add), beat=changed(SCRIPTS.beat))


def set_time(url: str, time_key: str, clock: Clock) -> None:
    seconds, us = divmod(clock.epoch_us(), 1_000_000)
    with inspector(url) as client:
        client.hset(time_key, mapping={"s": seconds, "us": us})
        client.expire(time_key, 300)


class StoppedTime:
    """The 30th second of a minute, for as long as a test takes, in Redis and for whoever uses `clock`."""

    def __init__(self, url: str) -> None:
        minute_us = 60_000_000
        self.clock = ManualClock(from_epoch_us(SystemClock().epoch_us() // minute_us * minute_us + minute_us // 2))
        self._url = url
        self._key = f"test_clock_{os.urandom(8).hex()}"
        self.scripts = scripts_reading(self._key)
        self.tell_redis()

    @property
    def minute(self) -> int:
        return self.clock.epoch_us() // 60_000_000

    def tell_redis(self) -> None:
        set_time(self._url, self._key, self.clock)


@asynccontextmanager
async def redis_limits(
    url: str,
    *,
    pepper: Pepper | None = None,
    clock: Clock | None = None,
    window: Window = "sliding",
    on_loss: OnLoss = "local_share",
    workers: int = 1,
    cluster: bool = False,
    pace: Pace | None = None,
    timeout_s: float = 5,
    scripts: Scripts = SCRIPTS,
) -> AsyncIterator[tuple[RedisLimits, RespClient]]:
    """A limiter as the product runs it, except for its patience with a busy machine; and its client to watch."""
    client = RespClient(Address.parse(url), timeout_s=timeout_s, connect_timeout_s=2 * timeout_s)
    limits = RedisLimits(
        client,
        KeyNames(pepper or fresh_pepper(), cluster=cluster),
        clock or SystemClock(),
        window=window,
        on_loss=on_loss,
        workers=workers,
        pace=pace or Pace(),
        scripts=scripts,
    )
    await limits.open()
    try:
        yield limits, client
    finally:
        await limits.close()


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is state of the product, not an event
            await asyncio.sleep(0.01)
