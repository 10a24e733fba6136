"""Retention and the state of the archive, over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.erasure import Recording, recording
from tests.support.web import House, problem
from trueport.audit.canonical import parse
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.auth.models import Tenant, User
from trueport.web.trail import Trail

RETENTION = "/trueportai-services/api/v1/audit/retention"
ARCHIVE = "/trueportai-services/api/v1/audit/archive"


@pytest.fixture
async def process(house: House, tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(house, tmp_path) as opened:
        yield opened


@pytest.fixture
async def owner(house: House) -> User:
    return await house.person()


@pytest.fixture
async def acme(house: House, owner: User) -> Tenant:
    return await house.tenant(owner)


async def test_retention_is_that_of_the_installation_until_it_is_changed_on_record(
    house: House, process: Recording, owner: User, acme: Tenant
) -> None:
    headers = await house.as_member(owner, acme, role="owner")
    assert (await house.client.get(RETENTION, headers=headers)).json() == {"calls_days": 400, "deeds_days": 400}

    answer = await house.client.put(RETENTION, headers=headers, json={"calls_days": 183, "deeds_days": 3_650})

    assert answer.status_code == 200, answer.text
    assert (await house.client.get(RETENTION, headers=headers)).json() == {"calls_days": 183, "deeds_days": 3_650}
    elsewhere = await house.as_member(owner, await house.tenant(owner, "other"), role="owner")
    assert (await house.client.get(RETENTION, headers=elsewhere)).json() == {"calls_days": 400, "deeds_days": 400}
    await process.ship()
    stored = await house.resources.database[+AuditRecord].find({"tenant_id": acme.id, "kind": "admin"}).to_list()
    assert parse(stored[-1]["canonical"])["after"] == {"calls_days": 183, "deeds_days": 3_650}


async def test_what_is_too_short_or_not_allowed_is_refused(house: House, owner: User, acme: Tenant) -> None:
    headers = await house.as_member(owner, acme, role="owner")
    problem(await house.client.put(RETENTION, headers=headers, json={"calls_days": 182, "deeds_days": 400}), 400,
            "validation_failed")  # fmt: skip
    member = await house.as_member(await house.join(acme, "member"), acme, role="member")
    refused = await house.client.put(RETENTION, headers=member, json={"calls_days": 400, "deeds_days": 400})
    assert refused.status_code == 403


async def test_what_cannot_be_recorded_is_not_changed(house: House, owner: User, acme: Tenant) -> None:
    headers = await house.as_member(owner, acme, role="owner")
    del house.resources.parts[Trail]

    answer = await house.client.put(RETENTION, headers=headers, json={"calls_days": 183, "deeds_days": 183})

    assert answer.status_code == 503
    assert (await house.client.get(RETENTION, headers=headers)).json() == {"calls_days": 400, "deeds_days": 400}


async def test_without_an_archive_that_is_what_is_told(house: House, owner: User, acme: Tenant) -> None:
    headers = await house.as_member(owner, acme, role="owner")

    told = (await house.client.get(ARCHIVE, headers=headers)).json()

    assert told == {
        "is_set": False, "records": 0, "newest_at": None, "retained_until": None, "own": None, "earlier": [],
    }  # fmt: skip
    problem(await house.client.post(f"{ARCHIVE}/test", headers=headers), 404, "not_found")
