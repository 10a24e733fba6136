"""Organisations: founding one, listing one's own, choosing one to work in."""

from dataclasses import dataclass
from typing import Final

from trueport.domains.auth.events import TenantCreated
from trueport.domains.auth.models import Membership, Tenant
from trueport.domains.auth.repository import Memberships, MembershipsOfUser, Tenants
from trueport.kit.crypto import DataKey
from trueport.kit.errors import Conflict, InvalidRequest, NotFound
from trueport.kit.ids import TenantId, UserId, is_id, new_id
from trueport.kit.principal import Role
from trueport.kit.tenancy import PlatformScope, TenantScope
from trueport.settings import Keys
from trueport.storage.mongo import Duplicate
from trueport.storage.revisions import bump_revision
from trueport.web.address import RESERVED_SLUGS, is_slug
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources
from trueport.web.tenancy import TenantSuspended

_KEK_PURPOSE: Final = "tenant-kek"


class SlugTaken(Conflict):
    """Another tenant has this slug."""

    code = "slug_taken"

    def __init__(self) -> None:
        super().__init__("This slug is taken.", errors=[{"field": "slug", "message": "is taken"}])


@dataclass(frozen=True, slots=True)
class OwnTenant:
    """A tenant, and the role that the person looking at it holds there."""

    tenant: Tenant
    membership_id: str
    role: Role


def slug_problem(slug: str) -> str | None:
    """Why no tenant may have this slug: `malformed` or `reserved`; None when one may."""
    if not is_slug(slug):
        return "malformed"
    return "reserved" if slug in RESERVED_SLUGS else None


def open_tenant_key(keys: Keys, tenant: Tenant) -> DataKey:
    """The tenant's own key, unwrapped. Raises SealBroken when the key-encryption key is another one."""
    return _kek(keys).unwrap(_key_name(tenant.id), tenant.wrapped_key, _key_place(tenant.id))


def seal_tenant_key(keys: Keys, tenant_id: str, key: DataKey) -> bytes:
    """The tenant's key, wrapped under this installation's key-encryption key."""
    return _kek(keys).wrap(key, _key_place(tenant_id))


async def create_tenant(resources: Resources, founder: UserId, name: str, slug: str, deeds: Deeds) -> Tenant:
    """A new tenant with its founder as owner. Raises InvalidRequest, SlugTaken."""
    problem = slug_problem(slug)
    if problem is not None:
        raise InvalidRequest("A tenant cannot have this slug.", errors=[{"field": "slug", "message": f"is {problem}"}])
    now = resources.clock.now()
    tenant_id = TenantId(new_id("ten"))
    key = DataKey.generate(_key_name(tenant_id))
    tenant = Tenant(
        id=tenant_id,
        name=name.strip(),
        slug=slug,
        wrapped_key=seal_tenant_key(resources.settings.keys, tenant_id, key),
        created_by=founder,
        created_at=now,
    )
    memberships = Memberships(resources.database, TenantScope(tenant_id))
    owner = Membership(id=new_id("mem"), tenant_id=tenant_id, user_id=founder, role="owner", created_at=now)
    thing = Thing("tenant", tenant_id, None, {"name": tenant.name, "slug": slug, "owner": founder})
    async with deeds.doing(tenant_id, "admin", "tenant_created", thing):
        # The owner first: a crash in between leaves a membership that leads nowhere, and not a slug that nobody owns.
        await memberships.insert(owner)
        try:
            await Tenants(resources.database, PlatformScope("auth", "founding a tenant")).insert(tenant)
        except Duplicate as error:
            await memberships.delete(owner.id)
            raise SlugTaken from error
        await bump_revision(resources.database, tenant_id)
        await resources.events.tell(TenantCreated(tenant_id, slug, founder))
    return tenant


class OwnTenants:
    """The tenants of one person."""

    def __init__(self, resources: Resources, user_id: UserId) -> None:
        scope = PlatformScope("auth", "a person's own tenants")
        self._resources = resources
        self._user_id = user_id
        self._memberships = MembershipsOfUser(resources.database, scope)
        self._tenants = Tenants(resources.database, scope)

    async def page(self, limit: int, after: str | None) -> tuple[list[OwnTenant], str | None]:
        """Oldest membership first, and the cursor of the next page. Raises InvalidRequest for a foreign cursor."""
        if after is not None and not is_id(after, "mem"):
            raise InvalidRequest("after is not a cursor of this list.")
        found = await self._memberships.after(self._user_id, after, limit + 1)
        memberships = found[:limit]
        tenants = await self._tenants.by_ids({membership.tenant_id for membership in memberships})
        own = [OwnTenant(tenants[m.tenant_id], m.id, m.role) for m in memberships if m.tenant_id in tenants]
        return own, memberships[-1].id if len(found) > limit else None

    async def choose(self, tenant_id: TenantId) -> OwnTenant:
        """The tenant to work in. Raises NotFound for one the person has no part in, and TenantSuspended."""
        membership = await Memberships(self._resources.database, TenantScope(tenant_id)).of_user(self._user_id)
        tenant = await self._tenants.find_one({"_id": tenant_id})
        if membership is None or tenant is None:
            raise NotFound("There is no such tenant among yours.")
        if tenant.status != "active":
            raise TenantSuspended
        return OwnTenant(tenant, membership.id, membership.role)

    async def is_taken(self, slug: str) -> bool:
        return await self._tenants.by_slug(slug) is not None


def _kek(keys: Keys) -> DataKey:
    return DataKey(_KEK_PURPOSE, keys.purpose_key(_KEK_PURPOSE))


def _key_name(tenant_id: str) -> str:
    return f"{tenant_id}/1"


def _key_place(tenant_id: str) -> str:
    return f"{tenant_id}|tenant-key|1"
