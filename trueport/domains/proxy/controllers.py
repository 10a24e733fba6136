"""How the providers of a tenant's routes are doing, and detection for people who are signed in."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency

from trueport.detection.embedding import Embeddings
from trueport.domains.auth.api import tenant_key
from trueport.domains.config.api import accounts, compile_snapshot
from trueport.domains.proxy.callers import KeyRing
from trueport.domains.proxy.http import DETECT, GatewayApp, request_id_of
from trueport.gateway.attempts import breaker_scope
from trueport.gateway.breaker.base import Mode, Pin, State
from trueport.gateway.call import Call, Caller
from trueport.gateway.own import detect
from trueport.gateway.ports import Tools
from trueport.gateway.relay import relay_for
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.errors import Unavailable
from trueport.kit.ids import InteractionId, KeyId, new_id
from trueport.kit.principal import TenantPrincipal
from trueport.kit.tenancy import TenantScope
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed
from trueport.web.tenancy import address_of

# Room for the detector's own bound, which says more than the framework's.
_MOST_BODY_BYTES: Final = 2 << 20
_REQUESTS_OF_A_PERSON: Final = 60


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


class DetectController(Controller):
    """What detectors see in texts, for people; applications ask the same path with their key."""

    path = detect.PATH
    tags: Sequence[str] = ("detection",)

    @post("/", access=tenant("detect:run"), status_code=200, request_max_body_size=_MOST_BODY_BYTES)
    async def detect(self, request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Response[bytes]:
        """Read texts with every detector."""
        tools, person = _tools(resources), bound_tenant_principal(request)
        clock, headers = resources.clock, list(request.scope["headers"])
        interaction_id = InteractionId(new_id("int"))
        stated = request.scope.get("state", {}).get("request_id")
        call = Call(
            interaction_id=interaction_id,
            request_id=str(stated or request_id_of(headers, interaction_id)),
            dialect=DETECT,
            method=request.method,
            path=detect.OPERATION,
            query="",
            headers=headers,
            body=await request.body(),
            peer=address_of(request, resources.settings),
            started_us=clock.epoch_us(),
            started_s=clock.monotonic(),
        )
        reply = await relay_for(call, _person(person), await _snapshot(resources, person.scope, tools), tools)
        head = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers}
        media_type = head.pop("content-type", "application/json")
        return Response(reply.body, status_code=reply.status, headers=head, media_type=media_type)


def _person(person: TenantPrincipal) -> Caller:
    """Somebody at work in a tenant as a caller. Records name the person where they name an application's key."""
    return Caller(
        tenant_id=person.scope.tenant_id,
        key_id=KeyId(person.user_id),
        environment=person.environment,
        requests_per_minute=_REQUESTS_OF_A_PERSON,
        tokens_per_minute=0,
        concurrency=0,
        may_use_model=lambda _: True,
        is_live=lambda: True,
    )


async def _snapshot(resources: Resources, scope: TenantScope, tools: Tools) -> TenantSnapshot:
    known = resources.part(KeyRing).known(scope.tenant_id)
    if known is not None:
        return known[1]
    own_key = await tenant_key(resources, scope.tenant_id)
    return await compile_snapshot(
        resources.database,
        scope,
        "",
        own_key,
        tools.prices,
        embeddings=Embeddings(tools.engine) if tools.engine is not None else None,
        bands=tools.engine.bands if tools.engine is not None else None,
    )


def _tools(resources: Resources) -> Tools:
    gateway = resources.part(GatewayApp)
    tools = gateway.tools
    if tools is None or gateway.is_draining:
        raise Unavailable("The gateway is starting or stopping.")
    return tools
