"""Founding tenants, choosing one, slugs."""

import asyncio
from typing import Any

import httpx
import pytest
from odmantic import query

from tests.support.web import House, bearer, problem
from trueport.domains.auth.api import tenant_key
from trueport.domains.auth.events import TenantCreated
from trueport.domains.auth.models import Membership
from trueport.domains.auth.repository import MembershipsOfUser, tenants
from trueport.domains.auth.tenants import open_tenant_key, slug_problem
from trueport.kit.crypto import SealBroken
from trueport.kit.ids import TenantId, new_id
from trueport.kit.secret import Secret
from trueport.kit.tenancy import PlatformScope
from trueport.settings import Keys
from trueport.storage.revisions import revisions

TENANTS = "/platform/api/global/tenants"
SELECT = "/platform/api/global/auth/select-tenant"
INFO = "/platform/api/service/info"


async def found(house: House, headers: dict[str, str], slug: str = "acme", name: str = "Acme") -> httpx.Response:
    return await house.client.post(TENANTS, json={"name": name, "slug": slug}, headers=headers)


async def choose(house: House, headers: dict[str, str], tenant_id: Any) -> httpx.Response:
    return await house.client.post(SELECT, json={"tenant_id": tenant_id}, headers=headers)


async def test_anonymous_is_refused(house: House) -> None:
    for method, path in (
        ("GET", TENANTS),
        ("POST", TENANTS),
        ("POST", SELECT),
        ("GET", f"{TENANTS}/check-slug?slug=a"),
    ):
        problem(await house.client.request(method, path), 401, "unauthenticated")


async def test_another_persons_tenant_is_not_found(house: House) -> None:
    tenant = await house.tenant(await house.person())
    stranger = await house.as_person(await house.person())

    problem(await choose(house, stranger, tenant.id), 404, "not_found")
    problem(await choose(house, stranger, new_id("ten")), 404, "not_found")


async def test_another_persons_tenants_are_not_listed(house: House) -> None:
    await house.tenant(await house.person())

    listing = await house.client.get(TENANTS, headers=await house.as_person(await house.person()))

    assert listing.json() == {"data": [], "has_more": False, "next": None}


async def test_who_founds_a_tenant_owns_it(house: House) -> None:
    user = await house.person()
    headers = await house.as_person(user)

    answer = await found(house, headers)

    assert answer.status_code == 201
    made = answer.json()
    assert (made["slug"], made["status"], made["role"]) == ("acme", "active", "owner")
    assert (await house.client.get(TENANTS, headers=headers)).json()["data"] == [made]
    assert TenantCreated(made["id"], "acme", user.id) in house.events.told  # type: ignore[arg-type]  # plain text in a model
    assert (await revisions(house.resources.database, [made["id"]]))[made["id"]] == 1


async def test_choosing_a_tenant_gives_a_token_for_it(house: House) -> None:
    headers = await house.as_person(await house.person())
    tenant_id = (await found(house, headers)).json()["id"]

    chosen = (await choose(house, headers, tenant_id)).json()

    assert (chosen["token_type"], chosen["tenant_id"], chosen["role"], chosen["env"]) == (
        "bearer", tenant_id, "owner", "prod",
    )  # fmt: skip
    info = (await house.client.get(INFO, headers=bearer(chosen["access_token"]))).json()
    assert (info["tenant"]["id"], info["role"], info["env"]) == (tenant_id, "owner", "prod")
    assert "tenant:delete" in info["permissions"]


async def test_the_environment_can_be_switched(house: House) -> None:
    user = await house.person()
    headers = await house.as_member(user, await house.tenant(user))

    answer = await house.client.post("/platform/api/service/switch-environment", json={"env": "dev"}, headers=headers)

    assert answer.json()["env"] == "dev"
    info = await house.client.get(INFO, headers=bearer(answer.json()["access_token"]))
    assert info.json()["env"] == "dev"
    refused = await house.client.post("/platform/api/service/switch-environment", json={"env": "qa"}, headers=headers)
    problem(refused, 400, "validation_failed")


async def test_a_suspended_tenant_cannot_be_chosen(house: House) -> None:
    user = await house.person()
    tenant = await house.tenant(user)
    await tenants(house.resources.database, "tests").update({"_id": tenant.id}, {"status": "suspended"})

    problem(await choose(house, await house.as_person(user), tenant.id), 403, "tenant_suspended")


@pytest.mark.parametrize("tenant_id", [{"$ne": None}, "", "acme", "ten_x", None, 7, "ten_" + "0" * 26 + "\n"])
async def test_what_is_no_tenant_id_is_refused(house: House, tenant_id: Any) -> None:
    problem(await choose(house, await house.as_person(await house.person()), tenant_id), 400, "validation_failed")


@pytest.mark.parametrize("slug", ["ac", "acme", "a-1", "0x", "a-b-c-d", "a" * 62, "1" * 62])
def test_good_slugs(slug: str) -> None:
    assert slug_problem(slug) is None


@pytest.mark.parametrize(
    "slug",
    ["", "a", "-a", "a-", "a--b", "A", "Acme", "a_b", "a.b", "a b", "a" * 63, "acme\n", "ä1", "xn--a", "a/b", "a\x00b"],
)
def test_malformed_slugs(slug: str) -> None:
    assert slug_problem(slug) == "malformed"


@pytest.mark.parametrize("slug", ["www", "admin", "api", "app", "docs", "platform", "trueport"])
async def test_reserved_slugs_are_nobodys(house: House, slug: str) -> None:
    members = problem(await found(house, await house.as_person(await house.person()), slug), 400, "invalid_request")

    assert members["errors"] == [{"field": "slug", "message": "is reserved"}]


async def test_a_slug_is_taken_once_and_a_loser_leaves_nothing_behind(house: House) -> None:
    users = [await house.person() for _ in range(5)]
    headers = [await house.as_person(user) for user in users]

    answers = await asyncio.gather(*(found(house, each) for each in headers))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    memberships = MembershipsOfUser(house.resources.database, PlatformScope("tests", "look"))
    assert len(await memberships.find(query.in_(Membership.user_id, [user.id for user in users]))) == 1


async def test_a_slug_can_be_asked_about(house: House) -> None:
    user = await house.person()
    await house.tenant(user, "acme")
    headers = await house.as_person(user)

    async def ask(slug: str) -> tuple[bool, str | None]:
        answer = await house.client.get(f"{TENANTS}/check-slug", params={"slug": slug}, headers=headers)
        assert answer.status_code == 200
        return answer.json()["available"], answer.json()["reason"]

    assert await ask("free") == (True, None)
    assert await ask("acme") == (False, "taken")
    assert await ask("admin") == (False, "reserved")
    assert await ask("A B") == (False, "malformed")
    missing = await house.client.get(f"{TENANTS}/check-slug", headers=headers)
    assert problem(missing, 400, "validation_failed")["errors"] == [{"field": "slug", "message": "is required"}]


async def test_ones_tenants_come_in_pages(house: House) -> None:
    user = await house.person()
    headers = await house.as_person(user)
    made = [(await found(house, headers, f"acme-{number}")).json()["id"] for number in range(5)]

    seen: list[str] = []
    after: str | None = None
    for _ in range(3):
        query_text = "limit=2" + (f"&after={after}" if after else "")
        page = (await house.client.get(f"{TENANTS}?{query_text}", headers=headers)).json()
        seen += [tenant["id"] for tenant in page["data"]]
        after = page["next"]
        assert page["has_more"] is (after is not None)

    assert seen == made
    assert after is None
    problem(await house.client.get(TENANTS, params={"after": "x$ne"}, headers=headers), 400, "invalid_request")
    problem(await house.client.get(TENANTS, params={"limit": 201}, headers=headers), 400, "validation_failed")
    problem(await house.client.get(TENANTS, params={"limit": 0}, headers=headers), 400, "validation_failed")


async def test_each_tenant_has_a_key_of_its_own_that_opens_under_its_name_only(house: House) -> None:
    user = await house.person()
    one, two = await house.tenant(user, "one"), await house.tenant(user, "two")
    keys = house.resources.settings.keys

    sealed = open_tenant_key(keys, one).seal(b"text", "here")
    assert (await tenant_key(house.resources, TenantId(one.id))).open(sealed, "here") == b"text"
    assert open_tenant_key(keys, one).commitment != open_tenant_key(keys, two).commitment
    with pytest.raises(SealBroken):
        open_tenant_key(keys, two.model_copy(update={"wrapped_key": one.wrapped_key}))
    with pytest.raises(SealBroken):
        open_tenant_key(Keys(keys.token_secrets, Secret("other" * 8), are_generated=False), one)
