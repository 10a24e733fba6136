"""One counter per tenant that grows with each change of its keys, members or configuration.

Processes compare it with the revision they hold, a few times a second, and so see a change within that time.
"""

from collections.abc import Collection
from typing import Final

from trueport.kit.ids import TenantId
from trueport.storage.mongo import Database, store_errors

COLLECTION: Final = "tenant_revisions"
_MOST_AT_ONCE: Final = 1_000


async def bump_revision(database: Database, tenant_id: TenantId) -> None:
    """Say that something of this tenant has changed; after the write that changed it."""
    with store_errors():
        await database[COLLECTION].update_one({"_id": tenant_id}, {"$inc": {"rev": 1}}, upsert=True)


async def revisions(database: Database, tenant_ids: Collection[TenantId]) -> dict[TenantId, int]:
    """The present revision of each of these tenants that ever changed."""
    wanted = list(tenant_ids)
    found: dict[TenantId, int] = {}
    with store_errors():
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            cursor = database[COLLECTION].find({"_id": {"$in": wanted[start : start + _MOST_AT_ONCE]}})
            async for document in cursor:
                found[TenantId(document["_id"])] = document["rev"]
    return found
