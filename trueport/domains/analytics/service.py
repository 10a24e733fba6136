"""What members of a tenant can learn about its interactions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trueport.domains.analytics.models import InteractionRow
from trueport.domains.analytics.repository import (
    AVERAGED,
    COUNTED_ENDS,
    MOST_GROUPS,
    SUMMED,
    GroupBy,
    Interactions,
    LogFilter,
)
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import is_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database, Document
from trueport.storage.scoped import Page

DEFAULT_PERIOD: Final = timedelta(days=1)
LONGEST_PERIOD: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Stats:
    """Sums over the interactions begun from `since` up to, not including, `until`.

    `totals` and the groups have the members of Interactions.sums. `has_more`: there are more groups than are shown.
    """

    since: datetime
    until: datetime
    totals: Document
    groups: list[Document]
    has_more: bool


class Analytics:
    """The interaction log of one tenant and sums over it."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock) -> None:
        self._interactions = Interactions(database, scope)
        self._clock = clock

    async def logs(self, wanted: LogFilter, *, limit: int, after: str | None) -> Page[InteractionRow]:
        """Newest first. Raises InvalidRequest."""
        return await self._interactions.newest(wanted, limit=limit, after=after)

    async def interaction(self, interaction_id: str) -> InteractionRow:
        """Raises NotFound."""
        if not is_id(interaction_id, "int"):
            raise NotFound("There is no such interaction.")
        return await self._interactions.get(interaction_id)

    async def stats(self, since: datetime | None, until: datetime | None, group_by: GroupBy) -> Stats:
        """Without bounds: the last 24 hours. Raises InvalidRequest for a period that is empty or too long."""
        until = until or self._clock.now()
        since = since or until - DEFAULT_PERIOD
        if since >= until:
            raise InvalidRequest("The period ends before it begins.", param="from")
        if until - since > LONGEST_PERIOD:
            raise InvalidRequest(f"The period is longer than {LONGEST_PERIOD.days} days.", param="from")
        groups = await self._interactions.sums(since, until, group_by)
        if len(groups) > MOST_GROUPS:
            totals = total(await self._interactions.sums(since, until, "none"))
        else:
            totals = total(groups)
        shown = [] if group_by == "none" else groups[:MOST_GROUPS]
        return Stats(since, until, totals, shown, has_more=len(groups) > MOST_GROUPS)


def total(groups: Sequence[Document]) -> Document:
    """The members of all groups added up; zeros for none."""
    counts = [f"{name}_count" for name in AVERAGED]
    names = ["requests", *COUNTED_ENDS, *SUMMED, *AVERAGED, *counts, "estimated_requests", "unpriced_requests"]
    return {name: sum(group[name] for group in groups) for name in names}
