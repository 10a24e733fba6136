"""All queries about the places that checkpoints are sent to."""

from datetime import datetime

from odmantic import query

from trueport.audit.notes import Signature
from trueport.domains.audit.anchoring.models import AnchorState, AuditCosignature, Push
from trueport.domains.audit.models import numbered
from trueport.kit.clock import Clock
from trueport.storage.mongo import Duplicate, store_errors
from trueport.storage.scoped import TenantRepository


class Cosignatures(TenantRepository[AuditCosignature]):
    model = AuditCosignature

    async def add(self, size: int, line: Signature, at_s: int, clock: Clock) -> None:
        """Keep what a witness has signed; the first time counts."""
        tenant_id = self.scope.tenant_id
        made = AuditCosignature(
            id=f"{numbered(tenant_id, size)}|{line.key_id.hex()}",
            tenant_id=tenant_id,
            created_at=clock.now(),
            size=size,
            witness=line.name,
            at_s=at_s,
            line=str(line),
        )
        await self.insert_missing([made])

    async def of(self, size: int) -> list[str]:
        """The lines below the checkpoint of this size, in the order of the witnesses' key ids."""
        name = numbered(self.scope.tenant_id, size)
        with store_errors():
            wanted = self._scoped([{"_id": {"$gt": f"{name}|", "$lt": f"{name}|~"}}])
            found = await self._collection.find(wanted).sort("_id", 1).to_list()
        return [self._shape(document).line for document in found]

    async def newest_size(self) -> int | None:
        """The size of the newest checkpoint that a witness has signed."""
        page = await self.page(limit=1)
        return page.items[0].size if page.items else None


class Pushes(TenantRepository[Push]):
    model = Push


class AnchorStates(TenantRepository[AnchorState]):
    model = AnchorState

    async def of(self, place_id: str, kind: str, name: str, now: datetime) -> AnchorState:
        """The state of a place; a fresh one that is due where there is none."""
        tenant_id = self.scope.tenant_id
        item_id = f"{tenant_id}|{place_id}"
        found = await self.find_one({"_id": item_id})
        if found is not None:
            return found
        fresh = AnchorState(id=item_id, tenant_id=tenant_id, created_at=now, kind=kind, place=name, due_at=now)
        try:
            return await self.insert(fresh)
        except Duplicate:
            return await self.get(item_id)

    async def claim(self, state: AnchorState, until: datetime) -> AnchorState | None:
        """Keep other processes away until then; None when another one was quicker."""
        return await self.update(state.id, {"due_at": until}, query.eq(AnchorState.revision, state.revision))

    async def forget(self, place_id: str) -> None:
        await self.delete_many({"_id": f"{self.scope.tenant_id}|{place_id}"})
