from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.limits.periods import PeriodKind, period_of


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "now", "name", "begins", "ends"),
    [
        ("day", "2026-11-23T09:30:00", "2026-11-23", "2026-11-23", "2026-11-24"),
        ("day", "2026-11-23T00:00:00", "2026-11-23", "2026-11-23", "2026-11-24"),
        ("day", "2026-11-23T23:59:59.999999", "2026-11-23", "2026-11-23", "2026-11-24"),
        ("day", "2027-02-28T23:59:59", "2027-02-28", "2027-02-28", "2027-03-01"),
        ("day", "2028-02-28T12:00:00", "2028-02-28", "2028-02-28", "2028-02-29"),
        ("day", "2028-02-29T12:00:00", "2028-02-29", "2028-02-29", "2028-03-01"),
        ("day", "2026-12-31T23:59:59", "2026-12-31", "2026-12-31", "2027-01-01"),
        # Clocks in Europe and America change on these days; a day of UTC keeps its 24 hours.
        ("day", "2026-03-29T01:30:00", "2026-03-29", "2026-03-29", "2026-03-30"),
        ("day", "2026-11-01T06:30:00", "2026-11-01", "2026-11-01", "2026-11-02"),
        ("month", "2026-11-30T23:59:59.999999", "2026-11", "2026-11-01", "2026-12-01"),
        ("month", "2026-12-01T00:00:00", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2027-02-28T23:59:59", "2027-02", "2027-02-01", "2027-03-01"),
        ("month", "2028-02-29T23:59:59", "2028-02", "2028-02-01", "2028-03-01"),
        ("month", "2027-01-31T12:00:00", "2027-01", "2027-01-01", "2027-02-01"),
        ("month", "2100-02-28T12:00:00", "2100-02", "2100-02-01", "2100-03-01"),
    ],
)
def test_a_period_is_a_calendar_day_or_month(kind: PeriodKind, now: str, name: str, begins: str, ends: str) -> None:
    assert period_of(kind, utc(now)) == (name, utc(begins), utc(ends))


def test_a_moment_told_in_another_zone_lies_in_the_period_of_utc() -> None:
    still_december_there = datetime(2026, 12, 31, 20, 0, tzinfo=timezone(timedelta(hours=-8)))

    assert period_of("month", still_december_there)[0] == "2027-01"
    assert period_of("day", still_december_there)[0] == "2027-01-01"


@given(st.integers(0, 7_258_118_400).map(lambda at: datetime.fromtimestamp(at, UTC)), st.sampled_from(["day", "month"]))
def test_periods_follow_each_other_without_gaps_under_different_names(now: datetime, kind: PeriodKind) -> None:
    name, begins, ends = period_of(kind, now)

    assert begins <= now < ends
    assert period_of(kind, begins) == (name, begins, ends)
    assert period_of(kind, ends)[1] == ends
    assert period_of(kind, ends)[0] > name
