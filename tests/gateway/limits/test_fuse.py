import random

import pytest

from trueport.gateway.limits.fuse import Fuse
from trueport.kit.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fuse(clock: ManualClock) -> Fuse:
    return Fuse(clock, random.Random(7))


def test_five_failures_in_a_row_blow_it_and_the_fifth_says_so(fuse: Fuse) -> None:
    assert [fuse.failed() for _ in range(6)] == [False, False, False, False, True, False]
    assert fuse.is_blown


def test_a_success_in_between_begins_the_row_anew(fuse: Fuse) -> None:
    for _ in range(3):
        for _ in range(4):
            fuse.failed()
        fuse.succeeded()
        if fuse.is_blown:
            break
    assert not fuse.is_blown


def test_half_of_twenty_within_ten_seconds_blow_it(fuse: Fuse, clock: ManualClock) -> None:
    for _ in range(9):
        fuse.succeeded()
        fuse.failed()
        clock.advance(1)
    assert not fuse.is_blown

    fuse.succeeded()
    assert fuse.failed()


def test_fewer_than_half_do_not(fuse: Fuse) -> None:
    for _ in range(50):
        fuse.succeeded()
        fuse.succeeded()
        fuse.failed()

    assert not fuse.is_blown


def test_failures_older_than_ten_seconds_are_forgotten(fuse: Fuse, clock: ManualClock) -> None:
    for _ in range(9):
        fuse.succeeded()
        fuse.failed()
    clock.advance(10)

    fuse.succeeded()
    fuse.failed()

    assert not fuse.is_blown


def test_waits_between_probes_double_up_to_half_a_minute_give_or_take_a_fifth(fuse: Fuse) -> None:
    for _ in range(5):
        fuse.failed()

    waits = [fuse.cooldown_s() for _ in range(7)]

    for wait, nominal in zip(waits, [1, 2, 4, 8, 16, 30, 30], strict=True):
        assert 0.8 * nominal <= wait <= 1.2 * nominal
    assert waits != [1, 2, 4, 8, 16, 30, 30]


def test_once_mended_it_takes_as_much_as_a_new_one(fuse: Fuse) -> None:
    for _ in range(5):
        fuse.failed()
    fuse.cooldown_s()

    fuse.mend()

    assert not fuse.is_blown
    assert [fuse.failed() for _ in range(5)] == [False, False, False, False, True]
    assert fuse.cooldown_s() <= 1.2
