"""From the database to an archive that the verifier accepts, and what happens when something is not there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.analytics import Trail
from tests.support.web import House
from trueport.audit.sealing import seal_content
from trueport.audit.shipper import ShippedRecord
from trueport.audit.verifier import Folder, Report, read_keys, verify
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.exporting import Export, LogHasHole
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.service import AuditLog
from trueport.kit.crypto import DataKey
from trueport.kit.ids import TenantId, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore

STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
KEY = DataKey("key_1", bytes(32))


class Office:
    """A tenant whose records are made, ordered and exported."""

    def __init__(self, house: House, tenant_id: str, sink: MongoSink, folder: Path) -> None:
        resources, scope = house.resources, TenantScope(TenantId(tenant_id))
        self.keys = LogKeys(resources.database, resources.settings.keys, house.clock)
        self.scope = scope
        self.log = AuditLog(resources.database, scope, self.keys, house.clock)
        self.target = FolderStore(folder / "archive")
        self.contents = FolderStore(folder / "content")
        self._export = Export(resources.database, scope, self.keys, self.contents)
        self.folder = folder
        self.database = resources.database
        self._sink = sink
        self._trail = Trail()

    async def record(self, count: int) -> list[ShippedRecord]:
        found: list[ShippedRecord] = []
        for number in range(count):
            rid = new_id("int")
            described, blob = seal_content(KEY, b"something said", f"{self.scope.tenant_id}|content|{rid}|intent")
            at = STARTED + timedelta(seconds=number)
            intent = self._trail.intent(self.scope.tenant_id, at, rid=rid, blobs=[blob], content=described)
            found += [intent, self._trail.outcome(intent)]
        for start in range(0, len(found), 300):
            await self._sink.store(found[start : start + 300])
        await self.log.advance()
        return found

    async def export(self) -> int:
        """How many records were written."""
        end = 0
        async for written in self._export.segments():
            for each in written.objects:
                await self.target.put(each.name, each.data)
            end = written.end
        return end

    async def check(self) -> Report:
        keys = read_keys("\n".join(map(str, await self.keys.verifier_keys(self.scope.tenant_id))))
        return verify(Folder(self.folder / "archive"), keys)


@pytest.fixture
async def office(house: House, sink: MongoSink, tmp_path: Path) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, tenant.id, sink, tmp_path)


async def test_what_was_recorded_is_exported_and_verifies(office: Office) -> None:
    for count in (1, 200, 30):
        await office.record(count)
    told = await office.export()

    report = await office.check()

    assert report.problems == []
    assert report.records == told == 462
    assert report.blobs == 231
    assert (report.manifests, report.checkpoints) == (1, 1)


async def test_a_long_log_becomes_several_segments(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueport.domains.audit.exporting.MOST_RECORDS", 50)
    for count in (20, 10, 60, 5):
        await office.record(count)

    assert await office.export() == 190

    report = await office.check()
    assert report.problems == []
    assert report.manifests == report.checkpoints == 4


async def test_a_record_that_is_gone_is_never_left_out_silently(office: Office) -> None:
    records = await office.record(3)
    await office.database[+AuditRecord].delete_one({"_id": records[2].id, "tenant_id": office.scope.tenant_id})

    with pytest.raises(LogHasHole):
        await office.export()


async def test_a_record_that_was_changed_after_it_got_its_place_is_found_in_the_export(office: Office) -> None:
    records = await office.record(3)
    changed = records[3].canonical.replace(b'"status":200', b'"status":500')
    await office.database[+AuditRecord].update_one(
        {"_id": records[3].id, "tenant_id": office.scope.tenant_id}, {"$set": {"canonical": changed}}
    )
    await office.export()

    assert "root_differs" in {problem.code for problem in (await office.check()).problems}


async def test_a_content_that_is_gone_without_an_erasure_is_told(office: Office) -> None:
    await office.record(2)
    for path in (office.folder / "content").rglob("*.bin"):
        path.unlink()
    await office.export()

    assert {problem.code for problem in (await office.check()).problems} == {"content_missing"}
