import pytest

from tests.support.limits import ask, budget, fresh_pepper
from trueport.gateway.limits import backlog as module
from trueport.gateway.limits.backlog import Backlog
from trueport.gateway.limits.base import MOST_BUDGET_NANO_USD, Budget, Limit, Reservation
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.scripts import SCRIPTS

TOKENS = Limit("key", "k", tokens_per_minute=1000)
PLACES = Limit("key", "k", concurrency=10)
NOW = 29_403_690


@pytest.fixture
def backlog() -> Backlog:
    return Backlog(KeyNames(fresh_pepper()), SCRIPTS.settle, SCRIPTS.charge, "worker")


MONTH = budget(1_000)


def spending(cost: int, *budgets: Budget, call_id: str = "") -> Reservation:
    return Reservation(ask(*budgets, cost=cost, call_id=call_id), NOW, "redis")


def reserved(limit: Limit, tokens: int = 0, minute: int = NOW) -> Reservation:
    return Reservation(ask(limit, tokens=tokens), minute, "redis")


def test_corrections_of_one_counter_are_added_up(backlog: Backlog) -> None:
    for used in (10, 20, 130):
        backlog.settle(reserved(TOKENS, 100), used, None)

    (command,), _ = backlog.take(NOW)

    assert command.endswith(b"$4\r\n-140\r\n")
    assert len(backlog) == 0


def test_corrections_that_add_up_to_nothing_are_not_told(backlog: Backlog) -> None:
    backlog.settle(reserved(TOKENS, 100), 90, None)
    backlog.settle(reserved(TOKENS, 100), 110, None)
    backlog.settle(reserved(TOKENS, 100), 100, None)

    assert backlog.take(NOW)[0] == []


def test_corrections_of_counters_that_are_gone_are_left_out(backlog: Backlog) -> None:
    backlog.settle(reserved(TOKENS, 100, NOW - 3), 10, None)
    assert backlog.take(NOW)[0] == []

    backlog.settle(reserved(TOKENS, 100, NOW - 2), 10, None)
    assert len(backlog.take(NOW)[0]) == 1


def test_places_can_be_put_back_after_an_unknown_outcome_but_corrections_not(backlog: Backlog) -> None:
    backlog.settle(reserved(PLACES), 0, None)
    backlog.settle(reserved(TOKENS, 100), 0, None)
    first, places = backlog.take(NOW)

    backlog.put_back(places)

    again, _ = backlog.take(NOW)
    assert len(first) == 2
    assert len(again) == 1
    assert b"ZREM" in again[0]


def test_what_does_not_fit_is_dropped_and_counted(backlog: Backlog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 3)

    for n in range(5):
        backlog.settle(reserved(PLACES), 0, None)
        backlog.settle(reserved(TOKENS, 100, NOW + n), 0, None)

    assert len(backlog) == 3
    assert backlog.dropped == 7


def test_costs_of_one_budget_are_added_up_and_its_calls_let_go(backlog: Backlog) -> None:
    backlog.settle(spending(70, MONTH, call_id="a"), 0, 20)
    backlog.settle(spending(30, MONTH, call_id="b"), 0, None)
    backlog.settle(spending(5, budget(1_000, name="other")), 0, 5)

    charge, other = backlog.charges()

    assert (charge.cost_nano_usd, charge.members) == (50, ["70:a", "30:b"])
    assert other.cost_nano_usd == 5


def test_a_call_that_costs_and_holds_nothing_is_not_told(backlog: Backlog) -> None:
    backlog.settle(spending(0, MONTH), 0, 0)
    backlog.settle(spending(10, budget(1_000, blocks=False)), 0, 0)

    assert backlog.charges() == []


def test_a_charge_stays_as_it_is_until_it_is_answered_and_later_costs_wait(backlog: Backlog) -> None:
    backlog.settle(spending(10, MONTH), 0, 10)
    (first,) = backlog.charges()
    command = backlog.command(first)
    backlog.settle(spending(10, MONTH), 0, 7)

    (again,) = backlog.charges()
    assert again is first
    assert backlog.command(again) == command
    assert backlog.told(first)
    assert not backlog.told(first)

    (second,) = backlog.charges()
    assert (second.cost_nano_usd, len(second.members)) == (7, 1)
    assert second.number > first.number
    assert not backlog.told(first)
    assert backlog.told(second)
    assert len(backlog) == 0


def test_costs_of_a_known_budget_are_added_even_when_there_is_no_room(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAPACITY", 2)

    for cost in (1, 2, 3):
        backlog.settle(spending(10, MONTH), 0, cost)
    backlog.settle(spending(10, budget(1_000, name="other")), 0, 5)

    (charge,) = backlog.charges()
    assert (charge.cost_nano_usd, len(charge.members)) == (6, 1)
    assert backlog.dropped == 3


def test_a_sum_beyond_what_redis_can_add_is_cut(backlog: Backlog) -> None:
    for _ in range(3):
        backlog.settle(spending(10, MONTH), 0, 10**30)

    assert backlog.charges()[0].cost_nano_usd == MOST_BUDGET_NANO_USD
