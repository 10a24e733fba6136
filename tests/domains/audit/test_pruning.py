"""What leaves the database when its time is over, what never does, and that everything can still be proved."""

from pathlib import Path

import pytest

from tests.support.analytics import records_of
from tests.support.archiving import Office
from tests.support.web import House
from trueport.audit.shipper import ShippedRecord
from trueport.audit.verifier import Folder, read_keys, verify
from trueport.domains.audit.archiving import ArchiveTampered
from trueport.domains.audit.erasure.models import Hold
from trueport.domains.audit.exporting import Export, LogHasHole
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.retention import KeptFor, Retention
from trueport.kit.errors import InvalidRequest
from trueport.kit.ids import new_id
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Document

DAY_S = 86_400.0


@pytest.fixture
async def office(house: House, tmp_path: Path) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, tenant.id, tmp_path)


async def recorded(office: Office, count: int) -> list[ShippedRecord]:
    """Calls of now."""
    return await office.record(count, at=office.house.clock.now().replace(microsecond=0))


async def left(office: Office) -> set[str]:
    return {str(each["_id"]) for each in await records_of(office.database, office.scope.tenant_id)}


def retention(office: Office) -> Retention:
    return Retention(office.database, office.scope, office.rules, office.house.clock)


async def test_records_leave_after_their_retention_and_not_before(office: Office) -> None:
    old = await recorded(office, 4)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(399 * DAY_S)
    new = await recorded(office, 2)
    await office.archiver().advance(everything=True)

    assert await office.pruner().run() == 0
    office.house.clock.advance(2 * DAY_S)
    assert await office.pruner().run() == 8

    assert await left(office) == {each.id for each in new}
    assert await office.pruner().run() == 0
    assert not await left(office) & {each.id for each in old}


async def test_what_is_not_in_the_archive_stays_for_ever(office: Office) -> None:
    await recorded(office, 3)
    office.house.clock.advance(4_000 * DAY_S)

    assert await office.pruner().run() == 0
    assert len(await left(office)) == 6


async def test_the_newest_record_of_a_writer_stays_so_that_its_next_one_follows_it(office: Office) -> None:
    records = await recorded(office, 3)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(401 * DAY_S)
    assert await office.pruner().run() == 5
    assert await left(office) == {records[-1].id}

    await recorded(office, 1)
    await office.archiver().advance(everything=True)

    assert (await office.check()).problems == []


async def test_what_is_held_stays_until_the_hold_is_released(office: Office) -> None:
    records = await recorded(office, 3)
    await recorded(office, 1)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(401 * DAY_S)
    held = records[2].record["rid"]
    hold = Hold(
        id=new_id("hld"), tenant_id=office.scope.tenant_id, created_at=office.house.clock.now(), reason="a case",
        created_by="usr_1", interaction_ids=[held],
    )  # fmt: skip
    await office.database[+Hold].insert_one(hold.model_dump_doc())

    assert await office.pruner().run() == 5
    assert {records[2].id, records[3].id} <= await left(office)

    wanted: Document = {"_id": hold.id, "tenant_id": office.scope.tenant_id}
    await office.database[+Hold].update_one(wanted, {"$set": {"state": "released"}})
    assert await office.pruner().run() == 2


async def test_calls_and_deeds_are_kept_for_as_long_as_each_of_them_is(office: Office) -> None:
    await retention(office).change(KeptFor(calls=183, deeds=3_650))
    await recorded(office, 2)
    deed = office.trail.record(
        "admin", new_id("rec"), office.scope.tenant_id, office.house.clock.epoch_us(), {"action": "policy.publish"}
    )
    await office.keep([deed])
    last = await recorded(office, 1)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(184 * DAY_S)

    assert await office.pruner().run() == 5
    assert await left(office) == {deed.id, last[-1].id}


async def test_shortening_counts_only_for_what_is_archived_later(office: Office) -> None:
    await recorded(office, 2)
    await office.archiver().advance(everything=True)
    await retention(office).change(KeptFor(calls=183, deeds=183))
    office.house.clock.advance(184 * DAY_S)
    assert await office.pruner().run() == 0

    await recorded(office, 2)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(184 * DAY_S)
    assert await office.pruner().run() == 3
    office.house.clock.advance(40 * DAY_S)
    assert await office.pruner().run() == 4


async def test_lengthening_counts_at_once(office: Office) -> None:
    await recorded(office, 2)
    await office.archiver().advance(everything=True)
    await retention(office).change(KeptFor(calls=800, deeds=800))
    office.house.clock.advance(500 * DAY_S)

    assert await office.pruner().run() == 0


async def test_a_retention_below_half_a_year_is_refused(office: Office) -> None:
    for kept in (KeptFor(182, 400), KeptFor(400, 182), KeptFor(400, 36_501)):
        with pytest.raises(InvalidRequest):
            await retention(office).change(kept)

    assert await retention(office).now() == KeptFor(400, 400)


async def test_nothing_leaves_when_the_archive_has_lost_something(office: Office) -> None:
    await recorded(office, 2)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(401 * DAY_S)

    for path in sorted(path for path in (office.folder / "archive").rglob("*") if path.is_file()):
        aside = path.rename(office.folder / "aside")
        with pytest.raises(ArchiveTampered):
            await office.pruner().run()
        aside.rename(path)

    assert len(await left(office)) == 4
    assert await office.pruner().run() == 3


async def test_proofs_and_exports_still_hold_afterwards(office: Office) -> None:
    await recorded(office, 30)
    await office.archiver().advance(everything=True)
    office.house.clock.advance(401 * DAY_S)
    new = await recorded(office, 2)
    before = await office.log.checkpoint(60)
    assert await office.pruner().run() == 60
    await recorded(office, 1)

    receipt = await office.log.receipt_of(new[0].record["rid"])
    assert (receipt.seq, before.size) == (60, 60)
    await office.log.consistency(60, 66)
    with pytest.raises(LogHasHole):
        [each async for each in Export(office.database, office.scope, office.keys, office.contents).segments()]
    target = FolderStore(office.folder / "exported")
    export = Export(office.database, office.scope, office.keys, office.contents, Stores.only(office.store))
    async for written in export.segments():
        for each in written.objects:
            await target.put(each.name, each.data)
    report = verify(Folder(office.folder / "exported"), read_keys(await office.public_keys()))
    assert (report.problems, report.records, report.blobs) == ([], 66, 33)
