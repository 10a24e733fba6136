"""Many sequencers, lost answers and deaths: one order, nothing lost, nothing twice."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pytest

from tests.support.many_sequencers import TENANT, World
from trueport.audit.canonical import leaf_hash
from trueport.audit.records import FIRST_PREV
from trueport.audit.sequencer import FIRST_BATCH, Batch, Break, Link, Log, Sequencer, Waiting, next_batch
from trueport.audit.tree import Edge
from trueport.kit.clock import Clock, ManualClock

SEEDS = range(500)
MANY_SEEDS = range(500, 20_500)


def wrongs(world: World) -> list[str]:
    """What is not as it has to be when all is done."""
    found: list[str] = []
    batches = [world.batches[start] for start in sorted(world.batches)]
    ids = [record_id for batch in batches for record_id in batch.ids]
    if len(set(ids)) != len(ids):
        found.append("a record has two places")
    if world.placed_anew:
        found.append("a record was moved")
    if missing := world.acknowledged - set(ids):
        found.append(f"{len(missing)} acknowledged records have no place")
    edge, end, previous = Edge(), 0, FIRST_BATCH
    for batch in batches:
        edge = edge.extend(batch.leaves)
        if (batch.start, batch.previous) != (end, previous) or batch.edge != edge:
            found.append("the tree forks or has a hole")
        end, previous = batch.end, batch.sha256
        if batch.breaks:
            found.append("a whole chain is said to be broken")
    if {name: seq for seq, name in enumerate(ids)} != world.seqs:
        found.append("places are not those of the batches")
    turns: dict[str, int] = {}
    for record_id in ids:
        writer, number = record_id.split("-")
        if int(number) != turns.get(writer, 0):
            found.append("a chain is out of order")
        turns[writer] = int(number) + 1
    return found


@pytest.mark.parametrize("first", SEEDS[::50])
def test_whatever_dies_and_gets_lost_every_record_has_one_place(first: int) -> None:
    for seed in range(first, first + 50):
        world = World(seed)
        world.run()
        assert wrongs(world) == [], f"seed {seed}"
        assert world.acknowledged


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_whatever_dies_and_gets_lost_every_record_has_one_place_for_many_seeds() -> None:
    for seed in MANY_SEEDS:
        world = World(seed)
        world.run()
        assert wrongs(world) == [], f"seed {seed}"


class PlacesItsOwnOnly(Sequencer):
    """Leaves out giving the records of another's last batch their places."""

    def __init__(self, stored: Log, clock: Clock) -> None:
        add, place = stored.add, stored.place
        own: list[Batch] = []

        async def noted(batch: Batch) -> bool:
            own.append(batch)
            return await add(batch)

        async def own_only(batch: Batch) -> None:
            if batch in own:
                await place(batch)

        stored.add, stored.place = noted, own_only  # type: ignore[method-assign]
        super().__init__(stored, clock)


class TakesWhatIsTaken(Sequencer):
    """Goes on as if its batch had been kept, when another process was quicker."""

    def __init__(self, stored: Log, clock: Clock) -> None:
        add = stored.add

        async def believes(batch: Batch) -> bool:
            await add(batch)
            return True

        stored.add = believes  # type: ignore[method-assign]
        super().__init__(stored, clock)


class ReadsBeforeItLooks(Sequencer):
    """Looks for what waits before it knows where the tree ends."""

    def __init__(self, stored: Log, clock: Clock) -> None:
        last, waiting = stored.last, stored.waiting
        early: list[Sequence[Waiting]] = []

        async def later() -> Batch | None:
            early[:] = [await waiting(1_000)]
            return await last()

        async def earlier(most: int) -> Sequence[Waiting]:
            return early[0][:most]

        stored.last, stored.waiting = later, earlier  # type: ignore[method-assign]
        super().__init__(stored, clock)


class DoesNotWaitForItsPredecessor(Sequencer):
    """Takes a record whose predecessor is still on its way."""

    def _choose(self, waiting: Sequence[Waiting], placed: Mapping[Link, bytes]) -> tuple[list[Waiting], list[Break]]:
        self._held_since_s = {one.id: -math.inf for one in waiting}
        return super()._choose(waiting, placed)


@pytest.mark.parametrize(
    "planted", [PlacesItsOwnOnly, TakesWhatIsTaken, ReadsBeforeItLooks, DoesNotWaitForItsPredecessor]
)
def test_a_planted_mistake_is_found(planted: type[Sequencer]) -> None:
    def found(seed: int) -> bool:
        world = World(seed, planted)
        world.run()
        return bool(wrongs(world))

    assert any(map(found, SEEDS))


class OneTenant:
    """A Log in memory that nobody else writes to."""

    tenant_id = TENANT

    def __init__(self, *waiting: Waiting) -> None:
        self.found = {one.id: one for one in waiting}
        self.placed: dict[str, int] = {}
        self.batches: list[Batch] = []

    async def last(self) -> Batch | None:
        return self.batches[-1] if self.batches else None

    async def add(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return True

    async def place(self, batch: Batch) -> None:
        self.placed.update({name: seq for seq, name in enumerate(batch.ids, start=batch.start)})

    async def waiting(self, most: int) -> list[Waiting]:
        return [one for one in self.found.values() if one.id not in self.placed][:most]

    async def leaves_at(self, links: Iterable[Link]) -> dict[Link, bytes]:
        wanted = set(links)
        return {
            link: one.leaf
            for one in self.found.values()
            if (link := Link(one.writer, one.wseq)) in wanted and one.id in self.placed
        }


def chain(writer: str, length: int, *, from_us: int = 0, step_us: int = 10) -> list[Waiting]:
    found: list[Waiting] = []
    prev = FIRST_PREV
    for number in range(length):
        leaf = leaf_hash(f"{writer}{number}".encode())
        found.append(Waiting(f"{writer}{number}", leaf, writer, number, prev, from_us + number * step_us))
        prev = leaf.hex()
    return found


async def test_records_of_several_writers_are_ordered_by_time() -> None:
    stored = OneTenant(*chain("a", 3), *chain("b", 3, from_us=5))

    batch = await Sequencer(stored, ManualClock()).run_once()

    assert batch is not None
    assert batch.ids == ("a0", "b0", "a1", "b1", "a2", "b2")


async def test_a_writer_whose_clock_goes_back_keeps_its_own_order() -> None:
    stored = OneTenant(*chain("a", 3, from_us=100, step_us=-40), *chain("b", 1, from_us=50))

    batch = await Sequencer(stored, ManualClock()).run_once()

    assert batch is not None
    assert batch.ids == ("b0", "a0", "a1", "a2")


class Asked(OneTenant):
    """Notes which links of chains it was asked about."""

    def __init__(self, *records: Waiting) -> None:
        super().__init__(*records)
        self.asked: list[set[Link]] = []

    async def leaves_at(self, links: Iterable[Link]) -> dict[Link, bytes]:
        self.asked.append(set(links))
        return await super().leaves_at(links)


async def test_only_predecessors_that_do_not_wait_themselves_are_asked_for() -> None:
    # Each costs the database a question of its own.
    first, *others = chain("a", 40)
    stored = Asked(first)
    sequencer = Sequencer(stored, ManualClock())
    await sequencer.run_once()
    stored.found.update({one.id: one for one in others})

    batch = await sequencer.run_once()

    assert batch is not None
    assert len(batch.ids) == 39
    assert stored.asked == [set(), {Link("a", 0)}]


async def test_nothing_new_gives_no_batch() -> None:
    stored = OneTenant(*chain("a", 2))
    sequencer = Sequencer(stored, ManualClock())
    assert await sequencer.run_once() is not None

    assert await sequencer.run_once() is None
    assert len(stored.batches) == 1


async def test_what_is_behind_a_missing_record_waits_for_it() -> None:
    first, second, third = chain("a", 3)
    stored = OneTenant(first, third)
    clock = ManualClock()
    sequencer = Sequencer(stored, clock)
    batch = await sequencer.run_once()
    assert batch is not None
    assert batch.ids == ("a0",)

    clock.advance(59.0)
    assert await sequencer.run_once() is None
    stored.found[second.id] = second

    batch = await sequencer.run_once()
    assert batch is not None
    assert batch.ids == ("a1", "a2")
    assert batch.breaks == ()


async def test_a_record_that_never_comes_does_not_keep_others_out_for_good() -> None:
    first, _, third = chain("a", 3)
    stored = OneTenant(first, third)
    clock = ManualClock()
    sequencer = Sequencer(stored, clock)
    await sequencer.run_once()
    assert await sequencer.run_once() is None

    clock.advance(61.0)
    batch = await sequencer.run_once()

    assert batch is not None
    assert batch.ids == ("a2",)
    assert batch.breaks == (Break("a", 2, "missing"),)


async def test_a_record_that_names_another_predecessor_is_kept_and_told() -> None:
    first, second, third = chain("a", 3)
    changed = Waiting(second.id, leaf_hash(b"changed"), "a", 1, second.prev, second.at_us)
    stored = OneTenant(first, changed, third)

    batch = await Sequencer(stored, ManualClock()).run_once()

    assert batch is not None
    assert batch.ids == ("a0", "a1", "a2")
    assert batch.breaks == (Break("a", 2, "changed"),)


async def test_a_first_record_that_claims_a_predecessor_is_told() -> None:
    second = chain("a", 2)[1]
    stored = OneTenant(Waiting("x", second.leaf, "x", 0, second.prev, 0))

    batch = await Sequencer(stored, ManualClock()).run_once()

    assert batch is not None
    assert batch.breaks == (Break("x", 0, "changed"),)


def test_a_batchs_hash_changes_with_everything_in_it() -> None:
    one, two = chain("a", 2)
    whole = next_batch(TENANT, None, [one, two], [], 5)
    others = [
        next_batch("ten_2", None, [one, two], [], 5),
        next_batch(TENANT, None, [two, one], [], 5),
        next_batch(TENANT, None, [one], [], 5),
        next_batch(TENANT, whole, [one, two], [], 5),
        next_batch(TENANT, None, [one, two], [Break("a", 1, "missing")], 5),
        next_batch(TENANT, None, [one, two], [], 6),
    ]

    assert len({whole.sha256, *(each.sha256 for each in others)}) == len(others) + 1
