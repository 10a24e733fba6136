"""A journal on a small scale, a place to ship to, and what has to be true of everything shipped."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from trueport.audit.canonical import leaf_hash
from trueport.audit.shipper import ShippedRecord, Shipper
from trueport.audit.spool import Spool
from trueport.kit.clock import SystemClock
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable

KIB = 1 << 10


class StandInForTheKernel:
    """Syncs beside the event loop as the kernel does, with a function that may note, dawdle or fail."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: Callable[[int], None]) -> None:
        self._loop = loop
        self._sync = sync
        self._under_way: list[tuple[threading.Thread, Callable[[], None]]] = []

    def begin(self, handle: int, done: Callable[[OSError | None], None]) -> None:
        problems: list[OSError] = []

        def work() -> None:
            try:
                self._sync(handle)
            except OSError as error:
                problems.append(error)
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(end)

        def end() -> None:
            if entry in self._under_way:
                self._under_way.remove(entry)
                done(problems[0] if problems else None)

        entry = (threading.Thread(target=work), end)
        self._under_way.append(entry)
        entry[0].start()

    def finish(self) -> None:
        for thread, end in list(self._under_way):
            thread.join()
            end()


def sync_by(monkeypatch: pytest.MonkeyPatch, sync: Callable[[int], None]) -> None:
    """Have journals sync with this function in place of the disk, be it the kernel or a thread that does it."""
    monkeypatch.setattr("trueport.audit.spool.os.fdatasync", sync)
    monkeypatch.setattr("trueport.audit.spool.KernelSync.of", lambda loop: StandInForTheKernel(loop, sync))


def open_spool(
    root: Path,
    *,
    segment_bytes: int = 64 * KIB,
    capacity_bytes: int = 16 << 20,
    second_root: Path | None = None,
    syncs_in_kernel: bool = True,
) -> Spool:
    root.mkdir(exist_ok=True)
    return Spool(
        root,
        clock=SystemClock(),
        segment_bytes=segment_bytes,
        capacity_bytes=capacity_bytes,
        second_root=second_root,
        syncs_in_kernel=syncs_in_kernel,
    )


class Shelf:
    """A sink that keeps what it is given, ignores what it knows, and can be away."""

    def __init__(self) -> None:
        self.records: dict[str, ShippedRecord] = {}
        self.repeated = 0
        self.away_for = 0

    async def store(self, batch: Sequence[ShippedRecord]) -> None:
        if self.away_for > 0:
            self.away_for -= 1
            raise Unavailable("away")
        for record in batch:
            self.repeated += record.id in self.records
            self.records.setdefault(record.id, record)


def assert_chains_are_whole(records: Sequence[ShippedRecord]) -> None:
    """Per writer and tenant: numbers from 0 without a gap, each naming the leaf before it."""
    chains: dict[tuple[str, str], list[ShippedRecord]] = defaultdict(list)
    for record in records:
        assert record.leaf == leaf_hash(record.canonical)
        chains[record.record["writer"], record.record["tenant"]].append(record)
    for chain in chains.values():
        chain.sort(key=lambda one: one.record["wseq"])
        assert [one.record["wseq"] for one in chain] == list(range(len(chain)))
        previous = ["0" * 64, *(one.leaf.hex() for one in chain)]
        assert [one.record["prev"] for one in chain] == previous[:-1]


async def ship_everything(root: Path, shelf: Shelf, second_root: Path | None = None) -> None:
    """What a freshly started process does: adopt the dead, ship itself."""
    spool = open_spool(root, second_root=second_root)
    shipper = Shipper(spool, root, shelf)
    await shipper.adopt()
    assert await shipper.drain(Deadline.after(30))
    spool.close(is_shipped=True)
