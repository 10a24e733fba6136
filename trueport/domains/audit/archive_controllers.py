"""The HTTP surface of the archive: how far it is, how long records are kept, and whether it can be reached."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta

from trueport.domains.audit.archive_job import archives_of
from trueport.domains.audit.placing.placing import Placing
from trueport.domains.audit.placing.schemas import (
    ArchiveShown,
    ArchiveTested,
    ChooseArchive,
    EarlierPlace,
    PlaceShown,
    show_place,
    show_probed,
)
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
ThePlacing = NamedDependency[Placing]
TheRetention = NamedDependency[Retention]
TheSegments = NamedDependency[ArchivedSegments]
Days = Annotated[int, Meta(ge=SHORTEST_RETENTION_DAYS, le=36_500)]


class RetentionShown(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Days for which records of calls are kept, and records of what people did."""

    calls_days: Days
    deeds_days: Days


def provide_retention(request: AnyRequest, resources: Here) -> Retention:
    scope = bound_tenant_principal(request).scope
    return Retention(resources.database, scope, resources.settings.archive, resources.clock)


def provide_segments(request: AnyRequest, resources: Here) -> ArchivedSegments:
    return ArchivedSegments(resources.database, bound_tenant_principal(request).scope)


def provide_placing(request: AnyRequest, resources: Here) -> Placing:
    return Placing(resources, bound_tenant_principal(request).scope)


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
    async def archive(self, resources: Here, archived_segments: TheSegments, placing: ThePlacing) -> ArchiveShown:
        """Get how far the archive is, and where it lies."""
        newest, place = await archived_segments.newest_archived(), await placing.current()
        current = None if place is None else place.id
        return ArchiveShown(
            is_set=place is not None or resources.settings.archive.url is not None,
            records=0 if newest is None else newest.end,
            newest_at=None if newest is None or newest.archived_at is None else rfc3339(newest.archived_at),
            retained_until=None if newest is None else rfc3339(newest.retained_until),
            own=None if place is None else show_place(place),
            earlier=[
                EarlierPlace(own=None if each is None else show_place(each), segments=count)
                for each, count in await placing.counts()
                if (None if each is None else each.id) != current
            ],
        )

    @put("/archive", access=tenant("storage:write"))
    async def choose(self, placing: ThePlacing, deeds: TheDeeds, data: JSONBody[ChooseArchive]) -> PlaceShown:
        """Archive to a place of your own from now on. It is tried first; what is elsewhere stays there."""
        return show_place(await placing.choose(deeds, data.place(), data.region, data.given()))

    @delete("/archive", access=tenant("storage:write"))
    async def leave(self, placing: ThePlacing, deeds: TheDeeds) -> None:
        """Archive to the installation's archive from now on. What is in your own stays there and is read from there."""
        await placing.leave(deeds)

    @post("/archive/test", access=tenant("storage:write"), status_code=200)
    async def test(self, resources: Here, placing: ThePlacing, deeds: TheDeeds) -> ArchiveTested:
        """Try the archive. In your own an object is written, read back, and left there locked where the store locks."""
        place = await placing.current()
        if place is not None:
            return show_probed(await placing.test(deeds, place))
        store = archives_of(resources).store
        if store is None:
            raise NotFound("No archive is set.")
        promise = await store.immutability()
        return ArchiveTested(is_fit=True, worm=promise.worm, why=promise.why, lacks=[], left="nothing")


def _shown(kept: KeptFor) -> RetentionShown:
    return RetentionShown(calls_days=kept.calls, deeds_days=kept.deeds)


def _told(kept: KeptFor) -> dict[str, int]:
    return {"calls_days": kept.calls, "deeds_days": kept.deeds}
