"""Legal holds in the archive: set where the store has them, lifted after their release, tried again when it fails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.archiving import Office
from tests.support.s3_server import S3Server, s3_server
from tests.support.web import House, open_house, settings_of
from trueport.app import installed_domains
from trueport.domains.audit.archive_holds import ArchiveHolds
from trueport.domains.audit.archive_job import Archives
from trueport.domains.audit.archiving import ArchiveTampered
from trueport.domains.audit.erasure.models import Hold
from trueport.domains.audit.models import ArchivedSegment
from trueport.domains.audit.placing.stores import Stores
from trueport.kit.clock import SystemClock
from trueport.kit.ids import new_id
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, FolderArchive, open_archive
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database

__all__ = ["s3_server"]


class Refusing(FolderArchive):
    """An archive that does everything but hold, until it is told to."""

    refuses = True

    async def hold(self, name: str, *, is_held: bool) -> bool:
        if self.refuses and name.endswith("manifest.json"):
            raise ArchiveUnavailable("403 AccessDenied")
        del is_held
        return True


@pytest.fixture
async def office(house: House, tmp_path: Path) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, tenant.id, tmp_path)


def locked(server: S3Server, folder: Path) -> ArchiveStore:
    bucket = server.bucket(new_id("b").replace("_", "-").lower())
    return open_archive(f"s3://{bucket}/trail", folder, SystemClock(), server.environ)


def holds(office: Office) -> ArchiveHolds:
    return ArchiveHolds(office.database, office.scope, Stores.only(office.store))


async def held(office: Office, **scope: Any) -> Hold:
    hold = Hold(
        id=new_id("hld"), tenant_id=office.scope.tenant_id, created_at=office.house.clock.now(), reason="Case 17",
        created_by="usr_1", **scope,
    )  # fmt: skip
    await office.database[+Hold].insert_one(hold.model_dump_doc())
    return hold


async def stored(office: Office, hold: Hold) -> Hold:
    found = await office.database[+Hold].find_one({"_id": hold.id, "tenant_id": hold.tenant_id})
    assert found is not None
    return Hold.model_validate_doc(found)


async def released(office: Office, hold: Hold) -> None:
    wanted = {"_id": hold.id, "tenant_id": hold.tenant_id}
    await office.database[+Hold].update_one(wanted, {"$set": {"state": "released"}})


async def archived(office: Office, count: int = 1) -> ArchivedSegment:
    """One more segment with these calls."""
    await office.record(count)
    await office.archiver().advance(everything=True)
    found = office.database[+ArchivedSegment].find({"tenant_id": office.scope.tenant_id}).sort("_id", -1).limit(1)
    return ArchivedSegment.model_validate_doc((await found.to_list())[0])


async def under_hold(office: Office, names: Sequence[str]) -> set[bool]:
    return {(await office.store.head(name)).is_held for name in names}


async def test_the_store_holds_what_a_hold_is_about_and_nothing_else(office: Office, s3_server: S3Server) -> None:
    office.store = locked(s3_server, office.folder)
    one, two = await archived(office), await archived(office)
    rid = (await office.record(1))[0].record["rid"]
    await office.archiver().advance(everything=True)
    hold = await held(office, interaction_ids=[rid])

    await holds(office).reconcile()

    of_third = [name for name in await office.store.list("audit") if name not in (*one.objects, *two.objects)]
    assert len(of_third) == 5
    assert await under_hold(office, of_third) == {True}
    assert await under_hold(office, [*one.objects, *two.objects]) == {False}
    told = await holds(office).of(await stored(office, hold))
    assert (told.touched, told.held, told.alone, told.waiting, told.unread) == (1, 1, 0, 0, 0)

    await released(office, hold)
    await holds(office).reconcile()

    assert await under_hold(office, of_third) == {False}
    told = await holds(office).of(await stored(office, hold))
    assert (told.touched, told.held, told.waiting) == (1, 0, 0)


async def test_a_held_object_cannot_be_deleted_however_its_lock_ends(office: Office, s3_server: S3Server) -> None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # botocore has no types

    office.store = locked(s3_server, office.folder)
    segment = await archived(office)
    await held(office)
    await holds(office).reconcile()
    versions = [
        (bucket["Name"], version)
        for bucket in s3_server.client.list_buckets()["Buckets"]
        for version in s3_server.client.list_object_versions(Bucket=bucket["Name"]).get("Versions", [])
        if version["Key"] == f"trail/{segment.objects[0]}"
    ]
    (bucket, version), *_ = versions

    with pytest.raises(ClientError):
        s3_server.client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


async def test_one_of_two_holds_is_enough_and_what_comes_later_is_held_too(office: Office, s3_server: S3Server) -> None:
    office.store = locked(s3_server, office.folder)
    first = await archived(office)
    one, other = await held(office), await held(office)
    await holds(office).reconcile()
    second = await archived(office)
    await released(office, one)
    await holds(office).reconcile()

    assert await under_hold(office, [*first.objects, *second.objects]) == {True}
    await released(office, other)
    await holds(office).reconcile()
    assert await under_hold(office, [*first.objects, *second.objects]) == {False}


async def test_records_that_have_left_the_database_are_held_too(office: Office) -> None:
    now = office.house.clock.now().replace(microsecond=0)
    (intent, _) = await office.record(1, at=now)
    await archived(office)
    office.house.clock.advance(401 * 86_400)
    await office.record(1, at=office.house.clock.now().replace(microsecond=0))
    assert await office.pruner().run() > 0
    hold = await held(office, interaction_ids=[intent.record["rid"]])

    await holds(office).reconcile()

    told = await holds(office).of(await stored(office, hold))
    assert (told.touched, told.alone, told.held) == (1, 1, 0)


async def test_a_store_that_fails_is_asked_again_and_the_failure_is_shown(office: Office) -> None:
    store = office.store = Refusing(office.folder / "archive")
    await archived(office)
    hold = await held(office)
    for _ in range(2):
        with pytest.raises(ArchiveUnavailable):
            await holds(office).reconcile()
    told = await holds(office).of(await stored(office, hold))
    assert (told.touched, told.held, told.waiting, told.failure) == (1, 0, 1, "403 AccessDenied")

    store.refuses = False
    await holds(office).reconcile()

    told = await holds(office).of(await stored(office, hold))
    assert (told.held, told.waiting, told.failure) == (1, 0, None)


async def test_what_was_half_set_when_a_hold_ended_is_lifted(office: Office, s3_server: S3Server) -> None:
    office.store = locked(s3_server, office.folder)
    segment = await archived(office)
    hold = await held(office)
    await holds(office).reconcile()
    half = {"$set": {"hold": "setting"}}
    await office.database[+ArchivedSegment].update_one({"_id": segment.id, "tenant_id": segment.tenant_id}, half)
    await released(office, hold)

    await holds(office).reconcile()

    assert await under_hold(office, segment.objects) == {False}


async def test_segments_from_before_there_were_such_holds_are_held_too(office: Office, s3_server: S3Server) -> None:
    office.store = locked(s3_server, office.folder)
    segment = await archived(office)
    unset = {"$unset": {"place": "", "held_by": "", "hold": "", "hold_failure": ""}}
    await office.database[+ArchivedSegment].update_many({"tenant_id": office.scope.tenant_id}, unset)
    await held(office)

    await holds(office).reconcile()

    assert await under_hold(office, segment.objects) == {True}


async def test_records_that_somebody_changed_in_the_archive_decide_nothing(office: Office) -> None:
    segment = await archived(office)
    data = office.folder / "archive" / next(name for name in segment.objects if name.endswith(".jsonl.zst"))
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    await held(office, subject="sub_" + "a" * 40)

    with pytest.raises(ArchiveTampered):
        await holds(office).reconcile()


async def test_the_job_sets_holds_and_one_hold_tells_what_became_of_it(tmp_path: Path, database: Database) -> None:
    settings = settings_of(tmp_path, TRUEPORT_ARCHIVE_URL="file:", TRUEPORT_ALLOW_MUTABLE_ARCHIVE="1")
    async with open_house(settings, database, installed_domains(["auth", "analytics", "audit"])) as house:
        owner = await house.person()
        tenant = await house.tenant(owner)
        office = Office(house, tenant.id, tmp_path)
        office.contents = FolderStore(tmp_path / "storage")
        await office.record(2)
        hold = await held(office)
        house.clock.advance(900)

        await house.resources.part(Archives).work_off()

        headers = await house.as_member(owner, tenant)
        shown = await house.client.get(f"/trueportai-services/api/v1/audit/holds/{hold.id}", headers=headers)
        assert shown.json()["archive"] == {
            "touched": 1, "held": 0, "alone": 1, "waiting": 0, "unread": 0, "failure": None,
        }  # fmt: skip
