"""Accounts, requests and a token endpoint for the tests of providers."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from yarl import URL

from tests.support.chaos_upstream import ChaosUpstream, Exchange, Scenario
from trueport.gateway.call import Request
from trueport.gateway.egress import Egress, EgressPolicy
from trueport.gateway.json_gate import read_object
from trueport.gateway.snapshot import Credential
from trueport.gateway.upstream import Upstream
from trueport.kit.ids import CredentialId
from trueport.kit.secret import Secret

LISTED = EgressPolicy(allow=("127.0.0.0/8",))
TOKEN_CANARY = "ya29.token-canary"


def account(base_url: str, secret: str | None = "sk-canary", *, provider: str = "openai", **more: Any) -> Credential:
    return Credential(
        id=more.pop("id", CredentialId("crd_1")),
        name="main",
        provider=provider,
        base_url=URL(base_url, encoded=True),
        secret=None if secret is None else Secret(secret),
        **more,
    )


def asking(
    operation: str = "chat/completions",
    body: bytes | None = None,
    *,
    model: str | None = None,
    query: str = "",
    **more: Any,
) -> Request:
    """A request with this JSON body; `model` is the body's where none is given."""
    members: Mapping[str, object] | None = None if body is None else read_object(body)
    named = (members or {}).get("model")
    return Request(
        operation=operation,
        model=model if model is not None or not isinstance(named, str) else named,
        streams=False,
        wants_usage_event=more.pop("wants_usage_event", False),
        body=body or b"",
        members=members,
        content_type=more.pop("content_type", "application/json"),
        most_output_tokens=None,
        query=query,
        **more,
    )


class TokenEndpoint:
    """Gives out numbered tokens, or whatever it is told to answer, over a real socket."""

    def __init__(self) -> None:
        self.answer: Scenario | None = None
        self.life_s: object = 3_600
        self.asked: list[dict[str, str]] = []
        self._chaos = ChaosUpstream({"/token": self._serve, "/entra-tenant/oauth2/v2.0/token": self._serve})

    @property
    def origin(self) -> str:
        return self._chaos.origin

    @property
    def exchanges(self) -> list[Exchange]:
        return self._chaos.requests

    async def _serve(self, exchange: Exchange) -> None:
        self.asked.append({name: values[0] for name, values in parse_qs(exchange.body.decode()).items()})
        if self.answer is not None:
            await self.answer(exchange)
            return
        token = {"access_token": f"{TOKEN_CANARY}-{len(self.asked)}", "expires_in": self.life_s, "token_type": "Bearer"}
        await exchange.send_json(json.dumps(token).encode())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple["TokenEndpoint", Upstream]]:
        """The endpoint, and a way out that leads to it."""
        egress = Egress(LISTED)
        try:
            async with self._chaos.running():
                yield self, Upstream(egress)
        finally:
            await egress.close()
