"""Calls that name objects at a provider, and a memory of who made them, for tests."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from yarl import URL

from trueport.gateway.call import Admitted, Call, Caller, Request
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.dialects.google import GoogleDialect
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.objects.base import Made
from trueport.gateway.snapshot import Credential, Target, TenantLimits, TenantSnapshot
from trueport.kit.errors import Unavailable
from trueport.kit.ids import CredentialId, InteractionId, KeyId, TenantId
from trueport.kit.tenancy import Environment

DIALECTS: Mapping[str, Dialect] = {
    "openai": OpenAIDialect(),
    "anthropic": AnthropicDialect(),
    "google": GoogleDialect(),
}
JSON = "application/json"


def asked(wire: str, line: str, body: Any = None, *, content_type: str = JSON) -> Request:
    """The request of a line such as `GET files/x?limit=2`, with a JSON body or the bytes of another."""
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return DIALECTS[wire].read(method, path, query, content_type if data else "", data)


def credential(name: str, provider: str = "openai") -> Credential:
    return Credential(CredentialId(f"crd_{name}"), name, provider, URL(f"https://{name}.example/v1"), None)


def admitted(
    wire: str,
    request: Request,
    *credentials: Credential,
    tenant: str = "ten_a",
    environment: Environment = "prod",
    targets: Sequence[Target] | None = None,
) -> Admitted:
    """An admitted call of a tenant that has these credentials, the first of which would serve it."""
    held = credentials or (credential("main", wire),)
    caller = Caller(
        TenantId(tenant), KeyId("key_1"), environment, 0, 0, 0, may_use_model=lambda _: True, is_live=lambda: True
    )
    snapshot = TenantSnapshot(
        tenant_id=TenantId(tenant),
        slug="a",
        revision=1,
        routes=(),
        credentials={each.name: each for each in held},
        limits=TenantLimits(),
    )
    call = Call(InteractionId("int_1"), "req_1", DIALECTS[wire], request.method, "", "", [], request.body, "", 0, 0.0)
    chosen = tuple(targets) if targets is not None else (Target(held[0]),)
    return Admitted(
        call, caller, request, snapshot, chosen, rate_headers=[], model=request.model, input_tokens_estimate=0
    )


class KeptInMemory:
    """ProviderObjects of a single tenant. `looked_up` counts the questions, `is_away` fails them."""

    def __init__(self, **kept: str) -> None:
        self.kept = {name: CredentialId(f"crd_{where}") for name, where in kept.items()}
        self.looked_up = 0
        self.is_away = False

    async def owners(self, admitted: Admitted, ids: Collection[str]) -> Mapping[str, CredentialId]:  # noqa: ARG002 - one tenant
        self._check()
        self.looked_up += 1
        return {name: self.kept[name] for name in ids if name in self.kept}

    async def note(self, admitted: Admitted, made: Sequence[Made], credential_id: CredentialId) -> None:  # noqa: ARG002
        self._check()
        for each in made:
            self.kept.setdefault(each.id, credential_id)

    async def forget(self, admitted: Admitted, ids: Collection[str]) -> None:  # noqa: ARG002
        self._check()
        for name in ids:
            self.kept.pop(name, None)

    def _check(self) -> None:
        if self.is_away:
            raise Unavailable("The store is away.")
