import pytest

from tests.support.limits import ask, fresh_pepper
from trueport.gateway.limits import backlog as module
from trueport.gateway.limits.backlog import Backlog
from trueport.gateway.limits.base import Limit, Reservation
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.scripts import SCRIPTS

TOKENS = Limit("key", "k", tokens_per_minute=1000)
PLACES = Limit("key", "k", concurrency=10)
NOW = 29_403_690


@pytest.fixture
def backlog() -> Backlog:
    return Backlog(KeyNames(fresh_pepper()), SCRIPTS.settle)


def reserved(limit: Limit, tokens: int = 0, minute: int = NOW) -> Reservation:
    return Reservation(ask(limit, tokens=tokens), minute, "redis")


def test_corrections_of_one_counter_are_added_up(backlog: Backlog) -> None:
    for used in (10, 20, 130):
        backlog.settle(reserved(TOKENS, 100), used)

    (command,), _ = backlog.take(NOW)

    assert command.endswith(b"$4\r\n-140\r\n")
    assert len(backlog) == 0


def test_corrections_that_add_up_to_nothing_are_not_told(backlog: Backlog) -> None:
    backlog.settle(reserved(TOKENS, 100), 90)
    backlog.settle(reserved(TOKENS, 100), 110)
    backlog.settle(reserved(TOKENS, 100), 100)

    assert backlog.take(NOW)[0] == []


def test_corrections_of_counters_that_are_gone_are_left_out(backlog: Backlog) -> None:
    backlog.settle(reserved(TOKENS, 100, NOW - 3), 10)
    assert backlog.take(NOW)[0] == []

    backlog.settle(reserved(TOKENS, 100, NOW - 2), 10)
    assert len(backlog.take(NOW)[0]) == 1


def test_places_can_be_put_back_after_an_unknown_outcome_but_corrections_not(backlog: Backlog) -> None:
    backlog.settle(reserved(PLACES), 0)
    backlog.settle(reserved(TOKENS, 100), 0)
    first, places = backlog.take(NOW)

    backlog.put_back(places)

    again, _ = backlog.take(NOW)
    assert len(first) == 2
    assert len(again) == 1
    assert b"ZREM" in again[0]


def test_what_does_not_fit_is_dropped_and_counted(backlog: Backlog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 3)

    for n in range(5):
        backlog.settle(reserved(PLACES), 0)
        backlog.settle(reserved(TOKENS, 100, NOW + n), 0)

    assert len(backlog) == 3
    assert backlog.dropped == 7
