"""Legal holds: what they are about, that two people end them, and that they stand before an erasure."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasure import Recording, recording
from tests.support.web import House, problem
from trueport.audit.canonical import parse
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.audit.erasure.erasing import finish_erasures
from trueport.domains.audit.erasure.holding import Holding, RecordMetadata, is_held
from trueport.domains.audit.erasure.keys import ContentErased
from trueport.domains.audit.erasure.models import Hold
from trueport.domains.auth.models import Tenant, User
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.web.trail import Trail

URL = "/trueportai-services/api/v1/audit/holds"
ERASURES = "/trueportai-services/api/v1/subjects/erasures"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ADA, BOB = "sub_" + "a" * 40, "sub_" + "b" * 40
HOUR = timedelta(hours=1)


@pytest.fixture
async def process(house: House, tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(house, tmp_path) as opened:
        yield opened


class Office:
    """A tenant with an owner and an admin, either of whom may end what the other asks for."""

    def __init__(self, house: House, tenant: Tenant, owner: User, headers: tuple[dict[str, str], ...]) -> None:
        self.house, self.tenant, self.owner = house, tenant, owner
        self.first, self.second = headers

    async def hold(self, **scope: Any) -> dict[str, Any]:
        answer = await self.house.client.post(URL, headers=self.first, json={"reason": "Case 17", **scope})
        assert answer.status_code == 201, answer.text
        held: dict[str, Any] = answer.json()
        return held

    async def release(self, hold: dict[str, Any], headers: dict[str, str]) -> Any:
        return await self.house.client.post(f"{URL}/{hold['id']}/release", headers=headers)

    async def erase(self, user: str) -> Any:
        body = {"user": user, "legal_basis": "GDPR art. 17(1)(b)"}
        return await self.house.client.post(ERASURES, headers=self.second, json=body)


@pytest.fixture
async def office(house: House) -> Office:
    owner = await house.person()
    tenant = await house.tenant(owner)
    admin = await house.join(tenant, "admin")
    return Office(house, tenant, owner, (await house.as_member(owner, tenant), await house.as_member(admin, tenant)))


async def test_nobody_holds_or_releases_anything_anonymously(house: House) -> None:
    assert (await house.client.post(URL, json={"reason": "x"})).status_code == 401
    assert (await house.client.post(f"{URL}/hld_1/release")).status_code == 401
    assert (await house.client.get(URL)).status_code == 401


async def test_a_foreign_tenants_hold_is_neither_found_nor_released_nor_listed(
    house: House, process: Recording, office: Office
) -> None:
    hold = await office.hold()
    other = await house.person()
    headers = await house.as_member(other, await house.tenant(other, "globex"))

    problem(await house.client.get(f"{URL}/{hold['id']}", headers=headers), 404, "not_found")
    problem(await office.release(hold, headers), 404, "not_found")
    assert (await house.client.get(URL, headers=headers)).json()["data"] == []


async def test_a_member_without_the_permission_holds_nothing(house: House, process: Recording, office: Office) -> None:
    member = await house.as_member(await house.join(office.tenant, "member"), office.tenant)

    problem(await house.client.post(URL, headers=member, json={"reason": "x"}), 403, "permission_missing")


async def test_two_people_end_a_hold_and_each_step_is_a_record(process: Recording, office: Office) -> None:
    hold = await office.hold(user="ada.lovelace", since="2026-01-01T00:00:00Z")

    asked = await office.release(hold, office.first)
    alone = await office.release(hold, office.first)
    ended = await office.release(hold, office.second)
    late = await office.release(hold, office.second)

    assert (asked.status_code, asked.json()["state"]) == (200, "release_asked")
    problem(alone, 409, "second_person_needed")
    assert (ended.status_code, ended.json()["state"]) == (200, "released")
    problem(late, 409, "hold_released")
    await process.ship()
    found = process.house.resources.database[+AuditRecord].find({"tenant_id": office.tenant.id, "kind": "hold"})
    records = [parse(document["canonical"]) async for document in found.sort("wseq", 1)]
    assert [each["action"] for each in records] == ["create", "ask_release", "refuse_release", "release"]
    assert {each["hold"] for each in records} == {hold["id"]}
    assert records[0]["by"] == office.owner.id
    assert records[0]["scope"]["subject"].startswith("sub_")
    assert "lovelace" not in str(records)


async def test_nothing_is_held_or_released_that_cannot_be_recorded(process: Recording, office: Office) -> None:
    hold = await office.hold()
    del process.house.resources.parts[Trail]

    answer = await office.house.client.post(URL, headers=office.first, json={"reason": "x"})
    released = await office.release(hold, office.first)

    problem(answer, 503, "audit_unavailable")
    problem(released, 503, "audit_unavailable")
    [kept] = (await office.house.client.get(URL, headers=office.first)).json()["data"]
    assert (kept["id"], kept["state"]) == (hold["id"], "active")


async def test_a_held_persons_erasure_waits_until_two_people_have_released_the_hold(
    process: Recording, office: Office
) -> None:
    tenant = office.tenant.id
    call = await process.call(tenant, b"what Ada said", b"answer", user="ada")
    await process.ship()
    hold = await office.hold(user="ada")

    refused = problem(await office.erase("ada"), 409, "legal_hold")
    await finish_erasures(process.house.resources)

    assert refused["hold_ids"] == [hold["id"]]
    assert await process.told(tenant, call) == b"what Ada said"
    await office.release(hold, office.first)
    await finish_erasures(process.house.resources)
    assert await process.told(tenant, call) == b"what Ada said"
    await office.release(hold, office.second)
    await finish_erasures(process.house.resources)
    with pytest.raises(ContentErased):
        await process.told(tenant, call)
    done = await office.house.client.get(f"{ERASURES}/{refused['erasure_id']}", headers=office.first)
    assert done.json()["state"] == "done"
    await process.ship()
    found = process.house.resources.database[+AuditRecord].find({"tenant_id": tenant, "kind": "erasure"})
    records = [parse(document["canonical"]) async for document in found.sort("wseq", 1)]
    # The refusal once, however often the job has looked, and it claims no key.
    assert [(each["action"], "kids" in each) for each in records] == [("refuse", False), ("erase", True)]


@pytest.mark.parametrize(
    ("scope", "is_about_ada"),
    [
        ({}, True),
        ({"user": "ada"}, True),
        ({"user": "bob"}, False),
        ({"key_id": "key_ada"}, True),
        ({"key_id": "key_other"}, False),
        ({"since": -HOUR}, True),
        ({"since": HOUR}, False),
        ({"until": HOUR}, True),
        ({"until": -HOUR}, False),
        ({"since": timedelta(), "until": timedelta(milliseconds=1)}, True),
        ({"until": timedelta()}, False),
        ({"user": "ada", "since": HOUR}, False),
        ({"user": "ada", "key_id": "key_ada", "until": HOUR}, True),
        ({"interaction_ids": "hers"}, True),
        ({"interaction_ids": "another"}, False),
    ],
    ids=str,
)
async def test_a_hold_stands_before_the_erasure_of_whoever_it_is_about(
    process: Recording, office: Office, scope: dict[str, Any], is_about_ada: bool
) -> None:
    now = office.house.clock.now()
    call = await process.call(office.tenant.id, b"x", b"y", user="ada", key_id="key_ada")
    bobs = await process.call(office.tenant.id, b"x", b"y", user="bob", key_id="key_bob")
    await process.ship()
    said = {name: (now + value).isoformat() if isinstance(value, timedelta) else value for name, value in scope.items()}
    if "interaction_ids" in said:
        said["interaction_ids"] = [call if said["interaction_ids"] == "hers" else bobs]
    await office.hold(**said)

    assert (await office.erase("ada")).status_code == (409 if is_about_ada else 201)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": ""},
        {"reason": "x", "user": "ada", "subject": ADA},
        {"reason": "x", "since": "yesterday"},
        {"reason": "x", "since": "2026-01-01T00:00:00"},
        {"reason": "x", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"reason": "x", "interaction_ids": [{"$ne": None}]},
    ],
    ids=str,
)
async def test_a_hold_that_cannot_be_meant_is_refused(process: Recording, office: Office, body: dict[str, Any]) -> None:
    answer = await office.house.client.post(URL, headers=office.first, json=body)

    assert answer.status_code == 400
    assert (await office.house.client.get(URL, headers=office.first)).json()["data"] == []


def a_hold(**scope: Any) -> Hold:
    return Hold(id="hld_1", tenant_id="ten_1", created_at=NOON, reason="x", created_by="usr_1", **scope)


RECORD = RecordMetadata(NOON, "int_1", ADA, "key_a")


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        ({}, True),
        ({"subject": ADA}, True),
        ({"subject": BOB}, False),
        ({"key_id": "key_a"}, True),
        ({"key_id": "key_b"}, False),
        ({"since": NOON}, True),
        ({"since": NOON + HOUR}, False),
        ({"until": NOON}, False),
        ({"until": NOON + HOUR}, True),
        ({"interaction_ids": ["int_2", "int_1"]}, True),
        ({"interaction_ids": ["int_2"]}, False),
        ({"subject": ADA, "key_id": "key_b"}, False),
    ],
)
def test_a_record_is_held_when_it_meets_every_condition(scope: dict[str, Any], held: bool) -> None:
    assert is_held(RECORD, [a_hold(**scope)]) is held
    assert is_held(RECORD, [a_hold(subject=BOB), a_hold(**scope)]) is held
    assert not is_held(RECORD, [])


def test_what_a_record_does_not_say_keeps_it() -> None:
    deed = RecordMetadata.of({"rid": "rec_1", "at": 1_777_896_000_000_000})

    assert is_held(deed, [a_hold(subject=ADA, key_id="key_a")])
    assert not is_held(deed, [a_hold(subject=ADA, until=deed.at)])


async def test_the_metadata_of_a_recorded_call_is_what_its_hold_is_about(process: Recording, office: Office) -> None:
    tenant = office.tenant.id
    call = await process.call(tenant, b"x", b"y", user="ada", key_id="key_ada")
    await process.ship()
    hold = await office.hold(user="ada", key_id="key_ada", interaction_ids=[call])
    document = await process.house.resources.database[+AuditRecord].find_one(
        {"_id": f"{call}#outcome", "tenant_id": tenant}
    )
    assert document is not None

    metadata = RecordMetadata.of(parse(document["canonical"]))

    assert (metadata.interaction_id, metadata.subject, metadata.key_id) == (call, hold["subject"], "key_ada")
    holding = Holding(process.house.resources.database, TenantScope(TenantId(tenant)), process.house.clock)
    assert is_held(metadata, await holding.in_force())
