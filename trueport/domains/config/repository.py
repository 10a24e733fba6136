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


class ContentKeyRepository(TenantRepository[ContentKey]):
    model = ContentKey

    async def of_month(self, month: str) -> ContentKey | None:
        return await self.find_one(query.eq(ContentKey.month, month))
