"""Who acts, in which tenant: resolved once per request, before anything of the request's body is read.

The tenant comes from the token's `tid`, else from the subdomain, else (in development, from this machine) from the
`X-Tenant-Slug` header. Sources that disagree are an error, never a choice. What a token claims is checked against
the database each time: the session, the person, the membership with its role, and the tenant's status.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from litestar.connection import ASGIConnection
from litestar.types import Scope

from trueport.kit.errors import Forbidden, InvalidRequest, Unauthenticated
from trueport.kit.logging import get_logger
from trueport.kit.principal import GlobalPrincipal, TenantPrincipal
from trueport.settings import Settings
from trueport.web.address import Host, client_address, header_values, is_loopback, is_slug, read_host

log = get_logger(__name__)

SLUG_HEADER: Final = b"x-tenant-slug"
_LONGEST_TOKEN: Final = 4096


class TenantMismatch(Forbidden):
    """Two sources name different tenants."""

    code = "tenant_mismatch"

    def __init__(self) -> None:
        super().__init__("The credential and the address name different tenants.")


class TenantSuspended(Forbidden):
    """The tenant may not be served at present."""

    code = "tenant_suspended"

    def __init__(self) -> None:
        super().__init__("This tenant is suspended or archived.")


class SlugHeaderRefused(InvalidRequest):
    """X-Tenant-Slug is a convenience of development and has no meaning here."""

    code = "tenant_header_refused"

    def __init__(self) -> None:
        super().__init__("X-Tenant-Slug is honoured in development from this machine only.")


class Authenticator(Protocol):
    """Turns a bearer token into a principal, or refuses. Only its implementation constructs a TenantScope."""

    async def global_user(self, token: str) -> GlobalPrincipal:
        """The person of a global token. Raises Unauthenticated."""

    async def tenant_user(self, token: str, slug: str | None) -> TenantPrincipal:
        """The person at work in a tenant.

        A scoped token names its tenant, and a `slug` must then agree; with a global token the slug decides.
        Raises Unauthenticated, Forbidden (no member), TenantMismatch, TenantSuspended.
        """


@dataclass(frozen=True, slots=True)
class TenantHint:
    """What the request says about its tenant outside the token."""

    slug: str | None


def host_of(scope: Scope, settings: Settings) -> Host:
    """The validated Host of a request. Raises InvalidHost."""
    return read_host(scope["headers"], settings.server.base_host)


def tenant_hint(scope: Scope, settings: Settings) -> TenantHint:
    """The slug that the subdomain or the development header names.

    Raises InvalidHost, SlugHeaderRefused, and TenantMismatch when subdomain and header differ.
    """
    host = host_of(scope, settings)
    sent = header_values(scope["headers"], SLUG_HEADER)
    if not sent:
        return TenantHint(host.slug)
    peer = scope.get("client")
    if not settings.is_local or not is_loopback(peer[0] if peer else ""):
        log.warning("tenant_header_refused", address=peer[0] if peer else "")
        raise SlugHeaderRefused
    slug = sent[0].decode("latin-1").strip()
    if len(sent) != 1 or not is_slug(slug):
        raise InvalidRequest("X-Tenant-Slug is sent once and holds a tenant's slug.")
    if host.slug is not None and host.slug != slug:
        raise TenantMismatch
    return TenantHint(slug)


def bearer_token(scope: Scope) -> str:
    """The token of the one `Authorization: Bearer` header. Raises Unauthenticated."""
    sent = header_values(scope["headers"], b"authorization")
    if len(sent) != 1:
        raise Unauthenticated("This call needs one Authorization header with a bearer token.")
    scheme, _, token = sent[0].decode("latin-1").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise Unauthenticated("This call needs one Authorization header with a bearer token.")
    return token


def has_credentials(scope: Scope) -> bool:
    return bool(header_values(scope["headers"], b"authorization"))


def address_of(connection: ASGIConnection[Any, Any, Any, Any], settings: Settings) -> str:
    """The caller's address, seen through trusted proxies."""
    scope = connection.scope
    return client_address(scope.get("client"), scope["headers"], settings.server.trusted_proxies)
