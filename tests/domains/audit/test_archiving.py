"""From the database to the archive, whatever ends in between, and what is never taken for done."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from tests.support.archiving import Office, StoppingArchive
from tests.support.s3_server import S3Server, s3_server
from tests.support.web import House, open_house, settings_of
from trueport.app import installed_domains
from trueport.cli.main import main
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.audit.archive_job import Archives, open_archives
from trueport.domains.audit.archiving import ArchiveTampered, ContentsMissing, MutableArchive
from trueport.domains.audit.erasure.models import Erasure
from trueport.domains.audit.models import ArchivedSegment
from trueport.kit.clock import ManualClock, SystemClock
from trueport.kit.errors import Unavailable
from trueport.kit.events import EventBus
from trueport.kit.ids import new_id
from trueport.storage.archives import ArchiveStore, FolderArchive, Immutability, open_archive
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database
from trueport.web.domain import Resources, StartupRefused

__all__ = ["s3_server"]

AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
OBJECTS = 5
"""Payload, data, manifest, its signature, checkpoint."""


@pytest.fixture
async def office(house: House, tmp_path: Path) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, tenant.id, tmp_path)


def locked(server: S3Server, folder: Path, *, is_locked: bool = True) -> ArchiveStore:
    bucket = server.bucket(new_id("b").replace("_", "-").lower(), is_locked=is_locked)
    return open_archive(f"s3://{bucket}/trail", folder, SystemClock(), server.environ)


async def test_an_archive_copied_to_a_folder_is_accepted_by_the_verifier(office: Office) -> None:
    for count in (1, 20, 3):
        await office.record(count)
    assert await office.archiver().advance(everything=True) == 48
    await office.record(2)
    assert await office.archiver().advance(everything=True) == 4

    folder, key = await office.copied(), office.folder / "log.key"
    key.write_text(await office.public_keys())
    ran = await asyncio.to_thread(CliRunner().invoke, main, ["audit", "verify", str(folder), "--key", str(key)])

    assert ran.exit_code == 0, ran.output
    assert "52 records" in ran.stdout
    assert "2 manifests, 2 checkpoints, 26 sealed contents" in ran.stdout


async def test_objects_in_s3_are_locked_and_the_copy_verifies(office: Office, s3_server: S3Server) -> None:
    office.store = locked(s3_server, office.folder)
    office.rules = replace(office.rules, allows_mutable=False)
    await office.record(5)

    await office.archiver().advance(everything=True)

    names = await office.store.list("audit")
    assert len(names) == OBJECTS
    heads = [await office.store.head(name) for name in names]
    assert {head.locked_until for head in heads} == {(await segments(office))[0].retained_until}
    report = await office.check()
    assert (report.problems, report.records) == ([], 10)


async def test_nothing_goes_where_it_can_be_changed_unless_that_is_allowed(office: Office, s3_server: S3Server) -> None:
    await office.record(1)
    office.rules = replace(office.rules, allows_mutable=False)

    for store in (office.store, locked(s3_server, office.folder, is_locked=False)):
        with pytest.raises(MutableArchive):
            await office.archiver(store).advance(everything=True)
        assert await store.list("audit") == []


async def test_whatever_step_it_ends_at_another_process_goes_on(office: Office) -> None:
    ends = [(step, is_after) for step in range(OBJECTS) for is_after in (False, True)]
    for number, (step, is_after) in enumerate(ends):
        await office.record(2)
        with pytest.raises(Unavailable):
            await office.archiver(StoppingArchive(office.store, step, is_after=is_after)).advance(everything=True)
        assert [each.archived_at is None for each in await segments(office)] == [False] * number + [True]

        assert await office.archiver().advance(everything=True) == 4

    report = await office.check()
    assert (report.problems, report.records, report.manifests) == ([], 4 * len(ends), len(ends))


async def test_a_segment_that_was_begun_before_there_were_places_is_finished(office: Office) -> None:
    await office.record(2)
    with pytest.raises(Unavailable):
        await office.archiver(StoppingArchive(office.store, 2, is_after=True)).advance(everything=True)
    unset = {"$unset": {"place": "", "held_by": "", "hold": "", "hold_failure": ""}}
    await office.database[+ArchivedSegment].update_many({"tenant_id": office.scope.tenant_id}, unset)

    assert await office.archiver().advance(everything=True) == 4

    assert (await office.check()).problems == []


async def test_what_an_erasure_changes_between_two_tries_is_no_tampering(office: Office) -> None:
    """The payload is in the archive already, with the content that has gone since."""
    await office.record(2)
    with pytest.raises(Unavailable):
        await office.archiver(StoppingArchive(office.store, 1, is_after=False)).advance(everything=True)
    for path in (office.folder / "content").rglob("*.bin"):
        path.unlink()
    now = office.house.clock.now()
    erasure = Erasure(
        id=new_id("era"), tenant_id=office.scope.tenant_id, created_at=now, subject="sub_1", requester="usr_1",
        legal_basis="-", state="done", lease_until=now, kids=["key_1"],
    )  # fmt: skip
    await office.database[+Erasure].insert_one(erasure.model_dump_doc())

    assert await office.archiver().advance(everything=True) == 4

    report = await office.check()
    assert (report.problems, report.blobs) == ([], 2)


async def test_contents_that_are_not_in_the_storage_are_waited_for_but_not_for_ever(office: Office) -> None:
    await office.record(2)
    (office.folder / "content").rename(office.folder / "elsewhere")
    for _ in range(2):
        with pytest.raises(ContentsMissing):
            await office.archiver().advance(everything=True)
    assert await office.store.list("audit") == []

    office.house.clock.advance(86_400)

    assert await office.archiver().advance(everything=True) == 4
    assert {problem.code for problem in (await office.check()).problems} == {"content_missing"}


async def test_what_waited_long_for_the_archive_is_locked_for_its_full_time(
    office: Office, s3_server: S3Server
) -> None:
    await office.record(1)
    with pytest.raises(Unavailable):
        await office.archiver(open_archive("s3://bucket", office.folder, SystemClock(), AWAY)).advance(everything=True)
    office.house.clock.advance(30 * 86_400)
    office.store = locked(s3_server, office.folder)

    await office.archiver().advance(everything=True)

    name = (await office.store.list("audit"))[0]
    expected = office.house.clock.now().replace(microsecond=0) + timedelta(days=400)
    assert (await office.store.head(name)).locked_until == expected


async def test_a_store_that_says_it_locks_and_does_not_is_found_out(office: Office) -> None:
    class Boasting(FolderArchive):
        async def immutability(self) -> Immutability:
            return Immutability(worm=True, why="it says so")

    await office.record(1)

    with pytest.raises(ArchiveTampered):
        await office.archiver(Boasting(office.folder / "archive")).advance(everything=True)

    assert (await segments(office))[0].archived_at is None


async def test_a_foreign_object_in_the_place_of_ours_is_an_alarm_and_nothing_is_done(office: Office) -> None:
    await office.record(2)
    with pytest.raises(Unavailable):
        await office.archiver(StoppingArchive(office.store, 0, is_after=True)).advance(everything=True)
    payload = next(path for path in (office.folder / "archive").rglob("*.payload.zst"))
    payload.write_bytes(payload.read_bytes()[:-1] + b"?")

    for _ in range(2):
        with pytest.raises(ArchiveTampered):
            await office.archiver().advance(everything=True)

    assert len(await office.store.list("audit")) == 1
    assert (await segments(office))[0].archived_at is None


async def test_a_record_that_was_changed_in_the_database_is_not_archived(office: Office) -> None:
    records = await office.record(2)
    changed = records[1].canonical.replace(b'"status":200', b'"status":500')
    wanted = {"_id": records[1].id, "tenant_id": office.scope.tenant_id}
    await office.database[+AuditRecord].update_one(wanted, {"$set": {"canonical": changed}})

    with pytest.raises(ArchiveTampered):
        await office.archiver().advance(everything=True)

    assert await office.store.list("audit") == []


async def test_several_processes_at_once_write_one_archive(office: Office) -> None:
    await office.record(6)

    counts = await asyncio.gather(*(office.archiver().advance(everything=True) for _ in range(4)))
    await office.record(1)
    await office.archiver().advance(everything=True)

    assert sorted(counts)[-1] == 12
    report = await office.check()
    assert (report.problems, report.records, report.manifests) == ([], 14, 2)


async def test_records_wait_for_the_time_or_the_size(office: Office) -> None:
    await office.record(3)
    assert await office.archiver().advance() == 0

    office.house.clock.advance(office.rules.every_s)
    assert await office.archiver().advance() == 6

    await office.record(3)
    await office.record(3)
    office.rules = replace(office.rules, segment_bytes=8_000)
    assert await office.archiver().advance() == 6


async def segments(office: Office) -> list[ArchivedSegment]:
    found = office.database[+ArchivedSegment].find({"tenant_id": office.scope.tenant_id}).sort("_id", 1)
    return [ArchivedSegment.model_validate_doc(each) for each in await found.to_list()]


async def test_the_job_archives_every_tenant_and_a_broken_one_holds_up_nobody(
    tmp_path: Path, database: Database
) -> None:
    settings = settings_of(tmp_path, TRUEPORT_ARCHIVE_URL="file:", TRUEPORT_ALLOW_MUTABLE_ARCHIVE="1")
    async with open_house(settings, database, installed_domains(["auth", "analytics", "audit"])) as house:
        owner = await house.person()
        offices = [Office(house, (await house.tenant(owner, slug)).id, tmp_path) for slug in ("one", "two", "three")]
        for office in offices:
            office.contents = FolderStore(tmp_path / "storage")
            records = await office.record(2)
        wanted = {"_id": records[0].id, "tenant_id": offices[-1].scope.tenant_id}
        await database[+AuditRecord].delete_one(wanted)
        house.clock.advance(900)

        await house.resources.part(Archives).work_off()

        assert [len(await segments(office)) for office in offices] == [1, 1, 1]
        assert [(await segments(office))[0].archived_at is not None for office in offices] == [True, True, False]
        assert len(await FolderArchive(tmp_path / "archive").list("audit")) == 2 * OBJECTS


async def test_a_server_does_not_start_with_an_archive_that_can_be_changed(tmp_path: Path, database: Database) -> None:
    settings = settings_of(tmp_path, TRUEPORT_ARCHIVE_URL="file:")

    with pytest.raises(StartupRefused, match="ALLOW_MUTABLE_ARCHIVE"):
        async with open_archives(Resources(settings, database, ManualClock(), EventBus())):
            pass


async def test_there_is_no_archive_where_none_is_set(tmp_path: Path, database: Database, mongodb_uri: str) -> None:
    uri = urlsplit(mongodb_uri)._replace(path=f"/{database.name}").geturl()
    runner = CliRunner(env={"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_MONGODB_URI": uri})

    ran = await asyncio.to_thread(runner.invoke, main, ["audit", "archive", "--once"])

    assert ran.exit_code == 2, ran.output
    assert "TRUEPORT_ARCHIVE_URL" in ran.stderr
