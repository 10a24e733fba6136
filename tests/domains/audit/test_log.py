"""A tenant's log over the real database: order, checkpoints, proofs, and what may not happen to them."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.analytics import Trail
from tests.support.web import House
from trueport.audit.canonical import leaf_hash
from trueport.audit.notes import VerifierKey, open_checkpoint
from trueport.audit.shipper import ShippedRecord
from trueport.audit.tree import is_consistent, is_included
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.models import AuditBatch, AuditCheckpoint
from trueport.domains.audit.sequencing import Backlog
from trueport.domains.audit.service import AuditLog, LogRolledBack
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope

URL = "/trueportai-services/api/v1/audit"
STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


def calls(trail: Trail, tenant_id: str, count: int) -> list[ShippedRecord]:
    found: list[ShippedRecord] = []
    for number in range(count):
        intent = trail.intent(tenant_id, STARTED + timedelta(seconds=number))
        found += [intent, trail.outcome(intent)]
    return found


def log_of(house: House, tenant_id: str) -> AuditLog:
    resources = house.resources
    keys = LogKeys(resources.database, resources.settings.keys, house.clock)
    return AuditLog(resources.database, TenantScope(TenantId(tenant_id)), keys, house.clock)


async def keys_of(house: House, headers: dict[str, str]) -> list[VerifierKey]:
    answer = await house.client.get(f"{URL}/keys", headers=headers)
    return [VerifierKey.parse(text) for text in answer.json()["keys"]]


async def get(house: House, path: str, headers: dict[str, str]) -> Any:
    answer = await house.client.get(f"{URL}{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/checkpoint", "/keys", "/receipts/int_1", "/proofs/inclusion?seq=0&size=1"])
async def test_nobody_reads_the_trail_anonymously(house: House, path: str) -> None:
    assert (await house.client.get(f"{URL}{path}")).status_code == 401


async def test_a_foreign_tenants_receipt_is_not_found(house: House, sink: MongoSink, trail: Trail) -> None:
    owner, other = await house.person(), await house.person()
    tenant, foreign = await house.tenant(owner), await house.tenant(other, "globex")
    records = calls(trail, foreign.id, 1)
    await sink.store(records)
    await log_of(house, foreign.id).advance()
    headers = await house.as_member(owner, tenant)

    answer = await house.client.get(f"{URL}/receipts/{records[0].record['rid']}", headers=headers)

    assert answer.status_code == 404


async def test_a_tenant_without_records_has_no_checkpoint(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)

    assert (
        await house.client.get(f"{URL}/checkpoint", headers=await house.as_member(owner, tenant))
    ).status_code == 404


async def test_a_receipt_is_checked_with_the_public_key_alone(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    records = calls(trail, tenant.id, 700)
    for start in range(0, len(records), 500):
        await sink.store(records[start : start + 500])
    headers = await house.as_member(owner, tenant)

    await house.resources.part(Backlog).work_off()

    keys = await keys_of(house, headers)
    for number in (0, 255, 256, 699):
        intent = records[2 * number]
        receipt = await get(house, f"/receipts/{intent.record['rid']}", headers)
        checkpoint = open_checkpoint(receipt["checkpoint"]["note"].encode(), origin_of(tenant.id), keys)
        leaf = leaf_hash(base64.b64decode(receipt["canonical"]))
        proof = [base64.b64decode(each) for each in receipt["proof"]]
        assert checkpoint.size == 1_400
        assert leaf == intent.leaf
        assert is_included(leaf, receipt["seq"], checkpoint.size, proof, checkpoint.root)


async def test_a_call_that_was_refused_at_once_has_a_receipt_too(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    refused = trail.refused(tenant.id, STARTED)
    await sink.store([refused])
    await house.resources.part(Backlog).work_off()

    receipt = await get(house, f"/receipts/{refused.record['rid']}", await house.as_member(owner, tenant))

    assert receipt["leaf"] == refused.leaf.hex()


async def test_a_record_that_is_not_under_a_checkpoint_yet_has_no_receipt(
    house: House, sink: MongoSink, trail: Trail
) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    await sink.store(calls(trail, tenant.id, 1))
    await log_of(house, tenant.id).advance()
    late = calls(trail, tenant.id, 1)
    await sink.store(late)

    answer = await house.client.get(
        f"{URL}/receipts/{late[0].record['rid']}", headers=await house.as_member(owner, tenant)
    )

    assert answer.status_code == 404
    assert "not under a signed checkpoint yet" in answer.text


async def test_each_checkpoint_is_the_beginning_of_the_next(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    headers = await house.as_member(owner, tenant)
    told = []
    for count in (1, 40, 130, 300, 7):
        await sink.store(calls(trail, tenant.id, count))
        await log_of(house, tenant.id).advance()
        told.append(await get(house, "/checkpoint", headers))

    for older in told:
        for newer in told[told.index(older) :]:
            query = f"from={older['size']}&to={newer['size']}"
            proof = await get(house, f"/proofs/consistency?{query}", headers)
            hashes = [base64.b64decode(each) for each in proof["hashes"]]
            roots = bytes.fromhex(older["root"]), bytes.fromhex(newer["root"])
            assert is_consistent(older["size"], newer["size"], *roots, hashes)
    assert await get(house, f"/checkpoint?size={told[1]['size']}", headers) == told[1]


async def test_many_processes_at_once_make_one_order(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    other = Trail("host.8.19d")

    async def store() -> None:
        for _ in range(6):
            await sink.store([*calls(trail, tenant.id, 20), *calls(other, tenant.id, 15)])

    async def order() -> None:
        for _ in range(12):
            await log_of(house, tenant.id).advance()

    await asyncio.gather(store(), order(), order(), order())
    await log_of(house, tenant.id).advance()

    database = house.resources.database
    wanted = {"tenant_id": tenant.id}
    batches = await database[+AuditBatch].find(wanted).sort("_id", 1).to_list()
    records = {each["_id"]: each["batch"] async for each in database[+AuditRecord].find(wanted)}
    ids = [record_id for batch in batches for record_id in batch["ids"]]
    assert records == {record_id: batch["start"] for batch in batches for record_id in batch["ids"]}
    assert len(ids) == 6 * 70
    assert [batch["start"] for batch in batches] == [0, *(batch["end"] for batch in batches[:-1])]
    assert not any(batch["breaks"] for batch in batches)


@pytest.mark.parametrize("what", ["fewer", "others"])
async def test_a_database_that_was_put_back_is_noticed_and_not_added_to(
    house: House, sink: MongoSink, trail: Trail, what: str
) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    await sink.store(calls(trail, tenant.id, 3))
    await log_of(house, tenant.id).advance()
    await sink.store(calls(trail, tenant.id, 2))
    await log_of(house, tenant.id).advance()
    batches = house.resources.database[+AuditBatch]
    last = {"tenant_id": tenant.id, "start": 6}
    if what == "fewer":
        await batches.delete_one(last)
    else:
        await batches.update_one(last, {"$set": {"edge": bytes(64)}})
    await sink.store(calls(trail, tenant.id, 1))

    with pytest.raises(LogRolledBack):
        await log_of(house, tenant.id).advance()

    assert await batches.count_documents({"tenant_id": tenant.id, "end": {"$gt": 10}}) == 0


async def test_a_record_changed_before_it_got_a_place_breaks_its_chain(
    house: House, sink: MongoSink, trail: Trail
) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    records = calls(trail, tenant.id, 2)
    await sink.store(records)
    changed = records[1].canonical.replace(b'"status":200', b'"status":500')
    assert changed != records[1].canonical
    await house.resources.database[+AuditRecord].update_one(
        {"_id": records[1].id, "tenant_id": tenant.id}, {"$set": {"canonical": changed}}
    )

    await log_of(house, tenant.id).advance()

    [batch] = await house.resources.database[+AuditBatch].find({"tenant_id": tenant.id}).to_list()
    assert [(each["wseq"], each["why"]) for each in batch["breaks"]] == [(2, "changed")]


async def test_processes_that_start_together_agree_on_one_key(house: House) -> None:
    resources = house.resources

    async def first() -> str:
        keys = LogKeys(resources.database, resources.settings.keys, house.clock)
        return str((await keys.signers(TenantId("ten_1")))[0].verifier_key)

    assert len(set(await asyncio.gather(*(first() for _ in range(5))))) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/proofs/inclusion?seq=2&size=2",
        "/proofs/inclusion?seq=0&size=3",
        "/proofs/consistency?from=2&to=1",
        "/proofs/consistency?from=1&to=9",
    ],
)
async def test_a_proof_beyond_the_log_is_refused(house: House, sink: MongoSink, trail: Trail, path: str) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    await sink.store(calls(trail, tenant.id, 1))
    await log_of(house, tenant.id).advance()

    answer = await house.client.get(f"{URL}{path}", headers=await house.as_member(owner, tenant))

    assert answer.status_code in (400, 422)


async def test_a_checkpoint_is_kept_once_however_many_sign_it(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    await sink.store(calls(trail, tenant.id, 2))

    await asyncio.gather(*(log_of(house, tenant.id).advance() for _ in range(4)))

    assert await house.resources.database[+AuditCheckpoint].count_documents({"tenant_id": tenant.id}) == 1
