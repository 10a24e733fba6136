"""One order for all records of a tenant, given by any number of processes without a lock.

The only commit point is the insert of a batch under the name (tenant, start): of several processes that extend the
same tree one succeeds, and the others drop what they had and begin again. A process that paused for an hour between
reading and writing finds its start taken, so nothing it knew too early can fork the tree.

Before a process extends the last batch it gives the records of that batch their places. Whoever left that out would
take records that have a place for records that wait for one, and give them a second.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from trueport.audit.canonical import canonical
from trueport.audit.records import FIRST_PREV
from trueport.audit.tree import Edge
from trueport.kit.clock import Clock
from trueport.kit.logging import get_logger

log = get_logger(__name__)

MOST_RECORDS: Final = 1_000
LONGEST_WAIT_S: Final = 60.0
FIRST_BATCH: Final = "0" * 64
"""`previous` of a tenant's first batch."""


class Link(NamedTuple):
    """A place in a writer's chain of one tenant."""

    writer: str
    wseq: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A stored record that has no place yet. `prev` is the leaf (hex) it names as its predecessor's."""

    id: str
    leaf: bytes
    writer: str
    wseq: int
    prev: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Break:
    """A record whose predecessor is not there (`missing`), or is another than the one it names (`changed`)."""

    writer: str
    wseq: int
    why: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The records at the places [start, end) of a tenant's order, and the edge of the tree behind them.

    `previous` is the SHA-256 (hex) of the batch before, in its canonical form.
    """

    tenant_id: str
    start: int
    ids: tuple[str, ...]
    leaves: tuple[bytes, ...]
    edge: Edge
    previous: str
    at_us: int
    breaks: tuple[Break, ...] = ()

    @property
    def end(self) -> int:
        return self.start + len(self.ids)

    @property
    def root(self) -> bytes:
        return self.edge.root

    @property
    def sha256(self) -> str:
        """Of the canonical form of everything above."""
        members: dict[str, object] = {
            "v": 1,
            "tenant": self.tenant_id,
            "start": self.start,
            "ids": self.ids,
            "leaves": [leaf.hex() for leaf in self.leaves],
            "edge": [each.hex() for each in self.edge.hashes],
            "previous": self.previous,
            "at": self.at_us,
            "breaks": [{"writer": each.writer, "wseq": each.wseq, "why": each.why} for each in self.breaks],
        }
        return hashlib.sha256(canonical(members)).hexdigest()


class Log(Protocol):
    """What is stored of one tenant. Reads see every write that anybody was told has succeeded.

    Every method raises a kit Unavailable when it is not known what became of it; doing it again does no harm.
    """

    @property
    def tenant_id(self) -> str: ...

    async def last(self) -> Batch | None:
        """The batch with the highest start."""

    async def add(self, batch: Batch) -> bool:
        """Keep a batch; False when there is another with its start already."""

    async def place(self, batch: Batch) -> None:
        """Give the records of a batch their places."""

    async def waiting(self, most: int) -> Sequence[Waiting]:
        """Up to `most` records without a place: of each writer those that come first."""

    async def leaves_at(self, links: Iterable[Link]) -> Mapping[Link, bytes]:
        """The leaves of the records with a place that stand at these links of their chains."""


class Sequencer:
    """Orders the records of one tenant. Any number may run, also in other processes."""

    def __init__(self, stored: Log, clock: Clock) -> None:
        self._log = stored
        self._clock = clock
        # When a record was first seen without its predecessor: by its writer's clock it may be years old.
        self._held_since_s: dict[str, float] = {}
        self._placed: int | None = None

    async def run_once(self) -> Batch | None:
        """Order what waits; the batch it became. None when there was nothing, or another process was quicker."""
        last = await self._log.last()
        if last is not None:
            await self._place(last)
        waiting = await self._log.waiting(MOST_RECORDS)
        if not waiting:
            self._held_since_s.clear()
            return None
        here = {Link(one.writer, one.wseq) for one in waiting}
        before = {Link(one.writer, one.wseq - 1) for one in waiting if one.wseq}
        placed = await self._log.leaves_at(before - here)
        chosen, breaks = self._choose(waiting, placed)
        if not chosen:
            return None
        batch = next_batch(self._log.tenant_id, last, chosen, breaks, self._clock.epoch_us())
        if not await self._log.add(batch):
            return None
        await self._place(batch)
        return batch

    async def _place(self, batch: Batch) -> None:
        if self._placed != batch.start:
            await self._log.place(batch)
            self._placed = batch.start

    def _choose(self, waiting: Sequence[Waiting], placed: Mapping[Link, bytes]) -> tuple[list[Waiting], list[Break]]:
        """The records whose turn it is, in their order, and where a chain does not hold.

        A record without its predecessor is held back for a while, and everything behind it in its chain: the
        predecessor may be on its way. Its own tenant's evidence is never left out for good.
        """
        now_s = self._clock.monotonic()
        held: dict[str, float] = {}
        chosen: list[tuple[int, Waiting]] = []
        breaks: list[Break] = []
        for chain in _by_writer(waiting):
            known = dict(placed)
            turn_us = 0
            for one in chain:
                before = bytes.fromhex(FIRST_PREV) if one.wseq == 0 else known.get(Link(one.writer, one.wseq - 1))
                if before is None:
                    since_s = self._held_since_s.get(one.id, now_s)
                    if now_s - since_s < LONGEST_WAIT_S:
                        held[one.id] = since_s
                        break
                    breaks.append(Break(one.writer, one.wseq, "missing"))
                elif before.hex() != one.prev:
                    breaks.append(Break(one.writer, one.wseq, "changed"))
                known[Link(one.writer, one.wseq)] = one.leaf
                # In the order of time, except that a writer whose clock went back keeps its own order.
                turn_us = max(turn_us, one.at_us)
                chosen.append((turn_us, one))
        self._held_since_s = held
        for each in breaks:
            log.error("chain_broken", writer=each.writer, wseq=each.wseq, why=each.why)
        chosen.sort(key=lambda turn: (turn[0], turn[1].writer, turn[1].wseq))
        return [one for _, one in chosen], breaks


def next_batch(
    tenant_id: str, last: Batch | None, chosen: Sequence[Waiting], breaks: Sequence[Break], now_us: int
) -> Batch:
    """The batch that puts `chosen` behind `last`."""
    leaves = tuple(one.leaf for one in chosen)
    return Batch(
        tenant_id=tenant_id,
        start=last.end if last else 0,
        ids=tuple(one.id for one in chosen),
        leaves=leaves,
        edge=(last.edge if last else Edge()).extend(leaves),
        previous=last.sha256 if last else FIRST_BATCH,
        at_us=now_us,
        breaks=tuple(breaks),
    )


def _by_writer(waiting: Sequence[Waiting]) -> Iterable[list[Waiting]]:
    chains: dict[str, list[Waiting]] = {}
    for one in waiting:
        chains.setdefault(one.writer, []).append(one)
    for chain in chains.values():
        yield sorted(chain, key=lambda one: one.wseq)
