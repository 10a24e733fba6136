"""The job that records which writers have fallen silent for good.

A writer whose journal is still there is adopted within seconds of its death. One whose disk went with it is not: its
chain ends where it last reached the database, and calls it had begun stay without an end. A chain that ends in a
heartbeat without open calls is at rest and misses nothing. Any other that has been silent for a day is recorded as
lost, by whichever process takes it first; what arrives later all the same stands beside that record.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from odmantic import query
from prometheus_client import Counter, Gauge

from trueport.audit.canonical import parse
from trueport.domains.analytics.api import AuditRecord, AuditWriter
from trueport.domains.audit.repository import OrderedRecords, Writers
from trueport.domains.auth.api import work_scopes
from trueport.kit.clock import Clock
from trueport.kit.errors import Unavailable
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.web.domain import Job, Resources
from trueport.web.trail import Trail, trail_of

log = get_logger(__name__)

EVERY_S: Final = 300.0
SILENT_FOR: Final = timedelta(minutes=5)
LOST_AFTER: Final = timedelta(hours=24)
WATCHED_FOR: Final = timedelta(minutes=10)
"""For so long nothing may come of a silent writer before it is given up: after a database was away, all look silent."""
_LEASE: Final = timedelta(hours=1)

_silent = Gauge("trueport_audit_writers_silent", "Chains not at rest of which nothing has come for five minutes")
_lost = Counter("trueport_audit_writers_lost", "Chains that this process has recorded as lost")


@dataclass(frozen=True, slots=True)
class Silence:
    """What a look at one tenant's writers found: chains that are silent, and those recorded as lost."""

    silent: int = 0
    lost: int = 0


class LostWriters:
    """Finds the lost writers of one tenant."""

    def __init__(self, database: Database, scope: TenantScope, trail: Trail, clock: Clock) -> None:
        self._tenant_id = scope.tenant_id
        self._writers = Writers(database, scope)
        self._records = OrderedRecords(database, scope)
        self._trail = trail
        self._clock = clock

    async def look(self) -> Silence:
        """Look at every chain that is not known to have ended. Raises Unavailable."""
        silent = lost = 0
        async for writer in self._writers.each(query.eq(AuditWriter.ended_at, None)):
            newest = await self._records.newest_of(writer.writer)
            silent_for = timedelta() if newest is None else self._clock.now() - newest.created_at
            if newest is None or silent_for < SILENT_FOR:
                continue
            said = parse(newest.canonical)
            if _is_at_rest(said):
                if silent_for >= LOST_AFTER:
                    # Its next heartbeat begins it anew.
                    await self._writers.update(writer.id, {"ended_at": self._clock.now()})
                continue
            silent += 1
            if silent_for >= LOST_AFTER and await self._is_given_up(writer, newest.wseq):
                await self._record(writer, newest, said)
                lost += 1
        return Silence(silent, lost)

    async def _is_given_up(self, writer: AuditWriter, wseq: int) -> bool:
        """Whether nothing has come of it while it was watched, and it is this process that has to say so."""
        now = self._clock.now()
        if writer.suspected_wseq != wseq:
            await self._writers.update(writer.id, {"suspected_wseq": wseq, "suspected_at": now})
            return False
        if now - writer.suspected_at < WATCHED_FOR:
            return False
        return await self._writers.lease(writer.id, now, now + _LEASE) is not None

    async def _record(self, writer: AuditWriter, newest: AuditRecord, said: dict[str, Any]) -> None:
        fields: dict[str, object] = {"of": writer.writer, "records": newest.wseq + 1, "last_at": said["at"]}
        await self._trail.note_lost_writer(self._tenant_id, fields)
        log.error("writer_lost", tenant=self._tenant_id, writer=writer.writer, records=newest.wseq + 1)


def _is_at_rest(record: dict[str, Any]) -> bool:
    return record["kind"] == "heartbeat" and record.get("open") == 0


async def _look(resources: Resources) -> None:
    silent = 0
    async for scope in work_scopes(resources, "lost writers"):
        try:
            found = await LostWriters(resources.database, scope, trail_of(resources), resources.clock).look()
        except Unavailable as error:
            log.warning("writers_not_looked_at", tenant=scope.tenant_id, code=error.code)
            continue
        silent += found.silent
        _lost.inc(found.lost)
    _silent.set(silent)


job = Job("find lost writers", EVERY_S, _look)
