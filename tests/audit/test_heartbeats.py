"""Heartbeats: each writer says of its chains how they stand, and of a dead one's its adopter says where they ended."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import eventually
from tests.support.spool import Shelf, assert_chains_are_whole, open_spool, ship_everything
from trueport.audit.adoption import adopt_dead_writers
from trueport.audit.chains import Chains
from trueport.audit.direct import DirectJournal
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.segment import Frame
from trueport.audit.shipper import Shipper, shipped
from trueport.kit.clock import SystemClock
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable


def records_on(shelf: Shelf, kind: str | None = None) -> list[dict[str, Any]]:
    found = sorted((one.record for one in shelf.records.values()), key=lambda one: (one["writer"], one["wseq"]))
    return [record for record in found if kind in (None, record["kind"])]


async def test_a_chain_says_how_it_stands_once_for_all_records_since_the_last_time(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    spool.append("intent", "int_1", "ten_1", {})
    spool.append("intent", "int_2", "ten_1", {})
    spool.append("outcome", "int_1", "ten_1", {})

    counts = [spool.beat(), spool.beat()]
    spool.append("outcome", "int_2", "ten_1", {})
    counts.append(spool.beat())

    spool.close()
    shelf = Shelf()
    await ship_everything(tmp_path / "spool", shelf)
    own = [record for record in records_on(shelf, "heartbeat") if "of" not in record]
    assert counts == [1, 0, 1]
    assert [(record["wseq"], record["open"]) for record in own] == [(3, 1), (5, 0)]
    assert_chains_are_whole(list(shelf.records.values()))


async def test_a_tenant_with_nothing_new_gets_no_heartbeat(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    for tenant in ("ten_1", "ten_2"):
        spool.append("outcome", f"int_of_{tenant}", tenant, {})
    spool.beat()

    spool.append("outcome", "int_2", "ten_2", {})

    assert spool.beat() == 1
    spool.close()


async def test_the_first_record_of_each_chain_promises_heartbeats(tmp_path: Path) -> None:
    spool, shelf = open_spool(tmp_path / "spool"), Shelf()
    for number in range(2):
        for tenant in ("ten_1", "ten_2"):
            spool.append("outcome", f"int_{number}_{tenant}", tenant, {})

    assert await Shipper(spool, tmp_path / "spool", shelf).drain(Deadline.after(5))

    assert [record.get("heartbeat_s") for record in sorted(records_on(shelf), key=lambda one: one["wseq"])] == [
        60, 60, None, None,
    ]  # fmt: skip
    spool.close(is_shipped=True)


async def test_nobody_but_the_journal_makes_that_promise(tmp_path: Path) -> None:
    chains = Chains(SystemClock())

    with pytest.raises(ValueError, match="own fields"):
        chains.link("outcome", "int_1", "ten_1", {"heartbeat_s": 1})


async def test_a_process_that_stops_says_where_its_chains_end(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    spool, shelf = open_spool(root), Shelf()
    shipper = Shipper(spool, root, shelf)
    spool.append("outcome", "int_1", "ten_1", {})

    spool.close(is_shipped=await shipper.finish(Deadline.after(5)))

    assert [(record["kind"], record.get("open")) for record in records_on(shelf)] == [
        ("outcome", None),
        ("heartbeat", 0),
    ]
    assert list(root.glob("[!.]*/")) == []


async def test_a_journal_whose_chains_could_not_be_ended_is_left_for_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "spool"
    spool, shelf = open_spool(root), Shelf()
    spool.append("outcome", "int_1", "ten_1", {})

    def refuse() -> int:
        raise SpoolUnavailable

    monkeypatch.setattr(spool, "beat", refuse)
    spool.close(is_shipped=await Shipper(spool, root, shelf).finish(Deadline.after(5)))
    await ship_everything(root, shelf)

    (ended,) = records_on(shelf, "heartbeat")
    assert (ended["of"], ended["records"]) == (spool.writer, 1)


async def test_a_shipper_beats_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueport.audit.shipper.HEARTBEAT_S", 0.05)
    root = tmp_path / "spool"
    spool, shelf = open_spool(root), Shelf()
    spool.append("outcome", "int_1", "ten_1", {})

    shipping = asyncio.create_task(Shipper(spool, root, shelf).run())
    await eventually(lambda: records_on(shelf, "heartbeat"))
    await asyncio.sleep(0.3)
    shipping.cancel()
    with suppress(asyncio.CancelledError):
        await shipping

    assert len(records_on(shelf)) == 2
    spool.close(is_shipped=True)


async def test_an_adopter_says_where_each_chain_of_a_dead_writer_ended(tmp_path: Path) -> None:
    dead = open_spool(tmp_path / "spool")
    dead.append("intent", "int_1", "ten_1", {})
    for number in range(3):
        dead.append("outcome", f"int_2{number}", "ten_2", {})
    dead.close()
    shelf = Shelf()

    await ship_everything(tmp_path / "spool", shelf)

    told = {
        record["tenant"]: record["records"] for record in records_on(shelf, "heartbeat") if record["of"] == dead.writer
    }
    assert told == {"ten_1": 1, "ten_2": 3}
    assert len(records_on(shelf, "abandoned")) == 1
    assert_chains_are_whole(list(shelf.records.values()))


async def test_an_abandoned_record_does_not_repeat_the_promise_of_its_intent(tmp_path: Path) -> None:
    dead = open_spool(tmp_path / "spool")
    dead.append("intent", "int_1", "ten_1", {"model": "m"})
    dead.close()
    adopter, shelf = open_spool(tmp_path / "spool"), Shelf()
    adopter.append("outcome", "int_2", "ten_1", {})

    shipper = Shipper(adopter, tmp_path / "spool", shelf)
    await shipper.adopt()
    await shipper.drain(Deadline.after(5))

    (abandoned,) = records_on(shelf, "abandoned")
    assert (abandoned["model"], abandoned["wseq"]) == ("m", 1)
    assert "heartbeat_s" not in abandoned
    adopter.close(is_shipped=True)


async def test_an_end_is_told_once_when_the_first_adopter_dies_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "spool"
    dead = open_spool(root)
    dead.append("outcome", "int_1", "ten_1", {})
    dead.close()
    shelf = Shelf()

    async def ship(found: list[Frame]) -> None:
        await shelf.store([shipped(frame) for frame in found])

    def dies(_: object) -> None:
        raise Unavailable("killed")

    first = open_spool(root)
    with monkeypatch.context() as patched:
        patched.setattr("trueport.audit.adoption._put_away", dies)
        with pytest.raises(Unavailable):
            await adopt_dead_writers([root], first, ship)  # type: ignore[arg-type]  # a list is what it gets here
    first.close()

    await ship_everything(root, shelf)

    assert [record["records"] for record in records_on(shelf, "heartbeat") if record["of"] == dead.writer] == [1]
    assert_chains_are_whole(list(shelf.records.values()))


async def test_the_end_of_a_chain_outlives_the_segment_that_held_it(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    spool, shelf = open_spool(root), Shelf()
    shipper = Shipper(spool, root, shelf)
    spool.append("outcome", "int_quiet", "ten_quiet", {})
    for number in range(120):
        spool.append("outcome", f"int_{number}", "ten_busy", {"filling": "x" * 1_000})
    await spool.durable(spool.position)
    assert await shipper.drain(Deadline.after(5))
    assert min(number for number, _ in spool.ends()) > 1

    spool.close()
    await ship_everything(root, shelf)

    (quiet,) = [
        record for record in records_on(shelf, "heartbeat") if record["tenant"] == "ten_quiet" and "open" in record
    ]
    assert (quiet["wseq"], quiet["open"]) == (1, 0)
    assert_chains_are_whole(list(shelf.records.values()))


async def test_writing_straight_to_the_database_has_no_heartbeats_and_promises_none() -> None:
    shelf = Shelf()
    journal = DirectJournal(shelf, SystemClock())

    journal.append("outcome", "int_1", "ten_1", {})
    await journal.settled()
    journal.close(is_shipped=True)

    (record,) = records_on(shelf)
    assert "heartbeat_s" not in record
