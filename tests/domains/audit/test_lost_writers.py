"""Writers that fall silent for good: which are taken for lost, when, and that it is recorded once."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support.analytics import Trail as Chain
from tests.support.mongo import TENANT_COLLECTIONS
from tests.support.web import House
from trueport.audit.shipper import ShippedRecord
from trueport.domains.analytics.api import AuditWriter, MongoSink
from trueport.domains.audit import domain
from trueport.domains.audit.lost_writers import EVERY_S, LOST_AFTER, WATCHED_FOR, LostWriters, Silence
from trueport.domains.auth.api import work_scope
from trueport.kit.clock import to_epoch_us
from trueport.storage.mongo import StoreUnavailable
from trueport.web.trail import trail_of

TENANT_COLLECTIONS.add(+AuditWriter)

DAY_S = LOST_AFTER.total_seconds() + 1
WATCH_S = WATCHED_FOR.total_seconds() + 1


@dataclass
class Office:
    """A tenant, and a writer of another machine whose records come to the database."""

    house: House
    sink: MongoSink
    tenant: str
    chain: Chain

    def record(self, kind: Any, rid: str, **fields: Any) -> ShippedRecord:
        return self.chain.record(kind, rid, self.tenant, to_epoch_us(self.house.clock.now()), fields)

    async def begin(self) -> None:
        await self.sink.store([self.record("intent", "int_1", heartbeat_s=60, started_at=1)])

    async def look(self) -> Silence:
        resources = self.house.resources
        scope = work_scope(self.tenant)
        return await LostWriters(resources.database, scope, trail_of(resources), resources.clock).look()

    async def look_after(self, *pauses_s: float) -> list[Silence]:
        found = []
        for pause_s in pauses_s:
            self.house.clock.advance(pause_s)
            found.append(await self.look())
        return found

    def lost(self) -> list[dict[str, Any]]:
        return [record for record in self.house.records(self.tenant) if record["kind"] == "lost_writer"]


@pytest.fixture
async def office(house: House, sink: MongoSink) -> Office:
    tenant = await house.tenant(await house.person())
    return Office(house, sink, tenant.id, Chain("gone.7.18c"))


async def test_a_writer_with_an_open_call_is_recorded_as_lost_after_a_day(office: Office) -> None:
    await office.begin()
    began_us = to_epoch_us(office.house.clock.now())

    found = await office.look_after(1.0, 400.0, DAY_S, WATCH_S)

    assert found == [Silence(0, 0), Silence(1, 0), Silence(1, 0), Silence(1, 1)]
    (record,) = office.lost()
    assert (record["of"], record["records"], record["last_at"]) == ("gone.7.18c", 1, began_us)


async def test_a_loss_is_recorded_once_by_any_of_many_processes(office: Office) -> None:
    await office.begin()
    await office.look_after(DAY_S)
    office.house.clock.advance(WATCH_S)

    found = await asyncio.gather(*(office.look() for _ in range(8)))

    assert sum(each.lost for each in found) == 1
    assert len(office.lost()) == 1


async def test_a_recorded_loss_is_not_recorded_again(office: Office) -> None:
    await office.begin()
    await office.look_after(DAY_S, WATCH_S)
    (record,) = office.lost()
    told = Chain("alive.1.1").record("lost_writer", "los_1", office.tenant, record["at"], {"of": "gone.7.18c"})
    await office.sink.store([told])

    found = await office.look_after(DAY_S, WATCH_S, DAY_S)

    assert found == [Silence()] * 3
    assert len(office.lost()) == 1


async def test_a_process_that_died_before_it_had_recorded_the_loss_leaves_it_to_another(office: Office) -> None:
    await office.begin()
    await office.look_after(DAY_S, WATCH_S)

    found = await office.look_after(60.0, 3_600.0)

    # Its record never reached the database, or the writer would have ended there.
    assert [each.lost for each in found] == [0, 1]


async def test_a_chain_that_ends_in_a_heartbeat_without_open_calls_is_at_rest(office: Office) -> None:
    await office.begin()
    await office.sink.store(
        [office.record("outcome", "int_1", started_at=1, end="completed"), office.record("heartbeat", "hbt_1", open=0)]
    )

    found = await office.look_after(400.0, DAY_S, WATCH_S, DAY_S)

    assert found == [Silence()] * 4
    assert office.lost() == []


async def test_a_heartbeat_with_an_open_call_is_no_end(office: Office) -> None:
    await office.begin()
    await office.sink.store([office.record("heartbeat", "hbt_1", open=1)])

    found = await office.look_after(DAY_S, WATCH_S)

    assert [each.lost for each in found] == [0, 1]
    assert office.lost()[0]["records"] == 2


async def test_a_writer_that_was_at_rest_for_days_can_still_be_lost(office: Office) -> None:
    await office.begin()
    await office.sink.store(
        [office.record("outcome", "int_1", started_at=1, end="completed"), office.record("heartbeat", "hbt_1", open=0)]
    )
    await office.look_after(DAY_S)

    await office.sink.store(
        [office.record("intent", "int_2", started_at=1), office.record("heartbeat", "hbt_2", open=1)]
    )
    found = await office.look_after(DAY_S, WATCH_S)

    assert [each.lost for each in found] == [0, 1]


async def test_a_writer_whose_journal_was_adopted_is_not_lost(office: Office) -> None:
    await office.begin()
    adopter = Chain("alive.1.1")
    at_us = to_epoch_us(office.house.clock.now())
    ended = adopter.record("heartbeat", "hbt_9", office.tenant, at_us, {"of": "gone.7.18c", "records": 1})
    await office.sink.store([ended])

    assert await office.look_after(DAY_S, WATCH_S) == [Silence()] * 2
    assert office.lost() == []


async def test_writers_that_promise_no_heartbeats_are_not_watched(office: Office) -> None:
    await office.sink.store([office.record("intent", "int_1", started_at=1)])

    assert await office.look_after(DAY_S, WATCH_S) == [Silence()] * 2


async def test_a_database_that_was_away_makes_nobody_look_lost(office: Office) -> None:
    await office.begin()
    late = [
        office.record("outcome", "int_1", started_at=1, end="completed"),
        office.record("heartbeat", "hbt_1", open=0),
    ]

    found = await office.look_after(2 * DAY_S)
    # It is back, and what was written meanwhile comes in.
    await office.sink.store(late)
    found += await office.look_after(WATCH_S, DAY_S)

    assert sum(each.lost for each in found) == 0


async def test_an_outcome_that_arrives_after_the_loss_stands_beside_it(office: Office) -> None:
    await office.begin()
    await office.look_after(DAY_S, WATCH_S)

    await office.sink.store([office.record("outcome", "int_1", started_at=1, end="completed")])

    names = {each["_id"] for each in await _stored(office)}
    assert {"int_1#intent", "int_1#outcome"} <= names
    assert len(office.lost()) == 1


async def test_what_another_tenants_writers_do_is_not_looked_at(office: Office) -> None:
    await office.begin()
    rival = await office.house.tenant(await office.house.person(), "rival")
    resources = office.house.resources
    office.house.clock.advance(DAY_S)

    found = await LostWriters(resources.database, work_scope(rival.id), trail_of(resources), resources.clock).look()

    assert found == Silence()


async def test_the_job_counts_the_silent_and_the_lost_of_every_tenant(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = [each for each in domain.jobs if each.name == "find lost writers"]
    await office.begin()
    before = REGISTRY.get_sample_value("trueport_audit_writers_lost_total") or 0.0

    for pause_s in (DAY_S, WATCH_S):
        office.house.clock.advance(pause_s)
        await job.run(office.house.resources)
    silent = REGISTRY.get_sample_value("trueport_audit_writers_silent")

    async def away(self: LostWriters) -> Silence:
        raise StoreUnavailable

    monkeypatch.setattr(LostWriters, "look", away)
    await job.run(office.house.resources)

    assert job.every_s == EVERY_S
    assert timedelta(seconds=EVERY_S) < LOST_AFTER
    assert silent == 1.0
    assert REGISTRY.get_sample_value("trueport_audit_writers_lost_total") == before + 1.0


async def _stored(office: Office) -> list[dict[str, Any]]:
    found = office.house.resources.database["audit_records"].find({"tenant_id": office.tenant})
    return list(await found.to_list())
