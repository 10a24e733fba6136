"""The keys that sign for the logs of this installation.

They lie in the database, sealed under the key-encryption key, because every process signs. The public halves are
published for each log under the log's own name.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from trueport.audit.examination import KeySpan
from trueport.audit.notes import KeySigner, VerifierKey
from trueport.domains.audit.models import SigningKey
from trueport.domains.audit.repository import SigningKeys
from trueport.kit.clock import Clock
from trueport.kit.crypto import DataKey, Sealed
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import PlatformScope
from trueport.settings import Keys
from trueport.storage.mongo import Database, Duplicate

OVERLAP: Final = timedelta(days=30)
"""How long an old key signs beside a new one, so that whoever knows only one of them can check."""
_ORIGIN: Final = "trueportai.com/audit"
_SEED_BYTES: Final = 32


def origin_of(tenant_id: str) -> str:
    """The name of a tenant's log."""
    return f"{_ORIGIN}/{tenant_id}"


class LogKeys:
    """Finds, makes and changes the signing keys."""

    def __init__(self, database: Database, keys: Keys, clock: Clock) -> None:
        self._stored = SigningKeys(database, PlatformScope("audit", "signing keys"))
        self._sealing = DataKey("audit-signing", keys.purpose_key("audit-signing"))
        self._clock = clock

    async def signers(self, tenant_id: TenantId) -> list[KeySigner]:
        """Those that sign for a tenant's log now, the oldest first. The first key is made when there is none."""
        now = self._clock.now()
        active = [key for key in await self._all() if key.retires_at is None or key.retires_at > now]
        return [KeySigner(origin_of(tenant_id), self._seed(key)) for key in active or [await self._add(1)]]

    async def verifier_keys(self, tenant_id: TenantId) -> list[VerifierKey]:
        """All that ever signed, the oldest first."""
        return [VerifierKey(origin_of(tenant_id), bytes.fromhex(key.public_key)) for key in await self._all()]

    async def spans(self, tenant_id: TenantId) -> list[KeySpan]:
        """When each of them was made and when it ends, the oldest first."""
        public = await self.verifier_keys(tenant_id)
        stored = await self._all()
        return [
            KeySpan(key.key_id.hex(), each.created_at, each.retires_at)
            for key, each in zip(public, stored, strict=False)
        ]

    async def rotate(self) -> SigningKey:
        """A new key; the ones before it sign for OVERLAP more."""
        stored = await self._all()
        ends = self._clock.now() + OVERLAP
        for key in stored:
            if key.retires_at is None:
                await self._stored.update({"_id": key.id, "retires_at": None}, {"retires_at": ends})
        return await self._add(len(stored) + 1)

    async def _all(self) -> Sequence[SigningKey]:
        return await self._stored.find({})

    async def _add(self, number: int) -> SigningKey:
        key_id, seed = f"key-{number:06d}", os.urandom(_SEED_BYTES)
        key = SigningKey(
            id=key_id,
            created_at=self._clock.now(),
            sealed=self._sealing.seal(seed, _place(key_id)).to_bytes(),
            public_key=KeySigner(_ORIGIN, seed).verifier_key.public_key.hex(),
        )
        try:
            return await self._stored.insert(key)
        except Duplicate:
            # Another process was quicker; its key is as good.
            return await self._stored.get(key_id)

    def _seed(self, key: SigningKey) -> bytes:
        return self._sealing.open(Sealed.from_bytes(key.sealed), _place(key.id))


def _place(key_id: str) -> str:
    return f"audit|signing|{key_id}"
