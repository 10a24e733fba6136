"""What every implementation of `Limits` promises."""

import asyncio

import pytest

from tests.support.limits import World, ask
from trueport.gateway.limits.base import (
    ConcurrencyLimited,
    Limit,
    RateLimited,
    TokensRateLimited,
    TooLargeForLimit,
)
from trueport.kit.ids import TenantId

fixed = pytest.mark.parametrize("window", ["fixed"], indirect=True)
both = pytest.mark.parametrize("window", ["fixed", "sliding"], indirect=True)


def requests(limit: int, subject: str = "key_1") -> Limit:
    return Limit("key", subject, requests_per_minute=limit)


def tokens(limit: int, subject: str = "key_1") -> Limit:
    return Limit("key", subject, tokens_per_minute=limit)


def concurrency(limit: int, subject: str = "key_1") -> Limit:
    return Limit("key", subject, concurrency=limit)


async def admitted(world: World, count: int, *limits: Limit, tokens: int = 0) -> int:
    """How many of `count` calls pass."""
    passed = 0
    for _ in range(count):
        try:
            await world.limits.reserve(ask(*limits, tokens=tokens))
        except RateLimited:
            continue
        passed += 1
    return passed


@both
async def test_as_many_requests_pass_as_the_limit_allows(world: World) -> None:
    assert await admitted(world, 8, requests(5)) == 5


@both
async def test_a_call_without_limits_passes(world: World) -> None:
    granted = await world.limits.reserve(ask())

    world.limits.settle(granted.reservation, 5)
    assert granted.standing.limit_requests == granted.standing.limit_tokens == 0


async def test_a_bound_of_zero_is_off(world: World) -> None:
    assert await admitted(world, 20, Limit("key", "key_1"), tokens=10**9) == 20


@both
async def test_tokens_are_reserved_before_they_are_used(world: World) -> None:
    assert await admitted(world, 5, tokens(100), tokens=40) == 2


async def test_a_call_that_exactly_fills_the_limit_passes(world: World) -> None:
    assert await admitted(world, 1, tokens(100), tokens=100) == 1


async def test_a_call_larger_than_a_whole_minute_is_refused_for_good_and_counts_nowhere(world: World) -> None:
    with pytest.raises(TooLargeForLimit) as refusal:
        await world.limits.reserve(ask(tokens(100), requests(1, "user"), tokens=101))

    assert refusal.value.status == 400
    assert refusal.value.code == "request_too_large_for_limit"
    assert await admitted(world, 2, requests(1, "user")) == 1


async def test_a_refusal_by_one_limit_consumes_nothing_of_the_others(world: World) -> None:
    wide = Limit("tenant", "ten_a", requests_per_minute=3, tokens_per_minute=100, concurrency=3)
    await world.limits.reserve(ask(requests(1)))

    for narrow in (requests(1), requests(1), requests(1), requests(1)):
        with pytest.raises(RateLimited):
            await world.limits.reserve(ask(wide, narrow, tokens=30))

    assert await admitted(world, 5, wide, tokens=30) == 3


async def test_all_limits_of_a_call_are_counted(world: World) -> None:
    tenant = Limit("tenant", "ten_a", requests_per_minute=3)

    assert await admitted(world, 2, requests(9, "key_1"), tenant) == 2
    assert await admitted(world, 2, requests(9, "key_2"), tenant) == 1


async def test_a_limit_counts_on_whichever_limits_come_along(world: World) -> None:
    tenant = Limit("tenant", "ten_a", requests_per_minute=9)

    assert await admitted(world, 2, requests(3), tenant) == 2
    assert await admitted(world, 3, requests(3)) == 1


async def test_scopes_subjects_and_tenants_do_not_share_counters(world: World) -> None:
    await world.limits.reserve(ask(requests(1)))

    await world.limits.reserve(ask(requests(1, "key_2")))
    await world.limits.reserve(ask(Limit("user", "key_1", requests_per_minute=1)))
    await world.limits.reserve(ask(requests(1), tenant=TenantId("ten_b")))


@pytest.mark.parametrize(
    ("limit", "tokens", "kind", "code"),
    [
        (Limit("key", "k", requests_per_minute=1), 0, RateLimited, "rate_limited"),
        (Limit("key", "k", tokens_per_minute=10), 10, TokensRateLimited, "tokens_rate_limited"),
        (Limit("key", "k", concurrency=1), 0, ConcurrencyLimited, "concurrency_limited"),
    ],
)
async def test_a_refusal_says_which_bound_and_whose(
    world: World, limit: Limit, tokens: int, kind: type[RateLimited], code: str
) -> None:
    await world.limits.reserve(ask(limit, tokens=tokens))

    with pytest.raises(kind) as refusal:
        await world.limits.reserve(ask(Limit("tenant", "ten_a", 100, 1000, 100), limit, tokens=tokens))

    assert (refusal.value.code, refusal.value.status, refusal.value.scope) == (code, 429, "key")
    assert refusal.value.retry_after_s is not None
    assert 1 <= refusal.value.retry_after_s <= 120


@both
@pytest.mark.parametrize("passed", [0.0, 17.25, 59.9])
async def test_waiting_as_long_as_a_refusal_says_is_enough(world: World, passed: float) -> None:
    several = (Limit("key", "k", requests_per_minute=3), Limit("tenant", "ten_a", tokens_per_minute=100))
    await admitted(world, 3, *several, tokens=20)
    await world.advance(passed)
    await admitted(world, 9, *several, tokens=20)

    with pytest.raises(RateLimited) as refusal:
        await world.limits.reserve(ask(*several, tokens=20))

    assert refusal.value.retry_after_s is not None
    await world.advance(refusal.value.retry_after_s)
    await world.limits.reserve(ask(*several, tokens=20))


async def test_the_longest_wait_of_all_limits_in_the_way_is_named(world: World) -> None:
    short, long = concurrency(1, "a"), requests(1, "b")
    await world.limits.reserve(ask(short, long))

    with pytest.raises(RateLimited) as refusal:
        await world.limits.reserve(ask(short, long))

    assert refusal.value.code == "rate_limited"
    assert refusal.value.retry_after_s == 120


@fixed
async def test_a_fixed_window_begins_anew_with_the_minute(world: World) -> None:
    await world.advance(59)
    assert await admitted(world, 6, requests(5)) == 5

    await world.advance(1)

    assert await admitted(world, 6, requests(5)) == 5


async def test_a_sliding_window_lets_no_burst_through_around_a_minutes_edge(world: World) -> None:
    await world.advance(59)
    assert await admitted(world, 60, requests(60)) == 60

    await world.advance(2)

    assert await admitted(world, 60, requests(60)) == 1


async def test_a_sliding_window_fades_as_the_minute_passes(world: World) -> None:
    await admitted(world, 60, requests(60))

    await world.advance(60 + 30)

    assert await admitted(world, 60, requests(60)) == 30


async def test_after_two_quiet_minutes_everything_is_free_again(world: World) -> None:
    await admitted(world, 60, requests(60))

    await world.advance(120)

    assert await admitted(world, 60, requests(60)) == 60


async def test_unused_tokens_come_back_at_settlement(world: World) -> None:
    granted = await world.limits.reserve(ask(tokens(100), tokens=90))

    world.limits.settle(granted.reservation, 10)
    await world.flush()

    assert (await world.limits.reserve(ask(tokens(100), tokens=1))).standing.remaining_tokens == 89


async def test_tokens_beyond_the_estimate_are_counted_at_settlement(world: World) -> None:
    granted = await world.limits.reserve(ask(tokens(100), tokens=10))

    world.limits.settle(granted.reservation, 95)
    await world.flush()

    assert await admitted(world, 1, tokens(100), tokens=10) == 0
    assert await admitted(world, 1, tokens(100), tokens=5) == 1


async def test_tokens_are_counted_at_settlement_even_when_none_were_reserved(world: World) -> None:
    granted = await world.limits.reserve(ask(tokens(100), tokens=0))

    world.limits.settle(granted.reservation, 60)
    await world.flush()

    assert (await world.limits.reserve(ask(tokens(100), tokens=0))).standing.remaining_tokens == 40


async def test_settling_twice_gives_back_once(world: World) -> None:
    first = await world.limits.reserve(ask(tokens(100), tokens=40))
    await world.limits.reserve(ask(tokens(100), tokens=40))

    for _ in range(3):
        world.limits.settle(first.reservation, 0)
        await world.flush()

    assert (await world.limits.reserve(ask(tokens(100), tokens=0))).standing.remaining_tokens == 60


@both
async def test_a_settlement_changes_the_minute_of_its_reservation(world: World) -> None:
    granted = await world.limits.reserve(ask(tokens(100), tokens=100))
    await world.advance(60)
    await admitted(world, 1, tokens(100), tokens=0)

    world.limits.settle(granted.reservation, 0)
    await world.flush()

    assert (await world.limits.reserve(ask(tokens(100), tokens=0))).standing.remaining_tokens == 100


async def test_a_settlement_after_its_minute_is_forgotten_changes_nothing(world: World) -> None:
    granted = await world.limits.reserve(ask(tokens(100), tokens=10))
    await world.advance(200)

    world.limits.settle(granted.reservation, 100)
    await world.flush()

    assert (await world.limits.reserve(ask(tokens(100), tokens=0))).standing.remaining_tokens == 100


async def test_only_so_many_calls_run_at_once(world: World) -> None:
    running = [await world.limits.reserve(ask(concurrency(2))) for _ in range(2)]
    with pytest.raises(ConcurrencyLimited):
        await world.limits.reserve(ask(concurrency(2)))

    world.limits.settle(running[0].reservation, 0)
    await world.flush()

    assert await admitted(world, 2, concurrency(2)) == 1


async def test_the_place_of_a_call_that_never_settled_is_free_once_it_expires(world: World) -> None:
    await world.limits.reserve(ask(concurrency(1), longest_s=90.5))

    await world.advance(90)
    assert await admitted(world, 1, concurrency(1)) == 0
    await world.advance(1)
    assert await admitted(world, 1, concurrency(1)) == 1


@both
async def test_concurrent_calls_never_pass_beyond_the_limit(world: World) -> None:
    several = (Limit("key", "k", requests_per_minute=40, concurrency=25), Limit("tenant", "ten_a", 60, 300))

    outcomes = await asyncio.gather(
        *(world.limits.reserve(ask(*several, tokens=10)) for _ in range(100)), return_exceptions=True
    )

    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 25
    assert all(isinstance(outcome, RateLimited) for outcome in outcomes if isinstance(outcome, BaseException))


async def test_the_standing_is_that_of_the_tightest_limits(world: World) -> None:
    key = Limit("key", "k", requests_per_minute=10, tokens_per_minute=1000)
    tenant = Limit("tenant", "ten_a", requests_per_minute=100, tokens_per_minute=300)
    await world.advance(20)

    standing = (await world.limits.reserve(ask(key, tenant, tokens=50))).standing

    assert (standing.limit_requests, standing.remaining_requests) == (10, 9)
    assert (standing.limit_tokens, standing.remaining_tokens) == (300, 250)
    assert standing.reset_requests_s == standing.reset_tokens_s == 100


@fixed
async def test_in_a_fixed_window_the_reset_is_the_end_of_the_minute(world: World) -> None:
    await world.advance(20.5)

    standing = (await world.limits.reserve(ask(requests(10)))).standing

    assert standing.reset_requests_s == 40


async def test_a_refusal_carries_the_standing_too(world: World) -> None:
    await world.limits.reserve(ask(requests(1)))

    with pytest.raises(RateLimited) as refusal:
        await world.limits.reserve(ask(requests(1)))

    assert (refusal.value.standing.limit_requests, refusal.value.standing.remaining_requests) == (1, 0)


async def test_settling_outside_of_any_wait_frees_the_place_in_the_background(world: World) -> None:
    granted = await world.limits.reserve(ask(concurrency(1)))
    world.limits.settle(granted.reservation, 0)

    tries = 0
    while await admitted(world, 1, concurrency(1)) == 0:
        tries += 1
        assert tries < 1000
        await asyncio.sleep(0.01)


async def test_the_store_answers(world: World, kind: str) -> None:
    assert await world.limits.ping()
    assert world.limits.mode == world.limits.health().mode == kind
