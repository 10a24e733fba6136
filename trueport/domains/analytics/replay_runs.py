"""Replays that somebody asked for over HTTP: they run in the process that was asked, one at a time, beside its calls.

What a replay has come to is in the database, so any process can tell. A replay whose process ended is not begun anew
by another one: it is `failed` with the problem `interrupted`, and whoever wants it asks again, for it changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from odmantic import query

from trueport.detection.policy import PolicySet
from trueport.domains.analytics.models import PolicyReplay
from trueport.domains.analytics.replays import ContentReader, diff_members, proposed_set, replay_of, replay_period
from trueport.kit.clock import Clock, rfc3339
from trueport.kit.errors import Conflict, InvalidRequest, NotFound, Unavailable
from trueport.kit.ids import UserId, is_id, new_id
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.storage.scoped import Page, TenantRepository
from trueport.web.domain import Job, Resources
from trueport.web.trail import Trail

MOST_AT_ONCE: Final = 2
"""Replays of one tenant that wait or run."""

LOST_AFTER: Final = timedelta(seconds=90)
KEPT_FOR: Final = timedelta(days=30)
_BEAT_S: Final = 15.0
_OPEN: Final = ("waiting", "running")

log = get_logger(__name__)


class TooManyReplays(Conflict):
    """The tenant has as many replays waiting or running as it may."""

    code = "too_many_replays"

    def __init__(self) -> None:
        super().__init__(f"{MOST_AT_ONCE} replays are waiting or running: wait for one to end.")


class NothingToReadWith(Unavailable):
    """This process has no detectors or keeps no journal, so it reads nobody's content."""

    def __init__(self) -> None:
        super().__init__("This process cannot read recorded content: ask one that hosts the gateway.")


@dataclass(frozen=True, slots=True)
class Rereading:
    """What reading content again takes: somebody who reads, the journal that it is recorded in, and a reason."""

    reader: ContentReader
    trail: Trail
    reason: str


class PolicyReplays(TenantRepository[PolicyReplay]):
    model = PolicyReplay

    async def open_count(self) -> int:
        return await self.count(query.in_(PolicyReplay.state, _OPEN))

    async def change_open(self, replay_id: str, changes: Mapping[str, Any]) -> bool:
        """Change a replay that has not ended; False for one that has, which stays as it is."""
        return await self.update(replay_id, changes, query.in_(PolicyReplay.state, _OPEN)) is not None

    async def end_lost(self, now: datetime) -> None:
        """Mark those as failed whose process has not been heard of for LOST_AFTER."""
        lost = await self.find(
            query.in_(PolicyReplay.state, _OPEN), query.lt(PolicyReplay.beat_at, now - LOST_AFTER), limit=MOST_AT_ONCE
        )
        for one in lost:
            await self.change_open(one.id, _failed("interrupted", now))


class ReplayRunner:
    """The replays of this process: `start` queues one, and they have their turns one after the other."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._turn = asyncio.Semaphore(1)
        self._open: dict[str, tuple[PolicyReplays, asyncio.Task[None]]] = {}

    def start(
        self, scope: TenantScope, replay: PolicyReplay, policies: PolicySet, reader: ContentReader | None = None
    ) -> None:
        replays = PolicyReplays(self._database, scope)
        self._open[replay.id] = replays, asyncio.create_task(self._run(replays, replay, policies, reader))

    async def beat(self) -> None:
        """Say of all that are not at their end that this process still has them."""
        for replay_id, (replays, _) in list(self._open.items()):
            await replays.change_open(replay_id, {"beat_at": self._clock.now()})

    async def stop(self) -> None:
        """End what runs; it is marked as interrupted where the database can be reached."""
        left = list(self._open.items())
        for _, (_, task) in left:
            task.cancel()
        await asyncio.gather(*(task for _, (_, task) in left), return_exceptions=True)
        for replay_id, (replays, _) in left:
            with suppress(Unavailable):
                await replays.change_open(replay_id, _failed("interrupted", self._clock.now()))

    async def _run(
        self, replays: PolicyReplays, replay: PolicyReplay, policies: PolicySet, reader: ContentReader | None
    ) -> None:
        try:
            async with self._turn:
                changes = await self._replayed(replays, replay, policies, reader)
        except Unavailable:
            changes = _failed("unavailable", self._clock.now())
        except Exception as error:  # noqa: BLE001 - nobody waits for this task, so that nobody else could tell
            log.error("policy_replay_failed", replay=replay.id, error_type=type(error).__name__)
            changes = _failed("failed", self._clock.now())
        # A database that is away leaves it open; without beats it counts as interrupted later.
        with suppress(Unavailable):
            await replays.change_open(replay.id, changes)
        del self._open[replay.id]

    async def _replayed(
        self, replays: PolicyReplays, replay: PolicyReplay, policies: PolicySet, reader: ContentReader | None
    ) -> dict[str, Any]:
        """What the replay has come to, as members of PolicyReplay."""
        await replays.change_open(replay.id, {"state": "running", "beat_at": self._clock.now()})
        adding = await replay_of(self._database, replays.scope, policies)
        done = total = 0
        period = replay.since, replay.until
        async for done, total in replay_period(self._database, replays.scope, adding, period, reader):
            await replays.change_open(replay.id, {"done": done, "total": total, "beat_at": self._clock.now()})
        result = await asyncio.to_thread(diff_members, adding.diff)
        return {"state": "done", "done": done, "total": total, "result": result, "ended_at": self._clock.now()}


class Replays:
    """The replays of one tenant, as its people ask for them."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock, runner: ReplayRunner) -> None:
        self._scope = scope
        self._replays = PolicyReplays(database, scope)
        self._clock = clock
        self._runner = runner

    async def start(
        self,
        period: tuple[datetime, datetime],
        policies: Sequence[Mapping[str, Any]],
        by: UserId,
        rereading: Rereading | None = None,
    ) -> PolicyReplay:
        """Raises InvalidRequest for a period or policies that make no sense, TooManyReplays.

        rereading: content is read again, which is recorded first; raises SpoolUnavailable where that fails.
        """
        since, until = period
        if since >= until:
            raise InvalidRequest("to has to lie after from.", errors=[{"field": "to", "message": "lies before from"}])
        proposed = proposed_set(policies)
        now = self._clock.now()
        await self._replays.end_lost(now)
        replay = PolicyReplay(
            id=new_id("rpl"),
            tenant_id=self._scope.tenant_id,
            created_at=now,
            expires_at=now + KEPT_FOR,
            created_by=by,
            since=since,
            until=until,
            policies=[msgspec.to_builtins(one.document) for one in proposed.policies],
            reread=rereading is not None,
            reason=None if rereading is None else rereading.reason,
            beat_at=now,
        )
        await self._replays.insert(replay)
        # Counted with this one in it: of several that come at once too many may be refused, never too few.
        if await self._replays.open_count() > MOST_AT_ONCE:
            await self._replays.delete(replay.id)
            raise TooManyReplays
        if rereading is None:
            self._runner.start(self._scope, replay, proposed)
            return replay
        try:
            await rereading.trail.record(self._scope.tenant_id, "access", _access_fields(replay))
        except BaseException:
            await asyncio.shield(self._replays.delete(replay.id))
            raise
        self._runner.start(self._scope, replay, proposed, rereading.reader)
        return replay

    async def page(self, *, limit: int, after: str | None) -> Page[PolicyReplay]:
        """Newest first. Raises InvalidRequest for a cursor of another list."""
        await self._replays.end_lost(self._clock.now())
        return await self._replays.page(limit=limit, after=after)

    async def get(self, replay_id: str) -> PolicyReplay:
        """Raises NotFound."""
        if not is_id(replay_id, "rpl"):
            raise NotFound("There is no such replay.")
        await self._replays.end_lost(self._clock.now())
        return await self._replays.get(replay_id)


def _access_fields(replay: PolicyReplay) -> dict[str, object]:
    return {
        "action": "content.reread",
        "by": replay.created_by,
        "reason": replay.reason,
        "replay": replay.id,
        "query": {"from": rfc3339(replay.since), "to": rfc3339(replay.until)},
    }


def _failed(problem: str, now: datetime) -> dict[str, Any]:
    return {"state": "failed", "problem": problem, "ended_at": now}


@asynccontextmanager
async def open_runner(resources: Resources) -> AsyncIterator[None]:
    runner = ReplayRunner(resources.database, resources.clock)
    resources.parts[ReplayRunner] = runner
    try:
        yield
    finally:
        await runner.stop()


async def _beat(resources: Resources) -> None:
    await resources.part(ReplayRunner).beat()


beat = Job("say which replays run", _BEAT_S, _beat)
