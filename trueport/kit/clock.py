"""Moments and durations, behind one small seam so that tests can turn the hands."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The present moment, aware, UTC, cut to whole milliseconds."""

    def epoch_us(self) -> int:
        """The present moment as microseconds since 1970-01-01T00:00Z."""

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward; for durations and deadlines."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return from_epoch_us(time.time_ns() // 1_000)

    def epoch_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        return from_epoch_us(self.epoch_us())

    def epoch_us(self) -> int:
        return to_epoch_us(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both the wall and the monotonic clock."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


def to_epoch_us(moment: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z of an aware `moment`."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_epoch_us(epoch_us: int) -> datetime:
    """The aware UTC moment of `epoch_us`, cut to whole milliseconds as BSON keeps it."""
    return _EPOCH + timedelta(milliseconds=epoch_us // 1_000)


def rfc3339(moment: datetime) -> str:
    """`2026-11-23T09:30:00.125Z`: the form of every time that leaves the process."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
