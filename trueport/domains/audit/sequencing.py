"""The job that orders records and signs checkpoints: at once for tenants that recorded something here, later for all.

It runs in every process. A record is under a signed checkpoint a second or two after it reached the database.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Counter

from trueport.domains.analytics.api import RecordsStored
from trueport.domains.audit.events import CheckpointSigned
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.service import AuditLog, LogRolledBack
from trueport.domains.auth.api import work_scope, work_scopes
from trueport.kit.errors import Unavailable
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.web.domain import Job, Listener, Resources

log = get_logger(__name__)

EVERY_S: Final = 1.0
_SWEEP_S: Final = 30.0

_ordered = Counter("trueport_audit_records_ordered", "Records that got a place in their tenant's order")
_rolled_back = Counter("trueport_audit_logs_rolled_back", "Refusals to extend a log that contradicts its checkpoint")


class Backlog:
    """The tenants whose records wait for an order, as far as this process knows."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
        self._logs: dict[str, AuditLog] = {}
        self._waiting: set[str] = set()
        self._sweep_at_s = 0.0

    def note(self, stored: RecordsStored) -> None:
        self._waiting |= stored.tenant_ids

    async def work_off(self) -> None:
        """Order what waits. What fails is tried again by the next run."""
        now_s = self._resources.clock.monotonic()
        if now_s >= self._sweep_at_s:
            # Records of processes that died, and of those that host no audit.
            self._waiting |= {scope.tenant_id async for scope in work_scopes(self._resources, "audit order")}
            self._sweep_at_s = now_s + _SWEEP_S
        waiting, self._waiting = self._waiting, set()
        for tenant_id in sorted(waiting):
            try:
                count = await self._log(work_scope(tenant_id)).advance()
                _ordered.inc(count)
                if count:
                    await self._resources.events.tell(CheckpointSigned(tenant_id))
            except LogRolledBack as error:
                _rolled_back.inc()
                log.error("audit_log_rolled_back", tenant=tenant_id, code=error.code)
            except Unavailable:
                self._waiting.add(tenant_id)

    def _log(self, scope: TenantScope) -> AuditLog:
        """One for each tenant for good: it remembers since when a record waits for its predecessor."""
        found = self._logs.get(scope.tenant_id)
        if found is None:
            found = AuditLog(self._resources.database, scope, self._keys, self._resources.clock)
            self._logs[scope.tenant_id] = found
        return found


@asynccontextmanager
async def open_backlog(resources: Resources) -> AsyncIterator[None]:
    resources.parts[Backlog] = Backlog(resources)
    yield


async def _work_off(resources: Resources) -> None:
    await resources.part(Backlog).work_off()


async def _note(resources: Resources, stored: RecordsStored) -> None:
    resources.part(Backlog).note(stored)


job = Job("order records", EVERY_S, _work_off)
listener = Listener(RecordsStored, _note)
