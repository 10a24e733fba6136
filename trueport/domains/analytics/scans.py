"""Recorded content that is to be read after the call: the queue, and what came of it.

A task is claimed by moving its `due_at` ahead under its revision, so of several processes one gets it, and one that
dies with it gives it back by doing nothing. It leaves the queue after its result is written: at least once, and
everything a scan writes has a name that is the same the second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from odmantic import query

from trueport.domains.analytics.events import ViolationFound
from trueport.domains.analytics.models import Scan, ScanState, ScanTask, Violation
from trueport.domains.analytics.projection import later_violation
from trueport.domains.analytics.repository import Violations
from trueport.kit.clock import Clock
from trueport.kit.events import EventBus
from trueport.kit.ids import new_id
from trueport.kit.tenancy import PlatformScope, TenantScope
from trueport.storage.filters import Filter
from trueport.storage.mongo import Database
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import Page, TenantRepository

LEASE: Final = timedelta(minutes=5)
FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(minutes=5)
TRIED_FOR: Final = timedelta(days=7)
_LOOKED_AT: Final = 8


class Scans(TenantRepository[Scan]):
    model = Scan

    async def list(self, state: ScanState | None, *, limit: int, after: str | None) -> Page[Scan]:
        """Newest call first. Raises InvalidRequest for a cursor of another list."""
        wanted: list[Filter] = [] if state is None else [query.eq(Scan.state, state)]
        return await self.page(*wanted, limit=limit, after=after)


class _Tasks(PlatformRepository[ScanTask]):
    model = ScanTask


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many scans wait, and for how long the oldest call of them has."""

    waiting: int
    oldest_s: float


class ScanQueue:
    """The queue as the workers of this process see it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._tasks = _Tasks(database, PlatformScope("scans", "queue of all tenants"))
        self._clock = clock

    async def claim(self) -> ScanTask | None:
        """A task that is due, held for LEASE; None when there is none. Raises StoreUnavailable."""
        now = self._clock.now()
        # What is due longest comes first: those that were tried in vain go behind the ones that never were.
        for task in await self._tasks.find({"due_at": {"$lte": now}}, limit=_LOOKED_AT, order_by="due_at"):
            mine = new_id("clm")
            claim = {"due_at": now + LEASE, "claimed_by": mine, "tries": task.tries + 1}
            held = await self._tasks.update({"_id": task.id, "revision": task.revision}, claim)
            if held is not None and held.claimed_by == mine:
                return held
        return None

    async def put_back(self, task: ScanTask) -> None:
        """To be tried again later, the more often it was the later."""
        wait = min(FIRST_BACKOFF * 2 ** min(task.tries - 1, 10), LONGEST_BACKOFF)
        held = {"_id": task.id, "claimed_by": task.claimed_by}
        await self._tasks.update(held, {"due_at": self._clock.now() + wait, "claimed_by": ""})

    async def finish(self, task: ScanTask) -> None:
        await self._tasks.delete_many({"_id": task.id, "claimed_by": task.claimed_by})

    def is_too_old(self, task: ScanTask) -> bool:
        return self._clock.now() - task.created_at > TRIED_FOR

    async def backlog(self) -> Backlog:
        waiting = await self._tasks.count({})
        oldest = await self._tasks.find({}, limit=1)
        age_s = (self._clock.now() - oldest[0].created_at).total_seconds() if oldest else 0.0
        return Backlog(waiting, max(age_s, 0.0))


class ScanResults:
    """Writes what a scan of one tenant found."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock, events: EventBus) -> None:
        self._scans = Scans(database, scope)
        self._violations = Violations(database, scope)
        self._clock = clock
        self._events = events

    async def wanted(self, interaction_id: str) -> Scan | None:
        return await self._scans.find_one({"_id": interaction_id})

    async def keep(self, scan: Scan, record: dict[str, Any], decisions: Sequence[dict[str, Any]]) -> int:
        """Add the violations that are not in the list yet, and tell of each; how many there were."""
        known = {_place(one) for one in await self._violations.find(query.eq(Violation.interaction_id, scan.id))}
        now = self._clock.now()
        documents = [later_violation(record, decision, now, scan.expires_at) for decision in decisions]
        violations = {one["_id"]: Violation.model_validate_doc(one) for one in documents}
        fresh = [one for one in violations.values() if _place(one) not in known]
        added = await self._violations.insert_missing(fresh)
        for document in documents:
            if document["_id"] in added:
                added = added - {document["_id"]}
                await self._events.tell(ViolationFound.of(document))
        return len(fresh)

    async def end(self, scan: Scan, state: ScanState, *, problems: Sequence[str], violations: int, tries: int) -> None:
        ended = {
            "state": state,
            "problems": list(problems),
            "violations": scan.violations + violations,
            "tries": tries,
            "ended_at": self._clock.now(),
        }
        await self._scans.update(scan.id, ended)

    async def tried(self, scan: Scan, *, violations: int, tries: int) -> None:
        await self._scans.update(scan.id, {"tries": tries, "violations": scan.violations + violations})


def _place(violation: Violation) -> tuple[object, ...]:
    """What makes two decisions the same one, wherever in a stream or a whole body its text was read."""
    return (violation.policy_id, violation.side, violation.category, violation.type, violation.start, violation.end)
