"""What calls wait for and what happens to them when the journal fails, in each mode of recording."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.domains.analytics.test_from_the_recorder import CALLER, TARGET, TENANT, a_call, admitted, snapshot_of
from tests.support.erasure import OneKey
from tests.support.spool import Shelf, assert_chains_are_whole
from trueport.audit.direct import DirectJournal
from trueport.audit.journal import Mode, SpoolSheds, SpoolUnavailable
from trueport.audit.shipper import ShippedRecord, Shipper
from trueport.audit.spool import Spool
from trueport.domains.proxy.gaps import Gaps
from trueport.domains.proxy.recorder import SpoolRecord, SpoolRecorder
from trueport.domains.proxy.user_tags import UserTags
from trueport.domains.proxy.wiring import open_journal
from trueport.gateway.call import Admitted, Outcome
from trueport.kit.clock import ManualClock
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable
from trueport.settings import Settings, load_settings

ANSWERED = Outcome(end="completed", status=200, served_by=TARGET, content=b"an answer")


class House:
    """A recorder on a small journal of one mode."""

    def __init__(self, root: Path, mode: Mode) -> None:
        self.clock = ManualClock()
        self.root = root
        self.spool = Spool(root, clock=self.clock, segment_bytes=1 << 20, capacity_bytes=4 << 20, mode=mode)
        self.gaps = Gaps(self.spool, self.clock) if mode == "best_effort" else None
        self.recorder = SpoolRecorder(self.spool, UserTags(b"k"), OneKey(), self.gaps)
        self.snapshot = snapshot_of(TENANT)

    def call(self, **request: object) -> Admitted:
        found = admitted(a_call(self.clock), CALLER, self.snapshot)
        return replace(
            found,
            caller=replace(CALLER, environment="prod"),
            request=replace(found.request, **request),
        )

    async def intent(self) -> SpoolRecord:
        return await self.recorder.intent(self.call())

    async def shipped(self) -> dict[str, ShippedRecord]:
        shelf = Shelf()
        assert await Shipper(self.spool, self.root, shelf).drain(Deadline.after(5))
        return shelf.records


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "spool", "best_effort")
    yield made
    made.spool.close()


def fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the disk takes nothing: neither this segment nor a new one."""

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("trueport.audit.spool.os.pwrite", broken)
    monkeypatch.setattr("trueport.audit.spool.create", broken)


@pytest.mark.parametrize(("mode", "waits"), [("strict", False), ("strict_power", True), ("best_effort", False)])
def test_only_in_strict_power_a_provider_waits_for_the_disk(tmp_path: Path, mode: Mode, waits: bool) -> None:
    house = House(tmp_path / "spool", mode)

    assert house.recorder.waits_before_upstream is waits
    house.spool.close()


@pytest.mark.parametrize("mode", ["strict", "strict_power"])
async def test_in_the_strict_modes_no_call_goes_on_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    house = House(tmp_path / "spool", mode)
    under_way = await house.intent()
    with monkeypatch.context() as patched:
        fail(patched)

        with pytest.raises(SpoolUnavailable):
            await house.intent()
        # Its answer is not given either.
        with pytest.raises(SpoolUnavailable):
            under_way.close(ANSWERED)
    house.spool.close()


async def test_in_best_effort_calls_go_on_and_the_gap_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = await house.intent()
    with monkeypatch.context() as patched:
        fail(patched)
        missed = [await house.intent() for _ in range(3)]
        for each in missed:
            await each.durable()
            assert each.receipt == ""
        house.clock.advance(2)
        missed[0].close(ANSWERED)
    recorded.close(ANSWERED)
    missed[1].close(ANSWERED)
    house.clock.advance(1)
    assert house.gaps is not None
    house.gaps.tell()
    house.gaps.tell()

    records = await house.shipped()
    gaps = [one.record for one in records.values() if one.record["kind"] == "gap"]
    assert [(gap["intents"], gap["outcomes"], gap["until"] - gap["since"]) for gap in gaps] == [(3, 1, 3_000_000)]
    assert {one.record["kind"] for one in records.values()} == {"intent", "outcome", "gap"}
    # A call that had no intent still has its outcome where the disk works again by then.
    assert len([one for one in records.values() if one.record["kind"] == "outcome"]) == 2
    assert_chains_are_whole(list(records.values()))


async def test_in_best_effort_the_outcome_of_a_recorded_call_is_written_late_rather_than_never(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = await house.intent()
    with monkeypatch.context() as patched:
        fail(patched)
        recorded.close(ANSWERED)
        assert house.gaps is not None
        house.gaps.tell()
        assert len(house.spool.open_intents) == 1
    house.gaps.tell()

    (outcome,) = (one for one in (await house.shipped()).values() if one.record["kind"] == "outcome")
    assert (outcome.record["is_late"], outcome.record["content"], outcome.blobs) == (True, None, ())
    assert house.spool.open_intents == {}


async def test_in_best_effort_a_deleted_folder_stops_no_call(house: House) -> None:
    shutil.rmtree(house.root)
    with pytest.raises(SpoolUnavailable):
        house.spool.look_after()

    record = await house.intent()

    await record.durable()
    record.close(ANSWERED)


async def test_calls_that_can_wait_are_turned_away_in_every_mode(tmp_path: Path) -> None:
    for mode in ("strict", "strict_power", "best_effort"):
        house = House(tmp_path / mode, mode)
        while house.spool.filled_share < 0.86:
            house.spool.append("outcome", f"int_{house.spool.position}", "ten_a", {"filler": "x" * 4_000})
        flex = house.call(members={"service_tier": "flex"})
        batch = house.call(operation="batches")
        staging = replace(house.call(), caller=CALLER)
        for patient in (flex, batch, staging):
            with pytest.raises(SpoolSheds):
                await house.recorder.intent(patient)
        (await house.intent()).close(ANSWERED)
        house.spool.close()


def settings(tmp_path: Path, **values: str) -> Settings:
    named = {f"TRUEPORT_{name}": value for name, value in values.items()}
    return load_settings({"TRUEPORT_DATA_DIR": str(tmp_path / "data"), "TRUEPORT_SPOOL_SEGMENT_MIB": "1", **named})


def test_the_journal_is_what_the_settings_say(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    chosen = {"SPOOL_DIRECTORY": str(first), "SPOOL_SECOND_DIRECTORY": str(second), "AUDIT_MODE": "best_effort"}
    journal = open_journal(settings(tmp_path, **chosen), ManualClock(), Shelf())

    assert isinstance(journal, Spool)
    assert (journal.roots, journal.mode, journal.directory.parent) == ((first, second), "best_effort", first)
    journal.close(is_shipped=True)
    assert isinstance(open_journal(settings(tmp_path, AUDIT_SYNC="1"), ManualClock(), Shelf()), DirectJournal)


def test_a_process_begins_on_the_second_disk_where_the_first_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("in the way of a folder")
    second = tmp_path / "second"
    chosen = {"SPOOL_DIRECTORY": str(tmp_path / "first"), "SPOOL_SECOND_DIRECTORY": str(second)}

    journal = open_journal(settings(tmp_path, **chosen), ManualClock(), Shelf())

    assert isinstance(journal, Spool)
    assert journal.directory.parent == second
    journal.release(journal.reserve(1))
    journal.append("outcome", "int_1", "ten_a", {})
    journal.close()


class Gate(Shelf):
    """A store that keeps its acknowledgement back until it is opened, or is away."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.is_away = False

    async def store(self, batch: Sequence[ShippedRecord]) -> None:
        await self.opened.wait()
        if self.is_away:
            raise Unavailable("away")
        await super().store(batch)


def direct(gate: Gate) -> tuple[DirectJournal, SpoolRecorder, Admitted]:
    clock = ManualClock()
    journal = DirectJournal(gate, clock)
    return (
        journal,
        SpoolRecorder(journal, UserTags(b"k"), OneKey()),
        admitted(a_call(clock), CALLER, snapshot_of(TENANT)),
    )


async def test_without_a_journal_a_provider_waits_until_the_database_has_the_intent() -> None:
    gate = Gate()
    _, recorder, call = direct(gate)
    record = await recorder.intent(call)
    waiting = asyncio.ensure_future(record.durable())
    await asyncio.sleep(0.01)

    assert recorder.waits_before_upstream
    assert not waiting.done()
    gate.opened.set()
    await asyncio.wait_for(waiting, 5)
    assert list(gate.records) == [f"{call.call.interaction_id}#intent"]


async def test_without_a_journal_an_answer_ends_when_the_database_has_the_outcome() -> None:
    gate = Gate()
    gate.opened.set()
    _, recorder, call = direct(gate)
    record = await recorder.intent(call)
    await record.durable()
    gate.opened.clear()
    record.close(ANSWERED)
    ending = asyncio.ensure_future(recorder.settled())
    await asyncio.sleep(0.01)

    assert not ending.done()
    gate.opened.set()
    await asyncio.wait_for(ending, 5)
    assert f"{call.call.interaction_id}#outcome" in gate.records


async def test_without_a_journal_what_was_not_stored_goes_first_with_the_next_call() -> None:
    gate = Gate()
    gate.opened.set()
    gate.is_away = True
    journal, recorder, call = direct(gate)
    record = await recorder.intent(call)
    with pytest.raises(SpoolUnavailable):
        await record.durable()
    record.close(replace(ANSWERED, end="refused"))
    with pytest.raises(SpoolUnavailable):
        await recorder.settled()
    assert not journal.is_healthy
    gate.is_away = False

    following = journal.append("outcome", "int_2", "ten_a", {})
    await journal.durable(following.position)

    assert [name.partition("#")[2] for name in gate.records] == ["intent", "outcome", "outcome"]
    assert_chains_are_whole(list(gate.records.values()))
    assert journal.is_healthy


async def test_without_a_journal_calls_are_refused_while_too_much_waits() -> None:
    gate = Gate()
    gate.opened.set()
    gate.is_away = True
    journal, _, _ = direct(gate)
    for number in range(1_000):
        journal.release(journal.reserve(1))
        journal.append("outcome", f"int_{number}", "ten_a", {})
    with pytest.raises(SpoolUnavailable):
        await journal.settled()
    gate.is_away = False

    # A refused call is what makes it try again.
    with pytest.raises(SpoolUnavailable):
        journal.reserve(1)
    await journal.settled()

    journal.release(journal.reserve(1))
