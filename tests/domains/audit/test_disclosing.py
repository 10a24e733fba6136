"""Parts of a tenant's trail handed out over HTTP: who may, what is recorded first, and that a stranger can check it."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.analytics import Trail as Writer
from tests.support.spool import Shelf, open_spool
from tests.support.web import House, problem
from trueport.audit.shipper import Shipper
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.auth.models import Tenant, User
from trueport.kit.deadline import Deadline
from trueport.web.trail import Trail

API = "/trueportai-services/api/v1/audit"
STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
PERIOD = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}


@dataclass
class Office:
    """A tenant with recorded calls, an owner, and a journal that takes records of deeds."""

    house: House
    tenant: Tenant
    owner: User
    root: Path
    shelf: Shelf
    shipper: Shipper

    async def ask(self, path: str, body: dict[str, Any], user: User | None = None) -> Any:
        headers = await self.house.as_member(user or self.owner, self.tenant)
        return await self.house.client.post(f"{API}{path}", json=body, headers=headers)

    async def deeds(self) -> list[dict[str, Any]]:
        """What the journal has been given."""
        assert await self.shipper.drain(Deadline.after(30))
        return [dict(record.record) for record in self.shelf.records.values()]

    async def check(self, answer: Any, folder: Path, within: str = "") -> dict[str, Any]:
        """Unpack an answer and check it as a stranger does; the report."""
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            packed.extractall(folder)
        headers = await self.house.as_member(self.owner, self.tenant)
        keys = (await self.house.client.get(f"{API}/keys", headers=headers)).json()["keys"]
        (folder / "noted.key").write_text("\n".join(keys))
        bundle, key = folder / within, folder / "noted.key"
        ran = subprocess.run(
            [sys.executable, "-I", bundle / "verifier.py", bundle, "--key", key, "--json"],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return dict(json.loads(ran.stdout))


@pytest.fixture
async def office(house: House, sink: MongoSink, tmp_path: Path) -> AsyncIterator[Office]:
    owner = await house.person()
    tenant = await house.tenant(owner)
    writer = Writer()
    for number in range(6):
        model = "gpt-5" if number % 2 else "claude"
        intent = writer.intent(tenant.id, STARTED + timedelta(seconds=number), model=model)
        await sink.store([intent, writer.outcome(intent)])
    root, shelf = tmp_path / "spool", Shelf()
    spool = open_spool(root)
    house.resources.parts[Trail] = Trail(spool)
    yield Office(house, tenant, owner, root, shelf, Shipper(spool, root, shelf))
    spool.close(is_shipped=True)


@pytest.mark.parametrize("path", ["/exports", "/evidence"])
async def test_nobody_gets_a_part_of_the_trail_anonymously(house: House, path: str) -> None:
    assert (await house.client.post(f"{API}{path}", json={"reason": "curiosity"})).status_code == 401


async def test_a_member_who_may_not_export_gets_nothing_and_nothing_is_recorded(office: Office) -> None:
    member = await office.house.join(office.tenant, "member")

    answer = await office.ask("/exports", {"reason": "curiosity"}, member)

    assert answer.status_code == 403
    assert [deed for deed in await office.deeds() if deed["kind"] == "export"] == []


async def test_a_disclosure_has_the_records_asked_for_and_a_stranger_can_check_it(
    office: Office, tmp_path: Path
) -> None:
    body = {"reason": "a court asked", "kinds": ["outcome"], "model": "gpt-5", **PERIOD}

    answer = await office.ask("/exports", body)

    report = await office.check(answer, tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_bytes().splitlines()]
    assert report["records"] == len(records) == 3
    assert report["manifests"] == 1
    assert {(record["kind"], record["model"]) for record in records} == {("outcome", "gpt-5")}
    custody = json.loads((tmp_path / "out/custody.json").read_bytes())
    assert custody["made_by"] == office.owner.id
    assert custody["reason"] == "a court asked"


async def test_a_disclosure_in_parquet_is_still_checked_by_its_lines(office: Office, tmp_path: Path) -> None:
    answer = await office.ask("/exports?format=parquet", {"reason": "analytics", "kinds": ["outcome"]})

    report = await office.check(answer, tmp_path / "out")
    custody = json.loads((tmp_path / "out/custody.json").read_bytes())
    assert report["records"] == 6
    assert custody["objects"][-1]["derived_from"] == "records.jsonl"
    assert (tmp_path / "out/records.parquet").stat().st_size == custody["objects"][-1]["bytes"]
    problem(await office.ask("/exports?format=xls", {"reason": "analytics"}), 400, "validation_failed")


async def test_an_export_is_recorded_with_who_why_and_what(office: Office) -> None:
    await office.ask("/exports", {"reason": "a court asked", "user": "alice"})

    (record,) = await office.deeds()
    assert record["kind"] == "export"
    assert (record["tenant"], record["by"], record["reason"]) == (office.tenant.id, office.owner.id, "a court asked")
    assert record["query"]["equal"] == {"user": "alice"}


@pytest.mark.parametrize("path", ["/exports", "/evidence"])
async def test_what_cannot_be_recorded_is_not_handed_out(office: Office, path: str) -> None:
    del office.house.resources.parts[Trail]
    body = {"reason": "x"} if path == "/exports" else {"reason": "x", "framework": "soc2", **PERIOD}

    problem(await office.ask(path, body), 503, "audit_unavailable")


async def test_another_tenants_records_are_never_in_a_disclosure(
    office: Office, tmp_path: Path, sink: MongoSink
) -> None:
    other = await office.house.tenant(await office.house.person(), "globex")
    intent = Writer("host.9.9").intent(other.id, STARTED)
    await sink.store([intent])

    await office.check(await office.ask("/exports", {"reason": "x"}), tmp_path / "out")

    records = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_bytes().splitlines()]
    assert {record["tenant"] for record in records} == {office.tenant.id}
    assert len(records) == 12


async def test_a_tenant_without_records_has_nothing_to_hand_out(office: Office) -> None:
    owner = await office.house.person()
    tenant = await office.house.tenant(owner, "empty")
    headers = await office.house.as_member(owner, tenant)

    answer = await office.house.client.post(f"{API}/exports", json={"reason": "x"}, headers=headers)

    problem(answer, 409, "nothing_signed")


async def test_an_evidence_pack_is_whole_and_its_sample_is_proved(office: Office, tmp_path: Path) -> None:
    body = {"framework": "eu-ai-act", "reason": "yearly audit", "organisation": "Acme", **PERIOD}

    answer = await office.ask("/evidence", body)

    report = await office.check(answer, tmp_path / "out", "proof")
    data = json.loads((tmp_path / "out/data.json").read_bytes())
    assert report["records"] > 0
    assert data["figures"]["calls"]["count"] == 6
    assert (tmp_path / "out/index.html").read_text("utf-8").startswith("<!doctype html>")
    (record,) = await office.deeds()
    assert (record["kind"], record["framework"]) == ("export", "eu-ai-act")


@pytest.mark.parametrize(
    "body",
    [
        {"framework": "soc3", "reason": "x", **PERIOD},
        {"framework": "soc2", "reason": "", **PERIOD},
        {"framework": "soc2", "reason": "x", "from": PERIOD["to"], "to": PERIOD["from"]},
        {"framework": "soc2", "reason": "x", "from": "yesterday", "to": PERIOD["to"]},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_and_not_recorded(office: Office, body: dict[str, Any]) -> None:
    answer = await office.ask("/evidence", body)

    assert answer.status_code in (400, 422)
    assert await office.deeds() == []
