"""Replays asked for over HTTP: what they come to, whose they are, how many at once, and what becomes of lost ones."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.domains.analytics.test_replays import PERIOD, START, blocking_from, ended, stored
from tests.support.analytics import Trail
from tests.support.web import House, problem
from trueport.domains.analytics.api import diff_members, proposed_set, replay_policies
from trueport.domains.analytics.models import PolicyReplay
from trueport.domains.analytics.replay_runs import LOST_AFTER, MOST_AT_ONCE, PolicyReplays, ReplayRunner
from trueport.kit.clock import rfc3339
from trueport.kit.ids import TenantId, new_id
from trueport.kit.principal import Role
from trueport.kit.tenancy import TenantScope

REPLAYS = "/trueportai-services/api/v1/policies/replays"
PROPOSED = [{"name": "pii", "when": {"category": "pii", "min_score": 0.5}, "action": "block"}]
BODY = {"from": rfc3339(PERIOD[0]), "to": rfc3339(PERIOD[1]), "policies": PROPOSED}


class Desk:
    """A member of a new tenant."""

    def __init__(self, house: House, tenant_id: str, headers: dict[str, str]) -> None:
        self.scope = TenantScope(TenantId(tenant_id))
        self._house = house
        self._headers = headers

    async def get(self, path: str = REPLAYS) -> Any:
        return await self._house.client.get(path, headers=self._headers)

    async def ask(self, **changes: Any) -> Any:
        return await self._house.client.post(REPLAYS, json={**BODY, **changes}, headers=self._headers)

    async def ended(self, replay_id: str) -> dict[str, Any]:
        """The replay once it has ended."""
        async with asyncio.timeout(30):
            while True:
                found: dict[str, Any] = (await self.get(f"{REPLAYS}/{replay_id}")).json()
                if found["state"] in ("done", "failed"):
                    return found
                await asyncio.sleep(0.02)

    async def opened(self) -> PolicyReplay:
        """A replay of another process, which has just begun."""
        now = self._house.clock.now()
        replay = PolicyReplay(
            id=new_id("rpl"), tenant_id=self.scope.tenant_id, created_at=now, expires_at=now + timedelta(days=1),
            created_by="usr_other", since=PERIOD[0], until=PERIOD[1], policies=[], state="running", beat_at=now,
        )  # fmt: skip
        return await PolicyReplays(self._house.resources.database, self.scope).insert(replay)


async def desk_of(house: House, slug: str, role: Role = "admin") -> Desk:
    owner = await house.person()
    tenant = await house.tenant(owner, slug)
    member = await house.join(tenant, role)
    return Desk(house, tenant.id, await house.as_member(member, tenant))


@pytest.fixture
async def desk(house: House) -> Desk:
    return await desk_of(house, "acme")


async def test_a_replay_over_http_comes_to_what_the_command_line_prints(house: House, desk: Desk, trail: Trail) -> None:
    tenant_id, database = desk.scope.tenant_id, house.resources.database
    scores = [0.2, 0.6, 0.9, 0.4]
    records = [
        ended(trail, tenant_id, START + timedelta(seconds=number), score, "allow")
        for number, score in enumerate(scores)
    ]
    await stored(database, [*records, ended(trail, "ten_other", START, 0.9, "allow")])

    asked = await desk.ask()
    found = await desk.ended(asked.json()["id"])

    assert asked.status_code == 201
    assert (found["state"], found["done"], found["total"], found["problem"]) == ("done", 4, 4, None)
    decisions = {tuple(line["of"]): line["count"] for line in found["result"]["decisions"]}
    assert decisions == {("allow", "allow"): 2, ("allow", "block"): 2}
    assert {one["interaction"] for one in found["result"]["changed"]} == {
        records[number].record["rid"] for number in (1, 2)
    }
    told: list[tuple[int, int]] = []
    diff = await replay_policies(
        database, desk.scope, proposed_set(PROPOSED), period=PERIOD, progress=lambda *each: told.append(each)
    )
    assert found["result"] == diff_members(diff)
    assert told[-1] == (found["done"], found["total"])
    assert found["policies"][0]["name"] == "pii"
    listing = (await desk.get()).json()
    assert [one["id"] for one in listing["data"]] == [found["id"]]
    assert "result" not in listing["data"][0]


async def test_nobody_without_the_permission_starts_a_replay(house: House) -> None:
    member = await desk_of(house, "acme", "member")
    viewer = await desk_of(house, "rival", "viewer")

    problem(await house.client.post(REPLAYS, json=BODY), 401, "unauthenticated")
    problem(await member.ask(), 403, "permission_missing")
    problem(await viewer.get(), 403, "permission_missing")
    assert (await member.get()).status_code == 200


async def test_another_tenants_replay_is_not_found_and_its_list_is_empty(house: House, desk: Desk) -> None:
    replay_id = (await desk.ask()).json()["id"]
    await desk.ended(replay_id)
    rival = await desk_of(house, "rival")

    problem(await rival.get(f"{REPLAYS}/{replay_id}"), 404, "not_found")
    assert (await rival.get()).json()["data"] == []


async def test_what_cannot_be_replayed_is_refused_with_every_reason(desk: Desk) -> None:
    twice = problem(
        await desk.ask(policies=[*PROPOSED, {"name": "bad", "when": {"regex": "("}}]), 400, "invalid_request"
    )
    problem(await desk.ask(to=BODY["from"]), 400, "invalid_request")
    problem(await desk.ask(**{"from": "yesterday"}), 400, "invalid_request")

    assert [error["field"] for error in twice["errors"]] == ["policies"]
    assert "'bad'" in twice["errors"][0]["message"]
    assert (await desk.get()).json()["data"] == []


async def test_a_tenant_has_so_many_replays_at_once_and_no_more(house: House, desk: Desk) -> None:
    for _ in range(MOST_AT_ONCE):
        await desk.opened()

    problem(await desk.ask(), 409, "too_many_replays")
    rival = await desk_of(house, "rival")

    assert (await rival.ask()).status_code == 201
    assert len((await desk.get()).json()["data"]) == MOST_AT_ONCE


async def test_a_replay_whose_process_is_gone_is_failed_and_makes_room(house: House, desk: Desk) -> None:
    lost = [await desk.opened() for _ in range(MOST_AT_ONCE)]
    house.clock.advance(LOST_AFTER.total_seconds() + 1)

    asked = await desk.ask()

    assert asked.status_code == 201
    found = await desk.ended(lost[0].id)
    assert (found["state"], found["problem"]) == ("failed", "interrupted")


async def test_a_process_that_stops_says_which_replays_it_leaves(house: House, desk: Desk) -> None:
    runner = ReplayRunner(house.resources.database, house.clock)
    replay = await desk.opened()
    runner.start(desk.scope, replay, blocking_from(0.5))

    await runner.stop()

    found = await desk.ended(replay.id)
    assert (found["state"], found["problem"]) == ("failed", "interrupted")


async def test_beats_keep_a_replay_that_takes_long(house: House, desk: Desk) -> None:
    runner = ReplayRunner(house.resources.database, house.clock)
    waiting, lost = await desk.opened(), await desk.opened()
    async with runner._turn:  # another one's turn, for as long as this takes
        runner.start(desk.scope, waiting, blocking_from(0.5))
        house.clock.advance(LOST_AFTER.total_seconds() + 1)
        await runner.beat()

        states = {one["id"]: one["state"] for one in (await desk.get()).json()["data"]}

    await desk.ended(waiting.id)
    assert states == {waiting.id: "running", lost.id: "failed"}
