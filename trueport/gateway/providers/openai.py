"""OpenAI itself: a base URL and a bearer token."""

from typing import Final

from yarl import URL

from trueport.gateway.call import Request, Wire
from trueport.gateway.providers.address import base_path, below, checked_query, operation_path
from trueport.gateway.providers.credential import key_of
from trueport.gateway.snapshot import Credential

# Azure's parameter; a client of that dialect may have been routed here.
_NOT_OPENAIS: Final = frozenset({"api-version"})


class OpenAIProvider:
    """`https://api.openai.com/v1`, or whatever imitates it to the letter."""

    wire: Wire = "openai"
    default_headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, name: str = "openai") -> None:
        self.name = name

    def adapted(self, credential: Credential, request: Request) -> Request:  # noqa: ARG002 - nothing to adapt
        return request

    def url(self, credential: Credential, request: Request) -> URL:
        base = credential.base_url
        root = base_path(base) or _root_of(base.host)
        return below(base, f"{root}/{operation_path(request.operation)}", checked_query(request.query, _NOT_OPENAIS))

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - for all requests alike
        key = key_of(credential)
        return () if key is None else (("authorization", f"Bearer {key}"),)

    def refused(self, credential: Credential) -> None:
        """A key is what it is; there is nothing to forget."""


def _root_of(host: str | None) -> str:
    return "/v1" if host == "api.openai.com" else ""
