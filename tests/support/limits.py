"""Limiters to test: in memory and over a real Redis, both with hands of the clock that a test can turn."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from tests.support.redis_server import inspector
from trueport.gateway.limits.base import Ask, Budget, BudgetAlert, Limit, Limits, OnAlert, SpentSource, Window
from trueport.gateway.limits.keys import KeyNames, Pepper
from trueport.gateway.limits.local import LocalLimits
from trueport.gateway.limits.periods import period_of
from trueport.gateway.limits.redis import OnLoss, Pace, RedisLimits
from trueport.gateway.limits.resp import Address, RespClient
from trueport.gateway.limits.scripts import SCRIPTS, Script, Scripts
from trueport.kit.clock import Clock, ManualClock, SystemClock, from_epoch_us, to_epoch_us
from trueport.kit.errors import Unavailable
from trueport.kit.ids import TenantId

TENANT: Final = TenantId("ten_a")
_calls = itertools.count()


def fresh_pepper() -> Pepper:
    """Names that no other test shares, even on a shared server."""
    return Pepper(os.urandom(32))


def ask(
    *bounds: Limit | Budget,
    tokens: int = 0,
    cost: int = 0,
    call_id: str = "",
    tenant: TenantId = TENANT,
    longest_s: float = 600,
) -> Ask:
    limits = tuple(bound for bound in bounds if isinstance(bound, Limit))
    budgets = tuple(bound for bound in bounds if isinstance(bound, Budget))
    return Ask(tenant, limits, tokens, call_id or f"call_{os.getpid()}_{next(_calls)}", longest_s, budgets, cost)


def budget(
    limit: int,
    *,
    name: str = "monthly",
    scope: str = "tenant",
    subject: str = TENANT,
    blocks: bool = True,
    alert_at: tuple[float, ...] = (),
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC),
) -> Budget:
    """A month's budget, of the month in which a ManualClock begins unless `at` says otherwise."""
    period, _, ends = period_of("month", at)
    return Budget(name, scope, subject, period, to_epoch_us(ends), limit, blocks, alert_at)


class FakeLedger:
    """A durable source: what was `spent_by` each (tenant, budget's name, subject, period); it counts who asks.

    is_away: it cannot be read. `gate`, cleared, makes it wait.
    """

    def __init__(self) -> None:
        self.spent_by: dict[tuple[TenantId, str, str, str], int] = {}
        self.asked = 0
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()

    def has(self, spent: int, budget: Budget, tenant: TenantId = TENANT) -> None:
        self.spent_by[tenant, budget.name, budget.subject, budget.period] = spent

    async def spent(self, tenant_id: TenantId, budget: Budget) -> int:
        self.asked += 1
        await self.gate.wait()
        if self.is_away:
            raise Unavailable("the ledger is away")
        return self.spent_by.get((tenant_id, budget.name, budget.subject, budget.period), 0)


class World(Protocol):
    """A limiter, the time it lives in, which begins with a minute, its ledger, and who is alerted."""

    limits: Limits
    ledger: FakeLedger
    alerts: list[BudgetAlert]
    receiver: OnAlert

    async def advance(self, seconds: float) -> None:
        """Let time pass, here and in Redis."""

    async def flush(self) -> None:
        """Return when every settlement so far has taken effect."""

    async def forget(self, *budgets: Budget) -> None:
        """Lose what is counted of `budgets`, as a store does that was started again."""


class LocalWorld:
    def __init__(self, window: Window) -> None:
        self._clock = ManualClock()
        self._window: Window = window
        self.ledger = FakeLedger()
        self.alerts: list[BudgetAlert] = []
        self.receiver: OnAlert = self.alerts.append
        self.limits: Limits = self._fresh()

    def _fresh(self) -> LocalLimits:
        return LocalLimits(self._clock, window=self._window, source=self.ledger, on_alert=self._tell)

    def _tell(self, alert: BudgetAlert) -> None:
        self.receiver(alert)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def flush(self) -> None:
        """Settlements take effect at once."""

    async def forget(self, *_budgets: Budget) -> None:
        """The process was started again."""
        self.limits = self._fresh()


class RedisWorld:
    """Over a real server whose scripts read the time from a key instead of TIME."""

    def __init__(self, url: str, window: Window) -> None:
        self._clock = ManualClock()
        self._url = url
        self._time_key = f"test_clock_{os.urandom(8).hex()}"
        self._names = KeyNames(fresh_pepper())
        self.ledger = FakeLedger()
        self.alerts: list[BudgetAlert] = []
        self.receiver: OnAlert = self.alerts.append
        self._redis = RedisLimits(
            RespClient(Address.parse(url), timeout_s=5, connect_timeout_s=5),
            self._names,
            self._clock,
            window=window,
            scripts=scripts_reading(self._time_key),
            source=self.ledger,
            on_alert=self._tell,
        )
        self.limits: Limits = self._redis

    async def open(self) -> None:
        set_time(self._url, self._time_key, self._clock)
        await self._redis.open()

    def _tell(self, alert: BudgetAlert) -> None:
        self.receiver(alert)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        set_time(self._url, self._time_key, self._clock)

    async def flush(self) -> None:
        await self._redis.flush()
        async with asyncio.timeout(20):
            while self._redis.health().backlog:  # more members than one charge takes, or a flush of its own under way
                await self._redis.flush()

    async def forget(self, *budgets: Budget) -> None:
        with inspector(self._url) as client:
            for budget in budgets:
                client.delete(*purse_keys(self._names, budget))


def purse_keys(names: KeyNames, budget: Budget, tenant: TenantId = TENANT) -> tuple[str, str]:
    """Where a period of a budget lies in Redis: the purse, and the calls that hold of it."""
    label = names.budget_label(tenant, budget.name, budget.scope, budget.subject)
    return names.purse(label, budget.period), names.holding(label, budget.period)


def scripts_reading(time_key: str) -> Scripts:
    """The product's scripts with `time_key` (a hash of s and us) in the place of Redis's clock."""

    def changed(script: Script) -> Script:
        assert "redis.call('TIME')" in script.source
        return Script(script.source.replace("redis.call('TIME')", f"redis.call('HMGET', '{time_key}', 's', 'us')"))

    return replace(
        SCRIPTS,
        take=changed(SCRIPTS.take),
        add=changed(SCRIPTS.add),
        begin=changed(SCRIPTS.begin),
        beat=changed(SCRIPTS.beat),
    )


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
        self.key = f"test_clock_{os.urandom(8).hex()}"
        self.scripts = scripts_reading(self.key)
        self.tell_redis()

    @property
    def minute(self) -> int:
        return self.clock.epoch_us() // 60_000_000

    def tell_redis(self) -> None:
        set_time(self._url, self.key, self.clock)


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
    source: SpentSource | None = None,
    on_alert: OnAlert | None = None,
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
        source=source,
        on_alert=on_alert,
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
