import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.web import House, open_house, problem, settings_of
from trueport.app import installed_domains
from trueport.domains.config import domain
from trueport.domains.config.policies import policy_set
from trueport.domains.config.repository import ConfigurationRepository
from trueport.kit.ids import TenantId, is_id, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database

POLICIES = "/trueportai-services/api/v1/policies"
UNKNOWN = f"{POLICIES}/pol_{'0' * 26}"
RULE: dict[str, Any] = {"name": "no addresses", "when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact"}


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """An application that hosts accounts and configuration."""
    await ensure_indexes(database, domain.documents)
    async with open_house(settings_of(tmp_path), database, [*installed_domains(["auth"]), domain]) as opened:
        yield opened


class Desk:
    """A member of a new tenant, at its policies."""

    def __init__(self, house: House, tenant_id: str, headers: dict[str, str]) -> None:
        self.scope = TenantScope(TenantId(tenant_id))
        self._house = house
        self._headers = headers

    async def send(self, method: str, path: str = POLICIES, **given: Any) -> Any:
        headers = {**self._headers, **given.pop("headers", {})}
        return await self._house.client.request(method, path, headers=headers, **given)

    async def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.send("GET")).json()["data"]
        return found

    async def create(self, **members: Any) -> dict[str, Any]:
        response = await self.send("POST", json={**RULE, **members})
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made


async def desk_in(house: House, slug: str, role: Any = "admin") -> Desk:
    tenant = await house.tenant(await house.person(), slug)
    member = await house.join(tenant, role)
    return Desk(house, tenant.id, await house.as_member(member, tenant))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", POLICIES),
        ("POST", POLICIES),
        ("GET", UNKNOWN),
        ("PATCH", UNKNOWN),
        ("PUT", UNKNOWN),
        ("DELETE", UNKNOWN),
        ("GET", f"{POLICIES}/presets"),
        ("POST", f"{POLICIES}/presets/pci"),
        ("GET", f"{POLICIES}/versions"),
        ("GET", f"{POLICIES}/versions/1"),
        ("POST", f"{POLICIES}/versions/1/restore"),
    ],
)
async def test_anonymous_is_refused(house: House, method: str, path: str) -> None:
    problem(await house.client.request(method, path), 401, "unauthenticated")


async def test_another_tenants_policy_is_not_found(house: House) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    foreign = f"{POLICIES}/{(await other.create())['id']}"

    for method, given in (
        ("GET", {}),
        ("PATCH", {"json": {"action": "block"}}),
        ("PUT", {"json": RULE}),
        ("DELETE", {}),
    ):
        refusal = problem(await desk.send(method, foreign, **given), 404, "not_found")
        unknown = problem(await desk.send(method, UNKNOWN, **given), 404, "not_found")
        assert {**refusal, "request_id": ""} == {**unknown, "request_id": ""}
    assert [policy["action"] for policy in await other.list()] == ["redact"]


async def test_another_tenants_policies_are_not_listed(house: House) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    await other.create()

    assert (await desk.send("GET")).json() == {"data": [], "has_more": False, "next": None}


async def test_a_policy_is_made_shown_changed_and_deleted(house: House) -> None:
    desk = await desk_in(house, "acme")

    made = await desk.create(priority=4)
    assert is_id(made["id"], "pol")
    assert (made["version"], made["mode"], made["on"], made["priority"]) == (1, "enforce", ["input", "output"], 4)
    path = f"{POLICIES}/{made['id']}"
    assert (await desk.send("GET", path)).json() == made
    changed = (await desk.send("PATCH", path, json={"mode": "shadow", "when": {"category": "secrets"}})).json()
    assert changed == {**made, "version": 2, "mode": "shadow", "when": {"category": "secrets"}}
    assert await desk.list() == [changed]
    assert (await desk.send("DELETE", path)).status_code == 204
    assert await desk.list() == []


async def test_each_change_makes_a_new_version_of_all_policies(house: House, database: Database) -> None:
    desk = await desk_in(house, "acme")
    configurations = ConfigurationRepository(database, desk.scope)

    made = await desk.create()
    path = f"{POLICIES}/{made['id']}"
    await desk.send("PATCH", path, json={"action": "block"})
    await desk.send("PATCH", path, json={"action": "block"})

    current = await configurations.current()
    compiled = policy_set(current)
    assert compiled is not None
    # The second change changed nothing.
    assert (compiled.version, [policy.version for policy in compiled.policies]) == (2, [2])
    assert current is not None
    assert current.version == 2


async def test_a_change_keeps_the_rest_of_the_configuration(house: House, database: Database) -> None:
    desk = await desk_in(house, "acme")
    configurations = ConfigurationRepository(database, desk.scope)
    await desk.create()
    current = await configurations.current()
    assert current is not None
    await configurations.replace(current.model_copy(update={"requests_per_minute": 77}))

    await desk.create(name="another")

    after = await configurations.current()
    assert after is not None
    assert (after.requests_per_minute, len(after.policies)) == (77, 2)


async def test_policies_made_at_the_same_time_are_all_kept(house: House) -> None:
    desk = await desk_in(house, "acme")

    await asyncio.gather(*(desk.create(name=f"rule {number}") for number in range(4)))

    assert sorted(policy["name"] for policy in await desk.list()) == [f"rule {number}" for number in range(4)]


async def test_a_repeated_creation_makes_one_policy(house: House) -> None:
    desk = await desk_in(house, "acme")
    headers = {"idempotency-key": "once"}

    first = await desk.send("POST", json=RULE, headers=headers)
    second = await desk.send("POST", json=RULE, headers=headers)

    assert first.json() == second.json()
    assert len(await desk.list()) == 1


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"when": {"category": "gossip"}}, 400, "validation_failed"),
        ({"when": {"regex": "(a"}}, 422, "invalid_policy"),
        ({"when": {}}, 422, "invalid_policy"),
        ({"severity": "high"}, 400, "validation_failed"),
        ({"name": ""}, 400, "validation_failed"),
    ],
)
async def test_a_policy_that_makes_no_sense_is_refused(
    house: House, members: dict[str, Any], status: int, code: str
) -> None:
    desk = await desk_in(house, "acme")
    made = await desk.create(name="first")

    problem(await desk.send("POST", json={**RULE, **members}), status, code)
    problem(await desk.send("PATCH", f"{POLICIES}/{made['id']}", json=members), status, code)

    assert await desk.list() == [made]


async def test_a_name_is_taken_once(house: House) -> None:
    desk = await desk_in(house, "acme")
    await desk.create()

    told = problem(await desk.send("POST", json=RULE), 422, "invalid_policy")

    assert "two policies are called 'no addresses'" in told["detail"]


async def test_members_read_policies_and_only_admins_write_them(house: House) -> None:
    desk = await desk_in(house, "acme", "member")

    assert await desk.list() == []
    problem(await desk.send("POST", json=RULE), 403, "permission_missing")


# --- presets -----------------------------------------------------------------------------------------------------


async def test_presets_are_listed_with_what_they_stand_for(house: House) -> None:
    desk = await desk_in(house, "acme", "member")

    listed = (await desk.send("GET", f"{POLICIES}/presets")).json()["data"]

    [cards] = [preset for preset in listed if preset["name"] == "pci"]
    assert "Payment cards" in cards["description"]
    assert [policy["name"] for policy in cards["policies"]] == ["pci: card numbers", "pci: card security codes"]
    assert await desk.list() == []


async def test_a_preset_becomes_policies_with_members_of_one_s_own(house: House) -> None:
    desk = await desk_in(house, "acme")

    response = await desk.send(
        "POST", f"{POLICIES}/presets/hipaa", json={"mode": "shadow", "when": {"min_score": 0.5}, "priority": 3}
    )

    assert response.status_code == 201, response.text
    made = response.json()
    assert made["id"] == "hipaa"
    # `min_score` makes no sense where nothing is scored, and does no harm there.
    assert {(policy["mode"], policy["priority"]) for policy in made["policies"]} == {("shadow", 3)}
    assert await desk.list() == made["policies"]


async def test_a_preset_that_is_taken_twice_makes_its_policies_once(house: House) -> None:
    desk = await desk_in(house, "acme")
    headers = {"idempotency-key": "once"}

    first = await desk.send("POST", f"{POLICIES}/presets/pci", json={}, headers=headers)
    again = await desk.send("POST", f"{POLICIES}/presets/pci", json={}, headers=headers)
    told = problem(await desk.send("POST", f"{POLICIES}/presets/pci", json={}), 422, "invalid_policy")

    assert first.json() == again.json()
    assert "two policies are called 'pci: card numbers'" in told["detail"]
    assert len(await desk.list()) == 2


async def test_an_unknown_preset_is_not_found_and_told_with_those_there_are(house: House) -> None:
    desk = await desk_in(house, "acme")

    told = problem(await desk.send("POST", f"{POLICIES}/presets/gentle", json={}), 404, "not_found")

    assert "known are strict, balanced, monitor" in told["detail"]


async def test_a_change_that_makes_no_sense_of_a_preset_creates_nothing(house: House) -> None:
    desk = await desk_in(house, "acme")

    problem(await desk.send("POST", f"{POLICIES}/presets/strict", json={"action": "redact"}), 422, "invalid_policy")
    problem(await desk.send("POST", f"{POLICIES}/presets/strict", json={"colour": "red"}), 400, "validation_failed")

    assert await desk.list() == []


async def test_only_admins_take_presets_and_restore_versions(house: House) -> None:
    desk = await desk_in(house, "acme", "member")

    problem(await desk.send("POST", f"{POLICIES}/presets/pci", json={}), 403, "permission_missing")
    problem(await desk.send("POST", f"{POLICIES}/versions/1/restore"), 403, "permission_missing")


# --- topics ------------------------------------------------------------------------------------------------------

TOPIC: dict[str, Any] = {"topics": [{"name": "law", "examples": [f"example {number}" for number in range(5)]}]}


async def test_topics_are_refused_where_the_engine_has_no_model(house: House) -> None:
    desk = await desk_in(house, "acme")
    made = await desk.create()

    for method, path in (("POST", POLICIES), ("PATCH", f"{POLICIES}/{made['id']}")):
        told = problem(
            await desk.send(method, path, json={**RULE, "name": "law", "when": TOPIC, "action": "flag"}),
            422,
            "invalid_policy",
        )
        assert "TRUEPORT_DETECTION_URL to onnx:" in told["detail"]

    assert await desk.list() == [made]


async def test_topics_are_taken_where_it_has_one(tmp_path: Path, database: Database) -> None:
    await ensure_indexes(database, domain.documents)
    settings = settings_of(tmp_path, TRUEPORT_DETECTION_URL="onnx:")
    async with open_house(settings, database, [*installed_domains(["auth"]), domain]) as house:
        desk = await desk_in(house, "acme")

        made = await desk.create(when=TOPIC, action="flag")

        assert made["when"] == TOPIC


# --- at the same time ---------------------------------------------------------------------------------------------


async def test_a_change_to_another_version_than_the_one_that_was_read_is_refused(house: House) -> None:
    desk = await desk_in(house, "acme")
    path = f"{POLICIES}/{(await desk.create())['id']}"
    tag = (await desk.send("GET", path)).headers["etag"]
    changed = await desk.send("PATCH", path, json={"priority": 1}, headers={"if-match": tag})

    for method, given in (("PATCH", {"json": {"priority": 2}}), ("PUT", {"json": RULE}), ("DELETE", {})):
        for stale in (tag, "no tag at all", ""):
            problem(await desk.send(method, path, headers={"if-match": stale}, **given), 412, "precondition_failed")

    assert changed.headers["etag"] == '"2"' != tag
    assert [policy["priority"] for policy in await desk.list()] == [1]
    for fresh in ("*", f'{tag}, "2"'):
        assert (await desk.send("PATCH", path, json={"priority": 1}, headers={"if-match": fresh})).status_code == 200


async def test_a_policy_that_is_put_has_nothing_of_the_one_before(house: House) -> None:
    desk = await desk_in(house, "acme")
    made = await desk.create(priority=4, mode="shadow")

    put = (await desk.send("PUT", f"{POLICIES}/{made['id']}", json={**RULE, "action": "block"})).json()

    assert put == {**made, "version": 2, "priority": 0, "mode": "enforce", "action": "block"}


# --- versions ----------------------------------------------------------------------------------------------------


async def test_another_tenants_versions_are_neither_listed_nor_found(house: House) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    await other.create()

    assert (await desk.send("GET", f"{POLICIES}/versions")).json() == {"data": [], "has_more": False, "next": None}
    for number in ("1", "0", "-1", "99999999999999999999"):
        problem(await desk.send("GET", f"{POLICIES}/versions/{number}"), 404, "not_found")
        problem(await desk.send("POST", f"{POLICIES}/versions/{number}/restore"), 404, "not_found")
    assert len(await other.list()) == 1


async def test_each_version_says_when_who_and_what(house: House, database: Database) -> None:
    desk = await desk_in(house, "acme")
    first, second = await desk.create(), await desk.create(name="keys")
    await desk.send("PATCH", f"{POLICIES}/{first['id']}", json={"action": "block", "name": "no mail"})
    await desk.send("DELETE", f"{POLICIES}/{second['id']}")
    # Another version of the configuration with the same policies.
    configurations = ConfigurationRepository(database, desk.scope)
    current = await configurations.current()
    assert current is not None
    await configurations.insert(current.model_copy(update={"id": new_id("cfg"), "version": current.version + 1}))

    listed = (await desk.send("GET", f"{POLICIES}/versions")).json()

    told = [(one["version"], one["count"], one["added"], one["changed"], one["removed"]) for one in listed["data"]]
    assert told == [
        (4, 1, [], [], ["keys"]),
        (3, 2, [], ["no mail"], []),
        (2, 2, ["keys"], [], []),
        (1, 1, ["no addresses"], [], []),
    ]
    assert listed["has_more"] is False
    assert {one["changed_by"] for one in listed["data"]} == {current.changed_by}
    assert all(one["created_at"] for one in listed["data"])


async def test_versions_come_in_pages(house: House) -> None:
    desk = await desk_in(house, "acme")
    for number in range(5):
        await desk.create(name=f"rule {number}")
    path, seen = f"{POLICIES}/versions?limit=2", []

    following: str | None = ""
    while following is not None:
        page = (await desk.send("GET", f"{path}&after={following}" if following else path)).json()
        seen += [(one["version"], one["added"]) for one in page["data"]]
        following = page["next"]
        assert page["has_more"] is (following is not None)

    assert seen == [(number, [f"rule {number - 1}"]) for number in (5, 4, 3, 2, 1)]
    problem(await desk.send("GET", f"{path}&after=x"), 400, "invalid_request")


async def test_a_version_is_shown_whole(house: House) -> None:
    desk = await desk_in(house, "acme")
    made = await desk.create()
    await desk.send("PATCH", f"{POLICIES}/{made['id']}", json={"action": "block"})

    shown = (await desk.send("GET", f"{POLICIES}/versions/1")).json()

    assert (shown["version"], shown["added"], shown["policies"]) == (1, ["no addresses"], [made])


async def test_restoring_a_version_makes_a_new_one_with_its_content(house: House) -> None:
    desk = await desk_in(house, "acme")
    kept, changed, gone = [await desk.create(name=name) for name in ("kept", "changed", "gone")]
    for action in ("block", "flag"):
        await desk.send("PATCH", f"{POLICIES}/{changed['id']}", json={"action": action})
        await desk.send("PATCH", f"{POLICIES}/{gone['id']}", json={"action": action})
    await desk.send("DELETE", f"{POLICIES}/{gone['id']}")
    await desk.create(name="later")

    restored = (await desk.send("POST", f"{POLICIES}/versions/3/restore")).json()

    assert (restored["version"], restored["added"], restored["changed"], restored["removed"]) == (
        10, ["gone"], ["changed"], ["later"],
    )  # fmt: skip
    # A version that a policy had before is never given to it again with another content.
    assert await desk.list() == [kept, {**changed, "version": 4}, {**gone, "version": 4}]
    again = (await desk.send("POST", f"{POLICIES}/versions/3/restore")).json()
    assert again["version"] == 10
