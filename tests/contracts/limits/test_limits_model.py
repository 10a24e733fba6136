"""Random histories, compared step by step with a reference that keeps every event and computes from scratch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.limits import LocalWorld, RedisWorld, World, ask
from trueport.gateway.limits.base import Granted, Limit, RateLimited, TooLargeForLimit, Window

LIMITS = (
    Limit("key", "a", requests_per_minute=4, tokens_per_minute=50, concurrency=3),
    Limit("key", "b", requests_per_minute=2),
    Limit("user", "a", tokens_per_minute=80),
    Limit("tenant", "ten_a", requests_per_minute=6, tokens_per_minute=100, concurrency=4),
)
LONGEST_S = 70.3125


@dataclass
class Event:
    at: Fraction
    limits: tuple[Limit, ...]
    tokens: int
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

    def running(self, limit: Limit) -> int:
        end = Fraction(LONGEST_S)
        return sum(limit in e.limits and e.is_running and e.at + end > self.now for e in self.events)

    def verdict(self, limits: tuple[Limit, ...], tokens: int) -> set[str]:
        """Every reason to refuse; none is leave to pass."""
        if any(0 < limit.tokens_per_minute < tokens for limit in limits):
            return {"request_too_large_for_limit"}
        reasons: set[str] = set()
        for limit in limits:
            if limit.requests_per_minute and self.used(limit, one) + 1 > limit.requests_per_minute:
                reasons.add("rate_limited")
            if limit.tokens_per_minute and self.used(limit, its_tokens) + tokens > limit.tokens_per_minute:
                reasons.add("tokens_rate_limited")
            if limit.concurrency and self.running(limit) >= limit.concurrency:
                reasons.add("concurrency_limited")
        return reasons


takes = st.tuples(
    st.just("take"), st.lists(st.sampled_from(LIMITS), min_size=1, max_size=3, unique=True), st.integers(0, 60)
)
# Binary fractions of a second keep the three clocks (float, microseconds, exact) on the same instant.
advances = st.tuples(st.just("advance"), st.integers(0, 130 * 8).map(lambda n: n / 8), st.none())
settlements = st.tuples(st.just("settle"), st.integers(0, 30), st.integers(0, 70))
histories = st.lists(st.one_of(takes, takes, advances, settlements), max_size=25)


async def replay(world: World, window: Window, history: list[tuple[str, Any, Any]]) -> None:
    """Run `history` against both and compare every verdict and every remainder."""
    reference = Reference(window)
    granted: list[tuple[Granted, Event]] = []
    for deed, what, tokens in history:
        if deed == "advance":
            await world.advance(what)
            reference.now += Fraction(what)
        elif deed == "settle" and granted:
            reservation, event = granted.pop(what % len(granted))
            world.limits.settle(reservation.reservation, tokens)
            await world.flush()
            event.tokens, event.is_running = tokens, False
        elif deed == "take":
            limits = tuple(what)
            allowed = reference.verdict(limits, tokens)
            outcome = await outcome_of(world, limits, tokens)
            if isinstance(outcome, Granted):
                assert allowed == set()
                event = Event(reference.now, limits, tokens)
                reference.events.append(event)
                granted.append((outcome, event))
                compare_room(outcome, limits, reference)
            else:
                assert outcome in allowed


async def outcome_of(world: World, limits: tuple[Limit, ...], tokens: int) -> Granted | str:
    try:
        return await world.limits.reserve(ask(*limits, tokens=tokens, longest_s=LONGEST_S))
    except (RateLimited, TooLargeForLimit) as refusal:
        return refusal.code


def compare_room(granted: Granted, limits: tuple[Limit, ...], reference: Reference) -> None:
    left = [lim.requests_per_minute - reference.used(lim, one) for lim in limits if lim.requests_per_minute]
    if left:
        assert granted.standing.remaining_requests == min(left) // 1
    left = [lim.tokens_per_minute - reference.used(lim, its_tokens) for lim in limits if lim.tokens_per_minute]
    if left:
        assert granted.standing.remaining_tokens == max(0, min(left) // 1)


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
