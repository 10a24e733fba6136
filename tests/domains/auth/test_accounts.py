"""Registering, signing in and out, refreshing, changing the password."""

import asyncio
from typing import Any

import httpx
import pytest
from passlib.hash import argon2

from tests.support.web import PASSWORD, House, bearer, problem
from trueport.domains.auth.accounts import normalise_email
from trueport.domains.auth.repository import RefreshTokens, Users
from trueport.domains.auth.tokens import LIFETIME_S
from trueport.kit.errors import InvalidRequest
from trueport.kit.tenancy import PlatformScope

AUTH = "/platform/api/global/auth"
ADA = {"email": "ada@lovelace.example", "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
TENANTS = "/platform/api/global/tenants"


async def post(house: House, path: str, body: Any = None, token: str | None = None) -> httpx.Response:
    return await house.client.post(f"{AUTH}/{path}", json=body, headers=bearer(token) if token else {})


async def sign_in(house: House, password: str = PASSWORD, email: str = ADA["email"]) -> dict[str, Any]:
    answer = await post(house, "login", {"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    members: dict[str, Any] = answer.json()
    return members


async def works(house: House, token: str) -> bool:
    answer = await house.client.get(TENANTS, headers=bearer(token))
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def test_somebody_registers_and_signs_in(house: House) -> None:
    answer = await post(house, "register", ADA)

    assert answer.status_code == 201
    shown = answer.json()
    assert set(shown) == {"id", "email", "first_name", "last_name", "created_at"}
    assert shown["id"].startswith("usr_")
    assert shown["created_at"].endswith("Z")
    tokens = await sign_in(house)
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 1_800)
    assert await works(house, tokens["access_token"])


async def test_what_is_stored_of_a_password_and_of_tokens_tells_neither(house: House) -> None:
    await post(house, "register", ADA)
    tokens = await sign_in(house)

    scope = PlatformScope("tests", "look")
    users = await Users(house.resources.database, scope).find({})
    stored = await RefreshTokens(house.resources.database, scope).find({})
    assert users[0].password_hash.startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    assert tokens["refresh_token"] not in repr(stored)
    assert PASSWORD not in repr(users)


async def test_an_address_is_registered_once_however_it_is_written(house: House) -> None:
    await post(house, "register", ADA)

    problem(await post(house, "register", {**ADA, "email": " ADA@Lovelace.Example "}), 409, "email_taken")
    assert await sign_in(house, email=" Ada@LOVELACE.example ")


async def test_of_many_registrations_at_once_one_succeeds(house: House) -> None:
    answers = await asyncio.gather(*(post(house, "register", ADA) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize("password", ["short", "a" * 30, "ada@lovelace.example", "Lovelace1234", "x" * 257])
async def test_weak_passwords_are_refused(house: House, password: str) -> None:
    members = problem(await post(house, "register", {**ADA, "password": password}), 400, "weak_password")

    assert members["errors"][0]["field"] == "password"
    assert password not in str(members)


@pytest.mark.parametrize(
    "text", ["", "a", "a@", "@b.example", "a b@c.example", "a@b", "a@b..c", "a@-b.c", "a@b.c\n@d.e"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        normalise_email(text)


async def test_unknown_address_and_wrong_password_get_the_same_answer_and_the_same_work(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(house, "register", ADA)
    verified: list[str | None] = []
    verify = house.tools.passwords.verify

    async def counted(password: str, stored: str | None) -> bool:
        verified.append(stored)
        return await verify(password, stored)

    monkeypatch.setattr(type(house.tools.passwords), "verify", lambda _, *given: counted(*given))
    wrong = await post(house, "login", {"email": ADA["email"], "password": "not the password at all"})
    unknown = await post(house, "login", {"email": "bob@lovelace.example", "password": "not the password at all"})
    invalid = await post(house, "login", {"email": "no address", "password": "not the password at all"})

    bodies = []
    for answer in (wrong, unknown, invalid):
        members = problem(answer, 401, "wrong_credentials")
        bodies.append({name: value for name, value in members.items() if name != "request_id"})
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(verified) == 3
    assert verified[1] is verified[2] is None


async def test_guessing_slows_down_and_the_right_password_ends_the_wait(house: House) -> None:
    await post(house, "register", ADA)
    wrong = {"email": ADA["email"], "password": "not the password at all"}
    for _ in range(5):
        problem(await post(house, "login", wrong), 401, "wrong_credentials")

    waiting = await post(house, "login", {**wrong, "password": PASSWORD})
    problem(waiting, 429, "too_many_attempts")
    house.clock.advance(int(waiting.headers["retry-after"]))
    assert await sign_in(house)
    problem(await post(house, "login", wrong), 401, "wrong_credentials")
    assert await sign_in(house)


async def test_a_closed_account_cannot_sign_in_and_its_tokens_stop_working(house: House) -> None:
    user_id = (await post(house, "register", ADA)).json()["id"]
    tokens = await sign_in(house)
    await Users(house.resources.database, PlatformScope("tests", "close")).update(
        {"_id": user_id}, {"is_active": False}
    )

    assert not await works(house, tokens["access_token"])
    problem(await post(house, "refresh", {"refresh_token": tokens["refresh_token"]}), 401, "invalid_token")
    problem(await post(house, "login", {"email": ADA["email"], "password": PASSWORD}), 401, "wrong_credentials")


async def test_an_outdated_hash_is_replaced_at_sign_in(house: House) -> None:
    user_id = (await post(house, "register", ADA)).json()["id"]
    users = Users(house.resources.database, PlatformScope("tests", "look"))
    cheap = argon2.using(type="ID", memory_cost=1_024, rounds=1, parallelism=1)  # type: ignore[no-untyped-call]  # stubs
    weak = cheap.hash(PASSWORD)
    await users.update({"_id": user_id}, {"password_hash": weak})

    await sign_in(house)

    assert (await users.get(user_id)).password_hash.startswith("$argon2id$v=19$m=47104,")
    assert await sign_in(house)


async def test_a_refresh_token_gives_the_next_pair(house: House) -> None:
    await post(house, "register", ADA)
    first = await sign_in(house)

    second = (await post(house, "refresh", {"refresh_token": first["refresh_token"]})).json()

    assert second["refresh_token"] != first["refresh_token"]
    assert await works(house, second["access_token"])


async def test_using_a_refresh_token_twice_ends_the_whole_session(house: House) -> None:
    await post(house, "register", ADA)
    first, other = await sign_in(house), await sign_in(house)
    second = (await post(house, "refresh", {"refresh_token": first["refresh_token"]})).json()

    again = await post(house, "refresh", {"refresh_token": first["refresh_token"]})

    problem(again, 401, "refresh_token_reused")
    problem(await post(house, "refresh", {"refresh_token": second["refresh_token"]}), 401, "invalid_token")
    assert not await works(house, second["access_token"])
    assert await works(house, other["access_token"])


async def test_of_two_uses_of_a_refresh_token_at_once_at_most_one_counts(house: House) -> None:
    await post(house, "register", ADA)
    token = (await sign_in(house))["refresh_token"]

    answers = await asyncio.gather(*(post(house, "refresh", {"refresh_token": token}) for _ in range(5)))

    assert sum(answer.status_code == 200 for answer in answers) <= 1
    assert all(answer.status_code in (200, 401) for answer in answers)


async def test_a_refresh_token_ends_after_two_weeks_and_is_no_access_token(house: House) -> None:
    await post(house, "register", ADA)
    tokens = await sign_in(house)
    assert not await works(house, tokens["refresh_token"])
    problem(await post(house, "refresh", {"refresh_token": tokens["access_token"]}), 401, "invalid_token")

    house.clock.advance(LIFETIME_S["refresh"] + 60)

    problem(await post(house, "refresh", {"refresh_token": tokens["refresh_token"]}), 401, "invalid_token")


async def test_signing_out_ends_the_session_at_once_and_no_other(house: House) -> None:
    await post(house, "register", ADA)
    here, there = await sign_in(house), await sign_in(house)

    assert (await post(house, "logout", token=here["access_token"])).status_code == 204

    assert not await works(house, here["access_token"])
    problem(await post(house, "refresh", {"refresh_token": here["refresh_token"]}), 401, "invalid_token")
    assert await works(house, there["access_token"])


async def test_signing_out_with_a_refresh_token_ends_that_session_too_if_it_is_ones_own(house: House) -> None:
    await post(house, "register", ADA)
    await post(house, "register", {**ADA, "email": "eve@evil.example"})
    mine, other, eves = await sign_in(house), await sign_in(house), await sign_in(house, email="eve@evil.example")

    stolen = await post(house, "logout", {"refresh_token": other["refresh_token"]}, eves["access_token"])
    problem(stolen, 401, "invalid_token")
    assert await works(house, other["access_token"])
    await post(house, "logout", {"refresh_token": other["refresh_token"]}, mine["access_token"])
    assert not await works(house, other["access_token"])


async def test_changing_the_password_ends_every_session(house: House) -> None:
    await post(house, "register", ADA)
    here, there = await sign_in(house), await sign_in(house)
    body = {"current_password": PASSWORD, "new_password": "Sup3r-Secret-Passw0rd!"}

    assert (await post(house, "password/change", body, here["access_token"])).status_code == 204

    for tokens in (here, there):
        assert not await works(house, tokens["access_token"])
        problem(await post(house, "refresh", {"refresh_token": tokens["refresh_token"]}), 401, "invalid_token")
    problem(await post(house, "login", {"email": ADA["email"], "password": PASSWORD}), 401, "wrong_credentials")
    assert await sign_in(house, "Sup3r-Secret-Passw0rd!")


async def test_changing_the_password_needs_the_present_one_and_a_good_new_one(house: House) -> None:
    await post(house, "register", ADA)
    token = (await sign_in(house))["access_token"]

    wrong = {"current_password": "not the password at all", "new_password": "Sup3r-Secret-Passw0rd!"}
    problem(await post(house, "password/change", wrong, token), 403, "wrong_password")
    weak = {"current_password": PASSWORD, "new_password": "ada-lovelace"}
    problem(await post(house, "password/change", weak, token), 400, "weak_password")
    assert await works(house, token)


async def test_a_scoped_token_dies_with_its_session(house: House) -> None:
    await post(house, "register", ADA)
    token = (await sign_in(house))["access_token"]
    made = await house.client.post(TENANTS, json={"name": "Acme", "slug": "acme"}, headers=bearer(token))
    scoped = (await post(house, "select-tenant", {"tenant_id": made.json()["id"]}, token)).json()["access_token"]
    info = "/platform/api/service/info"
    assert (await house.client.get(info, headers=bearer(scoped))).status_code == 200

    await post(house, "logout", token=token)

    problem(await house.client.get(info, headers=bearer(scoped)), 401, "invalid_token")
