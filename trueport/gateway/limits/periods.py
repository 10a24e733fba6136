"""The periods budgets are counted in: calendar days and months of UTC, which knows no daylight saving time."""

from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

PeriodKind = Literal["day", "month"]


def period_of(kind: PeriodKind, now: datetime) -> tuple[str, datetime, datetime]:
    """The period that the aware moment `now` lies in: its name, when it begins, and when the next one does (UTC).

    A day is called `2026-11-23`, a month `2026-11`.
    """
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match kind:
        case "day":
            return midnight.strftime("%Y-%m-%d"), midnight, midnight + timedelta(days=1)
        case "month":
            begins = midnight.replace(day=1)
            # Any month's first day and 31 more lie in the month after it.
            ends = (begins + timedelta(days=31)).replace(day=1)
            return begins.strftime("%Y-%m"), begins, ends
        case _:
            assert_never(kind)
