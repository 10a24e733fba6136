"""What every implementation of `Limits` promises about money."""

import asyncio
from datetime import UTC, datetime

import pytest

from tests.support.limits import TENANT, World, ask, budget, until
from trueport.gateway.limits.base import (
    MOST_BUDGET_NANO_USD,
    Budget,
    BudgetAlert,
    BudgetSpent,
    Granted,
    Limit,
    LimiterUnavailable,
    RateLimited,
    headers,
)
from trueport.kit.ids import TenantId

USD = 1_000_000_000


async def spend(world: World, cost: int, *budgets: Budget, tenant: TenantId = TENANT) -> None:
    """A call that costs just what it reserved."""
    granted = await world.limits.reserve(ask(*budgets, cost=cost, tenant=tenant))
    world.limits.settle(granted.reservation, 0, cost)
    await world.flush()


async def left(world: World, one: Budget) -> int:
    """What `one` has left, asked by a call that costs nothing."""
    granted = await world.limits.reserve(ask(one, cost=0))
    world.limits.settle(granted.reservation, 0, 0)
    assert granted.standing.budget_left_nano_usd is not None
    return granted.standing.budget_left_nano_usd


async def is_refused(world: World, cost: int, *bounds: Budget | Limit) -> bool:
    try:
        await world.limits.reserve(ask(*bounds, cost=cost))
    except BudgetSpent:
        return True
    return False


async def test_the_most_a_call_can_cost_is_held_until_it_is_settled(world: World) -> None:
    month = budget(100)

    granted = await world.limits.reserve(ask(month, cost=70))

    assert granted.standing.budget_left_nano_usd == 30
    assert await is_refused(world, 31, month)
    assert not await is_refused(world, 30, month)


async def test_what_was_held_and_not_spent_comes_back_at_settlement(world: World) -> None:
    month = budget(100)
    granted = await world.limits.reserve(ask(month, cost=70))

    world.limits.settle(granted.reservation, 0, 20)
    await world.flush()

    assert await left(world, month) == 80


async def test_a_cost_beyond_what_was_held_is_spent_all_the_same(world: World) -> None:
    month = budget(100)
    granted = await world.limits.reserve(ask(month, cost=10))

    world.limits.settle(granted.reservation, 0, 95)
    await world.flush()

    assert await left(world, month) == 5


async def test_of_a_call_whose_cost_nobody_knows_all_that_was_held_stays_spent(world: World) -> None:
    month = budget(100)
    granted = await world.limits.reserve(ask(month, cost=40))

    world.limits.settle(granted.reservation, 0)
    await world.flush()

    assert await left(world, month) == 60


async def test_settling_twice_spends_once(world: World) -> None:
    month = budget(100)
    first = await world.limits.reserve(ask(month, cost=30))
    await world.limits.reserve(ask(month, cost=20))

    for cost in (10, 10, None):
        world.limits.settle(first.reservation, 0, cost)
        await world.flush()

    assert await left(world, month) == 70


async def test_a_refusal_names_the_budget_and_when_it_begins_anew(world: World) -> None:
    month = budget(100, name="team", scope="user", subject="ann")
    await spend(world, 100, month)

    with pytest.raises(BudgetSpent) as refusal:
        await world.limits.reserve(ask(month, cost=1))

    assert (refusal.value.code, refusal.value.status, refusal.value.should_retry) == ("budget_exceeded", 402, False)
    assert (refusal.value.scope, refusal.value.name) == ("user", "team")
    assert refusal.value.resets_at == datetime(2026, 2, 1, tzinfo=UTC)
    assert refusal.value.fields == {"scope": "user", "name": "team", "resets_at": "2026-02-01T00:00:00.000Z"}
    assert refusal.value.retry_after_s is None
    assert refusal.value.standing.budget_left_nano_usd == 0


async def test_of_several_spent_budgets_the_one_that_renews_last_is_named(world: World) -> None:
    long = budget(10, name="long", at=datetime(2026, 2, 1, tzinfo=UTC))
    short = budget(10, name="short")
    also = budget(10, name="also short")
    await spend(world, 10, short, long, also)

    with pytest.raises(BudgetSpent) as refusal:
        await world.limits.reserve(ask(short, long, also, cost=1))

    assert refusal.value.name == "long"


async def test_what_is_left_and_less_than_a_worst_case_can_still_be_spent_by_one_call_alone(world: World) -> None:
    month = budget(100)
    await spend(world, 90, month)

    first = await world.limits.reserve(ask(month, cost=50))
    assert await is_refused(world, 1, month)

    world.limits.settle(first.reservation, 0, 5)
    await world.flush()
    second = await world.limits.reserve(ask(month, cost=50))
    world.limits.settle(second.reservation, 0, 50)
    await world.flush()
    assert await is_refused(world, 1, month)


async def test_nothing_goes_over_while_others_run_however_little(world: World) -> None:
    month = budget(100)
    await world.limits.reserve(ask(month, cost=1))

    assert await is_refused(world, 100, month)
    assert not await is_refused(world, 99, month)


async def test_a_call_that_can_cost_nothing_keeps_nobody_from_being_alone(world: World) -> None:
    month = budget(100)
    await world.limits.reserve(ask(month, cost=0))

    assert not await is_refused(world, 500, month)


async def test_a_spent_budget_refuses_even_what_costs_nothing(world: World) -> None:
    month = budget(100)
    await spend(world, 100, month)

    assert await is_refused(world, 0, month)


async def test_a_budget_of_zero_lets_nothing_through(world: World) -> None:
    assert await is_refused(world, 0, budget(0))


async def test_a_refusal_by_a_limit_holds_nothing_of_any_budget(world: World) -> None:
    month, once = budget(100), Limit("key", "k", requests_per_minute=1)
    await world.limits.reserve(ask(once))

    for _ in range(3):
        with pytest.raises(RateLimited):
            await world.limits.reserve(ask(once, month, cost=60))

    assert await left(world, month) == 100


async def test_a_refusal_by_a_budget_counts_in_no_limit_and_no_other_budget(world: World) -> None:
    wide, narrow = budget(1000, name="wide"), budget(10, name="narrow")
    bounds = Limit("key", "k", requests_per_minute=1, tokens_per_minute=10, concurrency=1)
    await spend(world, 10, narrow)

    for _ in range(3):
        with pytest.raises(BudgetSpent):
            await world.limits.reserve(ask(bounds, wide, narrow, cost=60, tokens=10))

    assert await left(world, wide) == 1000
    granted = await world.limits.reserve(ask(bounds, wide, cost=60, tokens=10))
    assert granted.standing.remaining_requests == 0


async def test_money_is_named_before_the_rate_because_waiting_does_not_help(world: World) -> None:
    month, once = budget(10), Limit("key", "k", requests_per_minute=1)
    await world.limits.reserve(ask(once))
    await spend(world, 10, month)

    with pytest.raises(BudgetSpent) as refusal:
        await world.limits.reserve(ask(once, month, cost=1))

    assert (refusal.value.standing.limit_requests, refusal.value.standing.remaining_requests) == (1, 0)


async def test_every_budget_of_a_call_is_charged(world: World) -> None:
    tenant, ann = budget(100, name="all"), budget(50, name="each", scope="user", subject="ann")

    await spend(world, 30, tenant, ann)

    assert (await left(world, tenant), await left(world, ann)) == (70, 20)


async def test_names_scopes_subjects_periods_and_tenants_do_not_share_a_purse(world: World) -> None:
    month = budget(100, scope="user", subject="ann")
    await spend(world, 100, month)

    for other in (
        budget(100, scope="user", subject="bob"),
        budget(100, scope="key", subject="ann"),
        budget(100, scope="user", subject="ann", name="other"),
        budget(100, scope="user", subject="ann", at=datetime(2026, 2, 1, tzinfo=UTC)),
    ):
        assert await left(world, other) == 100
    assert isinstance(await world.limits.reserve(ask(month, cost=1, tenant=TenantId("ten_b"))), Granted)


async def test_a_budget_that_does_not_block_refuses_nothing_and_binds_nobody(world: World) -> None:
    watched = budget(10, blocks=False)
    await spend(world, 50, watched)

    granted = await world.limits.reserve(ask(watched, cost=50))

    assert granted.standing.budget_left_nano_usd is None


async def test_the_standing_and_its_header_are_those_of_the_tightest_blocking_budget(world: World) -> None:
    bounds = (
        budget(500 * USD, name="wide"),
        budget(3 * USD, name="narrow"),
        budget(1 * USD, name="watched", blocks=False),
    )

    standing = (await world.limits.reserve(ask(*bounds, cost=USD // 2))).standing

    assert standing.budget_left_nano_usd == 2_500_000_000
    assert (b"x-trueport-budget-remaining-usd", b"2.500000000") in headers(standing)


@pytest.mark.parametrize("size", [1_000])
async def test_a_thousand_calls_at_once_at_the_edge_overspend_by_at_most_one(world: World, size: int) -> None:
    """Each costs all it may, and settles while others are still being admitted."""
    month, cost = budget(10_005), 100
    spent = 0

    async def call(number: int) -> None:
        nonlocal spent
        await asyncio.sleep(0.0001 * (number % 50))
        granted = await world.limits.reserve(ask(month, cost=cost))
        spent += cost
        if number % 3:
            await asyncio.sleep(0)
            world.limits.settle(granted.reservation, 0, cost)

    outcomes = await asyncio.gather(*(call(number) for number in range(size)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), BudgetSpent}
    assert 10_000 <= spent <= month.limit_nano_usd + cost


async def test_a_thousand_calls_at_once_hold_no_more_than_the_limit(world: World) -> None:
    month = budget(10_005)

    outcomes = await asyncio.gather(
        *(world.limits.reserve(ask(month, cost=100)) for _ in range(1_000)), return_exceptions=True
    )

    granted = [outcome for outcome in outcomes if isinstance(outcome, Granted)]
    assert len(granted) == 100
    for one in granted:
        world.limits.settle(one.reservation, 0, 50)
    await world.flush()
    assert await left(world, month) == 5_005


async def test_what_a_call_holds_that_nobody_settles_comes_back_once_it_expires(world: World) -> None:
    month = budget(100)
    await world.limits.reserve(ask(month, cost=60, longest_s=90.5))
    await world.limits.reserve(ask(month, cost=30, longest_s=30))

    await world.advance(31)
    assert await left(world, month) == 40
    await world.advance(59)
    assert await left(world, month) == 40
    await world.advance(1)
    assert await left(world, month) == 100


async def test_a_settlement_after_the_call_expired_is_spent_all_the_same(world: World) -> None:
    month = budget(100)
    granted = await world.limits.reserve(ask(month, cost=60, longest_s=10))
    await world.limits.reserve(ask(month, cost=20))
    await world.advance(11)
    assert await left(world, month) == 80

    world.limits.settle(granted.reservation, 0, 25)
    await world.flush()

    assert await left(world, month) == 55


async def test_a_call_that_outlives_its_period_is_charged_to_the_period_it_began_in(world: World) -> None:
    january, february = budget(100), budget(100, at=datetime(2026, 2, 1, tzinfo=UTC))
    await world.advance(31 * 86_400 - 5)
    granted = await world.limits.reserve(ask(january, cost=60))
    await world.advance(10)
    assert await left(world, february) == 100

    world.limits.settle(granted.reservation, 0, 50)
    await world.flush()

    assert await left(world, january) == 50
    assert await left(world, february) == 100


async def test_counting_begins_with_what_the_ledger_says(world: World) -> None:
    month = budget(100)
    world.ledger.has(70, month)

    assert await left(world, month) == 30
    assert await left(world, month) == 30
    assert world.ledger.asked == 1


async def test_calls_that_come_together_ask_the_ledger_once(world: World) -> None:
    month = budget(100)
    world.ledger.has(70, month)
    world.ledger.gate.clear()

    calls = [asyncio.create_task(world.limits.reserve(ask(month, cost=10))) for _ in range(20)]
    await until(lambda: world.ledger.asked > 0)
    await asyncio.sleep(0.05)
    world.ledger.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert world.ledger.asked == 1
    assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 3


async def test_a_caller_that_leaves_does_not_take_the_answer_with_it(world: World) -> None:
    month = budget(100)
    world.ledger.has(70, month)
    world.ledger.gate.clear()
    first, second = (asyncio.create_task(world.limits.reserve(ask(month, cost=10))) for _ in range(2))
    await until(lambda: world.ledger.asked > 0)
    await asyncio.sleep(0.05)

    first.cancel()
    await asyncio.wait([first])
    world.ledger.gate.set()

    assert (await second).standing.budget_left_nano_usd == 20
    await world.flush()
    assert world.ledger.asked == 1


async def test_a_store_that_lost_its_memory_begins_with_the_ledger_again(world: World) -> None:
    month = budget(100)
    await spend(world, 40, month)
    world.ledger.has(40, month)

    await world.forget(month)

    assert await left(world, month) == 60


async def test_a_settlement_does_not_begin_to_count_a_budget_that_was_forgotten(world: World) -> None:
    month = budget(100)
    await spend(world, 40, month)
    granted = await world.limits.reserve(ask(month, cost=20))
    await world.forget(month)

    world.limits.settle(granted.reservation, 0, 15)
    await world.flush()

    world.ledger.has(55, month)
    assert await left(world, month) == 45


async def test_a_call_whose_hold_was_forgotten_still_spends_its_cost(world: World, kind: str) -> None:
    if kind == "memory":
        pytest.skip("in one process the calls in flight end with the counters")
    month = budget(100)
    granted = await world.limits.reserve(ask(month, cost=20))
    await world.forget(month)
    assert await left(world, month) == 100

    world.limits.settle(granted.reservation, 0, 15)
    await world.flush()

    assert await left(world, month) == 85


async def test_without_counter_and_ledger_a_blocking_budget_refuses_and_another_does_not(world: World) -> None:
    world.ledger.is_away = True

    with pytest.raises(LimiterUnavailable):
        await world.limits.reserve(ask(budget(100), cost=1))
    granted = await world.limits.reserve(ask(budget(100, blocks=False), cost=1))

    world.limits.settle(granted.reservation, 0, 1)
    await world.flush()


async def test_a_ledger_that_is_away_is_asked_again_by_the_next_call(world: World) -> None:
    month = budget(100)
    world.ledger.is_away = True
    with pytest.raises(LimiterUnavailable):
        await world.limits.reserve(ask(month, cost=1))

    world.ledger.is_away = False

    assert await left(world, month) == 100


async def test_a_counter_that_exists_needs_no_ledger(world: World) -> None:
    month = budget(100)
    await spend(world, 40, month)

    world.ledger.is_away = True

    assert await left(world, month) == 60


async def test_each_threshold_is_told_once_when_spending_reaches_it(world: World) -> None:
    watched = budget(100, name="watch", scope="user", subject="ann", blocks=False, alert_at=(0.5, 0.8, 1.0))

    told = []
    for cost in (49, 1, 10, 30, 5, 10, 200):
        await spend(world, cost, watched)
        told.append([(one.share, one.spent_nano_usd) for one in world.alerts])
        world.alerts.clear()

    assert told == [[], [(0.5, 50)], [], [(0.8, 90)], [], [(1.0, 105)], []]


async def test_an_alert_says_which_budget_of_whom(world: World) -> None:
    watched = budget(100, name="watch", scope="user", subject="ann", alert_at=(0.5,))

    await spend(world, 60, watched)

    (alert,) = world.alerts
    assert (alert.tenant_id, alert.budget, alert.scope, alert.subject) == (TENANT, "watch", "user", "ann")
    assert (alert.period, alert.share, alert.spent_nano_usd, alert.limit_nano_usd) == ("2026-01", 0.5, 60, 100)


async def test_several_thresholds_passed_at_once_are_each_told(world: World) -> None:
    await spend(world, 100, budget(100, alert_at=(0.5, 0.8, 1.0)))

    assert [alert.share for alert in world.alerts] == [0.5, 0.8, 1.0]


async def test_holding_money_tells_nothing_before_it_is_spent(world: World) -> None:
    month = budget(100, alert_at=(0.5,))
    granted = await world.limits.reserve(ask(month, cost=90))

    world.limits.settle(granted.reservation, 0, 10)
    await world.flush()

    assert world.alerts == []


async def test_a_threshold_reached_before_counting_began_anew_is_not_told_again(world: World) -> None:
    month = budget(100, alert_at=(0.5, 0.8))
    await spend(world, 60, month)
    world.ledger.has(60, month)
    await world.forget(month)

    await spend(world, 1, month)
    assert [alert.share for alert in world.alerts] == [0.5]

    await spend(world, 20, month)
    assert [alert.share for alert in world.alerts] == [0.5, 0.8]


async def test_a_raised_limit_has_thresholds_of_its_own(world: World) -> None:
    await spend(world, 60, budget(100, alert_at=(0.5,)))

    raised = budget(1_000, alert_at=(0.5,))
    await spend(world, 10, raised)
    assert len(world.alerts) == 1

    await spend(world, 500, raised)
    assert [alert.limit_nano_usd for alert in world.alerts] == [100, 1_000]


async def test_a_threshold_is_the_decimal_it_was_written_as(world: World) -> None:
    """0.07 as a binary fraction times 100 is a little more than 7."""
    await spend(world, 7, budget(100, alert_at=(0.07,)))

    assert len(world.alerts) == 1


async def test_thresholds_that_are_the_same_amount_are_told_as_one(world: World) -> None:
    await spend(world, 60, budget(100, alert_at=(0.5, 0.5, 0.499)))

    assert len(world.alerts) == 1


async def test_the_largest_amounts_are_counted_exactly(world: World) -> None:
    largest = budget(MOST_BUDGET_NANO_USD)
    granted = await world.limits.reserve(ask(largest, cost=MOST_BUDGET_NANO_USD - 1))
    assert await left(world, largest) == 1
    world.limits.settle(granted.reservation, 0, MOST_BUDGET_NANO_USD - 3)
    await world.flush()

    assert await left(world, largest) == 3
    await world.limits.reserve(ask(largest, cost=2))
    assert await left(world, largest) == 1


async def test_absurd_costs_harm_neither_the_counters_nor_other_calls(world: World) -> None:
    month, watched, other = budget(100), budget(MOST_BUDGET_NANO_USD, name="w", blocks=False), budget(50, name="other")
    for _ in range(3):
        granted = await world.limits.reserve(ask(watched, cost=10**30))
        world.limits.settle(granted.reservation, 0)
        await world.flush()
    granted = await world.limits.reserve(ask(month, cost=10**30))
    assert await is_refused(world, 0, month)

    world.limits.settle(granted.reservation, 0, -5)
    await world.flush()

    assert await left(world, month) == 100
    assert await left(world, other) == 50
    assert world.limits.health().redis_failures == 0


async def test_a_receiver_of_alerts_that_fails_does_not_harm_the_settlement(world: World) -> None:
    def fail(_alert: BudgetAlert) -> None:
        raise RuntimeError("the receiver is broken")

    month = budget(100, alert_at=(0.5,))
    world.receiver = fail

    await spend(world, 60, month)

    assert await left(world, month) == 40


@pytest.mark.parametrize("limit", [-1, MOST_BUDGET_NANO_USD + 1])
def test_a_budget_that_cannot_be_counted_exactly_is_not_made(limit: int) -> None:
    with pytest.raises(ValueError, match="9000000 dollars"):
        budget(limit)
