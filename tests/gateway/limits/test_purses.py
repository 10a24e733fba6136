import asyncio

import pytest

from tests.support.limits import TENANT, FakeLedger, ask, budget
from trueport.gateway.limits.budgets import Ledger, Purse, Purses, held_for, key_of, thresholds

MONTH = budget(100)
KEY = key_of(TENANT, MONTH)


def test_expired_calls_are_let_go_and_others_are_not_whatever_their_order() -> None:
    purse = Purse()
    for call, expiry_s in (("long", 90.0), ("short", 10.0), ("middle", 50.0)):
        purse.hold(call, 10, expiry_s)
    purse.settle("short", 0)

    for now_s, held in ((10.0, 20), (49.9, 20), (50.0, 10), (89.9, 10), (90.0, 0)):
        purse.sweep(now_s)
        assert purse.held == held


def test_a_call_holds_its_worst_case_but_no_more_than_can_ever_be_left() -> None:
    assert held_for(ask(cost=40), MONTH) == 40
    assert held_for(ask(cost=10**30), MONTH) == 101
    assert held_for(ask(cost=-3), MONTH) == 0
    assert held_for(ask(cost=40), budget(100, blocks=False)) == 0


def test_thresholds_are_whole_amounts_that_reach_the_share() -> None:
    assert thresholds(100, (0.5, 0.07, 1.0)) == (50, 7, 100)
    assert thresholds(10, (0.25, 1 / 3)) == (3, 4)


def test_beyond_its_capacity_the_purse_unused_for_longest_is_forgotten() -> None:
    purses = Purses(capacity=2)
    a, b, c = (budget(100, name=name) for name in "abc")
    purses.begin(key_of(TENANT, a), a)
    purses.begin(key_of(TENANT, b), b)
    purses.get(key_of(TENANT, a))

    purses.begin(key_of(TENANT, c), c)

    assert purses.get(key_of(TENANT, a)) is not None
    assert purses.get(key_of(TENANT, b)) is None


async def test_a_ledger_that_does_not_answer_in_time_says_nothing() -> None:
    source = FakeLedger()
    source.gate.clear()

    assert await Ledger(source, timeout_s=0.01).spent(KEY, MONTH) is None


async def test_a_ledger_that_fails_in_a_way_it_should_not_is_not_taken_for_empty() -> None:
    class Broken:
        async def spent(self, *_: object) -> int:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await Ledger(Broken()).spent(KEY, MONTH)


async def test_closing_leaves_no_question_open() -> None:
    source = FakeLedger()
    source.gate.clear()
    ledger = Ledger(source)
    asking = asyncio.create_task(ledger.spent(KEY, MONTH))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await ledger.close()

    with pytest.raises(asyncio.CancelledError):
        await asking
