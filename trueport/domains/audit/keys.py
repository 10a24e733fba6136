"""The keys that sign for the logs of this installation.

They lie in the database, sealed under the key-encryption key, because every process signs. The public halves are
published for each log under the log's own name. A new key is announced by a record in every log before it signs, and
the old one signs beside it for a while: so the old key has signed who follows it, and whoever noted only the old one
can go on.
"""

import os
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trueport.audit.examination import KeySpan
from trueport.audit.notes import KeySigner, VerifierKey
from trueport.domains.audit.models import SigningKey
from trueport.domains.audit.repository import SigningKeys
from trueport.kit.clock import Clock, to_epoch_us
from trueport.kit.crypto import DataKey, Sealed
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import PlatformScope
from trueport.settings import Keys
from trueport.storage.mongo import Database, Duplicate
from trueport.web.trail import Trail

OVERLAP: Final = timedelta(days=30)
"""How long an old key signs beside a new one, so that whoever knows only one of them can check."""
SHORTEST_OVERLAP: Final = timedelta(hours=1)
"""Long enough for every log to be signed by both, whatever the clocks of its writers say."""
ROTATED: Final = "signing_key_rotated"
"""The `action` of the record that announces a key."""
_ORIGIN: Final = "trueportai.com/audit"
_SEED_BYTES: Final = 32


def origin_of(tenant_id: str) -> str:
    """The name of a tenant's log."""
    return f"{_ORIGIN}/{tenant_id}"


@dataclass(frozen=True, slots=True)
class Validity:
    """A public key of a log, and when it signs: from `begins_at` until `retires_at` (None: until further notice)."""

    key: VerifierKey
    begins_at: datetime
    retires_at: datetime | None


class LogKeys:
    """Finds, makes and changes the signing keys."""

    def __init__(self, database: Database, keys: Keys, clock: Clock) -> None:
        self._stored = SigningKeys(database, PlatformScope("audit", "signing keys"))
        self._sealing = DataKey("audit-signing", keys.purpose_key("audit-signing"))
        self._clock = clock

    async def signers(self, tenant_id: TenantId) -> list[KeySigner]:
        """Those that sign for a tenant's log now, the oldest first. The first key is made when there is none."""
        now, stored = self._clock.now(), await self._all()
        active = [key for key in stored if not key.is_prepared and (key.retires_at is None or key.retires_at > now)]
        active = active or [await self._add(len(stored) + 1)]
        return [KeySigner(origin_of(tenant_id), self._seed(key)) for key in active]

    async def verifier_keys(self, tenant_id: TenantId) -> list[VerifierKey]:
        """All that ever signed, the oldest first."""
        return [each.key for each in await self.validity(tenant_id)]

    async def validity(self, tenant_id: TenantId) -> list[Validity]:
        """All that ever signed and when, the oldest first."""
        return [
            Validity(_public(key, tenant_id), key.begins_at or key.created_at, key.retires_at)
            for key in await self._published()
        ]

    async def spans(self, tenant_id: TenantId) -> list[KeySpan]:
        """The same by the ids of the keys."""
        found = await self.validity(tenant_id)
        return [KeySpan(each.key.key_id.hex(), each.begins_at, each.retires_at) for each in found]

    async def rotate(
        self, trail: Trail, tenant_ids: AsyncIterable[TenantId], by: str, reason: str, overlap: timedelta = OVERLAP
    ) -> SigningKey:
        """A new key, announced by a record in the log of each tenant; the ones before it sign for `overlap` more.

        May be run again after it broke off: the key that was announced is the one that follows. Raises
        SpoolUnavailable, and nothing signs with the new key then; ValueError for an overlap below SHORTEST_OVERLAP.
        """
        if overlap < SHORTEST_OVERLAP:
            raise ValueError("both keys have to sign for an hour at least")
        stored = await self._all()
        if not stored:
            stored = [await self._add(1)]
        new = stored[-1] if stored[-1].is_prepared else await self._add(len(stored) + 1, is_prepared=True)
        begins = self._clock.now()
        ends = begins + overlap
        old = [key for key in stored if key.id != new.id and (key.retires_at is None or key.retires_at > begins)]
        async for tenant_id in tenant_ids:
            said = {
                "action": ROTATED,
                "by": by,
                "reason": reason,
                "key": str(_public(new, tenant_id)),
                "ends": [
                    {
                        "key_id": _public(key, tenant_id).key_id.hex(),
                        "at": to_epoch_us(min(ends, key.retires_at or ends)),
                    }
                    for key in old
                ],
            }
            await trail.record(tenant_id, "admin", said)
        changes = {"is_prepared": False, "begins_at": self._clock.now()}
        begun = await self._stored.update({"_id": new.id, "is_prepared": True}, changes)
        # Only now: a process that ends in between leaves two keys that sign, and never none.
        for key in old:
            if key.retires_at is None or key.retires_at > ends:
                await self._stored.update({"_id": key.id}, {"retires_at": ends})
        return begun or await self._stored.get(new.id)

    async def _published(self) -> Sequence[SigningKey]:
        return [key for key in await self._all() if not key.is_prepared]

    async def adopt(self, public_keys: Iterable[bytes], made_at: datetime) -> None:
        """Know keys of an installation that is gone: what they signed stays valid, and they sign nothing more."""
        stored = await self._all()
        known = {key.public_key for key in stored}
        for number, public_key in enumerate(public_keys, len(stored) + 1):
            if public_key.hex() not in known:
                await self._stored.insert(
                    SigningKey(
                        id=f"key-{number:06d}",
                        created_at=made_at,
                        sealed=b"",
                        public_key=public_key.hex(),
                        retires_at=self._clock.now(),
                    )
                )

    async def _all(self) -> Sequence[SigningKey]:
        return await self._stored.find({})

    async def _add(self, number: int, *, is_prepared: bool = False) -> SigningKey:
        key_id, seed = f"key-{number:06d}", os.urandom(_SEED_BYTES)
        key = SigningKey(
            id=key_id,
            created_at=self._clock.now(),
            sealed=self._sealing.seal(seed, _place(key_id)).to_bytes(),
            public_key=KeySigner(_ORIGIN, seed).verifier_key.public_key.hex(),
            is_prepared=is_prepared,
        )
        try:
            return await self._stored.insert(key)
        except Duplicate:
            # Another process was quicker; its key is as good.
            return await self._stored.get(key_id)

    def _seed(self, key: SigningKey) -> bytes:
        return self._sealing.open(Sealed.from_bytes(key.sealed), _place(key.id))


def _public(key: SigningKey, tenant_id: TenantId) -> VerifierKey:
    return VerifierKey(origin_of(tenant_id), bytes.fromhex(key.public_key))


def _place(key_id: str) -> str:
    return f"audit|signing|{key_id}"
