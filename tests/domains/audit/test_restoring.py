"""An archive becomes a database again: the same records, the same order, the same proofs."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
from click.testing import CliRunner

from tests.support.analytics import records_of, rows_of
from tests.support.archives import honest
from tests.support.archiving import Office, StoppingArchive
from tests.support.web import House
from trueport.audit.notes import VerifierKey
from trueport.audit.restoring import Finished
from trueport.audit.verifier import Folder, read_keys, verify
from trueport.cli.archive import keep
from trueport.cli.main import main
from trueport.cli.session import Failed
from trueport.domains.analytics.models import ScanTask
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.restoring import LogNotEmpty, Restore
from trueport.kit.errors import Unavailable
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Client, Database, Document, database_of


@pytest.fixture
async def empty(mongo_client: Client) -> AsyncIterator[Database]:
    name = f"test_{secrets.token_hex(6)}"
    yield database_of(mongo_client, name)
    with pymongo.timeout(60):
        await mongo_client.drop_database(name)


@pytest.fixture
async def lost(house: House, tmp_path: Path) -> Office:
    """A tenant with an archive of two segments."""
    office = Office(house, (await house.tenant(await house.person())).id, tmp_path / "lost")
    (tmp_path / "lost").mkdir()
    for count in (30, 3):
        await office.record(count)
        await office.archiver().advance(everything=True)
    return office


@pytest.fixture
def found(house: House, lost: Office, empty: Database, tmp_path: Path) -> Office:
    """The same tenant in an empty database with empty storage, and the same archive."""
    (tmp_path / "found").mkdir()
    office = Office(house, lost.scope.tenant_id, tmp_path / "found", empty)
    office.store = lost.store
    return office


async def restored(lost: Office, found: Office, contents: FolderStore | None = None) -> int:
    keys = [VerifierKey(key.name, key.public_key) for key in await lost.keys.verifier_keys(lost.scope.tenant_id)]
    restoring = Restore(
        found.database, found.scope, found.keys, contents or found.contents, found.rules, found.house.clock
    )
    return await restoring.run(Finished(Folder(await lost.copied())), keys, Stores.only(found.store))


async def test_records_rows_order_and_proofs_are_there_again(lost: Office, found: Office) -> None:
    assert await restored(lost, found) == 66
    await found.log.advance()

    tenant_id = lost.scope.tenant_id
    assert list(map(said, await records_of(found.database, tenant_id))) == list(
        map(said, await records_of(lost.database, tenant_id))
    )
    assert await rows_of(found.database, tenant_id) == await rows_of(lost.database, tenant_id)
    for record in (await records_of(lost.database, tenant_id))[::20]:
        old, new = await lost.log.receipt_of(record["rid"]), await found.log.receipt_of(record["rid"])
        assert (old.seq, old.proof, old.checkpoint.note) == (new.seq, new.proof, new.checkpoint.note)
    assert await found.database[+ScanTask].count_documents({"tenant_id": tenant_id}) == 0


async def test_a_restored_log_goes_on_in_the_same_archive_under_a_new_key(lost: Office, found: Office) -> None:
    await restored(lost, found)
    found.trail = lost.trail
    await found.record(4)

    assert await found.archiver().advance(everything=True) == 8

    assert len(await found.keys.verifier_keys(found.scope.tenant_id)) == 2
    report = await found.check()
    assert (report.problems, report.records, report.manifests, report.blobs) == ([], 74, 3, 37)


async def test_contents_are_there_again(lost: Office, found: Office) -> None:
    await restored(lost, found)

    for record in await records_of(found.database, lost.scope.tenant_id):
        if record["content"] is not None:
            data = await found.contents.get(record["content"]["object"])
            assert len(data) >= record["content"]["offset"] + record["content"]["length"]


async def test_what_ended_half_way_can_be_run_again(lost: Office, found: Office) -> None:
    class Full(FolderStore):
        async def put(self, name: str, data: bytes) -> None:
            raise Unavailable(f"no room for {len(data)} bytes of {name}")

    with pytest.raises(Unavailable):
        await restored(lost, found, Full(found.folder))

    assert await restored(lost, found) == 66
    await found.log.advance()
    assert (await found.log.checkpoint(66)).size == 66


async def test_a_log_that_has_records_is_not_restored_over(lost: Office, found: Office) -> None:
    await found.record(1)

    with pytest.raises(LogNotEmpty):
        await restored(lost, found)

    assert len(await records_of(found.database, lost.scope.tenant_id)) == 2


def said(record: Document) -> Document:
    """A stored record without where its batch and its content lie, which may differ."""
    return {name: value for name, value in record.items() if name not in ("batch", "content")}


async def test_the_command_line_archives_verifies_and_restores(
    house: House, empty: Database, mongodb_uri: str, tmp_path: Path
) -> None:
    tenant = await house.tenant(await house.person())
    office = Office(house, tenant.id, tmp_path)
    office.contents = FolderStore(tmp_path / "storage")
    await office.record(3)
    settings = {
        "TRUEPORT_DATA_DIR": str(tmp_path),
        "TRUEPORT_SECRET_KEY": "s" * 40,
        "TRUEPORT_KEK": "k" * 40,
        "TRUEPORT_ARCHIVE_URL": "file:",
        "TRUEPORT_ALLOW_MUTABLE_ARCHIVE": "1",
    }

    async def run(database: Database, *arguments: str) -> dict[str, Any]:
        server = urlsplit(mongodb_uri)
        uri = urlunsplit((server.scheme, server.netloc, f"/{database.name}", server.query, ""))
        runner = CliRunner(env={**settings, "TRUEPORT_MONGODB_URI": uri})
        ran = await asyncio.to_thread(runner.invoke, main, ["audit", *arguments, "--json"])
        assert ran.exit_code == 0, ran.output
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    archived = await run(office.database, "archive", "--tenant", tenant.slug, "--once")
    key = tmp_path / "log.key"
    key.write_text(await office.public_keys())
    verified = await run(office.database, "verify", str(tmp_path / "archive"), "--key", str(key))
    told = await run(empty, "restore", "--tenant-id", tenant.id, "--key", str(key))

    assert (archived["records"], archived["worm"]) == (6, False)
    assert (verified["ok"], verified["records"]) == (True, 6)
    assert (told["tenant"], told["records"], told["root"]) == (tenant.id, 6, verified["root"])
    assert len(await records_of(empty, tenant.id)) == 6


@pytest.mark.parametrize("name", ["audit/../../outside", "audit/v1/t=ten_1/../../../outside"])
async def test_a_name_from_a_foreign_store_leads_nowhere_outside_of_the_copy(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failed):
        await keep(FolderStore(tmp_path / "copy"), name, b"x")

    assert not (tmp_path / "outside").exists()


async def test_what_was_being_written_when_all_was_lost_is_left_out(lost: Office, found: Office) -> None:
    await lost.record(2)
    for step in range(1, 5):
        with pytest.raises(Unavailable):
            await lost.archiver(StoppingArchive(lost.store, 0, is_after=True)).advance(everything=True)
        source = Finished(Folder(await lost.copied()))

        assert len(source.left_out) == step
        report = verify(source, read_keys(await lost.public_keys()))
        assert (report.problems, report.records) == ([], 66)

    assert await restored(lost, found) == 66


def test_nothing_else_is_ever_left_out() -> None:
    archive = honest(3)
    for name in archive.named(".manifest.json")[:-1]:
        del archive.objects[name]

    assert len(archive.bounds) > 1
    assert Finished(archive).left_out == []


async def test_an_archive_that_ends_unfinished_is_not_gone_on_with(
    house: House, lost: Office, empty: Database, mongodb_uri: str
) -> None:
    await lost.record(1)
    with pytest.raises(Unavailable):
        await lost.archiver(StoppingArchive(lost.store, 0, is_after=True)).advance(everything=True)
    key = lost.folder / "log.key"
    key.write_text(await lost.public_keys())
    server = urlsplit(mongodb_uri)
    settings = {
        "TRUEPORT_DATA_DIR": str(lost.folder),
        "TRUEPORT_MONGODB_URI": urlunsplit((server.scheme, server.netloc, f"/{empty.name}", server.query, "")),
        "TRUEPORT_SECRET_KEY": "s" * 40,
        "TRUEPORT_KEK": "k" * 40,
        "TRUEPORT_ALLOW_MUTABLE_ARCHIVE": "1",
    }
    command = ["audit", "restore", "--from", str(await lost.copied()), "--key", str(key), "--json"]

    refused = await asyncio.to_thread(
        CliRunner(env={**settings, "TRUEPORT_ARCHIVE_URL": "file:"}).invoke, main, command
    )
    elsewhere = {**settings, "TRUEPORT_ARCHIVE_URL": f"file://{lost.folder}/anew"}
    done = await asyncio.to_thread(CliRunner(env=elsewhere).invoke, main, command)

    assert refused.exit_code == 1
    assert "another prefix" in refused.stderr
    assert done.exit_code == 0, done.output
    assert (json.loads(done.stdout)["records"], len(json.loads(done.stdout)["left_out"])) == (66, 1)


async def test_an_archive_that_is_not_whole_is_not_restored(lost: Office, mongodb_uri: str) -> None:
    key = lost.folder / "log.key"
    key.write_text(await lost.public_keys())
    copy = await lost.copied()
    next(copy.rglob("*.jsonl.zst")).unlink()
    settings = {"TRUEPORT_DATA_DIR": str(lost.folder), "TRUEPORT_MONGODB_URI": mongodb_uri}

    ran = await asyncio.to_thread(
        CliRunner(env=settings).invoke, main, ["audit", "restore", "--from", str(copy), "--key", str(key)]
    )

    assert ran.exit_code == 1
    assert "TAMPERED" in ran.stderr
