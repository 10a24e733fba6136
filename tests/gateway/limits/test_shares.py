import pytest

from tests.support.limits import TENANT, FakeLedger, ask, budget
from trueport.gateway.limits.base import LimiterUnavailable
from trueport.gateway.limits.budgets import Ledger, key_of
from trueport.gateway.limits.shares import NEWS_LAST_S, Shares
from trueport.kit.clock import ManualClock

MONTH = budget(1_000)
KEY = key_of(TENANT, MONTH)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def shares(clock: ManualClock, source: FakeLedger) -> Shares:
    return Shares(clock, Ledger(source))


async def left(shares: Shares, workers: int = 2) -> int:
    (stake,) = await shares.stakes(ask(MONTH), workers)
    return stake.left


async def spend(shares: Shares, cost: int) -> None:
    call = ask(MONTH, cost=cost)
    (stake,) = await shares.stakes(call, 2)
    stake.purse.hold(call.call_id, cost, 1e9)
    shares.settle(call, cost)


async def test_a_share_stands_until_redis_speaks_of_the_budget_again(shares: Shares) -> None:
    shares.hear(KEY, 800)
    await spend(shares, 100)
    assert await left(shares) == 300
    assert await left(shares, workers=8) == 300

    shares.hear(KEY, 700)

    assert await left(shares) == 350


async def test_a_call_that_still_runs_keeps_holding_of_the_next_share(shares: Shares) -> None:
    shares.hear(KEY, 800)
    running = ask(MONTH, cost=100)
    (stake,) = await shares.stakes(running, 2)
    stake.purse.hold(running.call_id, 100, 1e9)

    shares.hear(KEY, 800)

    assert await left(shares) == 300


async def test_a_share_does_not_outlive_its_outage(shares: Shares, clock: ManualClock, source: FakeLedger) -> None:
    shares.hear(KEY, 800)
    await spend(shares, 100)
    shares.end()
    clock.advance(NEWS_LAST_S + 1)
    source.has(400, MONTH)

    assert await left(shares) == 300


async def test_an_overspent_budget_has_no_share(shares: Shares, source: FakeLedger) -> None:
    source.has(1_500, MONTH)

    assert await left(shares) == 0


async def test_budgets_that_do_not_block_need_no_share(shares: Shares, source: FakeLedger) -> None:
    source.is_away = True

    assert await shares.stakes(ask(budget(1_000, blocks=False)), 2) == []
    with pytest.raises(LimiterUnavailable):
        await shares.stakes(ask(MONTH), 2)
