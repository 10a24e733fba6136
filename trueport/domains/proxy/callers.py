"""API keys in memory: one dictionary look-up per call, changes of a tenant visible in every process within a second.

What is kept is keyed by the SHA-256 of the whole key and holds the key's id, never the key. A tenant's revision is
bumped by every change of its keys or configuration; a poller compares the revisions of the tenants in memory and
drops what is out of date. When the store is away, known keys keep working for `most_stale_s`, unknown ones get 503.
"""

import asyncio
import hashlib
import ipaddress
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from trueport.domains.auth.api import KeyRecord
from trueport.gateway.call import Call, Caller
from trueport.gateway.snapshot import ModelPattern, TenantSnapshot
from trueport.kit.clock import Clock
from trueport.kit.errors import Forbidden, Unauthenticated, Unavailable
from trueport.kit.ids import TenantId
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope

log = get_logger(__name__)

POLL_S: Final = 0.4
MOST_STALE_S: Final = 300.0
_UNKNOWN_S: Final = 5.0
_MOST_KEYS: Final = 100_000
_MOST_UNKNOWN: Final = 20_000


class KeySource(Protocol):
    """Where keys, configuration and revisions come from."""

    def tenant_of(self, text: str) -> TenantId | None:
        """The tenant the key's text claims, None when form or checksum are wrong; no store is asked."""

    async def find(self, text: str) -> KeyRecord | None:
        """The key, or None. Raises a kit Unavailable when the store cannot say."""

    async def still_holds(self, key: KeyRecord) -> bool:
        """Whether the key exists, is enabled, and its tenant active."""

    async def snapshot(self, key: KeyRecord) -> TenantSnapshot:
        """The tenant's compiled configuration. Raises a kit Unavailable when the store cannot say."""

    async def revisions(self, tenant_ids: Collection[TenantId]) -> Mapping[TenantId, int]:
        """The present revision of each tenant that has one."""


class InvalidKey(Unauthenticated):
    """No such key, or one that has ended."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("The API key is missing or not valid: check it, or create a new one.")


class KeyExpired(Unauthenticated):
    """The key's time is over."""

    code = "api_key_expired"

    def __init__(self) -> None:
        super().__init__("The API key has expired: create a new one.")


class AddressNotAllowed(Forbidden):
    """The key is bound to networks the client is not in."""

    code = "address_not_allowed"

    def __init__(self) -> None:
        super().__init__("This API key may not be used from your network.")


class TenantSuspended(Forbidden):
    """The organisation behind the key is suspended or archived."""

    code = "tenant_suspended"

    def __init__(self) -> None:
        super().__init__("This organisation is suspended.")


class _Standing:
    """Whether a cached key still holds; calls under way look at it between events."""

    __slots__ = ("is_revoked",)

    def __init__(self) -> None:
        self.is_revoked = False


@dataclass(frozen=True, slots=True)
class _Entry:
    key: KeyRecord
    caller: Caller
    snapshot: TenantSnapshot
    standing: _Standing
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    text_digest: bytes


class KeyRing:
    """Implements the gateway's Callers on a KeySource. `watch` has to run beside it."""

    def __init__(self, source: KeySource, clock: Clock, *, most_stale_s: float = MOST_STALE_S) -> None:
        self._source = source
        self._clock = clock
        self._most_stale_s = most_stale_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._by_tenant: dict[TenantId, dict[bytes, _Entry]] = {}
        self._revisions: dict[TenantId, int] = {}
        self._unconfirmed: deque[_Entry] = deque()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[_Entry]] = {}
        self._confirmed_s = clock.monotonic()

    async def authenticate(self, call: Call) -> tuple[Caller, TenantSnapshot]:
        text = call.dialect.credential(call.headers, call.query)
        if text is None:
            raise InvalidKey
        digest = hashlib.sha256(text.encode("latin-1", "replace")).digest()
        entry = self._entries.get(digest)
        if entry is None or self._is_stale():
            entry = await self._looked_up(digest, text)
        self._check(entry, call)
        return entry.caller, entry.snapshot

    def known(self, tenant_id: TenantId) -> tuple[TenantScope, TenantSnapshot] | None:
        """The scope and configuration of a tenant one of whose keys is in use here."""
        entry = next(iter(self._by_tenant.get(tenant_id, {}).values()), None)
        return (entry.key.scope, entry.snapshot) if entry else None

    def _is_stale(self) -> bool:
        return self._clock.monotonic() - self._confirmed_s > self._most_stale_s

    def _check(self, entry: _Entry, call: Call) -> None:
        key = entry.key
        if key.status != "active":
            raise InvalidKey
        if key.expires_at is not None and key.has_expired(self._clock.now()):
            raise KeyExpired
        if key.tenant_status != "active":
            raise TenantSuspended
        if entry.networks:
            try:
                address = ipaddress.ip_address(call.peer)
            except ValueError:
                raise AddressNotAllowed from None
            if not any(address in network for network in entry.networks):
                raise AddressNotAllowed

    async def _looked_up(self, digest: bytes, text: str) -> _Entry:
        """The entry from the source, read once however many calls ask at the same moment."""
        tenant_id = self._source.tenant_of(text)
        if tenant_id is None:
            raise InvalidKey
        until = self._unknown.get(digest)
        if until is not None and self._clock.monotonic() < until:
            raise InvalidKey
        pending = self._pending.get(digest)
        if pending is None:
            pending = asyncio.ensure_future(self._read(digest, text, tenant_id))
            self._pending[digest] = pending
            pending.add_done_callback(lambda _: self._pending.pop(digest, None))
            # A failure is told to every waiter; with none left it must not be reported as forgotten.
            pending.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(pending)

    async def _read(self, digest: bytes, text: str, tenant_id: TenantId) -> _Entry:
        # The revision is read before the rest: a change in between is then seen as a newer revision later.
        revision = (await self._source.revisions([tenant_id])).get(tenant_id, 0)
        key = await self._source.find(text)
        if key is None:
            self._unknown[digest] = self._clock.monotonic() + _UNKNOWN_S
            while len(self._unknown) > _MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            raise InvalidKey
        snapshot = await self._snapshot(key, revision)
        known = self._entries.get(digest)
        # Calls under way look at the standing they began with, so a key that is read again keeps it.
        standing = known.standing if known is not None else _Standing()
        entry = _Entry(
            key=key,
            caller=_caller(key, standing),
            snapshot=snapshot,
            standing=standing,
            networks=tuple(ipaddress.ip_network(cidr, strict=False) for cidr in key.allowed_cidrs),
            text_digest=digest,
        )
        # One that says it is older than it is wants to be read again.
        self._keep(entry, min(revision, snapshot.revision))
        return entry

    async def _snapshot(self, key: KeyRecord, revision: int) -> TenantSnapshot:
        for entry in self._by_tenant.get(key.tenant_id, {}).values():
            if entry.snapshot.revision == revision:
                return entry.snapshot
        return await self._source.snapshot(key)

    def _keep(self, entry: _Entry, revision: int) -> None:
        tenant_id = entry.key.tenant_id
        known = self._revisions.get(tenant_id)
        if known is not None and known != revision:
            self._forget(tenant_id)
        self._revisions[tenant_id] = revision
        self._entries[entry.text_digest] = entry
        self._by_tenant.setdefault(tenant_id, {})[entry.text_digest] = entry
        while len(self._entries) > _MOST_KEYS:
            digest, oldest = self._entries.popitem(last=False)
            self._by_tenant.get(oldest.key.tenant_id, {}).pop(digest, None)

    def _forget(self, tenant_id: TenantId) -> None:
        """Drop what is known of a tenant; calls under way hear from the next refresh whether their key still holds."""
        dropped = list(self._by_tenant.pop(tenant_id, {}).values())
        for entry in dropped:
            self._entries.pop(entry.text_digest, None)
        self._unconfirmed += dropped
        self._revisions.pop(tenant_id, None)

    async def refresh(self) -> None:
        """Compare revisions once, drop what has changed, and tell calls under way whose key no longer holds.

        Raises a kit Unavailable when the store is away.
        """
        known = dict(self._revisions)
        if known:
            present = await self._source.revisions(list(known))
            for tenant_id, revision in known.items():
                if present.get(tenant_id, 0) != revision and self._revisions.get(tenant_id) == revision:
                    self._forget(tenant_id)
        while self._unconfirmed:
            # Taken off the list only afterwards: when the store cannot say, it is asked again.
            entry = self._unconfirmed[0]
            entry.standing.is_revoked = not await self._source.still_holds(entry.key)
            self._unconfirmed.popleft()
        self._confirmed_s = self._clock.monotonic()

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Refresh for ever. A store that is away is noted once and asked again."""
        is_away = False
        while True:
            try:
                await self.refresh()
                is_away = False
            except Unavailable as error:
                if not is_away:
                    log.warning("key_refresh_failed", code=error.code)
                is_away = True
            await sleep(POLL_S)


def _caller(key: KeyRecord, standing: _Standing) -> Caller:
    patterns = tuple(map(ModelPattern.of, key.allowed_models))

    def may_use_model(model: str) -> bool:
        return not patterns or any(pattern.matches(model) for pattern in patterns)

    return Caller(
        tenant_id=key.tenant_id,
        key_id=key.key_id,
        environment=key.env,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        concurrency=key.concurrency,
        may_use_model=may_use_model,
        is_live=lambda: not standing.is_revoked,
    )
