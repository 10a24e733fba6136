"""The front door of this domain: what the gateway, other domains and the command line may use."""

from collections.abc import AsyncIterator
from typing import Final

from trueport.domains.auth.accounts import EmailTaken, NewUser, normalise_email
from trueport.domains.auth.accounts import create_user as _create_user
from trueport.domains.auth.api_keys import ParsedKey, digest_api_key, display_prefix, parse_api_key
from trueport.domains.auth.events import KeyChanged, KeyRevoked, MemberChanged, TenantCreated, UserRegistered
from trueport.domains.auth.keys import ApiKeyService, KeyOptions, KeyRecord, NewKey, api_key_pepper, find_api_key
from trueport.domains.auth.members import AlreadyMember, add_member
from trueport.domains.auth.models import Tenant, TenantStatus, User
from trueport.domains.auth.passwords import PasswordHasher, WeakPassword
from trueport.domains.auth.permissions import ALL as ALL_PERMISSIONS
from trueport.domains.auth.permissions import PERMISSIONS_OF
from trueport.domains.auth.repository import Memberships, people, tenants
from trueport.domains.auth.tenant_keys import TenantKeys
from trueport.domains.auth.tenants import SlugTaken, create_tenant
from trueport.kit.crypto import DataKey
from trueport.kit.ids import TenantId, UserId
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.web.deeds import Deeds
from trueport.web.domain import Resources

__all__ = [
    "ALL_PERMISSIONS",
    "PERMISSIONS_OF",
    "AlreadyMember",
    "ApiKeyService",
    "EmailTaken",
    "KeyChanged",
    "KeyOptions",
    "KeyRecord",
    "KeyRevoked",
    "MemberChanged",
    "NewKey",
    "NewUser",
    "ParsedKey",
    "SlugTaken",
    "Tenant",
    "TenantCreated",
    "TenantStatus",
    "User",
    "UserRegistered",
    "WeakPassword",
    "add_member",
    "api_key_pepper",
    "create_key",
    "create_tenant",
    "create_user",
    "digest_api_key",
    "display_prefix",
    "find_api_key",
    "find_tenant",
    "find_user",
    "is_empty",
    "is_member",
    "operator_scope",
    "parse_api_key",
    "tenant_key",
    "work_scope",
    "work_scopes",
    "wrap_tenant_key",
]

_TENANTS_AT_ONCE: Final = 500


async def create_user(resources: Resources, new: NewUser) -> User:
    """A new person. Raises InvalidRequest, WeakPassword, EmailTaken."""
    passwords = PasswordHasher()
    try:
        return await _create_user(resources, passwords, new)
    finally:
        passwords.close()


async def create_key(
    resources: Resources, scope: TenantScope, options: KeyOptions, created_by: UserId, deeds: Deeds
) -> NewKey:
    """A new API key and its text, to be shown once."""
    return await ApiKeyService(resources, scope).create(options, created_by, deeds)


async def find_user(resources: Resources, email: str) -> User | None:
    """The person with this address. Raises InvalidRequest when it is none."""
    return await people(resources.database, "operator").by_email(normalise_email(email))


async def find_tenant(resources: Resources, slug: str) -> Tenant | None:
    return await tenants(resources.database, "operator").by_slug(slug)


async def is_empty(resources: Resources) -> bool:
    """Whether nobody has registered yet: a database to be set up."""
    return await people(resources.database, "set-up").find_one({}) is None


async def is_member(database: Database, scope: TenantScope, user_id: str) -> bool:
    """Whether this person belongs to the tenant."""
    return await Memberships(database, scope).of_user(UserId(user_id)) is not None


async def tenant_key(resources: Resources, tenant_id: TenantId) -> DataKey:
    """The tenant's own key, for wrapping data keys. Raises NotFound, SealBroken, KeyRefused, and a kit Unavailable."""
    return await _tenant_keys(resources).of(tenant_id)


async def wrap_tenant_key(resources: Resources, tenant_id: TenantId, wrapped_by: str) -> None:
    """Have the tenant's key wrapped by what a URL names, or, for "", by this installation's key."""
    await _tenant_keys(resources).wrap_anew(tenant_id, wrapped_by)


def _tenant_keys(resources: Resources) -> TenantKeys:
    """Of this process; made when first asked for, since commands need them without any lifespan hook."""
    if TenantKeys not in resources.parts:
        resources.parts[TenantKeys] = TenantKeys(resources)
    return resources.part(TenantKeys)


def operator_scope(tenant: Tenant) -> TenantScope:
    """Leave to work in a tenant for somebody at the machine's own command line, who holds its secrets anyway."""
    return TenantScope(TenantId(tenant.id))


def work_scope(tenant_id: str) -> TenantScope:
    """Leave for a job of this process to work on what a tenant's own records have caused."""
    return TenantScope(TenantId(tenant_id))


async def work_scopes(resources: Resources, job: str) -> AsyncIterator[TenantScope]:
    """The same for every tenant there is, one after the other. The use is recorded under the name of the job."""
    stored, after = tenants(resources.database, job), ""
    while found := await stored.find({"_id": {"$gt": after}}, limit=_TENANTS_AT_ONCE):
        for tenant in found:
            yield work_scope(tenant.id)
        after = found[-1].id
