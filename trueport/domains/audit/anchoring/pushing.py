"""A tenant's webhooks for checkpoints: set up and taken away, with a record of each."""

from dataclasses import dataclass
from typing import Final

from trueport.domains.audit.anchoring.models import Push
from trueport.domains.audit.anchoring.repository import AnchorStates, Pushes
from trueport.domains.auth.api import tenant_key
from trueport.gateway.egress import EgressRefused, parse_upstream_url
from trueport.gateway.upstream import Upstream
from trueport.kit.crypto import DataKey, Sealed
from trueport.kit.errors import Conflict, InvalidRequest
from trueport.kit.ids import new_id
from trueport.kit.randomness import random_bytes
from trueport.kit.tenancy import TenantScope
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources

MOST: Final = 10
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class MadePush:
    """A new webhook, and the secret that signs what it gets, which is shown this once."""

    stored: Push
    secret: str


class Pushing:
    """The webhooks of one tenant."""

    def __init__(self, resources: Resources, scope: TenantScope, upstream: Upstream) -> None:
        self._resources = resources
        self._scope = scope
        self._upstream = upstream
        self._stored = Pushes(resources.database, scope)

    async def all(self) -> list[Push]:
        return await self._stored.find()

    async def create(self, deeds: Deeds, name: str, url: str, every_s: int) -> MadePush:
        """Raises InvalidRequest for an address that may not be called, Conflict beyond MOST, SpoolUnavailable."""
        await self._check(url)
        if await self._stored.count() >= MOST:
            raise Conflict(f"A log is pushed to {MOST} webhooks at most.")
        secret = f"tp-push-{random_bytes(_SECRET_BYTES).hex()}"
        push_id = new_id("psh")
        key = await tenant_key(self._resources, self._scope.tenant_id)
        push = Push(
            id=push_id,
            tenant_id=self._scope.tenant_id,
            created_at=self._resources.clock.now(),
            created_by=deeds.actor.by,
            name=name,
            url=url,
            every_s=every_s,
            sealed=key.seal(secret.encode(), _place(self._scope.tenant_id, push_id)).to_bytes(),
        )
        said = {"name": name, "host": parse_upstream_url(url, self._upstream.policy, query=True).host}
        async with deeds.doing(self._scope.tenant_id, "admin", "push_created", Thing("push", push_id, None, said)):
            return MadePush(await self._stored.insert(push), secret)

    async def get(self, push_id: str) -> Push:
        """Raises NotFound."""
        return await self._stored.get(push_id)

    async def delete(self, deeds: Deeds, push: Push) -> None:
        """Raises NotFound, SpoolUnavailable."""
        thing = Thing("push", push.id, {"name": push.name}, None)
        async with deeds.doing(self._scope.tenant_id, "admin", "push_deleted", thing):
            await self._stored.delete(push.id)
            await AnchorStates(self._resources.database, self._scope).forget(push.id)

    async def _check(self, url: str) -> None:
        try:
            await self._upstream.check(parse_upstream_url(url, self._upstream.policy, query=True))
        except EgressRefused as error:
            raise InvalidRequest(error.message, param="url") from error
        except OSError as error:
            raise InvalidRequest("No address is known for the host of this URL.", param="url") from error


def opened(push: Push, key: DataKey) -> str:
    """The secret of a webhook. Raises SealBroken."""
    return key.open(Sealed.from_bytes(push.sealed), _place(push.tenant_id, push.id)).decode()


def _place(tenant_id: str, push_id: str) -> str:
    return f"{tenant_id}|audit push|{push_id}"
