"""What is spent and held of budgets in this process, and where counting begins.

A purse is one budget in one period. In a single process it begins with what the durable ledger says was spent; while
Redis is away it begins empty, and its limit is this process's share of what was left.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from trueport.gateway.limits.base import MOST_BUDGET_NANO_USD, Ask, Budget, BudgetAlert, OnAlert, SpentSource
from trueport.kit.errors import Unavailable
from trueport.kit.ids import TenantId
from trueport.kit.logging import get_logger

log = get_logger(__name__)

CAPACITY: Final = 50_000
LEDGER_TIMEOUT_S: Final = 2.0


class BudgetKey(NamedTuple):
    """Which counter: one period of one budget of a tenant."""

    tenant_id: TenantId
    name: str
    scope: str
    subject: str
    period: str


def key_of(tenant_id: TenantId, budget: Budget) -> BudgetKey:
    return BudgetKey(tenant_id, budget.name, budget.scope, budget.subject, budget.period)


def held_for(ask: Ask, budget: Budget) -> int:
    """What a call holds of `budget` while it runs.

    More than the limit is more than can ever be left, however much; cutting it there keeps sums within 64 bits when a
    client asks for an absurd number of tokens.
    """
    return min(max(0, ask.cost_nano_usd), budget.limit_nano_usd + 1) if budget.blocks else 0


def charged_for(ask: Ask, cost_nano_usd: int | None) -> int:
    """What a settled call adds to what is spent: its cost, or all that was reserved if nobody knows."""
    cost = ask.cost_nano_usd if cost_nano_usd is None else cost_nano_usd
    return min(max(0, cost), MOST_BUDGET_NANO_USD)


@lru_cache(4096)
def thresholds(limit_nano_usd: int, alert_at: tuple[float, ...]) -> tuple[int, ...]:
    """The amounts at which to alert, in the order of `alert_at`; a share is read as the decimal it was written as."""
    return tuple(math.ceil(Fraction(str(share)) * limit_nano_usd) for share in alert_at)


def alert(key: BudgetKey, budget: Budget, share: float, spent_nano_usd: int) -> BudgetAlert:
    return BudgetAlert(
        tenant_id=key.tenant_id,
        budget=key.name,
        scope=key.scope,
        subject=key.subject,
        period=key.period,
        share=share,
        spent_nano_usd=spent_nano_usd,
        limit_nano_usd=budget.limit_nano_usd,
    )


def announce(on_alert: OnAlert | None, alerts: Iterable[BudgetAlert]) -> None:
    """Hand alerts on. A receiver that fails must not harm the settlement that found them."""
    for one in alerts:
        log.info("budget_alerted", tenant_id=one.tenant_id, scope=one.scope, period=one.period, share=one.share)
        if on_alert is not None:
            try:
                on_alert(one)
            except Exception as error:  # noqa: BLE001 - a receiver may fail in any way
                log.error("budget_alert_failed", tenant_id=one.tenant_id, reason=type(error).__name__)


@dataclass(slots=True)
class Purse:
    """What is spent, and held by calls in flight: call id -> (amount, when it expires on the monotonic clock).

    told: the thresholds that have been told, in nano-dollars.
    """

    spent: int = 0
    held: int = 0
    calls: dict[str, tuple[int, float]] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    _first_expiry: float = math.inf  # no call expires earlier; settled ones may have moved it on

    def sweep(self, now_s: float) -> None:
        """Let go of what calls hold that nobody settled in time."""
        if now_s < self._first_expiry:
            return
        self.calls = {call: held for call, held in self.calls.items() if held[1] > now_s}
        self.held = sum(amount for amount, _ in self.calls.values())
        self._first_expiry = min((expiry for _, expiry in self.calls.values()), default=math.inf)

    def admits(self, amount: int, limit_nano_usd: int) -> bool:
        """Whether a call that may cost `amount` is let through; the rule is that of `Limits.reserve`."""
        taken = self.spent + self.held
        return taken < limit_nano_usd and (not self.calls or taken + amount <= limit_nano_usd)

    def hold(self, call_id: str, amount: int, expiry_s: float) -> None:
        # A call that can cost nothing cannot take part in overspending.
        if amount:
            self.calls[call_id] = (amount, expiry_s)
            self.held += amount
            self._first_expiry = min(self._first_expiry, expiry_s)

    def settle(self, call_id: str, cost_nano_usd: int) -> None:
        amount, _ = self.calls.pop(call_id, (0, 0.0))
        self.held -= amount
        self.spent += cost_nano_usd

    def newly_passed(self, budget: Budget) -> list[float]:
        """The shares of `budget` that spending has reached and nobody has been told of; they are told herewith."""
        amounts = thresholds(budget.limit_nano_usd, budget.alert_at)
        passed = {
            amount: share
            for share, amount in zip(budget.alert_at, amounts, strict=True)
            if amount <= self.spent and amount not in self.told
        }
        self.told.update(passed)
        return list(passed.values())


@dataclass(frozen=True, slots=True)
class Stake:
    """A purse that a call draws on, and how much may go out of it: the budget's limit or a share of what is left."""

    budget: Budget
    purse: Purse
    limit_nano_usd: int

    @property
    def left(self) -> int:
        return max(0, self.limit_nano_usd - self.purse.spent - self.purse.held)


class Purses:
    """The purses of this process, the least recently used forgotten beyond `capacity`."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._purses: OrderedDict[BudgetKey, Purse] = OrderedDict()

    def get(self, key: BudgetKey) -> Purse | None:
        purse = self._purses.get(key)
        if purse is not None:
            self._purses.move_to_end(key)
        return purse

    def begin(self, key: BudgetKey, budget: Budget, spent_nano_usd: int = 0) -> Purse:
        """A new purse. Thresholds that `spent_nano_usd` has reached already count as told."""
        purse = self._purses[key] = Purse(spent_nano_usd)
        purse.newly_passed(budget)
        if len(self._purses) > self._capacity:
            self._purses.popitem(last=False)
        return purse


class Ledger:
    """What the durable source says was spent, asked once for all calls that wait for the same answer."""

    def __init__(self, source: SpentSource, *, timeout_s: float = LEDGER_TIMEOUT_S) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._asking: dict[BudgetKey, asyncio.Task[int | None]] = {}

    async def spent(self, key: BudgetKey, budget: Budget) -> int | None:
        """Nano-dollars, or None when the ledger did not answer in time, or not at all."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, budget))
            asking.add_done_callback(lambda task: self._answered(key, task))
        return await asyncio.shield(asking)

    async def close(self) -> None:
        for asking in list(self._asking.values()):
            asking.cancel()
        if self._asking:
            await asyncio.wait(list(self._asking.values()))

    async def _ask(self, key: BudgetKey, budget: Budget) -> int | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                spent = await self._source.spent(key.tenant_id, budget)
        except (Unavailable, TimeoutError) as error:
            log.warning("budget_ledger_unavailable", tenant_id=key.tenant_id, reason=type(error).__name__)
            return None
        return min(max(0, spent), MOST_BUDGET_NANO_USD)

    def _answered(self, key: BudgetKey, task: asyncio.Task[int | None]) -> None:
        del self._asking[key]
        # Those who asked may all have left: look at the outcome so that asyncio does not report it as lost.
        if not task.cancelled():
            task.exception()
