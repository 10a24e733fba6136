import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect, BulkWriteError

from tests.support.analytics import Trail, records_of, row_of, rows_of
from trueport.audit.canonical import leaf_hash
from trueport.audit.sealing import open_content, seal_content
from trueport.audit.shipper import ShippedRecord
from trueport.domains.analytics.models import RETENTION, AuditRecord, InteractionRow
from trueport.domains.analytics.projection import interaction_document
from trueport.domains.analytics.sink import MongoSink
from trueport.kit.crypto import DataKey
from trueport.kit.errors import Unavailable
from trueport.kit.ids import new_id
from trueport.storage.documents import FolderStore, StorageUnavailable
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database, StoreUnavailable

STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


class FailingCollection:
    """A real collection whose next command fails, before it is done or after."""

    def __init__(self, inner: Any, error: Exception, *, is_done: bool) -> None:
        self._inner = inner
        self._error: Exception | None = error
        self._is_done = is_done

    async def insert_many(self, documents: Any, **options: Any) -> object:
        return await self._do(self._inner.insert_many, documents, options)

    async def bulk_write(self, writes: Any, **options: Any) -> object:
        return await self._do(self._inner.bulk_write, writes, options)

    async def _do(self, command: Any, argument: Any, options: dict[str, Any]) -> object:
        error, self._error = self._error, None
        if error is None:
            return await command(argument, **options)
        if self._is_done:
            await command(argument, **options)
        raise error


def sealed_intent(trail: Trail, key: DataKey, tenant: str, text: bytes) -> ShippedRecord:
    rid = new_id("int")
    description, blob = seal_content(key, text, f"{tenant}|content|{rid}|intent")
    return trail.intent(tenant, STARTED, rid=rid, blobs=[blob], content=description)


def expected_row(records: Sequence[ShippedRecord]) -> dict[str, Any]:
    """What one interaction's row has to be, whatever way its records came."""
    by_kind = {shipped.record["kind"]: shipped for shipped in records}
    strongest = by_kind.get("outcome") or by_kind.get("abandoned") or by_kind["intent"]
    receipt = by_kind["intent"].leaf.hex() if "intent" in by_kind else None
    return {**interaction_document(strongest.record, RETENTION), "receipt": receipt}


async def test_a_call_becomes_two_records_and_one_row(sink: MongoSink, database: Database) -> None:
    await ensure_indexes(database, [AuditRecord, InteractionRow])
    intent, outcome = batch = Trail().call("ten_a", STARTED)

    await sink.store(batch)

    records = await records_of(database, "ten_a")
    assert [record["_id"] for record in records] == [intent.id, outcome.id]
    for record, shipped in zip(records, batch, strict=True):
        assert record["canonical"] == shipped.canonical
        assert leaf_hash(record["canonical"]).hex() == record["leaf"]
        assert record["batch"] is None
    assert await rows_of(database, "ten_a") == [expected_row(batch)]


async def test_calls_whose_records_come_together_cost_one_insert_and_again_one_upsert(sink: MongoSink) -> None:
    written: list[tuple[str, int]] = []
    inner: Any = sink._rows

    class Counting:
        async def insert_many(self, rows: Any, **options: Any) -> object:
            written.append(("insert", len(rows)))
            return await inner.insert_many(rows, **options)

        async def bulk_write(self, writes: Any, **options: Any) -> object:
            written.append(("upsert", len(writes)))
            return await inner.bulk_write(writes, **options)

    sink._rows = Counting()  # type: ignore[assignment]  # stands in for the collection

    calls = [shipped for _ in range(3) for shipped in Trail().call("ten_a", STARTED)]
    await sink.store(calls)
    assert written == [("insert", 3)]

    await sink.store(calls)
    assert written == [("insert", 3), ("insert", 3), ("upsert", 3)]


async def test_a_refusal_without_an_intent_has_its_own_leaf_as_receipt(sink: MongoSink, database: Database) -> None:
    refused = Trail().refused("ten_a", STARTED)

    await sink.store([refused])

    row = await row_of(database, refused)
    assert (row.end, row.status, row.receipt, row.model) == ("refused", 429, refused.leaf.hex(), None)


@pytest.mark.parametrize("together", [True, False])
async def test_an_outcome_that_arrived_first_is_not_overwritten_by_its_intent(
    sink: MongoSink, database: Database, together: bool
) -> None:
    intent, outcome = Trail().call("ten_a", STARTED)

    for batch in [[outcome, intent]] if together else [[outcome], [intent]]:
        await sink.store(batch)

    row = await row_of(database, outcome)
    assert (row.end, row.receipt, row.cost_nano_usd) == ("completed", intent.leaf.hex(), 1_842_000)


async def test_an_outcome_replaces_an_abandoned_row_and_never_the_other_way(
    sink: MongoSink, database: Database
) -> None:
    trail = Trail()
    intent = trail.intent("ten_a", STARTED)
    abandoned, outcome = trail.abandoned(intent), trail.outcome(intent)

    await sink.store([intent])
    assert (await row_of(database, intent)).end == "in_progress"
    await sink.store([abandoned])
    assert (await row_of(database, intent)).end == "abandoned"
    await sink.store([outcome])
    assert (await row_of(database, intent)).end == "completed"
    await sink.store([abandoned])
    assert (await row_of(database, intent)).end == "completed"
    assert len(await records_of(database, "ten_a")) == 3


@settings(
    max_examples=40,
    deadline=None,
    # The database is shared by the examples on purpose: each has interactions of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_any_order_split_and_repetition_gives_the_same_rows(
    data: st.DataObject, database: Database, store: FolderStore
) -> None:
    sink, trail, tenant = MongoSink(database, store), Trail(), new_id("ten")
    calls: list[list[ShippedRecord]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        intent = trail.intent(tenant, STARTED, blobs=[new_id("blob").encode()])
        kinds = {"intent": intent, "abandoned": trail.abandoned(intent), "outcome": trail.outcome(intent, blobs=[b"z"])}
        names = data.draw(st.sets(st.sampled_from(sorted(kinds)), min_size=1))
        calls.append([kinds[name] for name in sorted(names)])
    records = [shipped for call in calls for shipped in call]
    again = data.draw(st.lists(st.sampled_from(records), max_size=5))
    arriving = data.draw(st.permutations(records + again))

    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        batch, arriving = arriving[:size], arriving[size:]
        await sink.store(batch)

    rows = {row["_id"]: row for row in await rows_of(database, tenant)}
    assert rows == {call[0].record["rid"]: expected_row(call) for call in calls}
    stored = {record["_id"]: record for record in await records_of(database, tenant)}
    assert {name: record["canonical"] for name, record in stored.items()} == {r.id: r.canonical for r in records}
    for shipped in records:
        content = AuditRecord.model_validate_doc(stored[shipped.id]).content_reference
        if not shipped.blobs:
            assert content is None
        else:
            assert content is not None
            held = await store.get(content.object)
            assert held[content.offset : content.offset + content.length] == b"".join(shipped.blobs)


async def test_records_that_are_known_do_not_keep_new_ones_out(sink: MongoSink, database: Database) -> None:
    trail = Trail()
    first, second = trail.call("ten_a", STARTED), trail.call("ten_a", STARTED)
    await sink.store(first)

    await sink.store([first[0], second[0], first[1], second[1]])

    assert {record["_id"] for record in await records_of(database, "ten_a")} == {s.id for s in [*first, *second]}
    assert len(await rows_of(database, "ten_a")) == 2


async def test_the_first_record_of_a_name_stays(sink: MongoSink, database: Database) -> None:
    first = Trail().intent("ten_a", STARTED)
    other = Trail("other.1.2").intent("ten_a", STARTED, rid=first.record["rid"])

    await sink.store([first])
    await sink.store([other])

    (record,) = await records_of(database, "ten_a")
    assert record["canonical"] == first.canonical


async def test_more_records_than_one_command_takes_all_arrive(sink: MongoSink, database: Database) -> None:
    trail = Trail()

    await sink.store([shipped for _ in range(130) for shipped in trail.call("ten_a", STARTED)])

    assert len(await records_of(database, "ten_a")) == 260
    assert {row["end"] for row in await rows_of(database, "ten_a")} == {"completed"}
    assert len(await rows_of(database, "ten_a")) == 130


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("place", ["_records", "_rows"])
@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("gone"),
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting"}]}),
        BulkWriteError({"writeErrors": [{"index": 0, "code": 121, "errmsg": "no"}], "writeConcernErrors": []}),
        BulkWriteError(
            {
                "writeErrors": [{"index": 0, "code": 11000}, {"index": 1, "code": 14031, "errmsg": "disk"}],
                "writeConcernErrors": [],
            }
        ),
    ],
    ids=["connection", "concern", "write", "mixed"],
)
async def test_a_command_of_unknown_result_is_tried_again_to_the_same_effect(
    sink: MongoSink, database: Database, place: str, error: Exception, is_done: bool
) -> None:
    batch = Trail().call("ten_a", STARTED)
    setattr(sink, place, FailingCollection(getattr(sink, place), error, is_done=is_done))

    with pytest.raises(StoreUnavailable):
        await sink.store(batch)
    await sink.store(batch)

    assert len(await records_of(database, "ten_a")) == 2
    assert await rows_of(database, "ten_a") == [expected_row(batch)]


async def test_a_row_that_another_process_inserts_at_the_same_moment_is_found_again(
    sink: MongoSink, database: Database
) -> None:
    intent, outcome = Trail().call("ten_a", STARTED)
    await MongoSink(database, sink._store).store([intent])
    race = BulkWriteError({"writeErrors": [{"index": 0, "code": 11000}], "writeConcernErrors": []})
    sink._rows = FailingCollection(sink._rows, race, is_done=False)  # type: ignore[assignment]  # stands in for it

    await sink.store([outcome])

    assert (await row_of(database, intent)).end == "completed"


async def test_two_processes_that_ship_the_same_records_agree(database: Database, store: FolderStore) -> None:
    trail = Trail()
    batch = [shipped for _ in range(20) for shipped in trail.call("ten_a", STARTED, content=None)]

    await asyncio.gather(*(MongoSink(database, store).store(batch) for _ in range(3)))

    assert len(await records_of(database, "ten_a")) == 40
    assert len(await rows_of(database, "ten_a")) == 20


async def test_content_that_cannot_be_kept_keeps_its_record_out(
    sink: MongoSink, database: Database, store: FolderStore
) -> None:
    shipped = sealed_intent(Trail(), DataKey.generate("dek"), "ten_a", b"hello")

    class Full(FolderStore):
        async def put(self, name: str, data: bytes) -> None:  # noqa: ARG002 - the signature of every store
            raise StorageUnavailable

    sink._store = Full(Path("unused"))
    with pytest.raises(Unavailable):
        await sink.store([shipped])
    assert await records_of(database, "ten_a") == []

    sink._store = store
    await sink.store([shipped])
    assert len(await records_of(database, "ten_a")) == 1


async def test_an_object_that_was_changed_stops_its_records(
    sink: MongoSink, database: Database, tmp_path: Path
) -> None:
    shipped = sealed_intent(Trail(), DataKey.generate("dek"), "ten_a", b"hello")
    await sink.store([shipped])
    (record,) = await records_of(database, "ten_a")
    (tmp_path / "content" / record["content"]["object"]).write_bytes(b"changed")

    with pytest.raises(StorageUnavailable):
        await sink.store([shipped])


async def test_a_crash_between_content_and_record_leaves_nothing_that_points_nowhere(
    sink: MongoSink, database: Database, store: FolderStore
) -> None:
    trail, key = Trail(), DataKey.generate("dek")
    first, second = (sealed_intent(trail, key, "ten_a", text) for text in (b"one", b"two"))
    real = sink._records
    sink._records = FailingCollection(real, AutoReconnect("gone"), is_done=False)  # type: ignore[assignment]  # as above
    with pytest.raises(StoreUnavailable):
        await sink.store([first])
    assert await records_of(database, "ten_a") == []

    await sink.store([first, second])

    for record in await records_of(database, "ten_a"):
        reference = AuditRecord.model_validate_doc(record).content_reference
        assert reference is not None
        held = await store.get(reference.object)
        assert len(held) >= reference.offset + reference.length


async def test_content_is_found_through_its_record_and_opens(
    sink: MongoSink, database: Database, store: FolderStore, tmp_path: Path
) -> None:
    trail, key, canary = Trail(), DataKey.generate("dek"), b"canary-91c7: my secret prompt"
    batch = [sealed_intent(trail, key, tenant, canary + bytes([n])) for n, tenant in enumerate(["ten_a", "ten_b"] * 3)]

    await sink.store(batch)

    opened = []
    for tenant in ("ten_a", "ten_b"):
        for stored in await records_of(database, tenant):
            record = AuditRecord.model_validate_doc(stored)
            shipped = next(each for each in batch if each.id == record.id)
            reference = record.content_reference
            assert reference is not None
            assert reference.object.startswith(f"{tenant}/content/2026-03-01/")
            held = (await store.get(reference.object))[reference.offset : reference.offset + reference.length]
            place = f"{tenant}|content|{record.rid}|intent"
            opened.append(open_content(key, shipped.record["content"], held, place))
    assert sorted(opened) == sorted(canary + bytes([n]) for n in range(6))
    for tenant in ("ten_a", "ten_b"):
        for document in [*await records_of(database, tenant), *await rows_of(database, tenant)]:
            assert b"canary-91c7" not in bson.encode(document)
    for path in (tmp_path / "content").rglob("*.bin"):
        assert b"canary-91c7" not in path.read_bytes()


async def test_a_name_taken_by_another_tenant_changes_nothing_there_and_stops_nobody(
    sink: MongoSink, database: Database
) -> None:
    intent, outcome = Trail().call("ten_a", STARTED)
    await sink.store([intent, outcome])
    before = await rows_of(database, "ten_a")
    foreign = Trail().intent("ten_b", STARTED, rid=intent.record["rid"])
    mine = Trail().intent("ten_b", STARTED)

    await sink.store([foreign, mine])

    assert await rows_of(database, "ten_a") == before
    assert [row["_id"] for row in await rows_of(database, "ten_b")] == [mine.record["rid"]]


async def test_other_kinds_are_kept_as_records_only(sink: MongoSink, database: Database) -> None:
    shipped = Trail().record("admin", "evt_1", "ten_a", 1_700_000_000_000_000, {"deed": "key_created"})

    await sink.store([shipped])

    assert [record["kind"] for record in await records_of(database, "ten_a")] == ["admin"]
    assert await rows_of(database, "ten_a") == []


async def test_an_empty_batch_is_nothing_to_do(sink: MongoSink, database: Database) -> None:
    await sink.store([])

    assert await database.list_collection_names() == []
