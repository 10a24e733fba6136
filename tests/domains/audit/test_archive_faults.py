"""The store stops, refuses, loses and changes what it is given or gives: nothing is lost, and nothing goes too early.

A segment is five objects; for each: a look whether it is there, a writing, a reading back, a look at its lock.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.analytics import records_of
from tests.support.archiving import Office, PassingOn
from tests.support.s3_proxy import Fault, Way, way_to
from tests.support.s3_server import S3Server, s3_server
from tests.support.web import House
from trueport.domains.audit.archiving import ArchiveTampered
from trueport.domains.audit.models import ArchivedSegment
from trueport.kit.clock import SystemClock
from trueport.kit.ids import new_id
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, Immutability, ObjectHead
from trueport.storage.documents import FolderStore
from trueport.storage.s3_archives import S3Access, S3Archive

__all__ = ["s3_server"]

OBJECTS = 5
PATIENCE_S = 0.3


@pytest.fixture
async def office(house: House, tmp_path: Path) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, tenant.id, tmp_path)


def archive_at(server: S3Server, endpoint: str, *, patience_s: float = 60.0) -> S3Archive:
    bucket = server.bucket(new_id("b").replace("_", "-").lower())
    access = S3Access.of({**server.environ, "AWS_ENDPOINT_URL": endpoint})
    return S3Archive(access, bucket, "trail", SystemClock(), patience_s=patience_s)


class FreezingAt(PassingOn):
    """An archive whose server is frozen during the n-th call of one kind."""

    def __init__(self, store: ArchiveStore, server: S3Server, kind: str, number: int) -> None:
        super().__init__(store)
        self._server = server
        self._kind = kind
        self._left = number

    async def _during(self, kind: str, call: Callable[[], Awaitable[object]]) -> object:
        around: AbstractContextManager[None] = nullcontext()
        if kind == self._kind:
            self._left -= 1
            if self._left < 0:
                around = self._server.frozen()
        with around:
            return await call()

    async def immutability(self) -> Immutability:
        found = await self._during("immutability", self._store.immutability)
        assert isinstance(found, Immutability)
        return found

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        await self._during("put", lambda: self._store.put_if_absent(name, data, locked_until))

    async def get(self, name: str) -> bytes:
        found = await self._during("get", lambda: self._store.get(name))
        assert isinstance(found, bytes)
        return found

    async def head(self, name: str) -> ObjectHead:
        found = await self._during("head", lambda: self._store.head(name))
        assert isinstance(found, ObjectHead)
        return found


async def unfinished(office: Office) -> int:
    found = office.database[+ArchivedSegment].find({"tenant_id": office.scope.tenant_id, "archived_at": None})
    return len(await found.to_list())


@pytest.mark.slow
async def test_a_store_that_freezes_at_any_step_loses_nothing_and_nothing_is_pruned(
    office: Office, s3_server: S3Server
) -> None:
    store = office.store = archive_at(s3_server, s3_server.endpoint, patience_s=PATIENCE_S)
    steps = [("immutability", 0)]
    steps += [("put", number) for number in range(OBJECTS)]
    # Of each object the first reading finds nothing, the second one is what reads back.
    steps += [("get", 2 * number + 1) for number in range(OBJECTS)]
    steps += [("head", number) for number in range(OBJECTS)]
    for kind, number in steps:
        await office.record(1)
        with pytest.raises(ArchiveUnavailable):
            await office.archiver(FreezingAt(store, s3_server, kind, number)).advance(everything=True)
        assert await unfinished(office) == 1
        assert await office.archiver().advance(everything=True) == 2

    report = await office.check()
    assert (report.problems, report.records, report.manifests) == ([], 2 * len(steps), len(steps))


@pytest.mark.slow
async def test_a_process_that_is_killed_at_any_writing_is_followed_by_one_that_goes_on(
    office: Office, s3_server: S3Server, way: Way, mongodb_uri: str
) -> None:
    archive = office.store = archive_at(s3_server, s3_server.endpoint)
    office.contents = FolderStore(office.folder / "storage")
    environ = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ},
        **s3_server.environ,
        "AWS_ENDPOINT_URL": way.endpoint,
        "TRUEPORT_DATA_DIR": str(office.folder),
        "TRUEPORT_SECRET_KEY": "s" * 40,
        "TRUEPORT_KEK": "k" * 40,
        "TRUEPORT_MONGODB_URI": urlsplit(mongodb_uri)._replace(path=f"/{office.database.name}").geturl(),
        "TRUEPORT_ARCHIVE_URL": f"s3://{archive._bucket}/trail",
    }
    command = [sys.executable, "-m", "trueport", "audit", "archive", "--once"]
    steps: list[tuple[Fault, int]] = [
        (fault, number) for number in range(OBJECTS) for fault in ("waits_before", "waits_after")
    ]
    for fault, number in steps:
        await office.record(1)
        way.breaks(fault, "PUT", number)
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert await asyncio.to_thread(way.reached.wait, 60)
        finally:
            process.kill()
            process.wait(20)
            way.goes_on.set()
        assert await unfinished(office) == 1
        # The dead process has the segment for five minutes more.
        office.house.clock.advance(3_600)
        assert await office.archiver().advance(everything=True) == 2

    report = await office.check()
    assert (report.problems, report.records, report.manifests) == ([], 2 * len(steps), len(steps))
    versions = s3_server.client.list_object_versions(Bucket=archive._bucket)["Versions"]
    assert len(versions) == OBJECTS * len(steps)


async def test_no_record_leaves_the_database_while_its_segment_was_not_read_back(
    office: Office, s3_server: S3Server
) -> None:
    store = office.store = archive_at(s3_server, s3_server.endpoint, patience_s=PATIENCE_S)
    await office.record(3, at=office.house.clock.now().replace(microsecond=0))
    last = 2 * OBJECTS - 1
    with pytest.raises(ArchiveUnavailable):
        await office.archiver(FreezingAt(store, s3_server, "get", last)).advance(everything=True)
    office.house.clock.advance(5_000 * 86_400)

    assert await office.pruner().run() == 0

    assert len(await records_of(office.database, office.scope.tenant_id)) == 6
    assert len(await office.store.list("audit")) == OBJECTS


@pytest.fixture
def way(s3_server: S3Server) -> Iterator[Way]:
    with way_to(s3_server.endpoint) as opened:
        yield opened


async def test_what_the_store_refuses_or_forgets_to_confirm_is_done_again(
    office: Office, s3_server: S3Server, way: Way
) -> None:
    office.store = archive_at(s3_server, way.endpoint)
    faults: list[tuple[Fault, str, int]] = [
        ("503", "PUT", 0),
        ("403", "PUT", 1),
        ("bad_digest", "PUT", 2),
        ("lost_answer", "PUT", 2),
        ("503", "PUT", 4),
        ("lost_answer", "PUT", 4),
        # The first is about Object Lock; then come two of each object.
        ("403", "GET", 0),
        ("503", "GET", 2),
        ("cut_answer", "GET", 4),
        ("lost_answer", "GET", 10),
        ("503", "HEAD", 0),
        ("403", "HEAD", 4),
    ]
    for fault, method, spared in faults:
        await office.record(1)
        way.breaks(fault, method, spared)
        with pytest.raises(ArchiveUnavailable):
            await office.archiver().advance(everything=True)
        assert way.fault is None
        assert await unfinished(office) == 1
        assert await office.archiver().advance(everything=True) == 2

    report = await office.check()
    assert (report.problems, report.records, report.manifests) == ([], 2 * len(faults), len(faults))
    versions = s3_server.client.list_object_versions(Bucket=office.store._bucket)["Versions"]
    assert len(versions) == OBJECTS * len(faults)


async def test_what_reads_back_changed_is_an_alarm_and_counts_for_nothing(
    office: Office, s3_server: S3Server, way: Way
) -> None:
    for number in range(OBJECTS):
        office.store = archive_at(s3_server, way.endpoint)
        records = await office.record(1, at=office.house.clock.now().replace(microsecond=0))
        way.breaks("changed_answer", "GET", 2 * number + 2)

        with pytest.raises(ArchiveTampered):
            await office.archiver().advance(everything=True)

        assert await unfinished(office) == 1
        assert len(await office.store.list("audit")) == number + 1
        office.house.clock.advance(500 * 86_400)
        assert await office.pruner().run() == 0
        kept = {str(each["_id"]) for each in await records_of(office.database, office.scope.tenant_id)}
        assert {each.id for each in records} <= kept


async def test_an_object_of_other_bytes_that_was_there_first_is_an_alarm_and_the_writing_stops(
    office: Office, s3_server: S3Server
) -> None:
    """What the store answers 412 for, between our look and our writing."""

    class Overtaken(S3Archive):
        async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
            if name.endswith(".manifest.json"):
                await super().put_if_absent(name, b"{}", locked_until)
            await super().put_if_absent(name, data, locked_until)

    honest = archive_at(s3_server, s3_server.endpoint)
    office.store = Overtaken(honest._access, honest._bucket, "trail", SystemClock())
    await office.record(1)

    for _ in range(2):
        with pytest.raises(ArchiveTampered):
            await office.archiver().advance(everything=True)

    assert len(await office.store.list("audit")) == 3
    assert await unfinished(office) == 1
