"""Queries of the configuration, each inside one tenant."""

from odmantic import query

from trueport.domains.config.models import Configuration, ContentKey, StoredCredential
from trueport.storage.scoped import TenantRepository


class CredentialRepository(TenantRepository[StoredCredential]):
    model = StoredCredential

    async def named(self, name: str) -> StoredCredential | None:
        return await self.find_one(query.eq(StoredCredential.name, name))


class ConfigurationRepository(TenantRepository[Configuration]):
    model = Configuration

    async def current(self) -> Configuration | None:
        """The version in force, None before the first."""
        page = await self.page(limit=1)
        return page.items[0] if page.items else None

    async def first_with_policies(self, policy_version: int) -> Configuration | None:
        """The configuration that brought this version of all policies, None when there is none."""
        found = await self.find(query.eq(Configuration.policy_version, policy_version), limit=1)
        return found[0] if found else None

    async def last_with_policy(self, policy_id: str) -> Configuration | None:
        """The latest one that has the policy, which may be gone since."""
        page = await self.page({"policies.id": policy_id}, limit=1)
        return page.items[0] if page.items else None


class ContentKeyRepository(TenantRepository[ContentKey]):
    model = ContentKey
