import pytest

from tests.support.limits import ask
from trueport.gateway.limits.base import Limit, RateLimited
from trueport.gateway.limits.local import LocalLimits
from trueport.kit.clock import ManualClock


def once(subject: str) -> Limit:
    return Limit("key", subject, requests_per_minute=1)


async def test_beyond_its_capacity_the_subject_unused_for_longest_is_forgotten() -> None:
    limits = LocalLimits(ManualClock(), capacity=2)
    for subject in ("a", "b"):
        await limits.reserve(ask(once(subject)))
    with pytest.raises(RateLimited):
        await limits.reserve(ask(once("a")))

    await limits.reserve(ask(once("c")))

    with pytest.raises(RateLimited):
        await limits.reserve(ask(once("a")))
    await limits.reserve(ask(once("b")))


async def test_a_clock_that_was_set_back_gives_nothing_away() -> None:
    clock = ManualClock()
    limits = LocalLimits(clock)
    await limits.reserve(ask(once("a")))

    clock.advance(-120)

    with pytest.raises(RateLimited):
        await limits.reserve(ask(once("a")))


async def test_settling_what_was_forgotten_meanwhile_is_harmless() -> None:
    limits = LocalLimits(ManualClock(), capacity=1)
    granted = await limits.reserve(ask(Limit("key", "a", 1, 100, 1), tokens=50))
    await limits.reserve(ask(once("b")))

    limits.settle(granted.reservation, 10)

    assert (await limits.reserve(ask(Limit("key", "a", 1, 100, 1), tokens=0))).standing.remaining_tokens == 100
