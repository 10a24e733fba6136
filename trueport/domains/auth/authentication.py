"""From a token to a principal. What the token claims is checked against the database on every request.

This is one of the two places that construct a TenantScope (the other looks up API keys): for a claimed tenant, and
handed out only after the membership in it has been found.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from trueport.domains.auth.models import Session, Tenant, User
from trueport.domains.auth.permissions import PERMISSIONS_OF
from trueport.domains.auth.repository import Memberships, Sessions, Tenants, Users
from trueport.domains.auth.tokens import Claims, TokenRefused, TokenSigner
from trueport.kit.clock import Clock
from trueport.kit.errors import Forbidden
from trueport.kit.ids import TenantId
from trueport.kit.principal import GlobalPrincipal, TenantPrincipal
from trueport.kit.tenancy import Environment, PlatformScope, TenantScope
from trueport.storage.mongo import Database
from trueport.web.tenancy import TenantMismatch, TenantSuspended

_DEFAULT_ENVIRONMENT: Final[Environment] = "prod"


class NotAMember(Forbidden):
    """The person has no role in this tenant, or there is no such tenant; the two are not told apart."""

    code = "not_a_member"

    def __init__(self) -> None:
        super().__init__("You are not a member of this tenant.")


@dataclass(frozen=True, slots=True)
class SignedIn(GlobalPrincipal):
    """A person, and the session they came with."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SignedInMember(TenantPrincipal):
    """A member, and the session they came with."""

    session_id: str


class SessionAuthenticator:
    """Implements trueport.web.tenancy.Authenticator."""

    def __init__(self, database: Database, clock: Clock, signer: TokenSigner) -> None:
        scope = PlatformScope("auth", "authentication")
        self._database = database
        self._clock = clock
        self._signer = signer
        self._users = Users(database, scope)
        self._sessions = Sessions(database, scope)
        self._tenants = Tenants(database, scope)

    async def global_user(self, token: str) -> SignedIn:
        """Raises TokenRefused."""
        claims = self._signer.verify(token, "global")
        user, session = await self._live(claims)
        return SignedIn(claims.user_id, user.is_platform_admin, session.id)

    async def tenant_user(self, token: str, slug: str | None) -> SignedInMember:
        """Raises TokenRefused, NotAMember, TenantMismatch, TenantSuspended."""
        claims = self._claims(token, slug)
        (user, session), tenant = await asyncio.gather(self._live(claims), self._claimed_tenant(claims, slug))
        if tenant is None:
            raise NotAMember
        if slug is not None and tenant.slug != slug:
            raise TenantMismatch
        scope = TenantScope(TenantId(tenant.id))
        membership = await Memberships(self._database, scope).of_user(claims.user_id)
        if membership is None:
            raise NotAMember
        if tenant.status != "active":
            raise TenantSuspended
        return SignedInMember(
            user_id=claims.user_id,
            scope=scope,
            role=membership.role,
            environment=claims.environment or _DEFAULT_ENVIRONMENT,
            permissions=PERMISSIONS_OF[membership.role],
            is_platform_admin=user.is_platform_admin,
            session_id=session.id,
        )

    def _claims(self, token: str, slug: str | None) -> Claims:
        """Of a scoped token; where the address names a tenant, a global token will do."""
        try:
            return self._signer.verify(token, "scoped")
        except TokenRefused:
            if slug is None:
                raise
            return self._signer.verify(token, "global")

    async def _claimed_tenant(self, claims: Claims, slug: str | None) -> Tenant | None:
        if claims.tenant_id is not None:
            return await self._tenants.find_one({"_id": claims.tenant_id})
        return None if slug is None else await self._tenants.by_slug(slug)

    async def _live(self, claims: Claims) -> tuple[User, Session]:
        user, session = await asyncio.gather(
            self._users.find_one({"_id": claims.user_id}), self._sessions.find_one({"_id": claims.session_id})
        )
        if user is None or not user.is_active or session is None or session.user_id != user.id:
            raise TokenRefused
        if session.revoked_at is not None or session.expires_at <= self._clock.now():
            raise TokenRefused
        return user, session
