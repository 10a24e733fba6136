"""What the gateway's own recorder writes, through a real journal and shipper, into the rows people read."""

from pathlib import Path

import bson
from msgspec.structs import replace
from yarl import URL

from tests.support.analytics import records_of, rows_of
from tests.support.web import House
from trueport.audit.canonical import parse
from trueport.audit.sealing import open_content
from trueport.audit.shipper import Shipper
from trueport.audit.spool import Spool
from trueport.domains.analytics.models import AuditRecord, InteractionRow
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit import domain as audit_domain
from trueport.domains.audit.api import SubjectKeys
from trueport.domains.proxy.recorder import SpoolRecorder, content_place
from trueport.domains.proxy.user_tags import UserTags
from trueport.gateway.call import Admitted, Attempt, Call, Caller, Outcome, Request, Usage
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.snapshot import Credential, Target, TenantLimits, TenantSnapshot
from trueport.kit.clock import ManualClock, to_epoch_us
from trueport.kit.deadline import Deadline
from trueport.kit.ids import CredentialId, InteractionId, KeyId, TenantId, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database

TENANT = TenantId("ten_a")
PROMPT = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "canary-5d1f"}]}'
ANSWER = b'{"choices": ["canary-77aa"]}'


def a_call(clock: ManualClock) -> Call:
    return Call(
        interaction_id=InteractionId(new_id("int")),
        request_id="req_1",
        dialect=OpenAIDialect(),
        method="POST",
        path="chat/completions",
        query="",
        headers=[],
        body=PROMPT,
        peer="127.0.0.1",
        started_us=to_epoch_us(clock.now()),
        started_s=clock.monotonic(),
    )


CALLER = Caller(
    tenant_id=TENANT,
    key_id=KeyId("key_a"),
    environment="staging",
    requests_per_minute=60,
    tokens_per_minute=0,
    concurrency=0,
    may_use_model=lambda _: True,
    is_live=lambda: True,
)
CREDENTIAL = Credential(CredentialId("crd_a"), "main", "openai", URL("https://api.openai.com/v1"), None)
TARGET = Target(CREDENTIAL, "gpt-4o")


def snapshot_of(tenant_id: TenantId) -> TenantSnapshot:
    return TenantSnapshot(tenant_id, "acme", 3, (), {}, TenantLimits())


def admitted(call: Call, caller: Caller, snapshot: TenantSnapshot) -> Admitted:
    request = Request("chat/completions", "gpt-4o", False, False, PROMPT, None, "application/json", None)
    return Admitted(call, caller, request, snapshot, (TARGET,), [], "gpt-4o", 7)


async def test_a_recorded_call_is_a_row_and_its_content_opens_from_the_store(
    house: House, database: Database, sink: MongoSink, store: FolderStore, tmp_path: Path
) -> None:
    tenant_id = TenantId((await house.tenant(await house.person())).id)
    clock, keys, caller = ManualClock(), SubjectKeys(house.resources), replace(CALLER, tenant_id=tenant_id)
    await ensure_indexes(database, audit_domain.documents)
    root = tmp_path / "spool"
    spool = Spool(root, clock=clock, segment_bytes=1 << 20, capacity_bytes=8 << 20)
    try:
        recorder, snapshot = SpoolRecorder(spool, UserTags(b"k"), keys), snapshot_of(tenant_id)
        call, running, refused = a_call(clock), a_call(clock), a_call(clock)
        record = await recorder.intent(admitted(call, caller, snapshot))
        await recorder.intent(admitted(running, caller, snapshot))
        refusal_receipt = recorder.refused(
            refused, caller, snapshot, Outcome(end="refused", status=429, error="rate_limited")
        )
        clock.advance(0.75)
        record.close(
            Outcome(
                end="completed",
                status=200,
                attempts=(Attempt(TARGET, 200, None, 700_000),),
                served_by=TARGET,
                usage=Usage(12, 5, 3, 1),
                usage_source="provider",
                cost_nano_usd=80_000,
                price_version="v1",
                first_byte_us=640_000,
                reply_bytes=len(ANSWER),
                content=ANSWER,
            )
        )
        assert await Shipper(spool, root, sink).drain(Deadline.after(20))
    finally:
        spool.close()

    rows = {row["_id"]: InteractionRow.model_validate_doc(row) for row in await rows_of(database, tenant_id)}
    assert rows.keys() == {call.interaction_id, running.interaction_id, refused.interaction_id}
    row = rows[call.interaction_id]
    assert (row.end, row.status, row.env, row.model, row.provider) == ("completed", 200, "staging", "gpt-4o", "openai")
    assert (row.total_tokens, row.cost_nano_usd, row.latency_ms, row.first_byte_ms) == (17, 80_000, 750, 640)
    assert (row.target, row.receipt, row.created_at) == ("main/gpt-4o", record.receipt, ManualClock().now())
    assert rows[running.interaction_id].end == "in_progress"
    assert (rows[refused.interaction_id].end, rows[refused.interaction_id].receipt) == ("refused", refusal_receipt)

    texts = {}
    for stored in await records_of(database, tenant_id):
        audit = AuditRecord.model_validate_doc(stored)
        reference = audit.content_reference
        if reference is not None and audit.rid == call.interaction_id:
            held = (await store.get(reference.object))[reference.offset : reference.offset + reference.length]
            description = parse(audit.canonical)["content"]
            key = await keys.opening(TenantScope(tenant_id), description["kid"])
            texts[audit.kind] = open_content(key, description, held, content_place(tenant_id, audit.rid, audit.kind))
    assert texts == {"intent": PROMPT, "outcome": ANSWER}
    for document in [*await records_of(database, tenant_id), *await rows_of(database, tenant_id)]:
        assert b"canary" not in bson.encode(document)
