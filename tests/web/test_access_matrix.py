"""Every registered route against every kind of caller, and every body against what does not belong in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import msgspec
import pytest
from litestar.handlers.http_handlers import HTTPRouteHandler

from tests.support.web import OUTSIDE, House, bearer
from trueport.app import route_handlers
from trueport.domains.auth.keys import ApiKeyService, KeyOptions
from trueport.domains.auth.models import Tenant, User
from trueport.domains.auth.permissions import PERMISSIONS_OF
from trueport.kit.ids import TenantId, UserId
from trueport.kit.principal import ROLES, Role
from trueport.kit.tenancy import TenantScope
from trueport.web.guards import ACCESS, Access

OPERATORS: list[dict[str, object]] = [{"$ne": None}, {"$gt": ""}, {"$regex": ".*"}, {"$where": "1"}, {"__proto__": {}}]
SMUGGLED = ("tenant_id", "is_platform_admin", "created_by", "_id", "id", "digest", "usage", "price", "verified", "a.b")


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    access: Access
    body: type[msgspec.Struct] | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Town:
    """A tenant with one member of each role, its objects, and the owner of another tenant."""

    house: House
    tenant: Tenant
    members: dict[Role, User]
    foreign: Tenant
    foreign_owner: User
    ids: dict[str, str]

    async def send(self, route: Route, headers: dict[str, str], body: object = None, **options: Any) -> httpx.Response:
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: self.ids.get(match[1], "unknown"), route.path)
        json = {} if body is None and route.method in ("POST", "PUT", "PATCH") else body
        return await self.house.client.request(route.method, path, headers=headers, json=json, **options)


def routes_of(house: House) -> Iterator[Route]:
    for path, handler in route_handlers(house.app):
        if isinstance(handler, HTTPRouteHandler):
            for method in handler.http_methods:
                yield Route(str(method), path, handler.opt[ACCESS], _struct_of(handler))


def _struct_of(handler: HTTPRouteHandler) -> type[msgspec.Struct] | None:
    annotation = handler.parsed_data_field.annotation if handler.parsed_data_field else None
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, msgspec.Struct)), None)


@pytest.fixture
async def town(house: House) -> Town:
    owner = await house.person()
    tenant = await house.tenant(owner, "acme")
    members: dict[Role, User] = {"owner": owner}
    for role in ROLES[:-1]:
        members[role] = await house.join(tenant, role)
    foreign_owner = await house.person()
    foreign = await house.tenant(foreign_owner, "rival")
    scope = TenantScope(TenantId(tenant.id))
    key = await ApiKeyService(house.resources, scope).create(
        KeyOptions("canary", "prod"), UserId(owner.id), house.deeds
    )
    await house.join(tenant, "viewer")
    listing = await house.client.get("/platform/api/service/members", headers=await house.as_member(owner, tenant))
    spare = listing.json()["data"][0]["id"]
    return Town(
        house,
        tenant,
        members,
        foreign,
        foreign_owner,
        {"key_id": key.stored.id, "member_id": spare},
    )


def refused(response: httpx.Response) -> bool:
    return response.status_code in (401, 403)


def code(response: httpx.Response) -> str:
    return str(response.json().get("code", "")) if "json" in response.headers.get("content-type", "") else ""


async def test_the_walk_finds_routes_of_every_access_class(house: House) -> None:
    kinds = {route.access.kind for route in routes_of(house)}

    assert {"public", "global_user", "tenant", "operations"} <= kinds


async def test_anonymous_gets_nothing_but_public_routes(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        response = await town.send(route, {})
        is_open = route.access.kind in ("public", "operations")  # the client's address is this machine's
        if refused(response) is is_open or (not is_open and code(response) != "unauthenticated"):
            wrong.append(f"{route}: {response.status_code}")

    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_reaches_exactly_what_its_permissions_name(town: Town, role: Role) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.access.kind != "tenant":
            continue
        # The token claims the highest role, so that only a look at the database gives the right answer.
        headers = await town.house.as_member(town.members[role], town.tenant, role="owner")
        response = await town.send(route, headers)
        may = route.access.permission in PERMISSIONS_OF[role]
        was_refused = code(response) in ("permission_missing", "invalid_token", "unauthenticated", "not_a_member")
        if may is was_refused or (not may and response.status_code != 403) or response.status_code >= 500:
            wrong.append(f"{route}: {response.status_code} {code(response)}")

    assert wrong == []


async def test_the_owner_of_another_tenant_neither_finds_nor_changes_anything(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.access.kind != "tenant":
            continue
        response = await town.send(route, await town.house.as_member(town.foreign_owner, town.foreign))
        mentions = [secret for secret in (town.tenant.id, "canary", *town.ids.values()) if secret in response.text]
        found = "{" in route.path and response.status_code not in (400, 404)
        if mentions or found or response.status_code >= 500:
            wrong.append(f"{route}: {response.status_code} {mentions}")

    assert wrong == []
    owner = await town.house.as_member(town.members["owner"], town.tenant)
    for path in ("/trueportai-services/api/v1/keys/{key_id}", "/platform/api/service/members"):
        response = await town.house.client.get(path.format(**town.ids), headers=owner)
        assert response.status_code == 200
        assert "active" in response.text or town.ids["member_id"] in response.text


async def test_a_stranger_to_the_tenant_is_refused_whatever_the_token_says(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.access.kind == "tenant":
            response = await town.send(route, await town.house.as_member(town.foreign_owner, town.tenant, role="owner"))
            if (response.status_code, code(response)) != (403, "not_a_member"):
                wrong.append(f"{route}: {response.status_code}")

    assert wrong == []


async def test_tokens_are_good_for_their_own_kind_of_route_only(town: Town) -> None:
    viewer = town.members["viewer"]
    wrong = []
    for route in routes_of(town.house):
        session = await town.house.session(viewer)
        signer = town.house.tools.signer
        tokens = {
            "global_user": signer.issue_global(UserId(viewer.id), session),
            "tenant": signer.issue_scoped(UserId(viewer.id), session, TenantId(town.tenant.id), "viewer", "prod"),
            "refresh": signer.issue_refresh(UserId(viewer.id), session, "rft_x"),
        }
        needed = "global_user" if route.access.kind == "platform_admin" else route.access.kind
        if needed not in tokens:
            continue
        for kind in sorted(tokens.keys() - {needed}):
            response = await town.send(route, bearer(tokens[kind]))
            if (response.status_code, code(response)) != (401, "invalid_token"):
                wrong.append(f"{route} with {kind}: {response.status_code}")

    assert wrong == []


async def test_signed_in_people_reach_global_routes_and_only_admins_those_of_the_platform(town: Town) -> None:
    admin = await town.house.person(is_platform_admin=True)
    wrong = []
    for route in routes_of(town.house):
        if route.access.kind in ("global_user", "platform_admin"):
            as_viewer = await town.send(route, await town.house.as_person(town.members["viewer"]))
            as_admin = await town.send(route, await town.house.as_person(admin))
            if refused(as_viewer) is (route.access.kind == "global_user") or refused(as_admin):
                wrong.append(f"{route}: {as_viewer.status_code} {as_admin.status_code}")

    assert wrong == []


async def test_operational_routes_are_closed_to_the_outside(town: Town) -> None:
    wrong = []
    async with town.house.client_from(OUTSIDE) as client:
        for route in routes_of(town.house):
            if route.access.kind == "operations":
                response = await client.request(route.method, route.path.replace("{path:str}", "x"))
                if response.status_code != 403:
                    wrong.append(f"{route}: {response.status_code}")

    assert wrong == []


async def headers_for(town: Town, route: Route) -> dict[str, str]:
    if route.access.kind == "tenant":
        return await town.house.as_member(town.members["owner"], town.tenant)
    return await town.house.as_person(town.members["owner"]) if route.access.kind == "global_user" else {}


async def test_no_field_takes_an_operator(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        for field in msgspec.structs.fields(route.body) if route.body else ():
            for operator in OPERATORS:
                response = await town.send(route, await headers_for(town, route), {field.encode_name: operator})
                named = [error["field"] for error in response.json().get("errors", [])]
                if response.status_code != 400 or field.encode_name not in named:
                    wrong.append(f"{route} {field.encode_name}={operator}: {response.status_code} {named}")

    assert wrong == []


async def test_no_body_takes_a_field_it_does_not_declare(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.body is None:
            continue
        declared = {field.encode_name for field in msgspec.structs.fields(route.body)}
        extra = {name: "x" for name in (*SMUGGLED, "role", "status") if name not in declared}
        response = await town.send(route, await headers_for(town, route), extra)
        named = {error["field"] for error in response.json().get("errors", [])}
        if response.status_code != 400 or not set(extra) <= named:
            wrong.append(f"{route}: {response.status_code} {sorted(set(extra) - named)}")

    assert wrong == []


async def test_no_query_takes_a_parameter_it_does_not_declare(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.path.startswith("/schema"):
            continue
        for query in ("limit[$ne]=1", "tenant_id=ten_x", "sort=%7B%22%24gt%22%3A1%7D", "limit=1&limit=2"):
            response = await town.send(route, await headers_for(town, route), params=query)
            if response.status_code != 400:
                wrong.append(f"{route}?{query}: {response.status_code}")

    assert wrong == []


async def test_other_methods_and_spellings_open_nothing(town: Town) -> None:
    wrong = []
    for route in routes_of(town.house):
        if route.access.kind != "tenant":
            continue
        for method in ("OPTIONS", "TRACE", "HEAD", "PURGE"):
            response = await town.send(Route(method, route.path, route.access, None), {})
            if response.status_code not in (401, 404, 405):
                wrong.append(f"{method} {route.path}: {response.status_code}")
        for path in (f"{route.path}/", f"/{route.path}", route.path.upper(), route.path.replace("/p", "/%2e/p")):
            for override in ({}, {"x-http-method-override": "GET", "x-method-override": "GET"}):
                response = await town.send(Route(route.method, path, route.access, None), override)
                if response.status_code not in (401, 404, 405):
                    wrong.append(f"{route.method} {path}: {response.status_code}")

    assert wrong == []
