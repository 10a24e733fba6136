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
from trueport.kit.ids import TenantId, is_id
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
    [("GET", POLICIES), ("POST", POLICIES), ("GET", UNKNOWN), ("PATCH", UNKNOWN), ("DELETE", UNKNOWN)],
)
async def test_anonymous_is_refused(house: House, method: str, path: str) -> None:
    problem(await house.client.request(method, path), 401, "unauthenticated")


async def test_another_tenants_policy_is_not_found(house: House) -> None:
    desk, other = await desk_in(house, "acme"), await desk_in(house, "globex")
    foreign = f"{POLICIES}/{(await other.create())['id']}"

    for method, given in (("GET", {}), ("PATCH", {"json": {"action": "block"}}), ("DELETE", {})):
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
