"""Which objects at providers were made by which tenant, in which environment and through which credential."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from odmantic import query

from trueport.domains.proxy.models import KeptObject
from trueport.gateway.call import Admitted
from trueport.gateway.objects.base import Made
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.clock import Clock
from trueport.kit.errors import Unavailable
from trueport.kit.ids import CredentialId, TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.storage.scoped import TenantRepository

KEPT_FOR: Final = timedelta(days=400)
# Providers keep these for 30 days, and there are as many of them as calls.
KEPT_FOR_BY_KIND: Final[Mapping[str, timedelta]] = {
    "response": timedelta(days=40),
    "item": timedelta(days=40),
    "chat_completion": timedelta(days=40),
    "audio": timedelta(days=2),
}
_AT_ONCE: Final = 100


class KeptObjects(TenantRepository[KeptObject]):
    model = KeptObject

    async def among(self, ids: Sequence[str]) -> list[KeptObject]:
        """Those of the documents that there are."""
        if len(ids) == 1:
            found = await self.find_one({"_id": ids[0]})
            return [] if found is None else [found]
        return await self.find(query.in_(KeptObject.id, list(ids)), limit=len(ids))


class KnownTenants(Protocol):
    """The tenants whose keys are in use here; a KeyRing is one."""

    def known(self, tenant_id: TenantId) -> tuple[TenantScope, TenantSnapshot] | None:
        """The scope and configuration of a tenant."""


class StoredObjects:
    """Implements the gateway's ProviderObjects on the database."""

    def __init__(self, database: Database, clock: Clock, callers: KnownTenants) -> None:
        self._database = database
        self._clock = clock
        self._callers = callers

    async def owners(self, admitted: Admitted, ids: Collection[str]) -> Mapping[str, CredentialId]:
        objects, now = self._objects(admitted), self._clock.now()
        names = [document_id(admitted, each) for each in dict.fromkeys(ids)]
        owners = {}
        for start in range(0, len(names), _AT_ONCE):
            for each in await objects.among(names[start : start + _AT_ONCE]):
                if each.expires_at > now:
                    owners[each.object_id] = CredentialId(each.credential_id)
        return owners

    async def note(self, admitted: Admitted, made: Sequence[Made], credential_id: CredentialId) -> None:
        now = self._clock.now()
        await self._objects(admitted).insert_missing(
            [
                KeptObject(
                    id=document_id(admitted, each.id),
                    tenant_id=admitted.caller.tenant_id,
                    created_at=now,
                    env=admitted.caller.environment,
                    wire=admitted.call.dialect.wire,
                    kind=each.kind,
                    object_id=each.id,
                    credential_id=credential_id,
                    expires_at=now + KEPT_FOR_BY_KIND.get(each.kind, KEPT_FOR),
                )
                for each in made
            ]
        )

    async def forget(self, admitted: Admitted, ids: Collection[str]) -> None:
        objects = self._objects(admitted)
        for each in ids:
            await objects.delete_many({"_id": document_id(admitted, each)})

    def _objects(self, admitted: Admitted) -> KeptObjects:
        return KeptObjects(self._database, self._scope(admitted))

    def _scope(self, admitted: Admitted) -> TenantScope:
        known = self._callers.known(admitted.caller.tenant_id)
        if known is None:
            raise Unavailable("The organisation's data cannot be read right now.")
        return known[0]


def document_id(admitted: Admitted, object_id: str) -> str:
    """One find by it answers for a tenant, an environment and an object; the embedded database finds by little else."""
    caller = admitted.caller
    said = "\n".join((caller.tenant_id, caller.environment, admitted.call.dialect.wire, object_id))
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
