"""The job that takes records to the archive and, once they are there and their time is over, out of the database."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from prometheus_client import Counter, Gauge

from trueport.domains.audit.archive_holds import ArchiveHolds
from trueport.domains.audit.archiving import (
    ArchiveOutsideRegions,
    Archiver,
    ArchiveTampered,
    ContentsMissing,
    MutableArchive,
)
from trueport.domains.audit.exporting import LogHasHole
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.placing.repository import EveryChoice
from trueport.domains.audit.placing.stores import Stores, stores_of
from trueport.domains.audit.pruning import Pruner
from trueport.domains.auth.api import work_scopes
from trueport.kit.errors import TrueportError, Unavailable
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import PlatformScope, TenantScope
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, open_archive
from trueport.storage.documents import open_store
from trueport.web.domain import Job, Resources, StartupRefused

log = get_logger(__name__)

EVERY_S: Final = 60.0
_PRUNES_EVERY_S: Final = 3_600.0
_LONGEST_REST_S: Final = 3_600.0
_OWN_AT_ONCE: Final = 4
_LONGEST_RUN_S: Final = 600.0

_archived = Counter("trueport_audit_records_archived", "Records that are in the archive and were read back")
_pruned = Counter("trueport_audit_records_pruned", "Records that left the database because their time was over")
_failed = Counter("trueport_audit_archive_failures", "Runs of the archiver that did not get to their end", ["code"])
_tampered = Gauge("trueport_audit_archive_tampered", "Tenants whose archive or records are not what was written")


class Archives:
    """The archive of this installation and those of tenants' own, and what this process's runs have come to."""

    def __init__(self, resources: Resources, store: ArchiveStore | None) -> None:
        """store: the installation's; None where it has none."""
        self._resources = resources
        self.store = store
        self._keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
        self._own_at_once = asyncio.Semaphore(_OWN_AT_ONCE)
        self._failures: dict[str, int] = {}
        self._rests_until_s: dict[str, float] = {}
        self._prunes_at_s: dict[str, float] = {}
        self._suspects: set[str] = set()

    @classmethod
    def of(cls, resources: Resources) -> "Archives":
        """Raises UnknownStorage."""
        settings = resources.settings
        if settings.archive.url is None:
            return cls(resources, None)
        return cls(resources, open_archive(settings.archive.url, settings.data_dir, resources.clock, os.environ))

    async def stores(self, scope: TenantScope) -> Stores:
        """Where a tenant's segments lie. Raises a kit Unavailable."""
        return await stores_of(self._resources, scope, self.store)

    async def archiver(self, scope: TenantScope) -> Archiver:
        """Raises UnknownStorage and a kit Unavailable."""
        resources, settings = self._resources, self._resources.settings
        return Archiver(
            resources.database,
            scope,
            self._keys,
            open_store(settings.storage_url, settings.data_dir),
            await self.stores(scope),
            settings.archive,
            resources.clock,
        )

    async def pruner(self, scope: TenantScope) -> Pruner:
        """Raises a kit Unavailable."""
        resources = self._resources
        return Pruner(resources.database, scope, await self.stores(scope), resources.settings.archive, resources.clock)

    async def work_off(self) -> None:
        """Archive what is due of every tenant. Who failed rests a while, longer each time, up to an hour.

        A tenant's own archive may be slow or away for as long as it likes, so those are worked off beside each other,
        each for a limited time.
        """
        platform = PlatformScope("audit", "archives of tenants' own")
        own = await EveryChoice(self._resources.database, platform).tenants()
        async with asyncio.TaskGroup() as tasks:
            async for scope in work_scopes(self._resources, "archive"):
                if self._rests_until_s.get(scope.tenant_id, 0.0) > self._resources.clock.monotonic():
                    continue
                if scope.tenant_id in own:
                    tasks.create_task(self._work_off_own(scope))
                elif self.store is not None:
                    await self._work_off(scope)
        _tampered.set(len(self._suspects))

    async def _work_off_own(self, scope: TenantScope) -> None:
        async with self._own_at_once:
            try:
                async with asyncio.timeout(_LONGEST_RUN_S):
                    await self._work_off(scope)
            except TimeoutError:
                log.warning("archive_waits", tenant=scope.tenant_id, code="archive_unavailable", reason="too_slow")
                self._rest(scope.tenant_id, ArchiveUnavailable("too_slow"))
            except TrueportError as error:
                # Whatever is the matter with one tenant's own archive, the others' go on.
                log.error("archive_refused", tenant=scope.tenant_id, code=error.code)
                self._rest(scope.tenant_id, error)

    async def _work_off(self, scope: TenantScope) -> None:
        tenant_id = scope.tenant_id
        try:
            _archived.inc(await (await self.archiver(scope)).advance())
            if self._prunes_at_s.get(tenant_id, 0.0) <= self._resources.clock.monotonic():
                _pruned.inc(await (await self.pruner(scope)).run())
                self._prunes_at_s[tenant_id] = self._resources.clock.monotonic() + _PRUNES_EVERY_S
        except (ArchiveTampered, ArchiveOutsideRegions, ContentsMissing, MutableArchive, LogHasHole) as error:
            if isinstance(error, ArchiveTampered):
                self._suspects.add(tenant_id)
            log.error("archive_refused", tenant=tenant_id, code=error.code)
            self._rest(tenant_id, error)
        except Unavailable as error:
            reason = error.reason if isinstance(error, ArchiveUnavailable) else error.code
            log.warning("archive_waits", tenant=tenant_id, code=error.code, reason=reason)
            self._rest(tenant_id, error)
        else:
            self._suspects.discard(tenant_id)
            self._failures.pop(tenant_id, None)
        await self._hold(scope)

    async def _hold(self, scope: TenantScope) -> None:
        """Holds rest by themselves: a store that knows none of them may well take objects."""
        name = f"{scope.tenant_id} holds"
        if self._rests_until_s.get(name, 0.0) > self._resources.clock.monotonic():
            return
        try:
            await ArchiveHolds(self._resources.database, scope, await self.stores(scope)).reconcile()
        except (ArchiveTampered, Unavailable) as error:
            reason = error.reason if isinstance(error, ArchiveUnavailable) else error.code
            log.warning("archive_not_held", tenant=scope.tenant_id, code=error.code, reason=reason)
            self._rest(name, error)
        else:
            self._failures.pop(name, None)

    def _rest(self, what: str, error: TrueportError) -> None:
        _failed.labels(error.code).inc()
        times = self._failures[what] = self._failures.get(what, 0) + 1
        rest_s = min(EVERY_S * 2 ** min(times, 10), _LONGEST_REST_S)
        self._rests_until_s[what] = self._resources.clock.monotonic() + rest_s


def archives_of(resources: Resources) -> Archives:
    """The archives that this process has opened, or opens now. Raises UnknownStorage."""
    found = resources.parts.get(Archives)
    return found if isinstance(found, Archives) else Archives.of(resources)


@asynccontextmanager
async def open_archives(resources: Resources) -> AsyncIterator[None]:
    """Raises StartupRefused for an archive that can be changed, unless that is allowed."""
    archives = Archives.of(resources)
    if archives.store is not None and not resources.settings.archive.allows_mutable:
        await _refuse_mutable(archives.store)
    resources.parts[Archives] = archives
    yield


async def _refuse_mutable(store: ArchiveStore) -> None:
    # An archive that is away at this moment keeps nobody from serving; it is asked again before anything is written.
    with suppress(ArchiveUnavailable):
        promise = await store.immutability()
        if not promise.worm:
            raise StartupRefused(
                [
                    f"TRUEPORT_ARCHIVE_URL: the archive can be changed ({promise.why}); "
                    "TRUEPORT_ALLOW_MUTABLE_ARCHIVE=1 allows it"
                ]
            )


async def _work_off(resources: Resources) -> None:
    archives = resources.parts.get(Archives)
    if isinstance(archives, Archives):
        await archives.work_off()


job = Job("archive records", EVERY_S, _work_off)
