"""Limits counted in this process: for a single worker without Redis, and as each worker's share while Redis is away.

Counters never wait, so between reading and counting nobody else runs. Only a budget that nobody counts yet makes a call
wait, for the ledger to say where counting begins.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from trueport.gateway.limits.base import (
    LONGEST_RETRY_AFTER_S,
    Ask,
    BudgetSpent,
    ConcurrencyLimited,
    Granted,
    Health,
    Limit,
    LimiterUnavailable,
    Mode,
    NothingSpent,
    OnAlert,
    RateLimited,
    Reservation,
    Room,
    SpentSource,
    TokensRateLimited,
    Window,
    refuse_what_never_fits,
    standing_of,
)
from trueport.gateway.limits.budgets import (
    BudgetKey,
    Ledger,
    Purses,
    Stake,
    alert,
    announce,
    charged_for,
    held_for,
    key_of,
)
from trueport.kit.clock import Clock
from trueport.kit.ids import TenantId

CAPACITY: Final = 50_000
MINUTE_S: Final = 60
_MINUTE_US: Final = 60_000_000
# Weights are floats: a call that fits exactly must not fail on the last bit.
_ROUNDING: Final = 1e-6

Subject = tuple[TenantId, str, str]


def subject_of(tenant_id: TenantId, limit: Limit) -> Subject:
    return (tenant_id, limit.scope, limit.subject)


class Bound(msgspec.Struct, frozen=True):
    """What counts against one limit here and now; None is off, and 0 lets nothing through."""

    requests: int | None
    tokens: int | None
    concurrency: int | None

    @classmethod
    def of(cls, limit: Limit) -> "Bound":
        return cls(limit.requests_per_minute or None, limit.tokens_per_minute or None, limit.concurrency or None)


class Moment(msgspec.Struct, frozen=True):
    """A place in time: the minute (Unix time // 60 s), how much of it has passed, and whether windows slide."""

    minute: int
    passed_s: float
    window: Window

    @property
    def left_s(self) -> int:
        """Seconds until the minute ends, 1 to 60."""
        return math.ceil(MINUTE_S - self.passed_s)

    def free(self, bound: int, current: int, previous: int) -> float:
        """What `bound` has left after the counts of this minute and, in a sliding window, the fading previous one."""
        if self.window == "fixed":
            return bound - current
        return bound - current - previous * (1 - self.passed_s / MINUTE_S)

    def wait_s(self, bound: int, current: int, previous: int, want: int) -> int:
        """Seconds until `want` more fit if nobody else comes, for counts in which they do not fit now."""
        if self.window == "fixed":
            return self.left_s
        if current + want <= bound:
            # Enough of the previous minute has to fade.
            return max(1, math.ceil((1 - (bound - current - want) / previous) * MINUTE_S - self.passed_s))
        # This minute has to become the previous one and then fade.
        share = max(0.0, 1 - (bound - want) / max(current, 1))
        return min(LONGEST_RETRY_AFTER_S, self.left_s + math.ceil(share * MINUTE_S))


@dataclass(slots=True)
class Counter:
    """The counts of one subject. `told_…` is the part of this minute that Redis has been told about."""

    minute: int
    requests: int = 0
    tokens: int = 0
    requests_before: int = 0
    tokens_before: int = 0
    told_requests: int = 0
    told_tokens: int = 0
    calls: dict[str, float] = field(default_factory=dict)

    def turn_to(self, minute: int) -> None:
        """Make `minute` the current one. A clock that was set back counts on in the minute it had reached."""
        if minute <= self.minute:
            return
        follows = minute == self.minute + 1
        self.requests_before = self.requests if follows else 0
        self.tokens_before = self.tokens if follows else 0
        self.minute = minute
        self.requests = self.tokens = self.told_requests = self.told_tokens = 0

    def in_flight(self, now_s: float, bound: int) -> int:
        """How many calls hold a place. Expired ones are looked for only when they would be in the way."""
        if len(self.calls) >= bound:
            self.calls = {call: expiry for call, expiry in self.calls.items() if expiry > now_s}
        return len(self.calls)

    def untold(self) -> tuple[int, int]:
        """Requests and tokens of this minute that Redis does not know of; negative after a settlement."""
        return self.requests - self.told_requests, self.tokens - self.told_tokens

    def settle(self, minute: int, change: int) -> None:
        if minute == self.minute:
            self.tokens = max(0, self.tokens + change)
        elif minute == self.minute - 1:
            self.tokens_before = max(0, self.tokens_before + change)


@dataclass(frozen=True, slots=True)
class _Refusal:
    kind: type[RateLimited]
    scope: str
    wait_s: int


class Counters:
    """The counters of this process, the least recently used forgotten beyond `capacity`."""

    def __init__(self, clock: Clock, window: Window, *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._window = window
        self._capacity = capacity
        self._counters: OrderedDict[Subject, Counter] = OrderedDict()

    def of(self, subject: Subject, minute: int) -> Counter:
        """The counter of `subject`, turned to `minute`."""
        counter = self._counters.get(subject)
        if counter is None:
            counter = self._counters[subject] = Counter(minute)
            if len(self._counters) > self._capacity:
                self._counters.popitem(last=False)
        else:
            self._counters.move_to_end(subject)
            counter.turn_to(minute)
        return counter

    def take(self, ask: Ask, bounds: Sequence[Bound], mode: Mode, stakes: Sequence[Stake] = ()) -> Granted:
        """Count `ask` under `bounds`, one for each of its limits in their order, and hold its cost in `stakes`.

        Raises BudgetSpent and RateLimited, and has then counted nothing.
        """
        moment = self._moment()
        counters = [self.of(subject_of(ask.tenant_id, limit), moment.minute) for limit in ask.limits]
        refusals = [
            refusal
            for limit, bound, counter in zip(ask.limits, bounds, counters, strict=True)
            for refusal in self._refusals(limit.scope, bound, counter, ask.tokens, moment)
        ]
        spent = self._spent(ask, stakes)
        if not refusals and not spent:
            self._count(ask, bounds, counters)
            for stake in stakes:
                expiry_s = self._clock.monotonic() + ask.longest_s
                stake.purse.hold(ask.call_id, held_for(ask, stake.budget), expiry_s)
        rooms = [_room(bound, counter, moment) for bound, counter in zip(bounds, counters, strict=True)]
        left = min((stake.left for stake in stakes if stake.budget.blocks), default=None)
        standing = standing_of(ask.limits, rooms, reset_s(moment.left_s, self._window), mode, left)
        if spent:
            raise BudgetSpent(budget=max(spent, key=lambda stake: stake.budget.ends_us).budget, standing=standing)
        if refusals:
            worst = max(refusals, key=lambda refusal: refusal.wait_s)
            raise worst.kind(scope=worst.scope, retry_after_s=worst.wait_s, standing=standing)
        return Granted(Reservation(ask, moment.minute, "memory"), standing)

    def settle(self, reservation: Reservation, tokens: int) -> None:
        ask = reservation.ask
        for limit in ask.limits:
            counter = self._counters.get(subject_of(ask.tenant_id, limit))
            if counter is None:
                continue
            counter.calls.pop(ask.call_id, None)
            if limit.tokens_per_minute:
                counter.settle(reservation.minute, tokens - ask.tokens)

    def _spent(self, ask: Ask, stakes: Sequence[Stake]) -> list[Stake]:
        """The stakes that have no room for the call."""
        now_s = self._clock.monotonic()
        for stake in stakes:
            stake.purse.sweep(now_s)
        return [
            stake
            for stake in stakes
            if stake.budget.blocks and not stake.purse.admits(held_for(ask, stake.budget), stake.limit_nano_usd)
        ]

    def _moment(self) -> Moment:
        minute, passed_us = divmod(self._clock.epoch_us(), _MINUTE_US)
        return Moment(minute, passed_us / 1e6, self._window)

    def _refusals(self, scope: str, bound: Bound, counter: Counter, tokens: int, moment: Moment) -> list[_Refusal]:
        refusals = []
        if bound.requests is not None:
            counts = (bound.requests, counter.requests, counter.requests_before)
            if moment.free(*counts) + _ROUNDING < 1:
                refusals.append(_Refusal(RateLimited, scope, moment.wait_s(*counts, 1)))
        if bound.tokens is not None:
            counts = (bound.tokens, counter.tokens, counter.tokens_before)
            if moment.free(*counts) + _ROUNDING < tokens:
                refusals.append(_Refusal(TokensRateLimited, scope, moment.wait_s(*counts, tokens)))
        if bound.concurrency is not None:
            in_flight = counter.in_flight(self._clock.monotonic(), bound.concurrency)
            if in_flight >= bound.concurrency:
                refusals.append(_Refusal(ConcurrencyLimited, scope, 1))
        return refusals

    def _count(self, ask: Ask, bounds: Sequence[Bound], counters: Sequence[Counter]) -> None:
        for bound, counter in zip(bounds, counters, strict=True):
            if bound.requests is not None:
                counter.requests += 1
            if bound.tokens is not None:
                counter.tokens += ask.tokens
            if bound.concurrency is not None:
                counter.calls[ask.call_id] = self._clock.monotonic() + ask.longest_s


def _room(bound: Bound, counter: Counter, moment: Moment) -> Room:
    requests = tokens = None
    if bound.requests is not None:
        free = moment.free(bound.requests, counter.requests, counter.requests_before)
        requests = max(0, math.floor(free + _ROUNDING))
    if bound.tokens is not None:
        free = moment.free(bound.tokens, counter.tokens, counter.tokens_before)
        tokens = max(0, math.floor(free + _ROUNDING))
    return Room(requests, tokens)


def reset_s(left_s: int, window: Window) -> int:
    """Seconds until what was counted in the present minute, of which `left_s` are left, no longer weighs."""
    return left_s if window == "fixed" else left_s + MINUTE_S


class LocalLimits:
    """`Limits` for exactly one process. The counts end with it; those of budgets begin anew with what `source` says."""

    mode: Mode = "memory"

    def __init__(
        self,
        clock: Clock,
        *,
        window: Window = "sliding",
        capacity: int = CAPACITY,
        source: SpentSource | None = None,
        on_alert: OnAlert | None = None,
    ) -> None:
        self._counters = Counters(clock, window, capacity=capacity)
        self._purses = Purses()
        self._ledger = Ledger(source or NothingSpent())
        self._on_alert = on_alert

    def health(self) -> Health:
        return Health("memory")

    async def reserve(self, ask: Ask) -> Granted:
        refuse_what_never_fits(ask)
        stakes = await self._stakes(ask) if ask.budgets else ()
        return self._counters.take(ask, [Bound.of(limit) for limit in ask.limits], "memory", stakes)

    def settle(self, reservation: Reservation, tokens: int, cost_nano_usd: int | None = None) -> None:
        if not reservation.is_open:
            return
        reservation.is_open = False
        self._counters.settle(reservation, tokens)
        ask = reservation.ask
        for budget in ask.budgets:
            key = key_of(ask.tenant_id, budget)
            # A purse that was forgotten begins anew with the ledger's sum, and that has this call.
            if (purse := self._purses.get(key)) is not None:
                purse.settle(ask.call_id, charged_for(ask, cost_nano_usd))
                shares = purse.newly_passed(budget)
                announce(self._on_alert, [alert(key, budget, share, purse.spent) for share in shares])

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        await self._ledger.close()

    async def _stakes(self, ask: Ask) -> list[Stake]:
        """The purses of the budgets of `ask`, begun where there is none. Since it has begun one, nothing has waited.

        One that only alerts is left out when the ledger does not answer; raises LimiterUnavailable for one that blocks.
        """
        wanted = [(key_of(ask.tenant_id, budget), budget) for budget in ask.budgets]
        spent: dict[BudgetKey, int | None] = {}
        while missing := [pair for pair in wanted if pair[0] not in spent and self._purses.get(pair[0]) is None]:
            for key, budget in missing:
                spent[key] = await self._ledger.spent(key, budget)
        stakes = []
        for key, budget in wanted:
            purse = self._purses.get(key)
            if purse is None and (begins_with := spent[key]) is not None:
                purse = self._purses.begin(key, budget, begins_with)
            if purse is not None:
                stakes.append(Stake(budget, purse, budget.limit_nano_usd))
            elif budget.blocks:
                raise LimiterUnavailable
        return stakes
