"""An installation's journal and recorder over a House, for tests of what becomes of recorded content."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from tests.support.web import House
from trueport.audit.shipper import Shipper
from trueport.audit.spool import Spool
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.erasure.keys import Person, Sealing, SubjectKeys
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.service import AuditLog
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.recorder import SpoolRecorder
from trueport.domains.proxy.user_tags import UserTags
from trueport.gateway.call import Admitted, Attempt, Call, Caller, Outcome, Request
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.snapshot import Credential, Target, TenantLimits, TenantSnapshot
from trueport.kit.clock import to_epoch_us
from trueport.kit.crypto import DataKey
from trueport.kit.deadline import Deadline
from trueport.kit.ids import CredentialId, InteractionId, KeyId, TenantId, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore
from trueport.storage.revisions import revisions
from trueport.web.trail import Trail


class OneKey:
    """A Sealer for tests that look at something else: everybody's words under one key, without a database."""

    def __init__(self) -> None:
        self._sealing = Sealing("sub_" + "0" * 40, DataKey.generate("dek_one"))

    async def sealing(self, person: Person, revision: int) -> Sealing:  # noqa: ARG002 - everybody gets the one
        return self._sealing


TARGET = Target(Credential(CredentialId("crd_a"), "main", "openai", URL("https://api.openai.com/v1"), None), "gpt-4o")


@dataclass(frozen=True)
class Recording:
    """A process that records calls, and ships what it has recorded when asked to."""

    house: House
    root: Path
    spool: Spool
    keys: SubjectKeys
    recorder: SpoolRecorder
    store: FolderStore
    shipper: Shipper
    contents: StoredContents

    async def call(
        self, tenant_id: str, prompt: bytes, answer: bytes, *, user: str | None = None, key_id: str = "key_a"
    ) -> str:
        """Record one call of a tenant, as its configuration is now; the interaction's id."""
        tenant, clock = TenantId(tenant_id), self.house.clock
        revision = (await revisions(self.house.resources.database, [tenant])).get(tenant, 0)
        snapshot = TenantSnapshot(tenant, "acme", revision, (), {}, TenantLimits())
        caller = Caller(
            tenant_id=tenant,
            key_id=KeyId(key_id),
            environment="prod",
            requests_per_minute=0,
            tokens_per_minute=0,
            concurrency=0,
            may_use_model=lambda _: True,
            is_live=lambda: True,
        )
        call = Call(
            interaction_id=InteractionId(new_id("int")),
            request_id="req_1",
            dialect=OpenAIDialect(),
            method="POST",
            path="chat/completions",
            query="",
            headers=[],
            body=prompt,
            peer="127.0.0.1",
            started_us=to_epoch_us(clock.now()),
            started_s=clock.monotonic(),
        )
        request = Request("chat/completions", "gpt-4o", False, False, prompt, None, "application/json", None)
        admitted = Admitted(call, caller, request, snapshot, (TARGET,), [], "gpt-4o", 7, user=user)
        record = await self.recorder.intent(admitted)
        record.close(
            Outcome(
                end="completed",
                status=200,
                attempts=(Attempt(TARGET, 200, None, 1),),
                served_by=TARGET,
                reply_bytes=len(answer),
                content=answer,
            )
        )
        return call.interaction_id

    async def ship(self) -> None:
        assert await self.shipper.drain(Deadline.after(20))

    async def told(self, tenant_id: str, interaction_id: str) -> bytes | None:
        """The prompt of a call, out of the storage."""
        return await self.contents.of(TenantScope(TenantId(tenant_id)), interaction_id, "intent")

    def log(self, tenant_id: str) -> AuditLog:
        return AuditLog(
            self.house.resources.database, TenantScope(TenantId(tenant_id)), self.log_keys, self.house.clock
        )

    @property
    def log_keys(self) -> LogKeys:
        return LogKeys(self.house.resources.database, self.house.resources.settings.keys, self.house.clock)


@asynccontextmanager
async def recording(house: House, folder: Path) -> AsyncIterator[Recording]:
    """A journal in `folder`, lent to the house as the proxy domain would."""
    root, store = folder / "spool", FolderStore(house.resources.settings.data_dir / "storage")
    spool = Spool(root, clock=house.clock, segment_bytes=1 << 20, capacity_bytes=8 << 20)
    house.resources.parts[Trail] = Trail(spool)
    keys = SubjectKeys(house.resources)
    sink = MongoSink(house.resources.database, store, events=house.events)
    try:
        yield Recording(
            house=house,
            root=root,
            spool=spool,
            keys=keys,
            recorder=SpoolRecorder(spool, UserTags(b"k"), keys),
            store=store,
            shipper=Shipper(spool, root, sink),
            contents=StoredContents(house.resources, store, keys),
        )
    finally:
        spool.close()
