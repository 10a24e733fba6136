"""All queries about people's keys, erasures and holds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from odmantic import query

from trueport.domains.audit.erasure.models import Erasure, Hold, SubjectKey
from trueport.storage.mongo import store_errors
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import TenantRepository

_KEYS_AT_ONCE: Final = 100


class SubjectKeyRows(TenantRepository[SubjectKey]):
    model = SubjectKey

    async def of_month(self, subject: str, month: str) -> SubjectKey | None:
        return await self.find_one(query.eq(SubjectKey.subject, subject), query.eq(SubjectKey.month, month))

    async def destroy(self, kids: Sequence[str]) -> None:
        for kid in kids:
            await self.delete_many({"_id": kid})

    async def of_subject(self, subject: str) -> list[SubjectKey]:
        """Every month's, the oldest first."""
        return [key async for key in self.each(query.eq(SubjectKey.subject, subject))]


class Erasures(TenantRepository[Erasure]):
    model = Erasure

    async def lease(self, erasure_id: str, now: datetime, until: datetime) -> Erasure | None:
        """Take the erasure for this process alone until then; None when another one has it."""
        return await self.update(erasure_id, {"lease_until": until}, query.lte(Erasure.lease_until, now))

    async def erased(self, kids: Sequence[str]) -> frozenset[str]:
        """Those of these keys that an erasure names."""
        found: set[str] = set()
        with store_errors():
            for at in range(0, len(kids), _KEYS_AT_ONCE):
                wanted = self._scoped([{"kids": {"$in": list(kids[at : at + _KEYS_AT_ONCE])}}])
                found.update(kid for each in await self._collection.find(wanted).to_list() for kid in each["kids"])
        return frozenset(found)


class UnfinishedErasures(PlatformRepository[Erasure]):
    """What is left to do of every tenant's erasures."""

    model = Erasure

    async def oldest(self) -> list[Erasure]:
        """Those that are held come last: however many they are, the others have their turn."""
        found: list[Erasure] = []
        for state in ("recorded", "asked", "held"):
            # Every tenant, said so that the index is read: it goes from tenant to tenant.
            found += await self.find({"tenant_id": {"$gt": ""}, "state": state})
        return found


class Holds(TenantRepository[Hold]):
    model = Hold

    async def in_force(self) -> list[Hold]:
        """Those that forbid something now: also one whose release only one person has asked for."""
        return [hold async for hold in self.each(query.ne(Hold.state, "released"))]

    async def look_again(self) -> None:
        """Have the whole archive looked at again for those in force."""
        for hold in await self.in_force():
            await self.update(hold.id, {"examined_to": 0})
