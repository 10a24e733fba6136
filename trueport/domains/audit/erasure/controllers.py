"""The HTTP surface of erasures and legal holds."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from litestar import Controller, MediaType, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from trueport.domains.audit.archive_holds import ArchiveHolds
from trueport.domains.audit.archive_job import archives_of
from trueport.domains.audit.erasure.erasing import Erasing
from trueport.domains.audit.erasure.holding import Holding, HoldScope
from trueport.domains.audit.erasure.schemas import (
    AskErasure,
    CreateHold,
    ErasureShown,
    HoldShown,
    show_erasure,
    show_hold,
)
from trueport.kit.errors import InvalidRequest
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed, PageRequest, listed
from trueport.web.trail import trail_of

AnyRequest = Request[Any, Any, Any]
Here = NamedDependency[Resources]
TheErasing = NamedDependency[Erasing]
TheHolding = NamedDependency[Holding]
ThePage = NamedDependency[PageRequest]


def provide_erasing(request: AnyRequest, resources: Here) -> Erasing:
    return Erasing(resources, bound_tenant_principal(request).scope)


def provide_holding(request: AnyRequest, resources: Here) -> Holding:
    return Holding(resources.database, bound_tenant_principal(request).scope, resources.clock)


class ErasureController(Controller):
    """Erasing people."""

    path = "/trueportai-services/api/v1/subjects/erasures"
    tags: Sequence[str] = ("erasure",)

    @post("/", access=tenant("subjects:erase"))
    async def erase(
        self, request: AnyRequest, resources: Here, erasing: TheErasing, data: JSONBody[AskErasure]
    ) -> ErasureShown:
        """Destroy the keys of everything a person has said. What a legal hold forbids waits for its release (409)."""
        if sum(each is not None for each in (data.user, data.key_id, data.subject)) != 1:
            raise InvalidRequest("Name exactly one of user, key_id and subject.", param="user")
        trail = trail_of(resources)
        subject = data.subject or await erasing.subject(user=data.user, key_id=data.key_id)
        asked = await erasing.ask(subject, bound_tenant_principal(request).user_id, data.legal_basis)
        return show_erasure(await erasing.finish(trail, asked.id))

    @get("/", access=tenant("audit:read"))
    async def erasures(self, erasing: TheErasing, page: ThePage) -> Listed[ErasureShown]:
        """List erasures, newest first."""
        found = await erasing.page(limit=page.limit, after=page.after)
        return listed(found.items, found.next, show_erasure)

    @get("/{erasure_id:str}", access=tenant("audit:read"))
    async def erasure(self, erasing: TheErasing, erasure_id: FromPath[str]) -> ErasureShown:
        """Get one erasure."""
        return show_erasure(await erasing.get(erasure_id))

    @get("/{erasure_id:str}/certificate", access=tenant("audit:read"), media_type=MediaType.TEXT)
    async def certificate(self, erasing: TheErasing, erasure_id: FromPath[str]) -> str:
        """Get the certificate of an erasure: a line of JSON, signed by the keys of the log as checkpoints are."""
        return await erasing.certificate(erasure_id)


class HoldController(Controller):
    """Legal holds."""

    path = "/trueportai-services/api/v1/audit/holds"
    tags: Sequence[str] = ("holds",)

    @post("/", access=tenant("holds:write"))
    async def create(
        self,
        request: AnyRequest,
        resources: Here,
        holding: TheHolding,
        erasing: TheErasing,
        data: JSONBody[CreateHold],
    ) -> HoldShown:
        """Forbid pruning and erasing of what meets the conditions."""
        if data.user is not None and data.subject is not None:
            raise InvalidRequest("Name user or subject, not both.", param="user")
        trail = trail_of(resources)
        subject = data.subject if data.user is None else await erasing.subject(user=data.user)
        scope = HoldScope(
            subject=subject,
            key_id=data.key_id,
            since=_cut(data.since),
            until=_cut(data.until),
            interaction_ids=data.interaction_ids,
        )
        return show_hold(await holding.create(trail, scope, data.reason, bound_tenant_principal(request).user_id))

    @get("/", access=tenant("audit:read"))
    async def holds(self, holding: TheHolding, page: ThePage) -> Listed[HoldShown]:
        """List holds, newest first."""
        found = await holding.page(limit=page.limit, after=page.after)
        return listed(found.items, found.next, show_hold)

    @get("/{hold_id:str}", access=tenant("audit:read"))
    async def hold(
        self, request: AnyRequest, resources: Here, holding: TheHolding, hold_id: FromPath[str]
    ) -> HoldShown:
        """Get one hold, and what has become of it in the archive."""
        found = await holding.get(hold_id)
        scope = bound_tenant_principal(request).scope
        stores = await archives_of(resources).stores(scope)
        return replace(show_hold(found), archive=await ArchiveHolds(resources.database, scope, stores).of(found))

    @post("/{hold_id:str}/release", access=tenant("holds:write"), status_code=200)
    async def release(
        self, request: AnyRequest, resources: Here, holding: TheHolding, hold_id: FromPath[str]
    ) -> HoldShown:
        """Ask for a hold's release, or agree to what another person has asked for."""
        await holding.get(hold_id)
        by = bound_tenant_principal(request).user_id
        return show_hold(await holding.release(trail_of(resources), hold_id, by))


def _cut(moment: datetime | None) -> datetime | None:
    """To the milliseconds that the database keeps, in UTC."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1_000 * 1_000)
