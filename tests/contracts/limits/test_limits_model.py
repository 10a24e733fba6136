"""Random histories, compared step by step with a reference that keeps every event and computes from scratch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.limits import LocalWorld, RedisWorld, World, ask, budget
from trueport.gateway.limits.base import Budget, BudgetSpent, Granted, Limit, RateLimited, TooLargeForLimit, Window

LIMITS = (
    Limit("key", "a", requests_per_minute=4, tokens_per_minute=50, concurrency=3),
    Limit("key", "b", requests_per_minute=2),
    Limit("user", "a", tokens_per_minute=80),
    Limit("tenant", "ten_a", requests_per_minute=6, tokens_per_minute=100, concurrency=4),
)
BUDGETS = (
    budget(100, name="a", alert_at=(0.5, 0.9)),
    budget(300, name="b", scope="user", subject="ann", alert_at=(0.07,)),
    budget(60, name="c", blocks=False, alert_at=(0.5, 1.0)),
)
SPENT_BEFORE = {"a": 0, "b": 150, "c": 31}
LONGEST_S = 70.3125


@dataclass
class Event:
    at: Fraction
    limits: tuple[Limit, ...]
    tokens: int
    budgets: tuple[Budget, ...] = ()
    cost: int = 0
    is_running: bool = True


def one(_event: Event) -> int:
    return 1


def its_tokens(event: Event) -> int:
    return event.tokens


@dataclass
class Reference:
    """The rules, written as slowly and plainly as possible. Times are exact."""

    window: Window
    now: Fraction = Fraction(0)
    events: list[Event] = field(default_factory=list)

    def used(self, limit: Limit, measure: Callable[[Event], int]) -> Fraction:
        minute = self.now // 60
        counted = {minute: 0, minute - 1: 0}
        for event in self.events:
            if limit in event.limits and event.at // 60 in counted:
                counted[event.at // 60] += measure(event)
        fade = 1 - (self.now % 60) / 60 if self.window == "sliding" else Fraction(0)
        return counted[minute] + counted[minute - 1] * fade

    def is_in_flight(self, event: Event) -> bool:
        return event.is_running and event.at + Fraction(LONGEST_S) > self.now

    def running(self, limit: Limit) -> int:
        return sum(limit in event.limits and self.is_in_flight(event) for event in self.events)

    def spent(self, one: Budget) -> int:
        settled = sum(event.cost for event in self.events if one in event.budgets and not event.is_running)
        return SPENT_BEFORE[one.name] + settled

    def held(self, one: Budget) -> list[int]:
        """What each call in flight holds, free ones left out. More than the limit is as good as one more than it."""
        costs = [event.cost for event in self.events if one in event.budgets and self.is_in_flight(event)]
        return [min(cost, one.limit_nano_usd + 1) for cost in costs if cost]

    def has_money(self, one: Budget, cost: int) -> bool:
        taken = self.spent(one) + sum(self.held(one))
        return taken < one.limit_nano_usd and (not self.held(one) or taken + cost <= one.limit_nano_usd)

    def reached(self) -> set[tuple[str, float]]:
        """The thresholds that settled calls have reached."""
        return {
            (one.name, share)
            for one in BUDGETS
            for share in one.alert_at
            if SPENT_BEFORE[one.name] < Fraction(str(share)) * one.limit_nano_usd <= self.spent(one)
        }

    def verdict(self, limits: tuple[Limit, ...], tokens: int, budgets: tuple[Budget, ...], cost: int) -> set[str]:
        """Every reason to refuse that may be named; none is leave to pass."""
        if any(0 < limit.tokens_per_minute < tokens for limit in limits):
            return {"request_too_large_for_limit"}
        if any(one.blocks and not self.has_money(one, cost) for one in budgets):
            return {"budget_exceeded"}
        reasons: set[str] = set()
        for limit in limits:
            if limit.requests_per_minute and self.used(limit, one) + 1 > limit.requests_per_minute:
                reasons.add("rate_limited")
            if limit.tokens_per_minute and self.used(limit, its_tokens) + tokens > limit.tokens_per_minute:
                reasons.add("tokens_rate_limited")
            if limit.concurrency and self.running(limit) >= limit.concurrency:
                reasons.add("concurrency_limited")
        return reasons


limits_and_budgets = st.tuples(
    st.lists(st.sampled_from(LIMITS), max_size=3, unique=True), st.lists(st.sampled_from(BUDGETS), unique=True)
)
tokens_and_cost = st.tuples(st.integers(0, 60), st.one_of(st.integers(0, 40), st.integers(0, 400)))
takes = st.tuples(st.just("take"), limits_and_budgets, tokens_and_cost)
# Binary fractions of a second keep the three clocks (float, microseconds, exact) on the same instant.
advances = st.tuples(st.just("advance"), st.integers(0, 130 * 8).map(lambda n: n / 8), st.none())
settlements = st.tuples(
    st.just("settle"), st.integers(0, 30), st.tuples(st.integers(0, 70), st.one_of(st.none(), st.integers(0, 50)))
)
histories = st.lists(st.one_of(takes, takes, advances, settlements), max_size=25)


async def replay(world: World, window: Window, history: list[tuple[str, Any, Any]]) -> None:
    """Run `history` against both and compare every verdict and every remainder."""
    reference = Reference(window)
    for one in BUDGETS:
        world.ledger.has(SPENT_BEFORE[one.name], one)
    granted: list[tuple[Granted, Event]] = []
    for deed, what, how_much in history:
        if deed == "advance":
            await world.advance(what)
            reference.now += Fraction(what)
        elif deed == "settle" and granted:
            reservation, event = granted.pop(what % len(granted))
            tokens, cost = how_much
            world.limits.settle(reservation.reservation, tokens, cost)
            await world.flush()
            event.tokens, event.is_running = tokens, False
            event.cost = event.cost if cost is None else cost
            assert sorted((alert.budget, alert.share) for alert in world.alerts) == sorted(reference.reached())
        elif deed == "take":
            limits, budgets = (tuple(bounds) for bounds in what)
            tokens, cost = how_much
            allowed = reference.verdict(limits, tokens, budgets, cost)
            outcome = await outcome_of(world, (*limits, *budgets), tokens, cost)
            if isinstance(outcome, Granted):
                assert allowed == set()
                event = Event(reference.now, limits, tokens, budgets, cost)
                reference.events.append(event)
                granted.append((outcome, event))
                compare_room(outcome, limits, reference)
                compare_money(outcome, budgets, reference)
            else:
                assert outcome in allowed


async def outcome_of(world: World, bounds: tuple[Limit | Budget, ...], tokens: int, cost: int) -> Granted | str:
    try:
        return await world.limits.reserve(ask(*bounds, tokens=tokens, cost=cost, longest_s=LONGEST_S))
    except (RateLimited, TooLargeForLimit, BudgetSpent) as refusal:
        return refusal.code


def compare_room(granted: Granted, limits: tuple[Limit, ...], reference: Reference) -> None:
    left = [lim.requests_per_minute - reference.used(lim, one) for lim in limits if lim.requests_per_minute]
    if left:
        assert granted.standing.remaining_requests == min(left) // 1
    left = [lim.tokens_per_minute - reference.used(lim, its_tokens) for lim in limits if lim.tokens_per_minute]
    if left:
        assert granted.standing.remaining_tokens == max(0, min(left) // 1)


def compare_money(granted: Granted, budgets: tuple[Budget, ...], reference: Reference) -> None:
    left = [one.limit_nano_usd - reference.spent(one) - sum(reference.held(one)) for one in budgets if one.blocks]
    assert granted.standing.budget_left_nano_usd == (max(0, min(left)) if left else None)


def check(runner: asyncio.Runner, world: Callable[[], Awaitable[World]], window: Window, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(histories)
    def holds(history: list[tuple[str, Any, Any]]) -> None:
        async def story() -> None:
            there = await world()
            try:
                await replay(there, window, history)
            finally:
                await there.limits.close()

        runner.run(story())

    holds()


@pytest.mark.parametrize("window", ["sliding", "fixed"], indirect=True)
@pytest.mark.parametrize("examples", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_counting_in_memory_decides_as_the_reference_does(window: Window, examples: int) -> None:
    async def memory() -> World:
        return LocalWorld(window)

    with asyncio.Runner() as runner:
        check(runner, memory, window, examples)


@pytest.mark.parametrize("window", ["sliding", "fixed"], indirect=True)
@pytest.mark.parametrize("examples", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_counting_in_redis_decides_as_the_reference_does(window: Window, redis_url: str, examples: int) -> None:
    async def over_redis() -> World:
        world = RedisWorld(redis_url, window)
        await world.open()
        return world

    with asyncio.Runner() as runner:
        check(runner, over_redis, window, examples)
