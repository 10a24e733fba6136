"""Who may call a route. Every route says so in `access=`; one that does not keeps the process from starting."""

from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers.base import BaseRouteHandler

from trueport.kit.errors import Forbidden, InvalidRequest, Unauthenticated
from trueport.kit.principal import GlobalPrincipal, TenantPrincipal
from trueport.settings import Settings
from trueport.web.address import header_values, is_loopback, is_within
from trueport.web.tenancy import (
    SLUG_HEADER,
    Authenticator,
    address_of,
    bearer_token,
    has_credentials,
    tenant_hint,
)

ACCESS: Final = "access"
QUERY_NAMES: Final = "query_names"

AccessKind = Literal["public", "global_user", "tenant", "platform_admin", "operations"]


@dataclass(frozen=True, slots=True)
class Access:
    """An access class. `permission` is set for `tenant` only."""

    kind: AccessKind
    permission: str | None = None


def public() -> Access:
    """Anybody."""
    return Access("public")


def global_user() -> Access:
    """A person with a global token."""
    return Access("global_user")


def tenant(permission: str) -> Access:
    """A member whose role holds the permission, in the tenant resolved for the request."""
    return Access("tenant", permission)


def platform_admin() -> Access:
    """A person with a global token who is a platform admin at this moment."""
    return Access("platform_admin")


def operations() -> Access:
    """This machine, or an address the operator has listed."""
    return Access("operations")


class PermissionMissing(Forbidden):
    """The role held in this tenant does not include it."""

    code = "permission_missing"

    def __init__(self, permission: str) -> None:
        super().__init__(f"Your role in this tenant does not include {permission}.", permission=permission)


async def enforce_access(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the request through, with its principal bound to it, or refuse it. Runs before the body is read."""
    access = handler.opt.get(ACCESS)
    if not isinstance(access, Access):
        # Litestar adds an OPTIONS handler to every path; nobody has declared who may call those, so nobody may.
        raise MethodNotAllowedException
    settings: Settings = connection.app.state.resources.settings
    _refuse_unknown_query(connection, handler)
    scope = connection.scope
    if has_credentials(scope) and header_values(scope["headers"], SLUG_HEADER):
        tenant_hint(scope, settings)
    match access.kind:
        case "public":
            return
        case "operations":
            if not may_operate(connection, settings):
                raise Forbidden("This address is not among those that may read operational data.")
        case "global_user" | "platform_admin":
            person = await _authenticator(connection).global_user(bearer_token(scope))
            if access.kind == "platform_admin" and not person.is_platform_admin:
                raise Forbidden("Only a platform admin may do this.")
            _bind(connection, person)
        case "tenant":
            token = bearer_token(scope)
            member = await _authenticator(connection).tenant_user(token, tenant_hint(scope, settings).slug)
            if access.permission not in member.permissions:
                raise PermissionMissing(str(access.permission))
            _bind(connection, member)
        case _:
            assert_never(access.kind)


def may_operate(connection: ASGIConnection[Any, Any, Any, Any], settings: Settings) -> bool:
    """Whether the caller's address may read operational data."""
    address = address_of(connection, settings)
    return is_loopback(address) or is_within(address, settings.server.operations_allow)


def bound_tenant_principal(request: ASGIConnection[Any, Any, Any, Any]) -> TenantPrincipal:
    """The member a `tenant(...)` route was let through for."""
    if not isinstance(request.user, TenantPrincipal):
        raise TypeError("this route is not of access class tenant")
    return request.user


def _bind(connection: ASGIConnection[Any, Any, Any, Any], principal: GlobalPrincipal | TenantPrincipal) -> None:
    connection.scope["user"] = principal


def _authenticator(connection: ASGIConnection[Any, Any, Any, Any]) -> Authenticator:
    authenticator: Authenticator | None = connection.app.state.authenticator
    if authenticator is None:
        raise Unauthenticated("This process hosts nothing that could authenticate you.")
    return authenticator


def _refuse_unknown_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A parameter nobody reads is a typing mistake or an attempt such as `name[$ne]=`; pages are left alone."""
    known = handler.opt.get(QUERY_NAMES)
    if known is None:
        return
    sent = [name for name, _ in connection.query_params.multi_items()]
    unknown = sorted({name for name in sent if name not in known})
    if unknown or len(set(sent)) != len(sent):
        raise InvalidRequest(
            "The query holds a parameter that is unknown or given twice.",
            errors=[{"field": name[:100], "message": "is not a parameter of this call"} for name in unknown],
        )
