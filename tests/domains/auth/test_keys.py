"""API keys: their text, their life, and their look-up."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.web import House, problem
from trueport.domains.auth.api import (
    KeyRecord,
    api_key_pepper,
    digest_api_key,
    display_prefix,
    find_api_key,
    parse_api_key,
)
from trueport.domains.auth.api_keys import new_api_key
from trueport.domains.auth.events import KeyChanged, KeyRevoked
from trueport.domains.auth.models import Tenant, User
from trueport.domains.auth.repository import ApiKeys, tenants
from trueport.kit.clock import rfc3339
from trueport.kit.ids import TenantId, new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.revisions import revisions

KEYS = "/trueportai-services/api/v1/keys"
TENANT = TenantId("ten_" + "0123456789abcdefghijklmnop")


def test_a_key_has_the_tenant_a_secret_and_a_checksum() -> None:
    text = new_api_key(TENANT)

    head, product, tenant, secret, checksum = text.split("-")
    assert (head, product, tenant) == ("sk", "tp", "0123456789abcdefghijklmnop")
    assert len(secret) == 43
    assert len(checksum) == 6
    assert (secret + checksum).isalnum()
    parsed = parse_api_key(text)
    assert parsed is not None
    assert parsed.tenant_id == TENANT
    assert text not in repr(parsed)
    assert new_api_key(TENANT) != text


def test_every_single_character_counts() -> None:
    text = new_api_key(TENANT)

    for place, character in enumerate(text):
        other = "0" if character != "0" else "1"
        assert parse_api_key(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-1], lambda t: t + "a",
     lambda t: t.replace("-", "_"), lambda t: t + "\x00", lambda t: t.replace("sk-tp", "sk-tp-"),
     lambda t: "Bearer " + t],
)  # fmt: skip
def test_another_spelling_is_no_key(change: Any) -> None:
    assert parse_api_key(change(new_api_key(TENANT))) is None


@given(st.text(max_size=200))
def test_any_other_text_is_no_key(text: str) -> None:
    assert parse_api_key(text) is None


def test_what_is_shown_and_stored_of_a_key_does_not_give_it_away() -> None:
    text = new_api_key(TENANT)

    shown, digest = display_prefix(text), digest_api_key(b"p" * 32, text)
    assert shown == f"sk-tp-…{text[-11:-7]}"
    assert len(digest) == 64
    assert digest != digest_api_key(b"q" * 32, text)
    assert parse_api_key(digest) is None


async def owner_of(house: House, slug: str = "acme") -> tuple[User, Tenant, dict[str, str]]:
    owner = await house.person()
    tenant = await house.tenant(owner, slug)
    return owner, tenant, await house.as_member(owner, tenant)


async def create(house: House, headers: dict[str, str], **options: Any) -> dict[str, Any]:
    answer = await house.client.post(KEYS, json={"name": "ci", "env": "prod", **options}, headers=headers)
    assert answer.status_code == 201, answer.text
    members: dict[str, Any] = answer.json()
    return members


async def look_up(house: House, text: str) -> KeyRecord | None:
    parsed = parse_api_key(text)
    assert parsed is not None
    pepper = api_key_pepper(house.resources.settings.keys)
    return await find_api_key(house.resources.database, pepper, parsed, house.clock.now())


async def revision(house: House, tenant: Tenant) -> int:
    return (await revisions(house.resources.database, [TenantId(tenant.id)]))[TenantId(tenant.id)]


async def test_anonymous_is_refused(house: House) -> None:
    for method in ("GET", "POST"):
        problem(await house.client.request(method, KEYS), 401, "unauthenticated")


async def test_another_tenants_key_is_not_found_and_not_changed(house: House) -> None:
    _, _, headers = await owner_of(house)
    _, _, rival = await owner_of(house, "rival")
    key = await create(house, headers)

    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("POST", "/disable", None),
        ("POST", "/enable", None), ("POST", "/rotate", None),
    ):  # fmt: skip
        answer = await house.client.request(method, f"{KEYS}/{key['id']}{path}", json=body, headers=rival)
        problem(answer, 404, "not_found")
    unchanged = (await house.client.get(f"{KEYS}/{key['id']}", headers=headers)).json()
    assert unchanged == {name: value for name, value in key.items() if name != "key"}


async def test_another_tenants_keys_are_not_listed(house: House) -> None:
    _, _, headers = await owner_of(house)
    _, _, rival = await owner_of(house, "rival")
    for _ in range(2):
        await create(house, headers)

    assert (await house.client.get(KEYS, headers=rival)).json() == {"data": [], "has_more": False, "next": None}
    cursor = (await house.client.get(KEYS, params={"limit": 1}, headers=headers)).json()["next"]
    problem(await house.client.get(KEYS, params={"after": cursor}, headers=rival), 400, "invalid_request")


async def test_a_key_is_shown_once(house: House) -> None:
    owner, tenant, headers = await owner_of(house)
    before = await revision(house, tenant)

    key = await create(house, headers)

    assert key["key"].startswith(f"sk-tp-{tenant.id.removeprefix('ten_')}-")
    assert key["id"].startswith("key_")
    assert (key["requests_per_minute"], key["tokens_per_minute"], key["concurrency"]) == (60, 0, 0)
    assert (key["status"], key["env"], key["created_by"]) == ("active", "prod", owner.id)
    for path in (KEYS, f"{KEYS}/{key['id']}"):
        assert key["key"] not in (await house.client.get(path, headers=headers)).text
    stored = await ApiKeys(house.resources.database, TenantScope(TenantId(tenant.id))).get(key["id"])
    assert key["key"] not in repr(stored)
    assert key["key"].split("-")[3] not in repr(stored)
    assert KeyChanged(TenantId(tenant.id), key["id"]) in house.events.told
    assert await revision(house, tenant) == before + 1


async def test_a_key_is_found_by_its_text_in_its_own_tenant_only(house: House) -> None:
    _, tenant, headers = await owner_of(house)
    _, rival, _ = await owner_of(house, "rival")
    options = {"allowed_models": ["gpt-4o*"], "allowed_cidrs": ["10.1.2.3/8", "::1"], "concurrency": 3}
    text = (await create(house, headers, env="staging", **options))["key"]

    record = await look_up(house, text)

    assert record is not None
    assert (record.tenant_id, record.tenant_slug, record.tenant_status) == (tenant.id, "acme", "active")
    assert record.scope == TenantScope(TenantId(tenant.id))
    assert (record.env, record.status, record.concurrency) == ("staging", "active", 3)
    assert record.allowed_models == ("gpt-4o*",)
    assert record.allowed_cidrs == ("10.0.0.0/8", "::1/128")
    assert await look_up(house, new_api_key(TenantId(tenant.id))) is None
    assert await look_up(house, new_api_key(TenantId(new_id("ten")))) is None
    _, _, own, secret, _ = text.split("-")
    assert own == tenant.id[4:]
    from trueport.domains.auth.api_keys import _checksum

    moved = f"sk-tp-{rival.id[4:]}-{secret}"
    assert await look_up(house, f"{moved}-{_checksum(moved)}") is None


async def test_the_look_up_tells_what_became_of_key_and_tenant(house: House) -> None:
    _, tenant, headers = await owner_of(house)
    key = await create(house, headers, expires_at=rfc3339(house.clock.now() + timedelta(minutes=10)))
    await house.client.post(f"{KEYS}/{key['id']}/disable", headers=headers)
    await tenants(house.resources.database, "tests").update({"_id": tenant.id}, {"status": "archived"})

    record = await look_up(house, key["key"])

    assert record is not None
    assert (record.status, record.tenant_status) == ("disabled", "archived")
    assert not record.has_expired(house.clock.now())
    house.clock.advance(600)
    assert record.has_expired(house.clock.now())


async def test_absent_and_null_differ_in_a_change(house: House) -> None:
    _, _, headers = await owner_of(house)
    until = rfc3339(house.clock.now() + timedelta(days=1))
    key = await create(house, headers, expires_at=until, requests_per_minute=5)

    async def change(body: dict[str, Any]) -> httpx.Response:
        return await house.client.patch(f"{KEYS}/{key['id']}", json=body, headers=headers)

    renamed = (await change({"name": "renamed"})).json()
    assert (renamed["name"], renamed["expires_at"], renamed["requests_per_minute"]) == ("renamed", until, 5)
    endless = (await change({"expires_at": None})).json()
    assert (endless["name"], endless["expires_at"], endless["requests_per_minute"]) == ("renamed", None, 5)
    problem(await change({"name": None}), 400, "validation_failed")
    problem(await change({"env": "dev"}), 400, "validation_failed")
    assert (await change({})).json() == endless


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "  "), ("name", "a\nb"), ("name", "a\n"),
        ("allowed_models", ["gpt\n"]), ("name", "a" * 101), ("env", "qa"),
        ("requests_per_minute", -1), ("requests_per_minute", "60"), ("requests_per_minute", True),
        ("requests_per_minute", 1.5), ("tokens_per_minute", -1), ("concurrency", 10**30),
        ("allowed_models", ["a b"]), ("allowed_models", "gpt"), ("allowed_models", ["x"] * 101),
        ("allowed_cidrs", ["10.0.0.0/33"]), ("allowed_cidrs", ["localhost"]), ("expires_at", "tomorrow"),
        ("expires_at", "2020-01-01T00:00:00Z"), ("expires_at", "2999-01-01T00:00:00"), ("expires_at", 7),
    ],
)  # fmt: skip
async def test_an_option_out_of_bounds_is_named(house: House, field: str, value: Any) -> None:
    _, _, headers = await owner_of(house)

    answer = await house.client.post(KEYS, json={"name": "ci", "env": "prod", field: value}, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith(field)


async def test_the_environment_defaults_to_the_tokens(house: House) -> None:
    owner, tenant, _ = await owner_of(house)
    headers = await house.as_member(owner, tenant, env="dev")

    answer = await house.client.post(KEYS, json={"name": "ci"}, headers=headers)

    assert answer.json()["env"] == "dev"


async def test_rotation_gives_another_key_while_the_old_one_works_until_the_overlap_ends(house: House) -> None:
    _, tenant, headers = await owner_of(house)
    old = await create(house, headers)
    before = await revision(house, tenant)

    new = (await house.client.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_s": 60}, headers=headers)).json()

    assert new["id"] == old["id"]
    assert new["key"] != old["key"]
    assert await revision(house, tenant) == before + 1
    found_new, found_old = await look_up(house, new["key"]), await look_up(house, old["key"])
    assert found_new is not None
    assert found_new.expires_at is None
    assert found_old is not None
    assert found_old.key_id == found_new.key_id
    assert found_old.expires_at == house.clock.now() + timedelta(seconds=60)
    house.clock.advance(60)
    assert await look_up(house, old["key"]) is None
    assert await look_up(house, new["key"]) is not None


async def test_rotation_overlaps_a_day_unless_told_otherwise_and_a_week_at_most(house: House) -> None:
    _, _, headers = await owner_of(house)
    key = await create(house, headers)

    rotated = (await house.client.post(f"{KEYS}/{key['id']}/rotate", headers=headers)).json()
    assert rotated["previous_expires_at"] == rfc3339(house.clock.now() + timedelta(days=1))
    too_long = await house.client.post(f"{KEYS}/{key['id']}/rotate", json={"overlap_s": 604_801}, headers=headers)
    problem(too_long, 400, "validation_failed")


async def test_rotating_again_ends_the_first_text(house: House) -> None:
    _, _, headers = await owner_of(house)
    first = await create(house, headers)
    second = (await house.client.post(f"{KEYS}/{first['id']}/rotate", headers=headers)).json()

    await house.client.post(f"{KEYS}/{first['id']}/rotate", headers=headers)

    assert await look_up(house, first["key"]) is None
    assert await look_up(house, second["key"]) is not None


async def test_a_key_is_switched_off_and_on_and_deleted(house: House) -> None:
    _, tenant, headers = await owner_of(house)
    key = await create(house, headers)
    path = f"{KEYS}/{key['id']}"
    before = await revision(house, tenant)

    assert (await house.client.post(f"{path}/disable", headers=headers)).json()["status"] == "disabled"
    assert KeyRevoked(TenantId(tenant.id), key["id"]) in house.events.told
    assert (await house.client.post(f"{path}/enable", headers=headers)).json()["status"] == "active"
    assert (await house.client.delete(path, headers=headers)).status_code == 204

    problem(await house.client.get(path, headers=headers), 404, "not_found")
    assert await look_up(house, key["key"]) is None
    assert await revision(house, tenant) == before + 3


async def test_keys_come_in_pages_newest_first(house: House) -> None:
    _, _, headers = await owner_of(house)
    made = [(await create(house, headers, name=f"key {number}"))["id"] for number in range(3)]

    first = (await house.client.get(KEYS, params={"limit": 2}, headers=headers)).json()
    second = (await house.client.get(KEYS, params={"limit": 2, "after": first["next"]}, headers=headers)).json()

    assert {key["id"] for key in first["data"] + second["data"]} == set(made)
    assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)
    for cursor in ("x", "%", "eyIkbmUiOjF9", "\x00", "a" * 201):
        answer = await house.client.get(KEYS, params={"after": cursor}, headers=headers)
        assert answer.status_code == 400


@pytest.mark.parametrize("key_id", ["x", '{"$ne":null}', "key_x", "usr_" + "0" * 26, "key_" + "0" * 26, "%00"])
async def test_what_is_no_key_is_not_found(house: House, key_id: str) -> None:
    _, _, headers = await owner_of(house)

    problem(await house.client.get(f"{KEYS}/{key_id}", headers=headers), 404, "not_found")
