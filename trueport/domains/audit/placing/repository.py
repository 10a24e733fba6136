"""All queries about tenants' own archives."""

from trueport.domains.audit.placing.models import ArchiveChoice, StoredPlace
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import TenantRepository


class Places(TenantRepository[StoredPlace]):
    model = StoredPlace

    async def newest_first(self) -> list[StoredPlace]:
        return (await self.find())[::-1]


class Choices(TenantRepository[ArchiveChoice]):
    model = ArchiveChoice

    async def current(self) -> str | None:
        """The place chosen, empty for the installation's archive; None where nothing was ever chosen."""
        found = await self.find_one({"_id": self.scope.tenant_id})
        return None if found is None else found.place


class EveryChoice(PlatformRepository[ArchiveChoice]):
    """Which tenants have, or once had, an archive of their own."""

    model = ArchiveChoice

    async def tenants(self) -> frozenset[str]:
        # Every tenant, said so that the index is read.
        return frozenset(each.tenant_id for each in await self.find({"tenant_id": {"$gt": ""}}, limit=100_000))
