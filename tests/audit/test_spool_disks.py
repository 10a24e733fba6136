"""What the journal does on real disks that fill up, die or are taken away, alone and with a second one."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.disks import block_disk, break_disk, make_read_only, small_disk
from tests.support.spool import KIB, Shelf, assert_chains_are_whole, open_spool, ship_everything
from trueport.audit.homes import LOCK_NAME, delete_unfinished, open_home
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.segment import numbers_in
from trueport.audit.shipper import Shipper
from trueport.audit.spool import Spool
from trueport.kit.deadline import Deadline

TENANT = "ten_a"
OUTCOME_BYTES = 4 * KIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with block_disk(tmp_path / "disk") as mounted:
        yield mounted


class Load:
    """Calls as the recorder makes them: room first, an intent that is waited for, an outcome."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.accepted: list[str] = []
        self.durable: set[str] = set()
        self.closed: set[str] = set()
        self.refused = 0

    async def call(self, number: int) -> None:
        rid = f"int_{number}"
        try:
            reservation = self.spool.reserve(OUTCOME_BYTES)
        except SpoolUnavailable:
            self.refused += 1
            return
        try:
            with suppress(SpoolUnavailable):
                position = self.spool.append("intent", rid, TENANT, {"filler": "x" * 1_000}).position
                self.accepted.append(rid)
                await self.spool.durable(position)
                self.durable.add(rid)
        finally:
            if rid in self.accepted:
                with suppress(SpoolUnavailable):
                    self.spool.append("outcome", rid, TENANT, {"filler": "x" * 2_000})
                    self.closed.add(rid)
            self.spool.release(reservation)

    async def calls(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            await self.call(number)


async def test_a_disk_that_fills_up_under_load_refuses_calls_and_keeps_every_accepted_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_024) as root:
        # The setting allows far more than the disk has.
        spool, shelf = open_spool(root), Shelf()
        load = Load(spool)
        for start in range(0, 600, 20):
            await asyncio.gather(*(load.call(start + number) for number in range(20)))
            spool.look_after()

        assert load.refused > 0
        assert set(load.accepted) == load.durable == load.closed
        assert await Shipper(spool, root, shelf).drain(Deadline.after(10))
        assert len(shelf.records) == 2 * len(load.accepted) > 100
        assert_chains_are_whole(list(shelf.records.values()))
        spool.look_after()
        spool.release(spool.reserve(OUTCOME_BYTES))
        spool.close()


async def test_a_full_disk_is_followed_by_the_second_one(tmp_path: Path) -> None:
    second = tmp_path / "second"
    with small_disk(tmp_path / "disk", 300) as root:
        spool, shelf = open_spool(root, second_root=second), Shelf()
        load = Load(spool)
        await load.calls(0, 300)

        assert load.refused == 0
        assert spool.directory.parent == second
        assert numbers_in(root / spool.writer)
        assert await Shipper(spool, root, shelf).drain(Deadline.after(10))
        assert len(shelf.records) == 600
        assert_chains_are_whole(list(shelf.records.values()))
        spool.close(is_shipped=True)
        assert [path.name for path in second.iterdir() if path.is_dir()] == []


async def test_a_disk_that_dies_under_load_refuses_calls_and_loses_nothing_that_was_called_durable(
    disk: Path,
) -> None:
    spool, shelf = open_spool(disk), Shelf()
    shipper = Shipper(spool, disk, shelf)
    load = Load(spool)
    await load.calls(0, 50)
    assert await shipper.drain(Deadline.after(10))
    break_disk(disk)
    await load.calls(50, 20)

    assert load.refused > 0
    assert not spool.is_healthy
    assert load.durable == {f"int_{number}" for number in range(50)}
    assert {record.record["rid"] for record in shelf.records.values()} >= load.durable
    spool.close()


async def test_a_disk_that_dies_under_load_is_followed_by_the_second_one(disk: Path, tmp_path: Path) -> None:
    spool, shelf = open_spool(disk, second_root=tmp_path / "second"), Shelf()
    shipper = Shipper(spool, disk, shelf)
    load = Load(spool)
    await load.calls(0, 50)
    assert await shipper.drain(Deadline.after(10))
    break_disk(disk)
    await load.calls(50, 50)

    # The one that met the failure was not said to be safe; it is written again all the same.
    assert len(load.durable) >= 99
    assert load.closed == set(load.accepted) >= load.durable
    assert await shipper.drain(Deadline.after(10))
    assert {record.record["rid"] for record in shelf.records.values()} == set(load.accepted)
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


async def test_what_a_dead_disk_still_holds_keeps_nothing_else_from_being_shipped(disk: Path, tmp_path: Path) -> None:
    spool, shelf = open_spool(disk, second_root=tmp_path / "second"), Shelf()
    load = Load(spool)
    await load.calls(0, 50)
    break_disk(disk)
    await load.calls(50, 50)

    assert await Shipper(spool, disk, shelf).drain(Deadline.after(10))

    shipped = {record.record["rid"] for record in shelf.records.values()}
    assert shipped >= {rid for rid in load.durable if int(rid[4:]) >= 50}
    assert spool.unread
    spool.close(is_shipped=True)
    # Left for whoever can read the disk again.
    assert (tmp_path / "second" / spool.writer).is_dir()


async def test_a_disk_that_becomes_read_only_is_followed_by_the_second_one(disk: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    spool, shelf = open_spool(disk, second_root=second), Shelf()
    load = Load(spool)
    await load.calls(0, 50)
    make_read_only(disk)
    await load.calls(50, 100)

    assert load.refused == 0
    assert spool.directory.parent == second
    shipper = Shipper(spool, disk, shelf)
    assert await shipper.drain(Deadline.after(10))
    assert {record.record["rid"] for record in shelf.records.values()} == set(load.accepted)
    assert_chains_are_whole(list(shelf.records.values()))
    assert await shipper.adopt() == 0
    spool.close(is_shipped=True)


@pytest.mark.parametrize("has_second", [False, True])
async def test_deleting_the_folder_under_load_is_noticed_within_a_second(tmp_path: Path, has_second: bool) -> None:
    root, second = tmp_path / "spool", tmp_path / "second"
    spool, shelf = open_spool(root, second_root=second if has_second else None), Shelf()
    load = Load(spool)

    async def deed() -> None:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(shutil.rmtree, root)

    deleting = asyncio.create_task(deed())
    number = 0
    async with asyncio.timeout(10):
        while not (load.refused or spool.directory.parent == second):
            await load.call(number)
            number += 1
            await asyncio.sleep(0.001)
    await deleting
    await load.calls(number, 20)

    assert set(load.accepted) == load.closed
    if has_second:
        assert load.refused == 0
        # It is all in the new folder, also what was written before anybody noticed.
        spool.close()
        await ship_everything(root, shelf, second)
        calls = [one for one in shelf.records.values() if one.record["kind"] != "heartbeat"]
        assert {one.record["rid"] for one in calls} == set(load.accepted)
    else:
        assert load.refused >= 20
        assert await Shipper(spool, root, shelf).drain(Deadline.after(10))
        assert {record.record["rid"] for record in shelf.records.values()} == set(load.accepted)
        spool.close()
    assert_chains_are_whole(list(shelf.records.values()))


async def test_intents_on_one_disk_are_closed_by_outcomes_on_the_other(tmp_path: Path) -> None:
    root, second = tmp_path / "spool", tmp_path / "second"
    shelf = Shelf()
    with small_disk(root, 300):
        died = open_spool(root, second_root=second)
        died.append("intent", "int_open", TENANT, {})
        died.append("intent", "int_done", TENANT, {})
        number = 0
        while died.directory.parent == root:
            died.append("outcome", f"int_{number}", TENANT, {"filler": "x" * 2_000})
            number += 1
        died.append("outcome", "int_done", TENANT, {})
        died.close()

        spare = open_spool(second)
        with pytest.MonkeyPatch.context() as patched:
            # The first disk cannot be written to when the next process starts: what is on the second is shipped.
            patched.setattr("trueport.audit.adoption.os.open", _failing_below(root))
            shipper = Shipper(spare, root, shelf)
            assert await shipper.adopt() == 0
        assert "int_done#outcome" in shelf.records
        assert (second / died.writer).is_dir()
        assert await shipper.adopt() == 1
        assert await shipper.drain(Deadline.after(10))
        assert [path for path in root.iterdir() if path.is_dir()] == []
        spare.close(is_shipped=True)

    closed = [record.record["rid"] for record in shelf.records.values() if record.record["kind"] == "abandoned"]
    assert closed == ["int_open"]
    assert_chains_are_whole(list(shelf.records.values()))


def _failing_below(root: Path):  # type: ignore[no-untyped-def]  # os.open has many forms
    real = os.open

    def failing(path, *rest):  # type: ignore[no-untyped-def]
        if str(path).startswith(f"{root}/"):
            raise OSError(30, "Read-only file system")
        return real(path, *rest)

    return failing


WRITER = """
import asyncio, sys
from pathlib import Path
from trueport.audit.spool import Spool
from trueport.kit.clock import SystemClock

async def main():
    spool = Spool(Path(sys.argv[1]), clock=SystemClock(), segment_bytes=65536, capacity_bytes=1 << 30,
                  second_root=Path(sys.argv[2]))
    for number in range(100_000):
        rid = f"int_{sys.argv[3]}_{number}"
        spool.append("intent", rid, "ten_a", {"filler": "x" * 300})
        print(rid + "#intent", flush=True)
        if number % 7:
            spool.append("outcome", rid, "ten_a", {"filler": "x" * 900})
            print(rid + "#outcome", flush=True)

asyncio.run(main())
"""


async def test_killed_on_either_disk_a_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    second, shelf = tmp_path / "second", Shelf()
    acknowledged: set[str] = set()
    with small_disk(tmp_path / "disk", 200) as root:
        for life, lines_read in enumerate((20, 400, 150, 900)):
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(root), str(second), str(life)], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(lines_read)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().splitlines()
            process.stdout.close()
            process.wait()
            acknowledged |= {line for line in lines if line.endswith(("#intent", "#outcome"))}
            await ship_everything(root, shelf, second)
            assert [path for each in (root, second) for path in each.iterdir() if path.is_dir()] == []

    assert acknowledged - shelf.records.keys() == set()
    intents = {record.record["rid"] for record in shelf.records.values() if record.record["kind"] == "intent"}
    closings = [r.record["rid"] for r in shelf.records.values() if r.record["kind"] in ("outcome", "abandoned")]
    assert sorted(intents) == sorted(closings)
    assert_chains_are_whole(list(shelf.records.values()))


MAKER = """
import fcntl, os, signal, sys
from pathlib import Path
from trueport.audit.homes import open_home

point, after = sys.argv[2], sys.argv[3] == "after"
part = fcntl if point == "flock" else os
real = getattr(part, point)

def fatal(*given, **named):
    if after:
        real(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(part, point, fatal)
open_home(Path(sys.argv[1]), "vm.1.1")
"""


@pytest.mark.parametrize(("point", "when"), [("open", "before"), ("flock", "before"), ("flock", "after")])
async def test_a_folder_that_nobody_lived_to_finish_goes_with_the_next_process(
    point: str, when: str, tmp_path: Path
) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", MAKER, str(tmp_path), point, when], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".new-vm.1.1-0"]

    await ship_everything(tmp_path, Shelf())

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_folder_that_is_being_made_is_left_to_its_process(tmp_path: Path) -> None:
    hidden = tmp_path / ".new-vm.1.1-0"
    hidden.mkdir()
    with (hidden / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        delete_unfinished([tmp_path])

        assert (hidden / LOCK_NAME).exists()


@pytest.mark.parametrize("point", ["open", "flock"])
def test_a_folder_taken_for_a_dead_ones_while_it_is_made_is_made_again(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = fcntl if point == "flock" else os
    real = getattr(part, point)

    def late(*given: object) -> object:
        monkeypatch.undo()
        delete_unfinished([tmp_path])
        return real(*given)

    monkeypatch.setattr(part, point, late)

    home = open_home(tmp_path, "vm.1.1")

    assert [path.name for path in tmp_path.iterdir()] == ["vm.1.1"]
    assert (home.directory / LOCK_NAME).exists()
    os.close(home.lock)


def fill_to(spool: Spool, share: float) -> None:
    while spool.filled_share < share:
        spool.append("outcome", f"int_{spool.position}", TENANT, {"filler": "x" * 500})


async def test_calls_that_can_wait_are_refused_first_and_told_when_to_come_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, capacity_bytes=512 * KIB)
    fill_to(spool, 0.86)

    with pytest.raises(SpoolUnavailable) as refused:
        spool.reserve(1, can_wait=True)
    spool.release(spool.reserve(1))
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 1
    spool.close()


async def test_below_the_mark_calls_that_can_wait_are_taken(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, capacity_bytes=512 * KIB)
    fill_to(spool, 0.80)

    spool.release(spool.reserve(1, can_wait=True))
    spool.close()


async def test_each_mark_is_told_once_when_it_is_passed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = open_spool(tmp_path, capacity_bytes=512 * KIB)
    for share in (0.5, 0.72, 0.87, 0.96):
        fill_to(spool, share)
        for _ in range(3):
            with suppress(SpoolUnavailable):
                spool.release(spool.reserve(1))
    said = " ".join(str(record.msg) for record in caplog.records)
    spool.close()

    assert [said.count(event) for event in ("spool_filling_up", "spool_sheds_load", "spool_full")] == [1, 1, 1]
