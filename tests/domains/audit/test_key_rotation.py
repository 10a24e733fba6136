"""The signing key changes: who signs when, who is told, and that a verifier with the old key can go on."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.web import House
from trueport.audit.canonical import parse
from trueport.audit.direct import DirectJournal
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.notes import parse_note
from trueport.audit.records import DeedKind
from trueport.audit.verifier import Folder, Report, read_keys, verify
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.exporting import Export
from trueport.domains.audit.keys import OVERLAP, LogKeys
from trueport.domains.audit.service import AuditLog
from trueport.domains.auth.models import Tenant, User
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore
from trueport.web.trail import Trail

KEYS = "/trueportai-services/api/v1/audit/keys"


@dataclass
class Office:
    """A tenant whose log is written, signed and exported."""

    house: House
    sink: MongoSink
    owner: User
    tenant: Tenant
    trail: Trail
    folder: Path

    @property
    def keys(self) -> LogKeys:
        return LogKeys(self.house.resources.database, self.house.resources.settings.keys, self.house.clock)

    @property
    def scope(self) -> TenantScope:
        return TenantScope(TenantId(self.tenant.id))

    @property
    def log(self) -> AuditLog:
        return AuditLog(self.house.resources.database, self.scope, self.keys, self.house.clock)

    async def ids(self) -> AsyncIterator[TenantId]:
        yield self.scope.tenant_id

    async def rotate(self, overlap: timedelta = OVERLAP, trail: Trail | None = None) -> None:
        await self.keys.rotate(trail or self.trail, self.ids(), "operator", "yearly change", overlap)

    async def pass_time(self, span: timedelta) -> None:
        """And have something recorded and signed at the end of it."""
        self.house.clock.advance(span.total_seconds())
        await self.trail.record(self.tenant.id, "admin", {"action": "something"})
        await self.log.advance()

    async def signers(self) -> list[int]:
        """Which of the published keys have signed the newest checkpoint."""
        known = await self.keys.verifier_keys(self.scope.tenant_id)
        note = parse_note((await self.log.checkpoint()).note.encode())
        return [known.index(key) for key in note.signed_by(known)]

    async def check(self, known: str) -> Report:
        """What a verifier says that has noted only these keys."""
        target = FolderStore(self.folder)
        contents = FolderStore(self.folder / "contents")
        export = Export(self.house.resources.database, self.scope, self.keys, contents)
        async for written in export.segments():
            for each in written.objects:
                await target.put(each.name, each.data)
        return verify(Folder(self.folder), read_keys(known))


@pytest.fixture
async def office(house: House, sink: MongoSink, tmp_path: Path) -> Office:
    owner = await house.person()
    trail = Trail(DirectJournal(sink, house.clock))
    return Office(house, sink, owner, await house.tenant(owner), trail, tmp_path / "archive")


async def test_while_keys_change_old_and_new_sign(office: Office) -> None:
    seen = []
    await office.pass_time(timedelta(0))
    seen.append(await office.signers())
    await office.rotate()
    await office.pass_time(timedelta(days=1))
    seen.append(await office.signers())
    await office.pass_time(OVERLAP)
    seen.append(await office.signers())

    assert seen == [[0], [0, 1], [1]]


async def test_a_verifier_that_noted_only_the_first_key_follows_the_log_over_rotations(office: Office) -> None:
    await office.pass_time(timedelta(0))
    [first] = await office.keys.verifier_keys(office.scope.tenant_id)
    for _ in range(2):
        await office.rotate()
        await office.pass_time(timedelta(minutes=1))
        await office.pass_time(OVERLAP + timedelta(days=1))

    report = await office.check(str(first))

    known = await office.keys.verifier_keys(office.scope.tenant_id)
    assert report.problems == []
    assert report.announced == [str(key) for key in known[1:]]
    assert len(known) == 3


async def test_a_key_that_no_signed_record_announces_is_not_believed(office: Office) -> None:
    await office.pass_time(timedelta(0))
    [first] = await office.keys.verifier_keys(office.scope.tenant_id)
    await office.rotate()
    # Nothing was signed while both keys were to sign.
    await office.pass_time(OVERLAP + timedelta(days=1))

    report = await office.check(str(first))

    assert report.announced == []
    assert {problem.code for problem in report.problems} >= {"checkpoint_unsigned"}


async def test_the_record_of_a_rotation_names_the_new_key_the_end_of_the_old_one_and_why(office: Office) -> None:
    await office.pass_time(timedelta(0))
    begun_us = office.house.clock.now().timestamp() * 1_000_000
    await office.rotate(timedelta(hours=2))

    old, new = await office.keys.verifier_keys(office.scope.tenant_id)
    stored = await office.house.resources.database[+AuditRecord].find({"tenant_id": office.tenant.id}).to_list()
    [said] = [record for each in stored if (record := parse(each["canonical"]))["action"] == "signing_key_rotated"]
    assert (said["kind"], said["by"], said["reason"]) == ("admin", "operator", "yearly change")
    assert said["key"] == str(new)
    assert [each["key_id"] for each in said["ends"]] == [old.key_id.hex()]
    assert abs(said["ends"][0]["at"] - begun_us - 2 * 3_600_000_000) < 2_000


async def test_the_published_keys_say_when_each_signs(office: Office) -> None:
    await office.pass_time(timedelta(0))
    await office.rotate()
    shown = (
        await office.house.client.get(KEYS, headers=await office.house.as_member(office.owner, office.tenant))
    ).json()

    old, new = shown["validity"]
    assert [old["key"], new["key"]] == shown["keys"]
    assert old["retires_at"] > new["begins_at"] >= old["begins_at"]
    assert new["retires_at"] is None


class FullTrail(Trail):
    """A trail that takes nothing."""

    def __init__(self) -> None:
        """No journal."""

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, Any]) -> str:  # noqa: ARG002 - a Trail's
        raise SpoolUnavailable


async def test_a_rotation_that_cannot_be_recorded_does_not_happen_and_goes_on_with_the_same_key(office: Office) -> None:
    await office.pass_time(timedelta(0))
    with pytest.raises(SpoolUnavailable):
        await office.rotate(trail=FullTrail())
    await office.pass_time(timedelta(minutes=1))
    before = await office.keys.verifier_keys(office.scope.tenant_id)

    await office.rotate()
    await office.pass_time(timedelta(minutes=1))

    assert len(before) == 1
    assert await office.signers() == [0, 1]
    assert len(await office.keys.verifier_keys(office.scope.tenant_id)) == 2


async def test_an_overlap_too_short_for_both_to_sign_is_refused(office: Office) -> None:
    with pytest.raises(ValueError, match="an hour"):
        await office.rotate(timedelta(minutes=59))
