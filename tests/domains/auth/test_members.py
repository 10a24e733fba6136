"""Members of a tenant, and what they may do to each other."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.web import House, problem
from trueport.domains.auth.events import MemberChanged
from trueport.domains.auth.models import Tenant, User
from trueport.domains.auth.repository import Memberships
from trueport.kit.ids import TenantId, UserId
from trueport.kit.principal import Role
from trueport.kit.tenancy import TenantScope
from trueport.storage.revisions import revisions

MEMBERS = "/platform/api/service/members"


async def send(house: House, by: User, tenant: Tenant, act: str, body: Any = None) -> httpx.Response:
    """act: the method, and what follows the collection's path, such as `DELETE /mem_…`."""
    method, _, path = act.partition(" ")
    return await house.client.request(method, MEMBERS + path, json=body, headers=await house.as_member(by, tenant))


async def membership_of(house: House, tenant: Tenant, user: User) -> str:
    found = await Memberships(house.resources.database, TenantScope(TenantId(tenant.id))).of_user(UserId(user.id))
    assert found is not None
    return found.id


async def role_of(house: House, tenant: Tenant, user: User) -> Role | None:
    found = await Memberships(house.resources.database, TenantScope(TenantId(tenant.id))).of_user(UserId(user.id))
    return found.role if found else None


async def test_anonymous_is_refused(house: House) -> None:
    problem(await house.client.get(MEMBERS), 401, "unauthenticated")


async def test_another_tenants_member_is_not_found(house: House) -> None:
    owner, rival = await house.person(), await house.person()
    tenant, _ = await house.tenant(owner), await house.tenant(rival, "rival")
    member = await membership_of(house, await house.tenant(rival, "third"), rival)

    problem(await send(house, owner, tenant, f"PATCH /{member}", {"role": "viewer"}), 404, "not_found")
    problem(await send(house, owner, tenant, f"DELETE /{member}"), 404, "not_found")
    assert (await house.client.get(MEMBERS, headers=await house.as_member(owner, tenant))).status_code == 200


async def test_another_tenants_members_are_not_listed(house: House) -> None:
    owner, rival = await house.person("owner@acme.example"), await house.person("rival@evil.example")
    tenant, _ = await house.tenant(owner), await house.tenant(rival, "rival")

    listing = (await send(house, owner, tenant, "GET")).json()

    assert [member["email"] for member in listing["data"]] == ["owner@acme.example"]
    assert listing["has_more"] is False


async def test_somebody_with_an_account_is_added(house: House) -> None:
    owner, ada = await house.person(), await house.person("ada@lovelace.example")
    tenant = await house.tenant(owner)
    before = (await revisions(house.resources.database, [TenantId(tenant.id)]))[TenantId(tenant.id)]

    answer = await send(house, owner, tenant, "POST", body={"email": "ADA@lovelace.example", "role": "member"})

    assert answer.status_code == 201
    assert (answer.json()["user_id"], answer.json()["role"]) == (ada.id, "member")
    assert answer.json()["id"].startswith("mem_")
    assert MemberChanged(TenantId(tenant.id), UserId(ada.id), "member") in house.events.told
    assert (await revisions(house.resources.database, [TenantId(tenant.id)]))[TenantId(tenant.id)] == before + 1
    twice = await send(house, owner, tenant, "POST", body={"email": "ada@lovelace.example", "role": "member"})
    problem(twice, 409, "already_member")


async def test_nobody_is_added_under_an_unknown_address(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)

    answer = await send(house, owner, tenant, "POST", body={"email": "nobody@nowhere.example", "role": "viewer"})

    assert "nowhere" not in str(problem(answer, 404, "not_found"))


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
async def test_an_admin_grants_up_to_their_own_role(house: House, role: str) -> None:
    tenant = await house.tenant(await house.person())
    admin = await house.join(tenant, "admin")
    await house.person("new@acme.example")

    answer = await send(house, admin, tenant, "POST", body={"email": "new@acme.example", "role": role})

    assert answer.status_code == 201


async def test_an_admin_makes_no_owners_and_does_not_touch_any(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    admin, viewer = await house.join(tenant, "admin"), await house.join(tenant, "viewer")
    await house.person("new@acme.example")
    owners, admins = await membership_of(house, tenant, owner), await membership_of(house, tenant, admin)

    for act, body in (
        ("POST", {"email": "new@acme.example", "role": "owner"}),
        (f"PATCH /{owners}", {"role": "viewer"}),
        (f"DELETE /{owners}", None),
        (f"PATCH /{admins}", {"role": "owner"}),
        (f"PATCH /{await membership_of(house, tenant, viewer)}", {"role": "owner"}),
    ):
        problem(await send(house, admin, tenant, act, body), 403, "role_too_high")
    assert await role_of(house, tenant, owner) == "owner"
    assert await role_of(house, tenant, admin) == "admin"
    assert await role_of(house, tenant, viewer) == "viewer"


@pytest.mark.parametrize("role", ["viewer", "member"])
async def test_nobody_below_admin_changes_their_own_role(house: House, role: Role) -> None:
    tenant = await house.tenant(await house.person())
    user = await house.join(tenant, role)
    own = await membership_of(house, tenant, user)

    problem(await send(house, user, tenant, f"PATCH /{own}", {"role": "admin"}), 403, "permission_missing")
    assert await role_of(house, tenant, user) == role


async def test_the_last_owner_neither_steps_down_nor_leaves(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    own = await membership_of(house, tenant, owner)

    problem(await send(house, owner, tenant, f"PATCH /{own}", {"role": "admin"}), 409, "last_owner")
    problem(await send(house, owner, tenant, f"DELETE /{own}"), 409, "last_owner")
    assert await role_of(house, tenant, owner) == "owner"
    assert await membership_of(house, tenant, owner) == own

    second = await house.join(tenant, "owner")
    assert (await send(house, owner, tenant, f"PATCH /{own}", {"role": "admin"})).status_code == 200
    assert await role_of(house, tenant, owner) == "admin"
    assert await role_of(house, tenant, second) == "owner"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_two_owners_who_leave_at_once_do_not_both_leave(house: House, method: str) -> None:
    one = await house.person()
    tenant = await house.tenant(one)
    two = await house.join(tenant, "owner")
    body = {"role": "viewer"} if method == "PATCH" else None

    acts = [(owner, f"{method} /{await membership_of(house, tenant, owner)}") for owner in (one, two)]

    answers = await asyncio.gather(*(send(house, owner, tenant, act, body) for owner, act in acts))

    assert sum(answer.status_code < 300 for answer in answers) <= 1
    assert "owner" in {await role_of(house, tenant, one), await role_of(house, tenant, two)}


async def test_a_removed_member_is_out_at_once(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    admin = await house.join(tenant, "admin")
    headers = await house.as_member(admin, tenant)
    assert (await house.client.get(MEMBERS, headers=headers)).status_code == 200

    removed = await send(house, owner, tenant, f"DELETE /{await membership_of(house, tenant, admin)}")

    assert removed.status_code == 204
    problem(await house.client.get(MEMBERS, headers=headers), 403, "not_a_member")


@pytest.mark.parametrize("member_id", ["x", "mem_x", '{"$ne":1}', "usr_" + "0" * 26, "mem_" + "0" * 26])
async def test_what_is_no_member_is_not_found(house: House, member_id: str) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)

    problem(await send(house, owner, tenant, f"DELETE /{member_id}"), 404, "not_found")


async def test_members_come_in_pages(house: House) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    for _ in range(2):
        await house.join(tenant, "viewer")

    first = (await send(house, owner, tenant, "GET ?limit=2")).json()
    second = (await send(house, owner, tenant, f"GET ?limit=2&after={first['next']}")).json()

    assert (len(first["data"]), first["has_more"], len(second["data"]), second["has_more"]) == (2, True, 1, False)
    assert len({member["id"] for member in first["data"] + second["data"]}) == 3
