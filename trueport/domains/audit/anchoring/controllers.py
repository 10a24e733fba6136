"""The HTTP surface of the places that checkpoints are sent to."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from trueport.domains.audit.anchoring.anchoring import Anchoring
from trueport.domains.audit.anchoring.pushing import Pushing
from trueport.domains.audit.anchoring.repository import AnchorStates
from trueport.domains.audit.anchoring.schemas import (
    AnchorShown,
    CreatePush,
    PushMade,
    PushShown,
    show_anchor,
    show_push,
)
from trueport.domains.audit.service import AuditLog
from trueport.kit.errors import NotFound
from trueport.web.deeds import Deeds
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed

AnyRequest = Request[Any, Any, Any]
Here = NamedDependency[Resources]
TheDeeds = NamedDependency[Deeds]
TheLog = NamedDependency[AuditLog]
ThePushing = NamedDependency[Pushing]


def provide_pushing(request: AnyRequest, resources: Here) -> Pushing:
    return Pushing(resources, bound_tenant_principal(request).scope, resources.part(Anchoring).upstream)


class AnchorController(Controller):
    """Where checkpoints are kept outside, and how far each place is."""

    path = "/trueportai-services/api/v1/audit"
    tags: Sequence[str] = ("audit",)

    @get("/anchors", access=tenant("audit:read"))
    async def anchors(self, request: AnyRequest, resources: Here, audit_log: TheLog) -> Listed[AnchorShown]:
        """List the places that this log's checkpoints are sent to, and how far each of them is."""
        states = AnchorStates(resources.database, bound_tenant_principal(request).scope)
        try:
            newest = (await audit_log.checkpoint()).size
        except NotFound:
            newest = 0
        return Listed([show_anchor(each, newest) for each in await states.find()], has_more=False, next=None)

    @get("/pushes", access=tenant("audit:push"))
    async def pushes(self, pushing: ThePushing) -> Listed[PushShown]:
        """List the webhooks that get checkpoints."""
        return Listed([show_push(each) for each in await pushing.all()], has_more=False, next=None)

    @post("/pushes", access=tenant("audit:push"))
    async def create(
        self, request: AnyRequest, resources: Here, pushing: ThePushing, deeds: TheDeeds, data: JSONBody[CreatePush]
    ) -> PushMade:
        """Have checkpoints sent to a webhook. The secret that signs them is shown this once."""
        made = await pushing.create(deeds, data.name, data.url, data.every_s)
        resources.part(Anchoring).note(bound_tenant_principal(request).scope.tenant_id)
        return PushMade(**msgspec.structs.asdict(show_push(made.stored)), secret=made.secret)

    @delete("/pushes/{push_id:str}", access=tenant("audit:push"))
    async def forget(self, pushing: ThePushing, deeds: TheDeeds, push_id: FromPath[str]) -> None:
        """Send nothing to a webhook any more."""
        await pushing.delete(deeds, await pushing.get(push_id))
