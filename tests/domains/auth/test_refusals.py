"""Refused sign-ins in the trail: the first at once, those alike counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.web import PASSWORD, House, problem
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.records import DeedKind
from trueport.domains.auth import domain
from trueport.domains.auth.accounts import NewUser, create_user
from trueport.domains.auth.models import Tenant, User
from trueport.domains.auth.refusals import Refusals
from trueport.kit.clock import rfc3339
from trueport.kit.ids import UserId
from trueport.web.deeds import Actor, Deeds
from trueport.web.trail import Trail, trail_of

LOGIN = "/platform/api/global/auth/login"
MINUTE_S = 60.0


class FailingTrail(Trail):
    """One whose journal takes nothing at times."""

    def __init__(self, other: Trail) -> None:
        self._other = other
        self.is_full = False

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> str:
        if self.is_full:
            raise SpoolUnavailable
        return await self._other.record(tenant_id, kind, fields)


@dataclass
class Town:
    """A tenant with an owner, and guesses at the owner's password."""

    house: House
    owner: User
    tenant: Tenant
    known: int

    async def guess(self, *, times: int = 1, address: str = "203.0.113.7", email: str | None = None) -> None:
        async with self.house.client_from(address) as client:
            for _ in range(times):
                body = {"email": email or self.owner.email, "password": "not the password"}
                problem(await client.post(LOGIN, json=body), 401, "wrong_credentials")
        await self.house.tools.later.settled()

    async def pass_a_minute(self) -> None:
        self.house.clock.advance(MINUTE_S)
        (job,) = [each for each in domain.jobs if each.name == "tell refusals"]
        await job.run(self.house.resources)

    def told(self) -> list[tuple[str, int | None]]:
        """Action and count of each new record."""
        return [(record["action"], record.get("count")) for record in self.new()]

    def new(self) -> list[dict[str, Any]]:
        return self.house.records(self.tenant.id)[self.known :]


async def registered(house: House, email: str) -> User:
    return await create_user(house.resources, house.tools.passwords, NewUser(email, PASSWORD, "A", "B"))


@pytest.fixture
async def town(house: House) -> Town:
    owner = await registered(house, "olga@acme.example")
    tenant = await house.tenant(owner)
    return Town(house, owner, tenant, len(house.records(tenant.id)))


async def test_a_refused_sign_in_is_recorded_at_once_and_those_like_it_as_a_count(town: Town) -> None:
    await town.guess(times=4)
    before = town.told()

    await town.pass_a_minute()

    assert before == [("sign_in_refused", None)]
    assert town.told() == [("sign_in_refused", None), ("sign_in_refused", 3)]
    counted = town.new()[-1]
    assert (counted["object_id"], counted["users"], counted["by"]) == (town.owner.id, [town.owner.id], "nobody")
    assert (counted["address"], counted["request_id"]) == ("203.0.113.7", "")


async def test_a_single_refusal_is_not_counted_again(town: Town) -> None:
    await town.guess()
    await town.pass_a_minute()
    await town.pass_a_minute()

    assert town.told() == [("sign_in_refused", None)]


async def test_the_next_minute_begins_with_a_record_of_its_own(town: Town) -> None:
    await town.guess(times=2)
    await town.pass_a_minute()
    await town.guess()

    assert town.told() == [("sign_in_refused", None), ("sign_in_refused", 1), ("sign_in_refused", None)]


async def test_refusals_from_several_addresses_are_not_alike(town: Town) -> None:
    for address in ("203.0.113.7", "203.0.113.8"):
        await town.guess(address=address)

    assert [(record["address"], record.get("count")) for record in town.new()] == [
        ("203.0.113.7", None), ("203.0.113.8", None),
    ]  # fmt: skip


async def test_a_count_names_everybody_whose_password_was_guessed(town: Town) -> None:
    other = await town.house.join(town.tenant, "member", await registered(town.house, "otto@acme.example"))
    town.known = len(town.house.records(town.tenant.id))
    await town.guess(times=2)
    await town.guess(email=other.email)

    await town.pass_a_minute()

    assert town.new()[-1]["users"] == [town.owner.id, other.id]
    assert (town.new()[-1]["count"], town.new()[-1]["object_id"]) == (2, "")


async def test_what_was_counted_is_told_when_the_process_stops(town: Town) -> None:
    await town.guess(times=3)
    (job,) = [each for each in domain.jobs if each.name == "tell refusals"]

    assert job.at_end is not None
    await job.at_end(town.house.resources)

    assert town.told() == [("sign_in_refused", None), ("sign_in_refused", 2)]


async def test_a_journal_that_takes_nothing_loses_no_count(town: Town) -> None:
    clock, user = town.house.clock, UserId(town.owner.id)
    trail = FailingTrail(trail_of(town.house.resources))
    refusals, deeds = Refusals(clock), Deeds(trail, Actor("nobody", "203.0.113.7"))
    since = clock.now()

    trail.is_full = True
    with pytest.raises(SpoolUnavailable):
        await refusals.note(deeds, town.tenant.id, "sign_in_refused", user)
    await refusals.note(deeds, town.tenant.id, "sign_in_refused", user)
    clock.advance(MINUTE_S)
    with pytest.raises(SpoolUnavailable):
        await refusals.tell()
    await refusals.note(deeds, town.tenant.id, "sign_in_refused", user)
    trail.is_full = False
    await refusals.tell()

    assert town.told() == [("sign_in_refused", 3)]
    assert town.new()[0]["since"] == rfc3339(since)


async def test_more_addresses_than_are_remembered_end_the_oldest_minute_early(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueport.domains.auth.refusals._MOST_MINUTES", 2)
    await town.guess(times=2, address="203.0.113.1")
    await town.guess(address="203.0.113.2")
    await town.guess(address="203.0.113.3")

    assert [(record["address"][-1], record.get("count")) for record in town.new()] == [
        ("1", None), ("2", None), ("3", None), ("1", 1),
    ]  # fmt: skip
