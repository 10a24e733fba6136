"""Which tenant a request is about: hosts, headers and tokens that agree, and all the ways in which they do not."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.web import OUTSIDE, House, bearer, client_of, problem
from trueport.domains.auth.repository import Memberships, tenants
from trueport.kit.ids import TenantId, UserId
from trueport.kit.tenancy import TenantScope
from trueport.web.address import Host, InvalidHost, client_address, is_slug, is_within, read_host

INFO = "/platform/api/service/info"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("gw.example.com", Host("gw.example.com", None)),
        ("GW.Example.COM:8443", Host("gw.example.com", None)),
        ("acme.gw.example.com", Host("acme.gw.example.com", "acme")),
        ("a-1-b.gw.example.com:443", Host("a-1-b.gw.example.com", "a-1-b")),
        ("www.gw.example.com", Host("www.gw.example.com", None)),
        ("127.0.0.1:8080", Host("127.0.0.1", None)),
        ("[::1]:8080", Host("[::1]", None)),
        ("trueport", Host("trueport", None)),
    ],
)
def test_a_host_of_ours_is_read(sent: str, expected: Host) -> None:
    assert read_host([(b"host", sent.encode())], "gw.example.com") == expected


@pytest.mark.parametrize(
    "sent",
    [
        b"", b" ", b"acme.gw.example.com.evil", b"evil.com", b"acme.gw.example.com:443@a", b"gw.example.com.",
        b"acme.gw.example.com.",
        b"acme.b.gw.example.com", b"acme.evilgw.example.com", b"xn--acme-5qa.gw.example.com", b"acme_.gw.example.com",
        b"-acme.gw.example.com", b"a--b.gw.example.com", b"x.gw.example.com", b"gw.example.com/x", b"gw.example.com?x",
        b"gw.example.com#x", b"gw.example.com\\x", b"gw.example.com:", b"gw.example.com:x", b"gw.example.com:123456",
        b"gw.example.com, acme.gw.example.com", b"gw.example.com\x00", b"gw.example.com\n", b"\xc3\xa4.gw.example.com",
        b"[::1", b"[zz]", b"[::1].gw.example.com", b"user:pw@gw.example.com", b".gw.example.com", b"evilgw.example.com",
        b"acme.gwxexample.com",
    ],
)  # fmt: skip
def test_any_other_host_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidHost):
        read_host([(b"host", sent)], "gw.example.com")


@pytest.mark.parametrize("headers", [[], [(b"host", b"gw.example.com"), (b"Host", b"gw.example.com")]])
def test_there_is_exactly_one_host(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidHost):
        read_host(headers, "gw.example.com")


@given(st.binary(max_size=80))
def test_a_host_is_read_or_refused_whatever_it_holds(sent: bytes) -> None:
    try:
        host = read_host([(b"host", sent)], "gw.example.com")
    except InvalidHost:
        return
    assert host.slug is None or is_slug(host.slug)


def test_where_the_public_host_is_an_address_no_name_means_a_tenant() -> None:
    assert read_host([(b"host", b"acme.example.org")], "127.0.0.1").slug is None
    assert read_host([(b"host", b"acme.localhost")], "localhost").slug == "acme"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [b"127.0.0.1"], "203.0.113.9"),
        ("10.0.0.5", [b"198.51.100.7"], "198.51.100.7"),
        ("10.0.0.5", [b"127.0.0.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.5", [b"127.0.0.1", b"198.51.100.7, 10.0.0.6"], "198.51.100.7"),
        ("10.0.0.5", [b"127.0.0.1, nonsense"], "10.0.0.5"),
        ("10.0.0.5", [], "10.0.0.5"),
    ],
)
def test_a_forwarded_address_counts_from_a_trusted_proxy_only(peer: str, forwarded: list[bytes], expected: str) -> None:
    headers = [(b"x-forwarded-for", value) for value in forwarded]

    assert client_address((peer, 1), headers, ("10.0.0.0/8",)) == expected


def test_a_mapped_address_is_the_address_it_maps() -> None:
    assert is_within("::ffff:10.1.2.3", ("10.0.0.0/8",))
    assert not is_within("testclient", ("10.0.0.0/8",))


async def of_acme(house: House) -> tuple[Any, Any, dict[str, str]]:
    user = await house.person()
    tenant = await house.tenant(user, "acme")
    return user, tenant, await house.as_member(user, tenant)


def at(house: House, host: str) -> httpx.AsyncClient:
    client = client_of(house.app)
    client.base_url = httpx.URL(f"http://{host}")
    return client


async def test_the_token_names_the_tenant(house: House) -> None:
    _, tenant, headers = await of_acme(house)

    answer = await house.client.get(INFO, headers=headers)

    assert answer.json()["tenant"]["id"] == tenant.id


async def test_a_subdomain_that_agrees_is_served_and_one_that_does_not_is_refused(public_house: House) -> None:
    user, _, headers = await of_acme(public_house)
    await public_house.tenant(user, "rival")

    async with at(public_house, "acme.gw.example.com") as client:
        assert (await client.get(INFO, headers=headers)).status_code == 200
    for host in ("rival.gw.example.com", "nobody.gw.example.com"):
        async with at(public_house, host) as client:
            problem(await client.get(INFO, headers=headers), 403, "tenant_mismatch")


async def test_a_global_token_and_a_subdomain_make_a_tenant_for_its_members_only(public_house: House) -> None:
    user, tenant, _ = await of_acme(public_house)
    person, stranger = await public_house.as_person(user), await public_house.as_person(await public_house.person())

    async with at(public_house, "acme.gw.example.com") as client:
        answer = await client.get(INFO, headers=person)
        assert (answer.json()["tenant"]["id"], answer.json()["env"]) == (tenant.id, "prod")
        problem(await client.get(INFO, headers=stranger), 403, "not_a_member")
    async with at(public_house, "nobody.gw.example.com") as client:
        problem(await client.get(INFO, headers=person), 403, "not_a_member")
    async with at(public_house, "gw.example.com") as client:
        problem(await client.get(INFO, headers=person), 401, "invalid_token")


@pytest.mark.parametrize("name", ["X-Tenant-Slug", "x-tenant-slug", "X-TENANT-SLUG"])
async def test_the_slug_header_is_refused_in_production_even_when_it_agrees(public_house: House, name: str) -> None:
    user, _, headers = await of_acme(public_house)

    for path, carried in ((INFO, headers), ("/platform/api/global/tenants", await public_house.as_person(user))):
        problem(await public_house.client.get(path, headers={**carried, name: "acme"}), 400, "tenant_header_refused")
    assert (await public_house.client.get("/healthz", headers={name: "acme"})).status_code == 200


async def test_the_slug_header_works_in_development_from_this_machine_only(house: House) -> None:
    user, tenant, headers = await of_acme(house)
    person = await house.as_person(user)

    answer = await house.client.get(INFO, headers={**person, "x-tenant-slug": "acme"})
    assert answer.json()["tenant"]["id"] == tenant.id
    problem(await house.client.get(INFO, headers={**headers, "x-tenant-slug": "other"}), 403, "tenant_mismatch")
    twice = httpx.Headers([*person.items(), ("x-tenant-slug", "acme"), ("x-tenant-slug", "acme")])
    problem(await house.client.get(INFO, headers=twice), 400, "invalid_request")
    async with house.client_from(OUTSIDE) as client:
        refused = await client.get(INFO, headers={**person, "x-tenant-slug": "acme"})
        problem(refused, 400, "tenant_header_refused")


async def test_a_host_that_is_not_ours_is_refused_on_every_path(public_house: House) -> None:
    for path in ("/healthz", "/nowhere", INFO):
        answer = await public_house.client.get(path, headers={"host": "acme.gw.example.com.evil"})
        problem(answer, 400, "invalid_host")


@pytest.mark.parametrize("status", ["suspended", "archived"])
async def test_a_tenant_that_is_not_active_is_not_served(house: House, status: str) -> None:
    _, tenant, headers = await of_acme(house)
    await tenants(house.resources.database, "tests").update({"_id": tenant.id}, {"status": status})

    problem(await house.client.get(INFO, headers=headers), 403, "tenant_suspended")
    problem(await house.client.get("/trueportai-services/api/v1/keys", headers=headers), 403, "tenant_suspended")


async def test_the_role_is_the_one_held_now_and_removal_takes_effect_at_once(house: House) -> None:
    _, tenant, _ = await of_acme(house)
    user = await house.join(tenant, "admin")
    headers = await house.as_member(user, tenant, role="admin")
    members = Memberships(house.resources.database, TenantScope(TenantId(tenant.id)))
    assert (await house.client.get("/platform/api/service/members", headers=headers)).status_code == 200

    membership = await members.of_user(UserId(user.id))
    assert membership is not None
    await members.update(membership.id, {"role": "viewer"})
    problem(await house.client.get("/platform/api/service/members", headers=headers), 403, "permission_missing")

    await members.delete(membership.id)
    problem(await house.client.get(INFO, headers=headers), 403, "not_a_member")


@pytest.mark.parametrize(
    "sent",
    [
        {}, {"authorization": ""}, {"authorization": "Basic abc"}, {"authorization": "Bearer"},
        {"authorization": "Bearer " + "a" * 5_000}, {"authorization": "bearer a.b.c"}, {"x-api-key": "a.b.c"},
        {"cookie": "access_token=a.b.c"},
    ],
)  # fmt: skip
async def test_anything_but_one_bearer_token_is_refused(house: House, sent: dict[str, str]) -> None:
    answer = await house.client.get(INFO, headers=sent)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="trueport"'


async def test_two_authorization_headers_are_refused_even_when_equal(house: House) -> None:
    _, _, headers = await of_acme(house)
    twice = httpx.Headers([*headers.items(), *headers.items()])

    problem(await house.client.get(INFO, headers=twice), 401, "unauthenticated")


async def test_a_token_in_the_query_is_refused(house: House) -> None:
    _, _, headers = await of_acme(house)
    token = headers["authorization"].removeprefix("Bearer ")

    problem(await house.client.get(INFO, params={"access_token": token}), 400, "invalid_request")
    problem(await house.client.get(INFO, headers=bearer("")), 401, "unauthenticated")
