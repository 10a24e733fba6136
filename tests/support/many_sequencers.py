"""A store, writers and sequencers in one thread, whose every step, failure and death a seed decides.

Each method of the store is two steps: the request arrives, the answer arrives. Between any two steps another process
may run, or this one may pause for as long as the seed likes, or die. A request may fail before it has an effect, or
after it, which to the caller is the same.
"""

import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from trueport.audit.canonical import canonical, leaf_hash
from trueport.audit.records import FIRST_PREV
from trueport.audit.sequencer import Batch, Link, Log, Sequencer, Waiting
from trueport.kit.clock import Clock, ManualClock
from trueport.kit.errors import Unavailable

T = TypeVar("T")
TENANT = "ten_1"


class _Step:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Lost(Unavailable):
    code = "lost"


class World:
    """What is stored, and who is at work."""

    def __init__(self, seed: int, sequencer: Callable[[Log, Clock], Sequencer] = Sequencer) -> None:
        self.draw = random.Random(seed)
        self.clock = ManualClock()
        self.records: dict[str, Waiting] = {}
        self.seqs: dict[str, int] = {}
        self.batches: dict[int, Batch] = {}
        self.acknowledged: set[str] = set()
        self.placed_anew: list[str] = []
        self._sequencer = sequencer
        self._running: list[Coroutine[Any, Any, None]] = []
        self._is_calm = False

    def run(self, steps: int = 250) -> None:
        """Writers and sequencers in every order, then a while without faults in which all has to come out right."""
        writers = [Writer(self, f"w{number}") for number in range(self.draw.randint(1, 3))]
        for _ in range(steps):
            if len(self._running) < 5:
                one = self.draw.choice([*writers, None])
                self._running.append(one.ship() if one else self._sequence())
            self._advance(self.draw.randrange(len(self._running)))
        self._is_calm = True
        self._end_all()
        for writer in writers:
            self._running.append(writer.ship_everything())
            self._end_all()
        self.clock.advance(1.0)
        for _ in range(40):
            self._running.append(self._sequence())
            self._end_all()

    def _advance(self, number: int) -> None:
        coroutine = self._running[number]
        if not self._is_calm and self.draw.random() < 0.03:
            # The process dies here.
            coroutine.close()
            del self._running[number]
            return
        try:
            coroutine.send(None)
        except StopIteration:
            del self._running[number]
        # So slowly that nobody waits for a record as long as a sequencer would at most.
        self.clock.advance(self.draw.random() * 0.02)

    def _end_all(self) -> None:
        while self._running:
            self._advance(self.draw.randrange(len(self._running)))

    async def _sequence(self) -> None:
        one = self._sequencer(StoredLog(self), self.clock)
        for _ in range(self.draw.randint(1, 4)):
            try:
                await one.run_once()
            except Unavailable:
                continue

    async def asked(self, effect: Callable[[], T]) -> T:
        """What the store answers. Raises Lost where the request or its answer got lost."""
        await _Step()
        fate = 1.0 if self._is_calm else self.draw.random()
        if fate < 0.06:
            raise Lost("before")
        answer = effect()
        await _Step()
        if fate < 0.12:
            raise Lost("after")
        return answer


class Writer:
    """The journal of one process: what it has written is safe, what is shipped may arrive twice."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._journal: list[Waiting] = []
        self._prev = FIRST_PREV
        self._shipped = 0

    async def ship(self) -> None:
        draw = self._world.draw
        for _ in range(draw.randint(1, 6)):
            self._write()
        # A shipper that died before it noted how far it was begins earlier again.
        start = max(0, self._shipped - draw.choice((0, 0, 3)))
        end = draw.randint(start, len(self._journal))
        try:
            await self._store(self._journal[start:end])
        except Lost:
            return
        self._shipped = max(self._shipped, end)

    async def ship_everything(self) -> None:
        await self._store(self._journal)

    def _write(self) -> None:
        number = len(self._journal)
        leaf = leaf_hash(canonical({"writer": self._name, "wseq": number, "prev": self._prev}))
        at_us = self._world.clock.epoch_us() + self._world.draw.randint(-2_000_000, 0)
        self._journal.append(Waiting(f"{self._name}-{number}", leaf, self._name, number, self._prev, at_us))
        self._prev = leaf.hex()
        self._world.acknowledged.add(self._journal[-1].id)

    async def _store(self, records: Sequence[Waiting]) -> None:
        # An unordered bulk insert that is cut short leaves any of its records out.
        for one in self._world.draw.sample(records, len(records)):
            await self._world.asked(partial(self._world.records.setdefault, one.id, one))


class StoredLog:
    """A Log in the world's store."""

    tenant_id = TENANT

    def __init__(self, world: World) -> None:
        self._world = world

    async def last(self) -> Batch | None:
        batches = self._world.batches
        return await self._world.asked(lambda: batches[max(batches)] if batches else None)

    async def add(self, batch: Batch) -> bool:
        return await self._world.asked(lambda: self._world.batches.setdefault(batch.start, batch) is batch)

    async def place(self, batch: Batch) -> None:
        for seq, record_id in enumerate(batch.ids, start=batch.start):
            await self._world.asked(partial(self._place, record_id, seq))

    def _place(self, record_id: str, seq: int) -> None:
        if self._world.seqs.setdefault(record_id, seq) != seq:
            self._world.placed_anew.append(record_id)

    async def waiting(self, most: int) -> Sequence[Waiting]:
        def look() -> list[Waiting]:
            found = [one for name, one in self._world.records.items() if name not in self._world.seqs]
            return sorted(found, key=lambda one: (one.writer, one.wseq))[:most]

        return await self._world.asked(look)

    async def leaves_at(self, links: Iterable[Link]) -> Mapping[Link, bytes]:
        wanted = set(links)

        def look() -> dict[Link, bytes]:
            records = ((Link(one.writer, one.wseq), one) for one in self._world.records.values())
            return {link: one.leaf for link, one in records if link in wanted and one.id in self._world.seqs}

        return await self._world.asked(look)
