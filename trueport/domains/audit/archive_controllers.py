"""The HTTP surface of the archive: how far it is, how long records are kept, and whether it can be reached."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta

from trueport.domains.audit.archive_job import archive_of
from trueport.domains.audit.repository import ArchivedSegments
from trueport.domains.audit.retention import KeptFor, Retention
from trueport.kit.clock import rfc3339
from trueport.kit.errors import NotFound
from trueport.settings import SHORTEST_RETENTION_DAYS
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant

AnyRequest = Request[Any, Any, Any]
Here = NamedDependency[Resources]
TheDeeds = NamedDependency[Deeds]
TheRetention = NamedDependency[Retention]
TheSegments = NamedDependency[ArchivedSegments]
Days = Annotated[int, Meta(ge=SHORTEST_RETENTION_DAYS, le=36_500)]


class RetentionShown(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Days for which records of calls are kept, and records of what people did."""

    calls_days: Days
    deeds_days: Days


class ArchiveShown(msgspec.Struct, kw_only=True):
    """How far the archive is. `records` are in it and were read back; `retained_until` is the latest lock's end."""

    is_set: bool
    records: int
    newest_at: str | None
    retained_until: str | None


class ArchiveTested(msgspec.Struct, kw_only=True):
    """Whether the archive keeps its objects from being changed, and how that is known."""

    worm: bool
    why: str


def provide_retention(request: AnyRequest, resources: Here) -> Retention:
    scope = bound_tenant_principal(request).scope
    return Retention(resources.database, scope, resources.settings.archive, resources.clock)


def provide_segments(request: AnyRequest, resources: Here) -> ArchivedSegments:
    return ArchivedSegments(resources.database, bound_tenant_principal(request).scope)


class ArchiveController(Controller):
    """The archive of the trail, and retention."""

    path = "/trueportai-services/api/v1/audit"
    tags: Sequence[str] = ("archive",)

    @get("/retention", access=tenant("audit:read"))
    async def retention(self, kept_for: TheRetention) -> RetentionShown:
        """Get how long records are kept."""
        return _shown(await kept_for.now())

    @put("/retention", access=tenant("storage:write"))
    async def change_retention(
        self, request: AnyRequest, kept_for: TheRetention, deeds: TheDeeds, data: JSONBody[RetentionShown]
    ) -> RetentionShown:
        """Keep records longer from now on, or those that are archived later shorter. What was promised stays."""
        tenant_id, wanted = bound_tenant_principal(request).scope.tenant_id, KeptFor(data.calls_days, data.deeds_days)
        thing = Thing("retention", tenant_id, _told(await kept_for.now()), _told(wanted))
        async with deeds.doing(tenant_id, "admin", "retention_changed", thing):
            return _shown(await kept_for.change(wanted))

    @get("/archive", access=tenant("audit:read"))
    async def archive(self, resources: Here, archived_segments: TheSegments) -> ArchiveShown:
        """Get how far the archive is."""
        newest = await archived_segments.newest_archived()
        return ArchiveShown(
            is_set=resources.settings.archive.url is not None,
            records=0 if newest is None else newest.end,
            newest_at=None if newest is None or newest.archived_at is None else rfc3339(newest.archived_at),
            retained_until=None if newest is None else rfc3339(newest.retained_until),
        )

    @post("/archive/test", access=tenant("storage:write"), status_code=200)
    async def test(self, resources: Here) -> ArchiveTested:
        """Ask the archive whether it is there, and whether it locks what it is given. Nothing is written."""
        store = archive_of(resources)
        if store is None:
            raise NotFound("No archive is set.")
        promise = await store.immutability()
        return ArchiveTested(worm=promise.worm, why=promise.why)


def _shown(kept: KeptFor) -> RetentionShown:
    return RetentionShown(calls_days=kept.calls, deeds_days=kept.deeds)


def _told(kept: KeptFor) -> dict[str, int]:
    return {"calls_days": kept.calls, "deeds_days": kept.deeds}
