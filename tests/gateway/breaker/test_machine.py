"""What the contract cannot see of the machine: jitter, buckets, epochs, and how many circuits are remembered."""

import pytest

from tests.support.breaker import denied, fail
from trueport.gateway.breaker.base import BreakerRules
from trueport.gateway.breaker.local import LocalBreakers
from trueport.gateway.breaker.machine import Machine
from trueport.kit.clock import ManualClock


def tripped(rules: BreakerRules, jitter: float) -> Machine:
    machine = Machine(rules)
    machine.report(0, "0", "", "fail", rules.consecutive, jitter)
    assert machine.state == "open"
    return machine


@pytest.mark.parametrize(("jitter", "wait_ms"), [(0.0, 9_000), (0.5, 10_000), (1.0, 11_000)])
def test_a_cool_down_varies_by_a_tenth_either_way(jitter: float, wait_ms: int) -> None:
    assert tripped(BreakerRules(), jitter).look(0).wait_ms == wait_ms


def test_a_cool_down_doubles_without_end_and_stays_bounded() -> None:
    machine = tripped(BreakerRules(), 0.5)
    for number in range(2_000):
        now_ms = machine.open_until
        probe = machine.acquire(now_ms, str(number), 1)
        assert machine.report(now_ms, probe.epoch, str(number), "fail", 1, 0.5).wait_ms <= 300_000


def test_every_transition_begins_an_epoch() -> None:
    machine = tripped(BreakerRules(successes_to_close=1), 0.5)
    epochs = [machine.epoch]
    probe = machine.acquire(10_000, "a", 1)
    epochs.append(machine.epoch)
    machine.report(10_000, probe.epoch, "a", "ok", 1, 0.5)
    epochs.append(machine.epoch)

    assert epochs == [1, 2, 3]
    assert machine.state == "closed"


def test_no_more_buckets_are_kept_than_the_window_has() -> None:
    machine = Machine(BreakerRules())
    for now_ms in range(0, 3_600_000, 1_000):
        machine.report(now_ms, "0", "", "ok", 1, 0.5)

    assert len(machine.outcomes) <= 12


async def test_the_least_recently_used_circuits_are_forgotten() -> None:
    breakers = LocalBreakers(ManualClock(), capacity=3)
    await fail(breakers, "old", 5)
    await fail(breakers, "kept", 5)
    await fail(breakers, "b", 1)
    await denied(breakers, "kept")

    await fail(breakers, "c", 1)

    assert breakers.is_resting("kept")
    assert not breakers.is_resting("old")
