"""Anthropic's API.

Source: https://docs.anthropic.com/en/api/versioning (the version header, which the API cannot do without).
"""

from typing import Final

from yarl import URL

from trueport.gateway.call import Request, Wire
from trueport.gateway.providers.address import base_path, below, checked_query, operation_path
from trueport.gateway.providers.credential import key_of
from trueport.gateway.snapshot import Credential

_NOT_ANTHROPICS: Final = frozenset({"api-version"})


class AnthropicProvider:
    """`https://api.anthropic.com`, with or without the `/v1` that every operation has."""

    name = "anthropic"
    wire: Wire = "anthropic"
    default_headers: tuple[tuple[str, str], ...] = (("anthropic-version", "2023-06-01"),)

    def adapted(self, credential: Credential, request: Request) -> Request:  # noqa: ARG002 - nothing to adapt
        return request

    def url(self, credential: Credential, request: Request) -> URL:
        base = credential.base_url
        root = base_path(base).removesuffix("/v1")
        path = f"{root}/v1/{operation_path(request.operation)}"
        return below(base, path, checked_query(request.query, _NOT_ANTHROPICS))

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - for all requests alike
        key = key_of(credential)
        return () if key is None else (("x-api-key", key),)

    def refused(self, credential: Credential) -> None:
        """A key is what it is; there is nothing to forget."""
