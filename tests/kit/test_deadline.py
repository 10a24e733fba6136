"""Deadlines only come closer."""

import pytest

from trueport.kit.deadline import Deadline


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock as a list of one moment, to be set."""
    now = [100.0]
    monkeypatch.setattr("trueport.kit.deadline.time.monotonic", lambda: now[0])
    return now


def test_what_remains_shrinks_to_nothing_and_not_below(now_s: list[float]) -> None:
    deadline = Deadline.after(5)

    assert (deadline.remaining_s(), deadline.has_passed) == (5.0, False)
    now_s[0] += 4.5
    assert (deadline.remaining_s(), deadline.has_passed) == (0.5, False)
    now_s[0] += 0.5
    assert (deadline.remaining_s(), deadline.has_passed) == (0.0, True)
    now_s[0] += 60
    assert (deadline.remaining_s(), deadline.has_passed) == (0.0, True)


def test_a_sooner_deadline_is_never_later(now_s: list[float]) -> None:
    deadline = Deadline.after(5)

    assert deadline.sooner(2).remaining_s() == 2.0
    assert deadline.sooner(60) == deadline
