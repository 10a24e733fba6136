import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.support.analytics import Trail
from tests.support.web import House, problem
from trueport.domains.analytics.events import ViolationFound
from trueport.domains.analytics.models import Violation
from trueport.domains.analytics.sink import MongoSink
from trueport.kit.clock import rfc3339
from trueport.kit.ids import is_id, new_id
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database

VIOLATIONS = "/trueportai-services/api/v1/analytics/violations"
TENANT = "ten_a"
UNKNOWN = f"{VIOLATIONS}/vio_{'0' * 26}"


def decision(**changes: Any) -> dict[str, Any]:
    """What the recorder writes of one finding that a policy acted on."""
    return {
        "side": "input",
        "policy_id": "pol_1",
        "policy": "no personal data leaves",
        "policy_version": 3,
        "action": "redact",
        "mode": "enforce",
        "path": "messages[0].content",
        "category": "pii",
        "type": "EMAIL",
        "start": 12,
        "end": 31,
        "score_bp": 9_700,
        "threshold_bp": 5_000,
        "detector": "patterns",
        "model": "patterns-0011223344556677",
        **changes,
    }


class Desk:
    """A member of a new tenant, at its violations."""

    def __init__(self, house: House, tenant_id: str, user_id: str, headers: dict[str, str]) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self._house = house
        self._headers = headers

    async def get(self, path: str = VIOLATIONS, **query: Any) -> Any:
        response = await self._house.client.get(path, params=query, headers=self._headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def types(self, **query: Any) -> list[str]:
        return [item["type"] for item in (await self.get(**query))["data"]]

    async def change(self, violation_id: str, **body: Any) -> Any:
        response = await self._patch(violation_id, body)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused_change(self, violation_id: str, http_status: int, code: str, **body: Any) -> None:
        problem(await self._patch(violation_id, body), http_status, code)

    async def refused(self, status: int, code: str, path: str) -> dict[str, Any]:
        return problem(await self._house.client.get(path, headers=self._headers), status, code)

    async def _patch(self, violation_id: str, body: dict[str, Any]) -> Any:
        return await self._house.client.patch(f"{VIOLATIONS}/{violation_id}", json=body, headers=self._headers)


async def desk_in(house: House, slug: str, role: Any = "admin") -> Desk:
    tenant = await house.tenant(await house.person(), slug)
    member = await house.join(tenant, role)
    return Desk(house, tenant.id, member.id, await house.as_member(member, tenant))


@pytest.mark.parametrize("path", [VIOLATIONS, UNKNOWN])
async def test_anonymous_is_refused(house: House, path: str) -> None:
    problem(await house.client.get(path), 401, "unauthenticated")
    if path == UNKNOWN:
        problem(await house.client.patch(path, json={"status": "confirmed"}), 401, "unauthenticated")


async def test_another_tenants_violation_is_not_found_and_cannot_be_changed(
    house: House, sink: MongoSink, trail: Trail
) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    await sink.store(trail.call(other.tenant_id, house.clock.now(), decisions=[decision()]))
    foreign = (await other.get())["data"][0]["id"]

    refusal = await desk.refused(404, "not_found", f"{VIOLATIONS}/{foreign}")
    unknown = await desk.refused(404, "not_found", UNKNOWN)
    await desk.refused_change(foreign, 404, "not_found", status="dismissed")

    assert {**refusal, "request_id": ""} == {**unknown, "request_id": ""}
    assert (await other.get(f"{VIOLATIONS}/{foreign}"))["status"] == "open"


async def test_another_tenants_violations_are_not_listed(house: House, sink: MongoSink, trail: Trail) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    await sink.store(trail.call(other.tenant_id, house.clock.now(), decisions=[decision()]))

    assert await desk.get() == {"data": [], "has_more": False, "next": None}


async def test_each_finding_a_policy_acted_on_is_a_violation(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    intent, outcome = trail.call(desk.tenant_id, house.clock.now(), decisions=[decision(), decision(type="IBAN")])
    await sink.store([intent, outcome])

    listed = (await desk.get())["data"]

    assert sorted(item["type"] for item in listed) == ["EMAIL", "IBAN"]
    [email] = [item for item in listed if item["type"] == "EMAIL"]
    assert is_id(email["id"], "vio")
    assert await desk.get(f"{VIOLATIONS}/{email['id']}") == email
    assert email == {
        **{name: value for name, value in decision().items() if name not in {"model", "score_bp", "threshold_bp"}},
        "score": 0.97,
        "threshold": 0.5,
        "id": email["id"],
        "created_at": rfc3339(house.clock.now() + timedelta(milliseconds=873)),
        "interaction_id": intent.record["rid"],
        "env": "prod",
        "key_id": "key_a",
        "user": None,
        "model": "gpt-4o",
        "provider": outcome.record["provider"],
        "detector_version": "patterns-0011223344556677",
        "found": "during",
        "found_at": None,
        "status": "open",
        "assignee": None,
        "labels": [],
        "entries": [],
    }


async def test_a_call_without_decisions_has_no_violation(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    await sink.store(trail.call(desk.tenant_id, house.clock.now()))

    assert (await desk.get())["data"] == []


async def test_a_record_that_is_offered_again_resets_no_case(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    records = trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()])
    await sink.store(records)
    [violation] = (await desk.get())["data"]
    await desk.change(violation["id"], status="false_positive")

    await sink.store(records)

    [again] = (await desk.get())["data"]
    assert (again["id"], again["status"]) == (violation["id"], "false_positive")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"category": "secrets"}, ["API_KEY"]),
        ({"side": "output"}, ["API_KEY"]),
        ({"action": "redact"}, ["EMAIL"]),
        ({"mode": "shadow"}, ["PROJECT"]),
        ({"policy": "project names"}, ["PROJECT"]),
        ({"status": "confirmed"}, []),
        ({"env": "dev"}, []),
        ({"key_id": "key_a"}, ["API_KEY", "EMAIL", "PROJECT"]),
        ({"from": "2001-01-01T00:00:00Z"}, ["API_KEY", "EMAIL", "PROJECT"]),
        ({"to": "2001-01-01T00:00:00Z"}, []),
    ],
)
async def test_the_list_can_be_narrowed(
    house: House, sink: MongoSink, trail: Trail, query: dict[str, str], found: list[str]
) -> None:
    desk = await desk_in(house, "acme")
    decisions = [
        decision(),
        decision(side="output", category="secrets", type="API_KEY", action="block"),
        decision(category="custom", type="PROJECT", policy="project names", action="flag", mode="shadow"),
    ]
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=decisions))

    assert sorted(await desk.types(**query)) == found


async def test_the_list_comes_in_pages_newest_first(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    for number in range(5):
        decisions = [decision(type=f"T{number}")]
        await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=decisions))
        await asyncio.sleep(0.002)  # ids sort by the millisecond they were made in

    first = await desk.get(limit=3)
    second = await desk.get(limit=3, after=first["next"])

    assert [item["type"] for item in first["data"] + second["data"]] == ["T4", "T3", "T2", "T1", "T0"]
    assert (first["has_more"], second["has_more"]) == (True, False)


async def test_a_case_keeps_who_did_what(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()]))
    [violation] = (await desk.get())["data"]

    await desk.change(violation["id"], assignee=desk.user_id, labels=["support", "q4"])
    await desk.change(violation["id"], note="Asked the team; it was a test address.")
    closed = await desk.change(violation["id"], status="dismissed", assignee=None)

    assert (closed["status"], closed["assignee"], closed["labels"]) == ("dismissed", None, ["support", "q4"])
    assert [(entry["by"], entry["note"], entry["status"]) for entry in closed["entries"]] == [
        (desk.user_id, "Asked the team; it was a test address.", None),
        (desk.user_id, None, "dismissed"),
    ]


async def test_changes_at_the_same_time_are_all_kept(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()]))
    [violation] = (await desk.get())["data"]

    await asyncio.gather(*(desk.change(violation["id"], note=f"note {number}") for number in range(3)))

    entries = (await desk.get(f"{VIOLATIONS}/{violation['id']}"))["entries"]
    assert sorted(entry["note"] for entry in entries) == ["note 0", "note 1", "note 2"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"status": "solved"}, "validation_failed"),
        ({"assignee": new_id("usr")}, "invalid_request"),
        ({"labels": [""]}, "validation_failed"),
        ({"labels": "support"}, "validation_failed"),
        ({"note": "   "}, "validation_failed"),
        ({"severity": "high"}, "validation_failed"),
    ],
    ids=["no status", "no member", "empty label", "no list", "blank note", "unknown member"],
)
async def test_a_change_that_makes_no_sense_is_refused(
    house: House, sink: MongoSink, trail: Trail, body: dict[str, Any], code: str
) -> None:
    desk = await desk_in(house, "acme")
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()]))
    [violation] = (await desk.get())["data"]

    await desk.refused_change(violation["id"], 400, code, **body)

    assert (await desk.get(f"{VIOLATIONS}/{violation['id']}")) == violation


async def test_only_those_who_may_write_change_cases(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme", "member")
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()]))
    [violation] = (await desk.get())["data"]

    await desk.refused_change(violation["id"], 403, "permission_missing", status="confirmed")


async def test_a_violation_never_outlives_its_calls_row(
    house: House, sink: MongoSink, trail: Trail, database: Database
) -> None:
    desk = await desk_in(house, "acme")
    await sink.store(trail.call(desk.tenant_id, house.clock.now(), decisions=[decision()]))

    violation = await database[+Violation].find_one({"tenant_id": desk.tenant_id})
    row = await database["interactions"].find_one({"tenant_id": desk.tenant_id})

    assert violation is not None
    assert row is not None
    assert violation["expires_at"] == row["expires_at"]


async def test_each_new_violation_is_told_once_and_without_its_text(
    house: House, store: FolderStore, trail: Trail
) -> None:
    sink = MongoSink(house.resources.database, store, events=house.events)
    call = trail.call(TENANT, house.clock.now(), decisions=[decision(), decision(type="PHONE", mode="shadow")])

    await sink.store(call)
    await sink.store(call)

    told = [event for event in house.events.told if isinstance(event, ViolationFound)]
    assert [(event.type, event.mode, event.found) for event in told] == [
        ("EMAIL", "enforce", "during"),
        ("PHONE", "shadow", "during"),
    ]
    assert {event.tenant_id for event in told} == {TENANT}
    assert all(is_id(event.violation_id, "vio") for event in told)


async def test_a_listener_that_fails_loses_no_violation(house: House, store: FolderStore, trail: Trail) -> None:
    async def fail(_: ViolationFound) -> None:
        raise RuntimeError

    house.events.listen(ViolationFound, fail)
    sink = MongoSink(house.resources.database, store, events=house.events)

    await sink.store(trail.call(TENANT, house.clock.now(), decisions=[decision()]))

    assert len([event for event in house.events.told if isinstance(event, ViolationFound)]) == 1
    assert await house.resources.database[+Violation].count_documents({"tenant_id": TENANT}) == 1


async def test_violations_are_found_by_person_and_by_type(house: House, sink: MongoSink, trail: Trail) -> None:
    desk = await desk_in(house, "acme")
    for user, kind in (("alice", "IBAN"), ("bob", "IBAN"), ("alice", "EMAIL")):
        await sink.store(trail.call(desk.tenant_id, house.clock.now(), user=user, decisions=[decision(type=kind)]))

    async def found(**query: str) -> list[tuple[str, str]]:
        return sorted((each["user"], each["type"]) for each in (await desk.get(**query))["data"])

    assert await found(user="alice") == [("alice", "EMAIL"), ("alice", "IBAN")]
    assert await found(type="IBAN") == [("alice", "IBAN"), ("bob", "IBAN")]
    assert await found(type="IBAN", user="bob") == [("bob", "IBAN")]
