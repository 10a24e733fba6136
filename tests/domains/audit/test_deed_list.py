"""The list of what people did to a tenant."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.web import House, problem
from trueport.audit.shipper import Shipper
from trueport.domains.analytics.api import MongoSink
from trueport.domains.auth.models import Tenant, User
from trueport.kit.deadline import Deadline
from trueport.storage.documents import open_store

RECORDS = "/trueportai-services/api/v1/audit/records"
KEYS = "/trueportai-services/api/v1/keys"
PATIENCE_S = 20


@dataclass
class Office:
    """A tenant whose owner makes and deletes a key."""

    house: House
    owner: User
    tenant: Tenant

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        headers = await self.house.as_member(self.owner, self.tenant)
        answer = await self.house.client.request(method, path, headers=headers, **options)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def listed(self) -> list[dict[str, Any]]:
        """All records of deeds, once the journal is shipped."""
        settings = self.house.resources.settings
        sink = MongoSink(self.house.resources.database, open_store(settings.storage_url, settings.data_dir))
        shipper = Shipper(self.house.spool, settings.data_dir / "spool", sink)
        assert await shipper.drain(Deadline.after(PATIENCE_S))
        return list((await self.ask("GET", RECORDS))["data"])


@pytest.fixture
async def office(house: House) -> Office:
    owner = await house.person()
    return Office(house, owner, await house.tenant(owner, "acme"))


async def test_anonymous_is_refused(house: House) -> None:
    problem(await house.client.get(RECORDS), 401, "unauthenticated")


async def test_a_foreign_tenants_deeds_are_not_listed(office: Office) -> None:
    rival = await office.house.person()
    foreign = await office.house.tenant(rival, "rival")
    await office.ask("POST", KEYS, json={"name": "ci"})
    mine = {record["id"] for record in await office.listed()}

    headers = await office.house.as_member(rival, foreign)
    listed = (await office.house.client.get(RECORDS, headers=headers)).json()["data"]

    assert mine
    assert listed
    assert mine.isdisjoint(record["id"] for record in listed)
    assert all(record["record"]["tenant"] == foreign.id for record in listed)


async def test_somebody_who_may_not_read_the_trail_is_refused(office: Office) -> None:
    member = await office.house.join(office.tenant, "member")

    answer = await office.house.client.get(RECORDS, headers=await office.house.as_member(member, office.tenant))

    problem(answer, 403, "permission_missing")


async def test_what_was_done_is_listed_newest_first_with_who_did_it(office: Office) -> None:
    key = await office.ask("POST", KEYS, json={"name": "ci"})
    await office.ask("DELETE", f"{KEYS}/{key['id']}")

    deeds = await office.listed()

    assert [deed["record"]["action"] for deed in deeds[:2]] == ["key_deleted", "key_created"]
    assert {(deed["record"]["by"], deed["record"]["object_id"]) for deed in deeds[:2]} == {(office.owner.id, key["id"])}


async def test_the_list_can_be_narrowed_to_a_kind_and_a_period_and_comes_in_pages(office: Office) -> None:
    for number in range(3):
        await office.ask("POST", KEYS, json={"name": f"key {number}"})
    everything = await office.listed()

    first = await office.ask("GET", RECORDS, params={"limit": 2})
    second = await office.ask("GET", RECORDS, params={"limit": 200, "after": first["next"]})
    assert first["data"] + second["data"] == everything
    of_kind = await office.ask("GET", RECORDS, params={"kind": "auth"})
    assert of_kind["data"] == [deed for deed in everything if deed["kind"] == "auth"]
    before = await office.ask("GET", RECORDS, params={"to": "2020-01-01T00:00:00Z"})
    assert before["data"] == []
    since = await office.ask("GET", RECORDS, params={"from": "2020-01-01T00:00:00Z", "kind": "admin"})
    assert len(since["data"]) == len([deed for deed in everything if deed["kind"] == "admin"])
