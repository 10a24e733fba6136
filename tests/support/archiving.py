"""An archive that stops where a test wants it to, and a tenant that fills it."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tests.support.analytics import Trail
from tests.support.web import House
from trueport.audit.notes import VerifierKey
from trueport.audit.restoring import Finished
from trueport.audit.sealing import seal_content
from trueport.audit.shipper import ShippedRecord
from trueport.audit.verifier import Folder, Report, read_keys, verify
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.archiving import Archiver
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.pruning import Pruner
from trueport.domains.audit.service import AuditLog
from trueport.kit.crypto import DataKey
from trueport.kit.ids import TenantId, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, FolderArchive, Immutability, ObjectHead
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database

STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
KEY = DataKey("key_1", bytes(32))


class PassingOn:
    """An archive that asks another one: for those that do something of their own with some of it."""

    def __init__(self, store: ArchiveStore) -> None:
        self._store = store

    async def immutability(self) -> Immutability:
        return await self._store.immutability()

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        await self._store.put_if_absent(name, data, locked_until)

    async def get(self, name: str) -> bytes:
        return await self._store.get(name)

    async def head(self, name: str) -> ObjectHead:
        return await self._store.head(name)

    async def list(self, prefix: str) -> list[str]:
        return await self._store.list(prefix)

    async def hold(self, name: str, *, is_held: bool) -> bool:
        return await self._store.hold(name, is_held=is_held)

    async def remove(self, name: str) -> None:
        await self._store.remove(name)


class StoppingArchive(PassingOn):
    """An archive that goes away before its n-th writing, or right after it; counts writings from 0."""

    def __init__(self, store: ArchiveStore, stops_at: int, *, is_after: bool) -> None:
        super().__init__(store)
        self._stops_at = stops_at
        self._is_after = is_after
        self._writings = 0

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        is_this = self._writings == self._stops_at
        self._writings += 1
        if is_this and not self._is_after:
            raise ArchiveUnavailable("stopped")
        await self._store.put_if_absent(name, data, locked_until)
        if is_this:
            raise ArchiveUnavailable("stopped")


class Office:
    """A tenant whose records are made, ordered and archived, by as many archivers as a test wants."""

    def __init__(self, house: House, tenant_id: str, folder: Path, database: Database | None = None) -> None:
        resources, self.scope = house.resources, TenantScope(TenantId(tenant_id))
        self.house = house
        self.database = database if database is not None else resources.database
        self.folder = folder
        self.keys = LogKeys(self.database, resources.settings.keys, house.clock)
        self.log = AuditLog(self.database, self.scope, self.keys, house.clock)
        self.contents = FolderStore(folder / "content")
        self.store: ArchiveStore = FolderArchive(folder / "archive")
        self.rules = replace(resources.settings.archive, url="file:", allows_mutable=True)
        self.trail = Trail()

    def archiver(self, store: ArchiveStore | None = None) -> Archiver:
        return Archiver(
            self.database,
            self.scope,
            self.keys,
            self.contents,
            Stores.only(store or self.store),
            self.rules,
            self.house.clock,
        )

    def archiver_at(self, stores: Stores, stops_at: int) -> Archiver:
        """One that is stopped at its n-th writing, wherever that goes."""
        stopping = {place: partial(StoppingArchive, store, stops_at, is_after=False) for place, store in stores.all()}
        return Archiver(
            self.database,
            self.scope,
            self.keys,
            self.contents,
            Stores(stores.current, stopping),
            self.rules,
            self.house.clock,
        )

    def pruner(self) -> Pruner:
        return Pruner(self.database, self.scope, Stores.only(self.store), self.rules, self.house.clock)

    async def record(self, count: int, *, at: datetime = STARTED) -> list[ShippedRecord]:
        found: list[ShippedRecord] = []
        for number in range(count):
            rid = new_id("int")
            described, blob = seal_content(KEY, b"something said", f"{self.scope.tenant_id}|content|{rid}|intent")
            moment = at + timedelta(seconds=number)
            intent = self.trail.intent(self.scope.tenant_id, moment, rid=rid, blobs=[blob], content=described)
            found += [intent, self.trail.outcome(intent)]
        await self.keep(found)
        return found

    async def keep(self, records: list[ShippedRecord]) -> None:
        await MongoSink(self.database, self.contents, events=self.house.events).store(records)
        await self.log.advance()

    async def copied(self, store: ArchiveStore | None = None) -> Path:
        """The archive as somebody who copies it from its store gets it."""
        store = store or self.store
        target = self.folder / f"copy-{os.urandom(4).hex()}"
        target.mkdir()
        for name in await store.list("audit"):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await store.get(name))
        return target

    async def check(self) -> Report:
        folder = await self.copied()
        try:
            return self.verified(folder, await self.public_keys())
        finally:
            shutil.rmtree(folder)

    @staticmethod
    def verified(folder: Path, public_keys: str) -> Report:
        return verify(Folder(folder), read_keys(public_keys))

    async def source(self, folder: Path) -> tuple[Finished, list[VerifierKey]]:
        """What a restore reads."""
        keys = [VerifierKey(key.name, key.public_key) for key in await self.keys.verifier_keys(self.scope.tenant_id)]
        return Finished(Folder(folder)), keys

    async def public_keys(self) -> str:
        return "\n".join(map(str, await self.keys.verifier_keys(self.scope.tenant_id)))
