"""API keys of a tenant: made, changed, rotated, switched off, and looked up by their text."""

import ipaddress
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from trueport.domains.auth.api_keys import ParsedKey, digest_api_key, display_prefix, new_api_key
from trueport.domains.auth.events import KeyChanged, KeyRevoked
from trueport.domains.auth.models import ApiKey, KeyStatus, TenantStatus
from trueport.domains.auth.repository import ApiKeys, tenants
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import KeyId, TenantId, UserId, is_id, new_id
from trueport.kit.tenancy import Environment, TenantScope
from trueport.settings import Keys
from trueport.storage.mongo import Database
from trueport.storage.revisions import bump_revision
from trueport.storage.scoped import Page
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources

DEFAULT_REQUESTS_PER_MINUTE: Final = 60
DEFAULT_OVERLAP_S: Final = 86_400
LONGEST_OVERLAP_S: Final = 7 * 86_400
_TOLD: Final = (
    "name", "env", "prefix", "status", "requests_per_minute", "tokens_per_minute", "concurrency", "allowed_models",
    "allowed_cidrs", "expires_at", "previous_expires_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the gateway needs to know about a key. Nothing here can be turned back into the key.

    `expires_at` is the earlier of the key's own end and, for a key being replaced, the end of the overlap. Limits of
    0 mean none; empty `allowed_models` (globs) and `allowed_cidrs` allow everything. `scope` is leave to read the
    key's tenant. Whether tenant, key and time allow a call is for the caller to judge, each time it is used.
    """

    key_id: KeyId
    tenant_id: TenantId
    tenant_slug: str
    tenant_status: TenantStatus
    scope: TenantScope
    name: str
    env: Environment
    status: KeyStatus
    expires_at: datetime | None
    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int
    allowed_models: tuple[str, ...]
    allowed_cidrs: tuple[str, ...]
    created_by: UserId

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What whoever makes a key decides about it."""

    name: str
    env: Environment
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    tokens_per_minute: int = 0
    concurrency: int = 0
    allowed_models: tuple[str, ...] = ()
    allowed_cidrs: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A stored key and its text, which is shown once and kept nowhere."""

    stored: ApiKey
    text: str


def api_key_pepper(keys: Keys) -> bytes:
    """The key of the digests; it lives outside the database."""
    return keys.purpose_key("api-key-pepper")


async def find_api_key(database: Database, pepper: bytes, parsed: ParsedKey, now: datetime) -> KeyRecord | None:
    """The key of this text, or None when its claimed tenant has no such key or its overlap has ended.

    The scope is minted for a tenant the key only claims, and leaves this function only with a key that has been found
    in that tenant. Known and unknown keys cost the same digest and a query each. Raises StoreUnavailable.
    """
    digest = digest_api_key(pepper, parsed.text)
    scope = TenantScope(parsed.tenant_id)
    keys = ApiKeys(database, scope)
    key = await keys.by_digest(digest)
    expires_at = key.expires_at if key else None
    if key is None:
        key = await keys.by_previous_digest(digest)
        if key is None or key.previous_expires_at is None or key.previous_expires_at <= now:
            return None
        expires_at = min(filter(None, (key.expires_at, key.previous_expires_at)))
    tenant = await tenants(database, "tenant of an API key").find_one({"_id": parsed.tenant_id})
    if tenant is None:
        return None
    return KeyRecord(
        key_id=KeyId(key.id),
        tenant_id=parsed.tenant_id,
        tenant_slug=tenant.slug,
        tenant_status=tenant.status,
        scope=scope,
        name=key.name,
        env=key.env,
        status=key.status,
        expires_at=expires_at,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        concurrency=key.concurrency,
        allowed_models=tuple(key.allowed_models),
        allowed_cidrs=tuple(key.allowed_cidrs),
        created_by=UserId(key.created_by),
    )


class ApiKeyService:
    """The keys of one tenant."""

    def __init__(self, resources: Resources, scope: TenantScope) -> None:
        self._resources = resources
        self._scope = scope
        self._keys = ApiKeys(resources.database, scope)
        self._pepper = api_key_pepper(resources.settings.keys)

    async def create(self, options: KeyOptions, created_by: UserId, deeds: Deeds) -> NewKey:
        """Raises InvalidRequest for an end in the past or something that is no network."""
        text = new_api_key(self._scope.tenant_id)
        key = ApiKey(
            id=new_id("key"),
            tenant_id=self._scope.tenant_id,
            name=options.name,
            env=options.env,
            prefix=display_prefix(text),
            digest=digest_api_key(self._pepper, text),
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            concurrency=options.concurrency,
            allowed_models=list(options.allowed_models),
            allowed_cidrs=_networks(options.allowed_cidrs),
            expires_at=self._checked_end(options.expires_at),
            created_by=created_by,
            created_at=self._resources.clock.now(),
        )
        async with self._doing(deeds, "key_created", None, key):
            await self._keys.insert(key)
            await self._tell(key.id)
        return NewKey(key, text)

    async def get(self, key_id: str) -> ApiKey:
        """Raises NotFound."""
        if not is_id(key_id, "key"):
            raise NotFound("There is no such API key.")
        return await self._keys.get(key_id)

    async def page(self, limit: int, after: str | None) -> Page[ApiKey]:
        """Newest first."""
        return await self._keys.page(limit=limit, after=after)

    async def change(self, key_id: str, changes: dict[str, Any], deeds: Deeds) -> ApiKey:  # by KeyOptions' fields
        """Set the named options. Raises NotFound, InvalidRequest, StaleRevision."""
        if "allowed_cidrs" in changes:
            changes["allowed_cidrs"] = _networks(changes["allowed_cidrs"])
        if "expires_at" in changes:
            changes["expires_at"] = self._checked_end(changes["expires_at"])
        key = await self.get(key_id)
        if not changes:
            return key
        wanted = key.model_copy(update=changes)
        async with self._doing(deeds, "key_changed", key, wanted):
            changed = await self._keys.replace(wanted)
            await self._tell(key_id)
        return changed

    async def set_status(self, key_id: str, status: KeyStatus, deeds: Deeds) -> ApiKey:
        """Raises NotFound."""
        before = await self.get(key_id)
        action = "key_disabled" if status == "disabled" else "key_enabled"
        async with self._doing(deeds, action, before, before.model_copy(update={"status": status})):
            key = await self._keys.update(before.id, {"status": status})
            if key is None:
                raise NotFound("There is no such API key.")
            await self._tell(key_id, revoked=status == "disabled")
        return key

    async def rotate(self, key_id: str, overlap_s: int, deeds: Deeds) -> NewKey:
        """Another text for the key; the present one works for `overlap_s` more. Raises NotFound, StaleRevision.

        A text replaced by an earlier rotation stops working now.
        """
        key = await self.get(key_id)
        text = new_api_key(self._scope.tenant_id)
        wanted = key.model_copy(
            update={
                "digest": digest_api_key(self._pepper, text),
                "prefix": display_prefix(text),
                "previous_digest": key.digest,
                "previous_expires_at": self._resources.clock.now() + timedelta(seconds=overlap_s),
            }
        )
        async with self._doing(deeds, "key_rotated", key, wanted):
            rotated = await self._keys.replace(wanted)
            await self._tell(key_id, revoked=overlap_s == 0)
        return NewKey(rotated, text)

    async def delete(self, key_id: str, deeds: Deeds) -> None:
        """Raises NotFound."""
        key = await self.get(key_id)
        async with self._doing(deeds, "key_deleted", key, None):
            await self._keys.delete(key.id)
            await self._tell(key_id, revoked=True)

    def _doing(
        self, deeds: Deeds, action: str, before: ApiKey | None, after: ApiKey | None
    ) -> AbstractAsyncContextManager[None]:
        key_id = before.id if before is not None else after.id if after is not None else ""
        thing = Thing("api_key", key_id, _told(before), _told(after))
        return deeds.doing(self._scope.tenant_id, "admin", action, thing)

    def _checked_end(self, moment: datetime | None) -> datetime | None:
        if moment is not None and moment <= self._resources.clock.now():
            raise InvalidRequest(
                "A key cannot end in the past.", errors=[{"field": "expires_at", "message": "lies in the past"}]
            )
        return moment

    async def _tell(self, key_id: str, *, revoked: bool = False) -> None:
        tenant_id = self._scope.tenant_id
        await bump_revision(self._resources.database, tenant_id)
        await self._resources.events.tell(KeyChanged(tenant_id, KeyId(key_id)))
        if revoked:
            await self._resources.events.tell(KeyRevoked(tenant_id, KeyId(key_id)))


def _told(key: ApiKey | None) -> dict[str, Any] | None:  # values of several types, by field
    """What a record says of a key: never its digests."""
    return None if key is None else {name: getattr(key, name) for name in _TOLD}


def _networks(texts: tuple[str, ...] | list[str]) -> list[str]:
    networks = []
    for place, text in enumerate(texts):
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError as error:
            raise InvalidRequest(
                "This is not a network such as 10.0.0.0/8.",
                errors=[{"field": f"allowed_cidrs[{place}]", "message": "is not a network"}],
            ) from error
    return networks
