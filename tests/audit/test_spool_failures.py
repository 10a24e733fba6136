"""What the journal does when the disk, a thread or another process gets in its way."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.spool import KIB, Shelf, assert_chains_are_whole, open_spool, ship_everything, sync_by
from trueport.audit import adoption
from trueport.audit.canonical import LARGEST_INTEGER, canonical
from trueport.audit.records import Kind
from trueport.audit.segment import HEADER_BYTES, frames, numbers_in, path_of
from trueport.audit.shipper import Shipper
from trueport.audit.spool import Appended, Spool, SpoolUnavailable
from trueport.kit.deadline import Deadline

TENANT = "ten_a"


class FailingDisk:
    """Raises EIO from exactly one call of `pwrite` or of a sync, and remembers whose syncs succeeded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, operation: str, at: int) -> None:
        self.synced: set[int] = set()
        self.calls = 0
        write, sync = os.pwrite, os.fdatasync

        def fails() -> None:
            self.calls += 1
            if self.calls == at:
                raise OSError(5, "Input/output error")

        def writing(handle: int, data: bytes, offset: int) -> int:
            fails()
            return write(handle, data, offset)

        def syncing(handle: int) -> None:
            if operation == "sync":
                fails()
            sync(handle)
            self.synced.add(os.fstat(handle).st_ino)

        sync_by(monkeypatch, syncing)
        if operation == "pwrite":
            monkeypatch.setattr("trueport.audit.spool.os.pwrite", writing)


def rids_in(directory: Path, inodes: set[int] | None = None) -> set[str]:
    """The rids in a journal's segments, of all of them or of those files only."""
    paths = [path_of(directory, number) for number in numbers_in(directory)]
    chosen = [path for path in paths if inodes is None or path.stat().st_ino in inodes]
    found = [frame.record for path in chosen for frame in frames(path.read_bytes(), HEADER_BYTES)]
    return {rid for rid in (f"int_{n}" for n in range(50)) if any(f'"{rid}"'.encode() in record for record in found)}


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
@pytest.mark.parametrize("operation", ["pwrite", "sync"])
@pytest.mark.parametrize("at", range(1, 11))
async def test_a_failure_at_any_call_loses_nothing_that_was_called_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, at: int, *, in_kernel: bool
) -> None:
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)
    disk = FailingDisk(monkeypatch, operation, at)
    durable: set[str] = set()
    appended: set[str] = set()

    for number in range(10):
        with suppress(SpoolUnavailable):
            position = spool.append("outcome", f"int_{number}", TENANT, {}).position
            appended.add(f"int_{number}")
            await asyncio.wait_for(spool.durable(position), 5)
            # Whoever hears that this record is safe may rely on every earlier one too.
            durable = set(appended)
            assert durable <= rids_in(spool.directory, disk.synced)

    assert disk.calls >= at
    assert len(durable) >= 9
    shelf = Shelf()
    assert await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))
    assert {one.record["rid"] for one in shelf.records.values()} == appended
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
async def test_a_file_whose_sync_failed_is_never_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_kernel: bool
) -> None:
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)
    first_file = path_of(spool.directory, 1).stat().st_ino
    entered, appended = threading.Event(), threading.Event()
    syncs: list[int] = []
    real = os.fdatasync

    def slow_then_failing(handle: int) -> None:
        syncs.append(os.fstat(handle).st_ino)
        if len(syncs) == 1:
            entered.set()
            appended.wait(5)
            raise OSError(5, "Input/output error")
        real(handle)

    sync_by(monkeypatch, slow_then_failing)
    first = spool.durable(spool.append("outcome", "int_1", TENANT, {}).position)
    await asyncio.to_thread(entered.wait, 5)
    # This one gets into the failing file too, while nobody knows yet that it fails.
    second = spool.durable(spool.append("outcome", "int_2", TENANT, {}).position)
    appended.set()

    with pytest.raises(SpoolUnavailable):
        await asyncio.wait_for(first, 5)
    with pytest.raises(SpoolUnavailable):
        await asyncio.wait_for(second, 5)
    await asyncio.wait_for(spool.durable(spool.append("outcome", "int_3", TENANT, {}).position), 5)

    assert syncs.count(first_file) == 1
    assert rids_in(spool.directory, set(syncs) - {first_file}) == {"int_1", "int_2", "int_3"}
    spool.close()


async def test_an_open_intent_survives_the_failure_of_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    FailingDisk(monkeypatch, "sync", 1)
    with pytest.raises(SpoolUnavailable):
        await spool.durable(spool.append("intent", "int_1", TENANT, {}).position)

    await spool.durable(spool.append("outcome", "int_2", TENANT, {}).position)

    assert spool.open_intents["int_1"] == numbers_in(spool.directory)[-1]
    spool.close()


async def test_each_attempt_is_stored_under_a_name_of_its_own(tmp_path: Path) -> None:
    spool, shelf = open_spool(tmp_path), Shelf()
    spool.append("intent", "int_1", TENANT, {})
    names = [spool.append("attempt", "int_1", TENANT, {"n": n}).record_id for n in range(3)]
    spool.append("outcome", "int_1", TENANT, {})

    await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))

    assert names == ["int_1#attempt#0", "int_1#attempt#1", "int_1#attempt#2"]
    assert set(names) < set(shelf.records)
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


@pytest.mark.parametrize("fields", [{}, {"n": "0"}, {"n": True}])
async def test_an_attempt_without_a_number_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(ValueError, match="number"):
        spool.append("attempt", "int_1", TENANT, fields)
    spool.close()


async def test_a_record_cannot_claim_to_be_written_by_somebody_else(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(ValueError, match="own fields"):
        spool.append("outcome", "int_1", TENANT, {"writer": "other"})
    spool.close()


async def test_an_adoption_that_fails_in_a_living_process_closes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = open_spool(tmp_path)
    for number in range(5):
        died.append("intent", f"int_{number}", TENANT, {})
    died.close()
    shelf = Shelf()
    adopter = open_spool(tmp_path)
    shipper = Shipper(adopter, tmp_path, shelf)
    monkeypatch.setattr("pathlib.Path.rename", _fails)
    with pytest.raises(OSError, match="busy"):
        await shipper.adopt()
    monkeypatch.undo()
    # It goes on working: its segments fill, are shipped and deleted.
    for number in range(300):
        adopter.append("outcome", f"int_more_{number}", TENANT, {"filler": "x" * 600})
    await adopter.durable(adopter.position)
    assert await shipper.drain(Deadline.after(10))

    second = open_spool(tmp_path)
    finisher = Shipper(second, tmp_path, shelf)
    assert await finisher.adopt() == 1
    second.append("outcome", "int_after", TENANT, {})
    assert await finisher.drain(Deadline.after(10))

    closed = [record for record in shelf.records.values() if record.record["kind"] == "abandoned"]
    assert len(closed) == 5
    second.close(is_shipped=True)
    assert_chains_are_whole(list(shelf.records.values()))
    adopter.close(is_shipped=True)


async def test_what_several_adopters_began_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = open_spool(tmp_path)
    for number in range(5):
        died.append("intent", f"int_{number}", TENANT, {})
    died.close()
    shelf = Shelf()
    adopters = [open_spool(tmp_path) for _ in range(3)]
    shippers = [Shipper(adopter, tmp_path, shelf) for adopter in adopters]
    real = Spool.append

    def twice_only(self: Spool, kind: Kind, rid: str, tenant: str, fields: dict[str, object]) -> Appended:
        if rid == "int_2":
            raise SpoolUnavailable
        return real(self, kind, rid, tenant, fields)

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "append", twice_only)
        with pytest.raises(SpoolUnavailable):
            await shippers[0].adopt()
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.rename", _fails)
        with pytest.raises(OSError, match="busy"):
            await shippers[1].adopt()

    assert await shippers[2].adopt() == 1

    for adopter, shipper in zip(adopters, shippers, strict=True):
        adopter.append("outcome", f"int_after_{adopter.writer}", TENANT, {})
        assert await shipper.drain(Deadline.after(10))
        adopter.close()
    kinds = [one.record["kind"] for one in shelf.records.values()]
    assert kinds.count("abandoned") == 5
    assert_chains_are_whole(list(shelf.records.values()))


def _fails(*_: object) -> None:
    raise OSError(16, "busy")


async def test_a_removal_that_stops_half_way_leaves_nothing_to_adopt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, shelf = open_spool(tmp_path), Shelf()
    spool.append("intent", "int_1", TENANT, {})
    for number in range(200):
        spool.append("outcome", f"int_other_{number}", TENANT, {"filler": "x" * 600})
    spool.append("outcome", "int_1", TENANT, {})
    await spool.durable(spool.position)
    directory = spool.directory

    def half(folder: Path, **_: object) -> None:
        (folder / "lock").unlink()
        path_of(folder, numbers_in(folder)[-1]).unlink()

    monkeypatch.setattr("trueport.audit.spool.shutil.rmtree", half)
    spool.close(is_shipped=True)
    monkeypatch.undo()
    assert not directory.exists()

    await ship_everything(tmp_path, shelf)

    assert [one.record["kind"] for one in shelf.records.values()] == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_new_journal_is_never_seen_without_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[list[str]] = []
    real = fcntl.flock

    def looking(handle: int, how: int) -> None:
        offered.append(adoption._dead_first_marked([tmp_path], "somebody"))
        real(handle, how)

    monkeypatch.setattr("trueport.audit.homes.fcntl.flock", looking)
    spool = open_spool(tmp_path)

    assert offered == [[]]
    assert adoption._dead_first_marked([tmp_path], "somebody") == [spool.writer]
    spool.close()


def test_rolling_while_the_next_segment_is_being_prepared_breaks_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in range(2_000):
        if number % 20 == 0:
            spool.look_after()
        spool.append("outcome", f"int_{number}", TENANT, {"filler": "x" * 600})
    spool.close()

    assert spool.is_healthy
    found = [
        frame.record
        for number in numbers_in(spool.directory)
        for frame in frames(path_of(spool.directory, number).read_bytes(), HEADER_BYTES)
    ]
    assert len(found) == 2_000


async def test_calls_are_refused_while_the_next_segment_cannot_be_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    while spool.used_bytes < 40 << 10:
        spool.append("outcome", f"int_{spool.position}", TENANT, {"filler": "x" * 600})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("trueport.audit.segment.os.posix_fallocate", full)
        spool.look_after()
        await until(lambda: refuses(spool))
    spool.look_after()
    await until(lambda: not refuses(spool))
    spool.close()


def refuses(spool: Spool) -> bool:
    try:
        spool.release(spool.reserve(1))
    except SpoolUnavailable:
        return True
    return False


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - the journal has no event for what its thread found
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
def test_a_sync_outlives_the_loop_that_asked(tmp_path: Path, *, in_kernel: bool) -> None:
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)

    async def ask() -> None:
        await spool.durable(spool.append("outcome", "int_1", TENANT, {}).position)
        # Asked and left: the loop is gone before the answer.
        spool.durable(spool.append("outcome", "int_2", TENANT, {}).position)

    asyncio.run(ask())
    spool.append("outcome", "int_3", TENANT, {})
    spool.close()

    assert rids_in(spool.directory) == {"int_1", "int_2", "int_3"}
    assert not [thread for thread in threading.enumerate() if thread.name == "spool-sync" and thread.is_alive()]


async def test_a_disk_with_no_room_tears_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, shelf = open_spool(tmp_path), Shelf()
    kept: set[str] = set()

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    write = os.pwrite

    def full_beyond_the_segment(handle: int, data: bytes, offset: int) -> int:
        return write(handle, data, offset) if offset + len(data) <= 64 * KIB else full()

    monkeypatch.setattr("trueport.audit.segment.os.posix_fallocate", full)
    monkeypatch.setattr("trueport.audit.spool.os.pwrite", full_beyond_the_segment)
    for number in range(200):
        with suppress(SpoolUnavailable):
            spool.append("outcome", f"int_{number}", f"ten_{number % 2}", {"filler": "x" * 600})
            kept.add(f"int_{number}")
    monkeypatch.undo()
    spool.append("outcome", "int_last", "ten_0", {})
    assert await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))

    assert 0 < len(kept) < 200
    assert {one.record["rid"] for one in shelf.records.values()} == kept | {"int_last"}
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


async def test_the_outcome_of_a_call_under_way_is_kept_though_no_further_segment_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, shelf = open_spool(tmp_path), Shelf()
    spool.append("intent", "int_1", TENANT, {})

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trueport.audit.segment.os.posix_fallocate", full)
    spool.append("outcome", "int_1", TENANT, {"filler": "x" * 64 * KIB})

    assert refuses(spool)
    monkeypatch.undo()
    spool.look_after()
    assert not refuses(spool)
    assert await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))
    assert set(shelf.records) == {"int_1#intent", "int_1#outcome"}
    spool.close(is_shipped=True)


async def test_two_adopters_at_once_ship_and_close_everything_once(tmp_path: Path) -> None:
    for life in range(4):
        died = open_spool(tmp_path)
        for number in range(20):
            died.append("intent", f"int_{life}_{number}", TENANT, {})
        died.close()
    shelf = Shelf()

    await asyncio.gather(*(ship_everything(tmp_path, shelf) for _ in range(2)))
    await ship_everything(tmp_path, shelf)

    kinds = [one.record["kind"] for one in shelf.records.values()]
    assert (kinds.count("intent"), kinds.count("abandoned")) == (80, 80)
    assert_chains_are_whole(list(shelf.records.values()))


@pytest.mark.parametrize("value", [0.5, b"x", {1}, Path("x"), [1.5], {"a": [{"b": 0.5}]}])
def test_a_record_holds_no_other_types(value: object) -> None:
    with pytest.raises(TypeError):
        canonical({"a": value})


@pytest.mark.parametrize(
    "record", [{"a": LARGEST_INTEGER + 1}, {"a": [-LARGEST_INTEGER - 1]}, {"é": 1}, {"a": "\ud800"}]
)
def test_a_record_holds_nothing_that_readers_would_disagree_on(record: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        canonical(record)


def test_the_largest_integers_have_a_canonical_form() -> None:
    assert canonical({"b": -LARGEST_INTEGER, "a": LARGEST_INTEGER}) == b'{"a":9007199254740991,"b":-9007199254740991}'
