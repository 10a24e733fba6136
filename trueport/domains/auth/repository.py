"""All queries of this domain."""

from collections.abc import Collection

from odmantic import query

from trueport.domains.auth.models import ApiKey, Membership, RefreshToken, Session, Tenant, User
from trueport.kit.ids import UserId
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import Database
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import TenantRepository


class Users(PlatformRepository[User]):
    model = User

    async def by_email(self, email: str) -> User | None:
        """`email` in its normalised form."""
        return await self.find_one(query.eq(User.email, email))


class Sessions(PlatformRepository[Session]):
    model = Session


class RefreshTokens(PlatformRepository[RefreshToken]):
    model = RefreshToken


class Tenants(PlatformRepository[Tenant]):
    model = Tenant

    async def by_slug(self, slug: str) -> Tenant | None:
        return await self.find_one(query.eq(Tenant.slug, slug))

    async def by_ids(self, tenant_ids: Collection[str]) -> dict[str, Tenant]:
        if not tenant_ids:
            return {}
        found = await self.find({"_id": {"$in": sorted(tenant_ids)}}, limit=len(tenant_ids))
        return {tenant.id: tenant for tenant in found}


class MembershipsOfUser(PlatformRepository[Membership]):
    """Across tenants: for people looking at their own list of tenants."""

    model = Membership

    async def after(self, user_id: UserId, cursor: str | None, limit: int) -> list[Membership]:
        wanted: dict[str, object] = {"user_id": user_id}
        if cursor is not None:
            wanted["_id"] = {"$gt": cursor}
        return await self.find(wanted, limit=limit)


class Memberships(TenantRepository[Membership]):
    model = Membership

    async def of_user(self, user_id: UserId) -> Membership | None:
        return await self.find_one(query.eq(Membership.user_id, user_id))

    async def count_owners(self) -> int:
        return await self.count(query.eq(Membership.role, "owner"))


class ApiKeys(TenantRepository[ApiKey]):
    model = ApiKey

    async def by_digest(self, digest: str) -> ApiKey | None:
        return await self.find_one(query.eq(ApiKey.digest, digest))

    async def by_previous_digest(self, digest: str) -> ApiKey | None:
        return await self.find_one(query.eq(ApiKey.previous_digest, digest))


def people(database: Database, reason: str) -> Users:
    """Users belong to no tenant, so reading them goes through the other door."""
    return Users(database, PlatformScope("auth", reason))


def tenants(database: Database, reason: str) -> Tenants:
    return Tenants(database, PlatformScope("auth", reason))
