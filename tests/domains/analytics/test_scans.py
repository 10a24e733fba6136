"""Scans after the call: who sees them, and a queue that gives each task to one worker and loses none."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.domains.analytics.test_violations import Desk, decision, desk_in
from tests.support.analytics import Trail
from tests.support.web import House, problem
from trueport.domains.analytics.events import ViolationFound
from trueport.domains.analytics.models import Scan, ScanTask, Violation
from trueport.domains.analytics.scans import FIRST_BACKOFF, LEASE, LONGEST_BACKOFF, TRIED_FOR, ScanQueue, ScanResults
from trueport.domains.analytics.sink import MongoSink
from trueport.kit.ids import TenantId, new_id
from trueport.kit.tenancy import TenantScope

SCANS = "/trueportai-services/api/v1/analytics/scans"
UNKNOWN = f"{SCANS}/int_{'0' * 26}"
WANTED = {"side": "input", "reason": "detector_loss", "policies": ["pol_1"], "categories": ["toxicity"]}


@pytest.fixture
def queue(house: House) -> ScanQueue:
    return ScanQueue(house.resources.database, house.clock)


async def asked_for(house: House, sink: MongoSink, trail: Trail, tenant_id: str, **changes: Any) -> str:
    """A call whose content is to be read after it; its interaction."""
    call = trail.call(tenant_id, house.clock.now() - timedelta(seconds=1), scan=[WANTED], **changes)
    await sink.store(call)
    return str(call[0].record["rid"])


def results_of(house: House, tenant_id: str) -> ScanResults:
    scope = TenantScope(TenantId(tenant_id))
    return ScanResults(house.resources.database, scope, house.clock, house.events)


# --- who sees them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SCANS, UNKNOWN])
async def test_anonymous_is_refused(house: House, path: str) -> None:
    problem(await house.client.get(path), 401, "unauthenticated")


async def test_another_tenants_scan_is_not_found_and_not_listed(house: House, sink: MongoSink, trail: Trail) -> None:
    own, other = await desk_in(house, "acme"), await desk_in(house, "other")
    interaction = await asked_for(house, sink, trail, own.tenant_id)

    await other.refused(404, "not_found", f"{SCANS}/{interaction}")
    await other.refused(404, "not_found", UNKNOWN)
    assert (await other.get(SCANS))["data"] == []


async def test_a_viewer_does_not_see_scans(house: House) -> None:
    viewer = await desk_in(house, "acme", "viewer")

    await viewer.refused(403, "permission_missing", SCANS)


async def test_a_scan_says_what_is_wanted_and_how_far_it_is(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    interaction = await asked_for(house, sink, trail, desk.tenant_id, policy_version=7)

    [shown] = (await desk.get(SCANS))["data"]

    assert shown == await desk.get(f"{SCANS}/{interaction}")
    assert (shown["id"], shown["state"], shown["policy_version"]) == (interaction, "waiting", 7)
    assert (shown["reasons"], shown["sides"], shown["categories"]) == (["detector_loss"], ["input"], ["toxicity"])
    assert [await states(desk, state) for state in ("waiting", "done")] == [["waiting"], []]


async def states(desk: Desk, state: str) -> list[str]:
    return [scan["state"] for scan in (await desk.get(SCANS, state=state))["data"]]


# --- the queue -----------------------------------------------------------------------------------------------


async def test_one_of_many_workers_gets_a_task(house: House, sink: MongoSink, trail: Trail, queue: ScanQueue) -> None:
    interaction = await asked_for(house, sink, trail, "ten_a")

    claims = await asyncio.gather(*(queue.claim() for _ in range(8)))

    assert [task.id for task in claims if task is not None] == [interaction]


async def test_what_a_dead_worker_held_is_due_again_when_its_lease_ends(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    await asked_for(house, sink, trail, "ten_a")
    first = await queue.claim()

    house.clock.advance((LEASE - timedelta(seconds=1)).total_seconds())
    assert await queue.claim() is None
    house.clock.advance(1)
    second = await queue.claim()

    assert first is not None
    assert second is not None
    assert (second.id, second.tries) == (first.id, 2)


async def test_a_worker_that_lost_its_lease_neither_ends_nor_returns_the_task(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    await asked_for(house, sink, trail, "ten_a")
    slow = await queue.claim()
    house.clock.advance(LEASE.total_seconds())
    quick = await queue.claim()
    assert slow is not None
    assert quick is not None

    await queue.finish(slow)
    await queue.put_back(slow)

    [task] = await house.resources.database[+ScanTask].find({}).to_list()
    assert task["claimed_by"] == quick.claimed_by


async def test_a_task_put_back_waits_longer_each_time_up_to_a_bound(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    await asked_for(house, sink, trail, "ten_a")
    waits = []
    for _ in range(9):
        task = await queue.claim()
        assert task is not None
        await queue.put_back(task)
        [stored] = await house.resources.database[+ScanTask].find({}).to_list()
        waits.append(stored["due_at"] - house.clock.now())
        house.clock.advance(waits[-1].total_seconds())

    assert waits[:3] == [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_BACKOFF


async def test_a_task_tried_in_vain_goes_behind_one_that_never_was(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    stuck = await asked_for(house, sink, trail, "ten_a")
    task = await queue.claim()
    assert task is not None
    await queue.put_back(task)
    house.clock.advance(2)
    fresh = await asked_for(house, sink, trail, "ten_b")
    house.clock.advance(FIRST_BACKOFF.total_seconds())

    claimed = [await queue.claim() for _ in range(2)]

    assert [task.id for task in claimed if task is not None] == [fresh, stuck]


async def test_a_task_is_not_tried_for_ever(house: House, sink: MongoSink, trail: Trail, queue: ScanQueue) -> None:
    await asked_for(house, sink, trail, "ten_a")
    task = await queue.claim()
    assert task is not None

    assert not queue.is_too_old(task)
    house.clock.advance(TRIED_FOR.total_seconds())
    assert queue.is_too_old(task)


async def test_a_record_that_is_offered_again_asks_for_nothing_twice(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    call = trail.call("ten_a", house.clock.now() - timedelta(seconds=1), scan=[WANTED])

    await sink.store(call)
    await sink.store(call)

    assert (await queue.backlog()).waiting == 1
    assert await house.resources.database[+Scan].count_documents({"tenant_id": "ten_a"}) == 1


async def test_the_backlog_tells_how_long_the_oldest_has_waited(
    house: House, sink: MongoSink, trail: Trail, queue: ScanQueue
) -> None:
    assert (await queue.backlog()).waiting == 0
    await asked_for(house, sink, trail, "ten_a", took_ms=0)
    house.clock.advance(59)

    backlog = await queue.backlog()

    assert (backlog.waiting, round(backlog.oldest_s)) == (1, 60)


# --- what is found -------------------------------------------------------------------------------------------


async def test_what_is_found_twice_stands_once_and_is_told_once(house: House, sink: MongoSink, trail: Trail) -> None:
    interaction = await asked_for(house, sink, trail, "ten_a")
    results = results_of(house, "ten_a")
    record = {"rid": interaction, "tenant": "ten_a", "at": 1_790_000_000_000_000}
    scan = await results.wanted(interaction)
    assert scan is not None

    added = [await results.keep(scan, record, [decision(), decision(start=40, end=50)]) for _ in range(2)]

    stored = await house.resources.database[+Violation].find({"tenant_id": "ten_a"}).to_list()
    told = [event for event in house.events.told if isinstance(event, ViolationFound)]
    assert added == [2, 0]
    assert {one["found"] for one in stored} == {event.found for event in told} == {"after"}
    assert sorted(one["_id"] for one in stored) == sorted(event.violation_id for event in told)


async def test_what_was_found_during_the_call_is_not_found_again(house: House, sink: MongoSink, trail: Trail) -> None:
    interaction = await asked_for(house, sink, trail, "ten_a", decisions=[decision()])
    results = results_of(house, "ten_a")
    scan = await results.wanted(interaction)
    assert scan is not None
    record = {"rid": interaction, "tenant": "ten_a", "at": 1_790_000_000_000_000}

    # A stream's text was in one piece then, and stands in an event's place now.
    added = await results.keep(scan, record, [decision(path="events[3].choices[0].delta.content")])

    assert added == 0


async def test_what_is_found_later_can_be_listed_by_itself(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    interaction = await asked_for(house, sink, trail, desk.tenant_id, decisions=[decision(type="IBAN")])
    results = results_of(house, desk.tenant_id)
    scan = await results.wanted(interaction)
    assert scan is not None
    record = {"rid": interaction, "tenant": desk.tenant_id, "at": 1_790_000_000_000_000}
    await results.keep(scan, record, [decision()])

    assert await desk.types(found="after") == ["EMAIL"]
    assert await desk.types(found="during") == ["IBAN"]
    [shown] = (await desk.get(found="after"))["data"]
    assert shown["found_at"] is not None


async def test_a_scan_that_nobody_asked_for_is_no_task(house: House, queue: ScanQueue) -> None:
    assert await queue.claim() is None
    assert await results_of(house, "ten_a").wanted(new_id("int")) is None
