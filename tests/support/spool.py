"""A journal on a small scale, a place to ship to, and what has to be true of everything shipped."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from trueport.audit.canonical import leaf_hash
from trueport.audit.shipper import ShippedRecord, Shipper
from trueport.audit.spool import Spool
from trueport.kit.clock import SystemClock
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable

KIB = 1 << 10


def open_spool(
    root: Path, *, segment_bytes: int = 64 * KIB, capacity_bytes: int = 16 << 20, second_root: Path | None = None
) -> Spool:
    root.mkdir(exist_ok=True)
    return Spool(
        root,
        clock=SystemClock(),
        segment_bytes=segment_bytes,
        capacity_bytes=capacity_bytes,
        second_root=second_root,
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
