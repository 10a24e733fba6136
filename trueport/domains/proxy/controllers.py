"""How the providers of a tenant's routes are doing."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency

from trueport.domains.config.api import accounts
from trueport.domains.proxy.http import GatewayApp
from trueport.gateway.attempts import breaker_scope
from trueport.gateway.breaker.base import Mode, Pin, State
from trueport.gateway.ports import Tools
from trueport.kit.errors import Unavailable
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed


class CredentialHealth(msgspec.Struct, kw_only=True):
    """The circuit that calls with one credential go through.

    `state` is closed while calls pass, open while the provider is left alone (`retry_after_ms` until a single call
    may try it again), half_open while that call is under way. `pinned` is an operator's word over both. `mode` says
    who counts failures: `redis` all processes together, `memory` and `local` the one that answered.
    """

    id: str
    credential: str
    provider: str
    region: str | None
    state: State
    pinned: Pin | None
    retry_after_ms: int
    mode: Mode


class RoutesController(Controller):
    """The state of a tenant's routes."""

    path = "/trueportai-services/api/v1/routes"
    tags: Sequence[str] = ("routes",)

    @get("/health", access=tenant("routes:read"))
    async def health(
        self, request: Request[Any, Any, Any], resources: NamedDependency[Resources]
    ) -> Listed[CredentialHealth]:
        """Show for each credential whether its provider is being called."""
        scope = bound_tenant_principal(request).scope
        breakers = _tools(resources).breakers
        found = await accounts(resources.database, scope)
        standings = await breakers.standings([breaker_scope(account, scope.tenant_id) for account in found])
        shown = [
            CredentialHealth(
                id=account.id,
                credential=account.name,
                provider=account.provider,
                region=account.region,
                state=standing.state,
                pinned=standing.pinned,
                retry_after_ms=standing.retry_after_ms,
                mode=standing.mode,
            )
            for account, standing in zip(found, standings, strict=True)
        ]
        return Listed(shown, has_more=False, next=None)


def _tools(resources: Resources) -> Tools:
    tools = resources.part(GatewayApp).tools
    if tools is None:
        raise Unavailable("The gateway is starting or stopping.")
    return tools
