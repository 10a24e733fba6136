"""Creating once, however often the client asks."""

import asyncio
from typing import Any

import pytest

from tests.support.web import House, problem
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import StoreUnavailable
from trueport.web.idempotency import KEPT_FOR, LEASE, _Records

TENANTS = "/platform/api/global/tenants"
KEYS = "/trueportai-services/api/v1/keys"
ACME = {"name": "Acme", "slug": "acme"}


async def ask(house: House, headers: dict[str, str], key: str, body: dict[str, Any], path: str = TENANTS) -> Any:
    return await house.client.post(path, json=body, headers={**headers, "idempotency-key": key})


async def test_a_repetition_gets_the_first_answer(house: House) -> None:
    headers = await house.as_person(await house.person())

    first = await ask(house, headers, "k1", ACME)
    again = await ask(house, headers, "k1", ACME)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["x-idempotent-replay"] == "true"
    assert "x-idempotent-replay" not in first.headers
    assert len((await house.client.get(TENANTS, headers=headers)).json()["data"]) == 1


async def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    headers = await house.as_person(await house.person())
    await ask(house, headers, "k1", ACME)

    problem(await ask(house, headers, "k1", {"name": "Other", "slug": "other"}), 422, "idempotency_mismatch")


async def test_another_persons_key_means_nothing(house: House) -> None:
    await ask(house, await house.as_person(await house.person()), "k1", ACME)

    answer = await ask(house, await house.as_person(await house.person()), "k1", {"name": "B", "slug": "bee"})

    assert answer.status_code == 201
    assert answer.json()["slug"] == "bee"


async def test_of_two_at_once_one_creates_and_the_other_waits_its_turn(house: House) -> None:
    headers = await house.as_person(await house.person())

    answers = await asyncio.gather(*(ask(house, headers, "k1", ACME) for _ in range(6)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    created = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(set(created)) == 1
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"request_in_progress"}


async def test_a_request_that_was_refused_may_be_mended_and_sent_again(house: House) -> None:
    headers = await house.as_person(await house.person())
    problem(await ask(house, headers, "k1", {"name": "Acme", "slug": "admin"}), 400, "invalid_request")

    assert (await ask(house, headers, "k1", ACME)).status_code == 201


async def test_a_request_that_broke_off_is_in_progress_for_a_while_and_then_unknown(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await house.as_person(await house.person())

    async def breaks(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr("trueport.domains.auth.controllers.create_tenant", breaks)
        problem(await ask(house, headers, "k1", ACME), 503, "store_unavailable")

    problem(await ask(house, headers, "k1", ACME), 409, "request_in_progress")
    house.clock.advance(LEASE.total_seconds() + 1)
    problem(await ask(house, headers, "k1", ACME), 409, "unknown_outcome")


async def test_an_answer_is_kept_for_a_day(house: House) -> None:
    user = await house.person()
    await ask(house, await house.as_person(user), "k1", ACME)
    house.clock.advance(KEPT_FOR.total_seconds() + 1)

    problem(await ask(house, await house.as_person(user), "k1", ACME), 409, "slug_taken")


async def test_a_key_that_was_shown_is_not_shown_again_and_stored_nowhere(house: House) -> None:
    owner = await house.person()
    headers = await house.as_member(owner, await house.tenant(owner))
    first = (await ask(house, headers, "k1", {"name": "ci", "env": "prod"}, KEYS)).json()

    again = problem(await ask(house, headers, "k1", {"name": "ci", "env": "prod"}, KEYS), 409, "secret_shown_once")

    assert again["id"] == first["id"]
    assert len((await house.client.get(KEYS, headers=headers)).json()["data"]) == 1
    records = await _Records(house.resources.database, PlatformScope("tests", "look")).find({})
    assert [record.answer for record in records] == [""]


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "a\tb"])
async def test_a_key_is_short_and_visible(house: House, key: str) -> None:
    problem(await ask(house, await house.as_person(await house.person()), key, ACME), 400, "invalid_request")


async def test_registering_takes_a_key_too(house: House) -> None:
    body = {"email": "a@b.example", "password": "correct horse battery staple", "first_name": "A", "last_name": "B"}
    path = "/platform/api/global/auth/register"

    first = await ask(house, {}, "k1", body, path)
    again = await ask(house, {}, "k1", body, path)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    problem(await house.client.post(path, json=body), 409, "email_taken")
