"""The local journal: what is written is there after any crash, and nothing else is."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.spool import KIB, Shelf, assert_chains_are_whole, open_spool, ship_everything, sync_by
from trueport.audit.canonical import canonical, parse
from trueport.audit.segment import HEADER_BYTES, create, frame_bytes, frames, numbers_in, path_of
from trueport.audit.shipper import Shipper
from trueport.audit.spool import SpoolUnavailable
from trueport.audit.syncing import KernelSync
from trueport.kit.deadline import Deadline

TENANT = "ten_a"


async def test_a_record_is_shipped_as_it_was_written(tmp_path: Path) -> None:
    shelf = Shelf()
    spool = open_spool(tmp_path)
    appended = spool.append("outcome", "int_1", TENANT, {"status": 200}, [b"sealed"])
    await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))
    spool.close()

    record = shelf.records["int_1#outcome"]
    assert (record.record["status"], record.blobs, record.leaf) == (200, (b"sealed",), appended.leaf)


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
async def test_what_is_said_to_be_durable_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_kernel: bool
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def noting(handle: int) -> None:
        synced.append(handle)
        real(handle)

    sync_by(monkeypatch, noting)
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)

    await spool.durable(spool.append("intent", "int_1", TENANT, {}).position)

    assert synced
    spool.close()


async def test_what_nobody_waits_for_is_synced_after_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, gate, done = asyncio.get_running_loop(), threading.Event(), asyncio.Event()
    syncs = 0

    def noting(_: int) -> None:
        nonlocal syncs
        gate.wait(10)
        syncs += 1
        if syncs == 2:
            loop.call_soon_threadsafe(done.set)

    sync_by(monkeypatch, noting)
    spool = open_spool(tmp_path)
    await spool.durable(0)
    spool.append("intent", "int_1", TENANT, {})
    spool.sync_ahead()
    await asyncio.sleep(0)
    spool.append("outcome", "int_1", TENANT, {})
    # Until the time has passed in which a record waits for others: that it comes to nothing must not be the end of it.
    await asyncio.sleep(0.05)
    gate.set()

    async with asyncio.timeout(10):
        await done.wait()

    spool.close()


async def test_what_the_kernel_does_not_take_is_synced_by_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr(KernelSync, "begin", refusing)
    spool = open_spool(tmp_path)

    async with asyncio.timeout(10):
        await spool.durable(spool.append("intent", "int_1", TENANT, {}).position)
        await spool.durable(spool.append("outcome", "int_1", TENANT, {}).position)

    spool.close()


async def test_a_sync_that_nobody_waits_for_leaves_the_event_loop_asleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    real = os.fdatasync

    def noting(handle: int) -> None:
        real(handle)
        synced.set()

    sync_by(monkeypatch, noting)
    spool = open_spool(tmp_path, syncs_in_kernel=False)
    woken: list[object] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", woken.append)

    position = spool.append("intent", "int_1", TENANT, {}).position
    spool.sync_ahead()
    await asyncio.sleep(0)
    assert synced.wait(10)
    spool.close()

    assert not woken
    assert spool.durable(position).done()


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
async def test_nobody_waits_in_vain_whenever_the_sync_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_kernel: bool
) -> None:
    if not in_kernel:
        # As fast as it gets, so that syncs end while the loop settles, looks, or begins to wait.
        monkeypatch.setattr("trueport.audit.spool.os.fdatasync", lambda _: None)
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)

    async with asyncio.timeout(30):
        for number in range(1_000):
            appended = [spool.append("outcome", f"int_{number}_{each}", TENANT, {}) for each in range(3)]
            if number % 2:
                spool.sync_ahead()
            await asyncio.gather(*[spool.durable(each.position) for each in reversed(appended)])
    spool.close()


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "thread"])
async def test_a_failed_sync_is_never_called_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_kernel: bool
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    sync_by(monkeypatch, broken)
    spool = open_spool(tmp_path, syncs_in_kernel=in_kernel)

    with pytest.raises(SpoolUnavailable):
        await spool.durable(spool.append("intent", "int_1", TENANT, {}).position)
    spool.close()


async def test_segments_roll_and_go_once_they_are_shipped(tmp_path: Path) -> None:
    shelf = Shelf()
    spool = open_spool(tmp_path)
    shipper = Shipper(spool, tmp_path, shelf)
    for number in range(300):
        await spool.durable(spool.append("outcome", f"int_{number}", TENANT, {"filler": "x" * 600}).position)

    assert len(numbers_in(spool.directory)) > 2
    assert await shipper.drain(Deadline.after(10))
    assert len(numbers_in(spool.directory)) <= 2
    assert len(shelf.records) == 300
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


async def test_a_segment_with_an_open_intent_stays(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append("intent", "int_open", TENANT, {})
    first = numbers_in(spool.directory)[0]
    for number in range(200):
        await spool.durable(spool.append("outcome", f"int_{number}", TENANT, {"filler": "x" * 600}).position)
    shipper = Shipper(spool, tmp_path, Shelf())
    await shipper.drain(Deadline.after(10))

    assert first in numbers_in(spool.directory)
    spool.append("outcome", "int_open", TENANT, {})
    await shipper.drain(Deadline.after(10))
    assert first not in numbers_in(spool.directory)
    spool.close()


async def test_a_record_larger_than_a_segment_gets_its_own(tmp_path: Path) -> None:
    shelf = Shelf()
    spool = open_spool(tmp_path)
    large = os.urandom(300 * KIB)
    spool.append("intent", "int_1", TENANT, {}, [large])
    spool.append("outcome", "int_1", TENANT, {})

    await Shipper(spool, tmp_path, shelf).drain(Deadline.after(10))

    assert shelf.records["int_1#intent"].blobs == (large,)
    assert "int_1#outcome" in shelf.records
    spool.close()


async def test_a_sink_that_is_away_loses_and_doubles_nothing(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away_for = 3
    spool = open_spool(tmp_path)
    for number in range(50):
        spool.append("outcome", f"int_{number}", TENANT, {})

    assert await Shipper(spool, tmp_path, shelf).drain(Deadline.after(30))

    assert (len(shelf.records), shelf.repeated) == (50, 0)
    spool.close()


async def test_a_full_journal_refuses_new_calls_and_still_takes_owed_outcomes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, capacity_bytes=256 * KIB)
    owed = []
    for number in range(1_000):
        try:
            owed.append((number, spool.reserve(4 * KIB)))
        except SpoolUnavailable:
            break
        spool.append("intent", f"int_{number}", TENANT, {"filler": "x" * 2_000})
    assert 0 < len(owed) < 1_000
    for number, reservation in owed:
        spool.append("outcome", f"int_{number}", TENANT, {"filler": "x" * 3_000})
        spool.release(reservation)

    assert spool.reserved_bytes == 0
    assert spool.open_intents == {}
    spool.close()


async def test_a_short_write_is_followed_by_nothing_in_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf()
    spool = open_spool(tmp_path)
    spool.append("outcome", "int_before", TENANT, {})
    real = os.pwrite
    left = [1]

    def short_once(handle: int, data: bytes, at: int) -> int:
        if left and len(data) < 4 * KIB:
            left.pop()
            return real(handle, data[: len(data) // 2], at)
        return real(handle, data, at)

    monkeypatch.setattr("trueport.audit.spool.os.pwrite", short_once)
    spool.append("outcome", "int_torn", TENANT, {})
    spool.append("outcome", "int_after", TENANT, {})
    await Shipper(spool, tmp_path, shelf).drain(Deadline.after(5))

    assert set(shelf.records) == {"int_before#outcome", "int_torn#outcome", "int_after#outcome"}
    assert_chains_are_whole(list(shelf.records.values()))
    spool.close()


async def test_no_call_starts_while_no_segment_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    spool = open_spool(tmp_path)
    monkeypatch.setattr("trueport.audit.spool.create", full)

    with pytest.raises(SpoolUnavailable):
        spool.append("intent", "int_1", TENANT, {"filler": "x" * (100 * KIB)})
    with pytest.raises(SpoolUnavailable):
        spool.reserve(1)
    spool.close()


async def test_a_journal_whose_folder_was_deleted_takes_no_more_calls(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append("outcome", "int_1", TENANT, {})
    shutil.rmtree(spool.directory)

    for _ in range(2):
        with pytest.raises(SpoolUnavailable):
            spool.look_after()
    with pytest.raises(SpoolUnavailable):
        spool.reserve(1)
    assert not spool.is_healthy
    spool.close()


async def test_open_intents_of_a_dead_process_are_closed_as_abandoned(tmp_path: Path) -> None:
    died = open_spool(tmp_path)
    died.append("intent", "int_open", TENANT, {"model": "m", "content": {"kid": "k"}})
    died.append("intent", "int_done", TENANT, {"model": "m"})
    died.append("outcome", "int_done", TENANT, {})
    died.close()
    shelf = Shelf()

    await ship_everything(tmp_path, shelf)

    abandoned = shelf.records["int_open#abandoned"].record
    assert (abandoned["model"], abandoned["end"], abandoned["dead_writer"]) == ("m", "abandoned", died.writer)
    assert "content" not in abandoned
    assert "int_done#abandoned" not in shelf.records
    assert_chains_are_whole(list(shelf.records.values()))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


async def test_an_adopter_that_dies_half_way_closes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = open_spool(tmp_path)
    for number in range(5):
        died.append("intent", f"int_{number}", TENANT, {})
    died.close()
    shelf = Shelf()
    adopter = open_spool(tmp_path)
    monkeypatch.setattr("trueport.audit.adoption.shutil.rmtree", _dies)
    with pytest.raises(RuntimeError):
        await Shipper(adopter, tmp_path, shelf).adopt()
    monkeypatch.undo()
    adopter.close()

    await ship_everything(tmp_path, shelf)

    closed = [record for record in shelf.records.values() if record.record["kind"] == "abandoned"]
    assert len(closed) == 5
    assert_chains_are_whole(list(shelf.records.values()))


def _dies(*_: object) -> None:
    raise RuntimeError("the adopter dies here")


async def test_a_living_writer_is_not_adopted(tmp_path: Path) -> None:
    living = open_spool(tmp_path)
    living.append("intent", "int_1", TENANT, {})
    shelf = Shelf()

    await ship_everything(tmp_path, shelf)

    assert shelf.records == {}
    assert living.directory.exists()
    living.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from trueport.audit.spool import Spool
from trueport.kit.clock import SystemClock

async def main():
    spool = Spool(Path(sys.argv[1]), clock=SystemClock(), segment_bytes=65536, capacity_bytes=1 << 30)
    number = 0
    while True:
        rid = f"int_{sys.argv[2]}_{number}"
        spool.append("intent", rid, f"ten_{number % 3}", {"filler": "x" * (number % 700)})
        print(rid + "#intent", flush=True)
        if number % 7:
            spool.append("outcome", rid, f"ten_{number % 3}", {}, [b"y" * (number % 900)])
            print(rid + "#outcome", flush=True)
        number += 1
        if number % 50 == 0:
            await spool.durable(spool.position)

asyncio.run(main())
"""


async def test_no_acknowledged_record_is_lost_or_doubled_by_killing_the_writer(tmp_path: Path) -> None:
    draw = random.Random(20261123)
    shelf = Shelf()
    acknowledged: set[str] = set()
    root = tmp_path / "spool"
    root.mkdir()
    for round_number in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root), str(round_number)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(draw.randint(1, 400))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        acknowledged |= {line for line in lines if line.endswith(("#intent", "#outcome"))}
        await ship_everything(root, shelf)

    assert acknowledged - shelf.records.keys() == set()
    intents = {record.record["rid"] for record in shelf.records.values() if record.record["kind"] == "intent"}
    closings = [r.record["rid"] for r in shelf.records.values() if r.record["kind"] in ("outcome", "abandoned")]
    assert intents == set(closings)
    assert len(closings) == len(set(closings))
    assert_chains_are_whole(list(shelf.records.values()))


records = st.lists(
    st.tuples(st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text(), max_size=4).map(
        lambda fields: canonical({name: value for name, value in fields.items() if not isinstance(value, int)
                                  or abs(value) < 2**53})), st.lists(st.binary(max_size=50), max_size=2)),
    max_size=6,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records, st.data())
def test_any_beginning_of_a_segment_reads_as_a_beginning_of_its_records(
    written: list[tuple[bytes, list[bytes]]], data: Any
) -> None:
    whole = b"".join(frame_bytes(record, blobs) for record, blobs in written)
    cut = data.draw(st.integers(0, len(whole)))

    found = [(frame.record, list(frame.blobs)) for frame in frames(whole[:cut] + bytes(64), 0)]

    assert found == written[: len(found)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records.filter(bool), st.data())
def test_a_changed_byte_never_reads_as_another_record(written: list[tuple[bytes, list[bytes]]], data: Any) -> None:
    whole = bytearray(b"".join(frame_bytes(record, blobs) for record, blobs in written))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))

    found = [(frame.record, list(frame.blobs)) for frame in frames(bytes(whole), 0)]

    assert found == written[: len(found)]
    assert len(found) < len(written)


def test_a_segment_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trueport.audit.segment.os.posix_fallocate", full)

    with pytest.raises(OSError, match="No space"):
        create(path_of(tmp_path, 1), 4_096, bytes(HEADER_BYTES))
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(
        st.text("abcxyz_", min_size=1), st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text()
    )
)
def test_canonical_bytes_say_the_same_record_in_one_way(record: dict[str, object]) -> None:
    data = canonical(record)

    assert parse(data) == record
    assert canonical(dict(reversed(record.items()))) == data
    assert b" :" not in data.replace(b'" :', b"")


def test_a_float_has_no_canonical_form() -> None:
    with pytest.raises(TypeError):
        canonical({"a": [{"b": 0.5}]})
