"""Checkpoints leave the house: to real witnesses on loopback and to a folder, and what is seen when that fails."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tests.support.ports import free_port
from tests.support.web import House, open_house, settings_of
from tests.support.witnesses import NAME, watching
from trueport.app import installed_domains
from trueport.audit.canonical import parse
from trueport.audit.cosignatures import Cosigner, WitnessKey
from trueport.audit.direct import DirectJournal
from trueport.audit.notes import VerifierKey, parse_note
from trueport.cli.witness import served
from trueport.domains.analytics.sink import MongoSink
from trueport.domains.audit.anchoring.anchoring import Anchoring, egress_policy, places_in, retry_after
from trueport.domains.audit.anchoring.places import Place, WitnessPlace
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.models import AuditCheckpoint
from trueport.domains.audit.service import AuditLog
from trueport.domains.auth.models import Tenant, User
from trueport.gateway.egress import Egress, EgressPolicy
from trueport.gateway.upstream import Timeouts, Upstream
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database
from trueport.web.domain import StartupRefused
from trueport.web.trail import Trail

API = "/trueportai-services/api/v1/audit"
SOON = Timeouts(connect_s=0.3, headers_s=0.3, event_s=0.3, total_s=0.3)


@dataclass
class Office:
    """A tenant whose log grows, and what sends its checkpoints out."""

    house: House
    owner: User
    tenant: Tenant
    trail: Trail
    upstream: Upstream

    @property
    def scope(self) -> TenantScope:
        return TenantScope(TenantId(self.tenant.id))

    @property
    def log(self) -> AuditLog:
        keys = LogKeys(self.house.resources.database, self.house.resources.settings.keys, self.house.clock)
        return AuditLog(self.house.resources.database, self.scope, keys, self.house.clock)

    async def log_keys(self) -> list[VerifierKey]:
        return [each.key for each in await self.log.key_validity()]

    async def grow(self, count: int = 1) -> int:
        """Record something and sign it; how many records there are."""
        for _ in range(count):
            await self.trail.record(self.tenant.id, "admin", {"action": "something"})
        await self.log.advance()
        return (await self.log.checkpoint()).size

    def witness(self, key: str, url: str, patience: Timeouts = SOON) -> WitnessPlace:
        return WitnessPlace(WitnessKey.parse(key), URL(url), self.upstream, self.house.clock, patience)

    def anchoring(self, *places: Place) -> Anchoring:
        return Anchoring(self.house.resources, self.upstream, places)

    async def get(self, path: str) -> Any:
        return await self.house.client.get(f"{API}{path}", headers=await self.house.as_member(self.owner, self.tenant))

    async def send(self, method: str, path: str, body: object = None) -> Any:
        headers = await self.house.as_member(self.owner, self.tenant)
        return await self.house.client.request(method, f"{API}{path}", json=body, headers=headers)

    async def push(self, url: str) -> dict[str, Any]:
        answer = await self.send("POST", "/pushes", {"name": "mine", "url": f"{url}/hook?a=1"})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def anchors(self) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = (await self.get("/anchors")).json()["data"]
        return data

    async def later(self, anchoring: Anchoring, span: timedelta = timedelta(hours=2)) -> None:
        self.house.clock.advance(span.total_seconds())
        await anchoring.work_off()


@pytest.fixture
async def office(tmp_path: Path, database: Database) -> AsyncIterator[Office]:
    # Without jobs: what is sent, and when, is up to each test.
    domains = [replace(domain, jobs=()) for domain in installed_domains(["auth", "analytics", "audit"])]
    settings = settings_of(tmp_path, TRUEPORT_EGRESS_ALLOW="127.0.0.1/32")
    async with open_house(settings, database, domains) as house:
        owner = await house.person()
        tenant = await house.tenant(owner)
        sink = MongoSink(house.resources.database, FolderStore(tmp_path / "content"), events=house.events)
        egress = Egress(egress_policy(settings))
        trail = house.resources.parts[Trail] = Trail(DirectJournal(sink, house.clock))
        yield Office(house, owner, tenant, trail, Upstream(egress))
        await egress.close()


async def test_witnesses_sign_each_newest_checkpoint_and_it_is_handed_out_with_their_lines(
    office: Office, tmp_path: Path
) -> None:
    await office.grow(3)
    async with watching(tmp_path / "w", office.house.clock) as place:
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await office.grow(5)
        await office.grow(300)
        await office.later(anchoring)

        note = parse_note((await office.get("/checkpoint.note?witnessed=true")).text.encode())
        [state] = await office.anchors()
        key = WitnessKey.parse(place.key)
        [line] = [line for line in note.signatures if key.is_named_in(line)]
        assert key.signed_at(note.text, line) == int(office.house.clock.now().timestamp())
        assert note.signed_by(await office.log_keys())
        assert (state["size"], state["behind"], state["problem"]) == (308, 0, None)


async def test_between_two_minutes_a_witness_is_left_alone_and_then_gets_the_newest(
    office: Office, tmp_path: Path
) -> None:
    async with watching(tmp_path / "w") as place:
        await office.grow(1)
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await office.grow(2)
        anchoring.note(office.tenant.id)
        await office.later(anchoring, timedelta(seconds=30))
        early = (await office.anchors())[0]["size"]
        await office.later(anchoring, timedelta(seconds=40))

        assert early == 1
        assert (await office.anchors())[0]["size"] == 3


@asynccontextmanager
async def answering(handle: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{tail:.*}", handle)
    async with served(app, "127.0.0.1", 0) as url:
        yield url


async def test_a_witness_that_is_down_or_slow_holds_nobody_up_and_is_tried_again(
    office: Office, tmp_path: Path
) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        asked.set()
        await request.read()
        await released.wait()
        return web.Response()

    other = str(Cosigner("slow.example", bytes(32)).witness_key)
    third = str(Cosigner("down.example", bytes([1]) * 32).witness_key)
    size = await office.grow(2)
    async with watching(tmp_path / "w") as place, answering(never) as slow:
        place.trusts(*await office.log_keys())
        down = office.witness(third, f"http://127.0.0.1:{free_port()}")
        anchoring = office.anchoring(office.witness(other, slow), down, office.witness(place.key, place.url))
        await anchoring.work_off()
        released.set()

        states = {state["place"]: state for state in await office.anchors()}
        assert asked.is_set()
        assert states[NAME]["size"] == size
        assert states["slow.example"]["problem"] == "timeout"
        assert states["down.example"]["problem"] == "connect"
        assert states["slow.example"]["failing_since"] is not None

        recovered = office.anchoring(office.witness(other, place.url))
        await office.later(recovered)
        states = {state["place"]: state for state in await office.anchors()}
        # It answers now, though with another witness's key.
        assert states["slow.example"]["problem"] == "cosignature_wrong"
        assert states["slow.example"]["failures"] == 2


async def test_a_forked_history_is_refused_by_the_witness_and_shown_as_such(office: Office, tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        await office.grow(3)
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await _put_another_history_in(office)
        await office.grow(2)
        await office.later(anchoring)

        [state] = await office.anchors()
        assert (state["problem"], state["size"]) == ("fork", 3)
        assert list((tmp_path / "w/refused").iterdir())


async def _put_another_history_in(office: Office) -> None:
    """As somebody with the keys and the database could: the records and all that was made of them, anew."""
    database = office.house.resources.database
    for name in ("audit_records", "audit_batches", "audit_checkpoints", "audit_tiles"):
        await database[name].delete_many({"tenant_id": office.tenant.id})
    sink = MongoSink(database, FolderStore(Path("unused")), events=office.house.events)
    office.trail = Trail(DirectJournal(sink, office.house.clock))
    await office.grow(3)


async def test_a_log_put_back_to_yesterday_is_shown_as_such(office: Office, tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        await office.grow(9)
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await _put_another_history_in(office)
        # What was known here of the witness went with the database.
        await office.house.resources.database["audit_anchors"].delete_many({"tenant_id": office.tenant.id})
        await office.later(anchoring)

        assert (await office.anchors())[0]["problem"] == "rolled_back"


async def test_a_process_that_knows_nothing_of_the_witness_learns_from_it_where_to_go_on(
    office: Office, tmp_path: Path
) -> None:
    async with watching(tmp_path / "w") as place:
        await office.grow(4)
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await office.house.resources.database["audit_anchors"].delete_many({"tenant_id": office.tenant.id})
        size = await office.grow(4)
        await office.later(anchoring)

        assert [(state["size"], state["problem"]) for state in await office.anchors()] == [(size, None)]


@pytest.mark.parametrize(
    ("told", "kind", "problem"),
    [(404, "text/plain", "log_unknown"), (403, "text/plain", "key_unknown"), (500, "text/plain", "http_500"),
     (409, "text/x.tlog.size", "answer_wrong"), (200, "text/plain", "cosignature_wrong"),
     (302, "text/plain", "redirect")],
)  # fmt: skip
async def test_what_a_witness_answers_is_told_by_a_code(office: Office, told: int, kind: str, problem: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=told, body=b"no number\n", headers={"content-type": kind, "location": "/"})

    await office.grow(1)
    async with answering(answer) as url:
        await office.anchoring(office.witness(str(Cosigner(NAME, bytes(32)).witness_key), url)).work_off()

    assert (await office.anchors())[0]["problem"] == problem


async def test_two_processes_do_not_send_at_once(office: Office) -> None:
    asked: list[bytes] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(await request.read())
        return web.Response(status=500)

    await office.grow(1)
    async with answering(note) as url:
        place = office.witness(str(Cosigner(NAME, bytes(32)).witness_key), url)
        await asyncio.gather(*(office.anchoring(place).work_off() for _ in range(4)))

    assert len(asked) == 1


async def test_checkpoints_are_put_into_a_folder_elsewhere(office: Office, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, TRUEPORT_CHECKPOINTS_URL=f"file://{tmp_path}/elsewhere")
    size = await office.grow(2)
    anchoring = office.anchoring(*places_in(settings, office.upstream, office.house.resources))
    await anchoring.work_off()
    kept = [path.read_text() for path in (tmp_path / "elsewhere").rglob("*.note")]
    same = (await office.get(f"/checkpoint?size={size}")).json()["note"]

    await office.house.resources.database[+AuditCheckpoint].update_one(
        {"tenant_id": office.tenant.id, "size": size}, {"$set": {"note": await _forged(office, size)}}
    )
    await office.house.resources.database["audit_anchors"].delete_many({"tenant_id": office.tenant.id})
    await office.later(anchoring)

    assert kept == [same]
    assert (await office.anchors())[0]["problem"] == "fork"


async def _forged(office: Office, size: int) -> str:
    note = (await office.log.checkpoint(size)).note
    return note.replace(note.split("\n")[2], "A" * 43 + "=")


@pytest.mark.parametrize(
    "environ",
    [{"TRUEPORT_WITNESSES": f"{NAME}+00000000+AAAA https://witness.example.org"},
     {"TRUEPORT_WITNESSES": f"{Cosigner(NAME, bytes(32)).witness_key} http://192.168.0.1"},
     {"TRUEPORT_CHECKPOINTS_URL": "s3://bucket/folder"}],
    ids=["key", "address", "store"],
)  # fmt: skip
async def test_places_that_make_no_sense_keep_the_server_from_starting(
    office: Office, tmp_path: Path, environ: dict[str, str]
) -> None:
    with pytest.raises(StartupRefused):
        places_in(settings_of(tmp_path, **environ), office.upstream, office.house.resources)


def test_retries_come_later_and_later_up_to_an_hour_and_not_all_at_once() -> None:
    waits = [[retry_after(failures, Random(seed)).total_seconds() for seed in range(20)] for failures in range(1, 15)]

    assert [max(each) <= min(3_600, 10 * 2**number) for number, each in enumerate(waits)] == [True] * 14
    assert [min(each) >= 2 / 3 * min(3_600, 10 * 2**number) for number, each in enumerate(waits)] == [True] * 14
    assert all(len(set(each)) > 10 for each in waits)


@dataclass
class Received:
    """What a webhook was sent, and what it answers next."""

    told: list[tuple[dict[str, str], bytes]]
    status: int = 204

    async def answer(self, request: web.Request) -> web.Response:
        self.told.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)

    def sizes(self) -> list[int]:
        return [json.loads(body)["size"] for _, body in self.told]


async def test_a_webhook_gets_the_newest_checkpoint_in_a_body_it_can_check(office: Office) -> None:
    received = Received([])
    async with answering(received.answer) as url:
        await office.grow(2)
        made = await office.push(url)
        anchoring = office.anchoring()
        await anchoring.work_off()
        await office.grow(1)
        await office.grow(1)
        await office.later(anchoring)

    headers, body = received.told[0]
    timestamp, _, digest = headers["x-trueport-signature"].removeprefix("t=").partition(",v1=")
    secret = made["secret"].encode()
    assert hmac.new(secret, f"{timestamp}.".encode() + body, "sha256").hexdigest() == digest
    assert abs(int(timestamp) - office.house.clock.now().timestamp()) < 3 * 3_600
    assert parse_note(json.loads(body)["note"].encode()).signed_by(await office.log_keys())
    assert received.sizes() == [2, 5]


async def test_a_webhook_that_fails_is_tried_again_and_gets_the_newest_then(office: Office) -> None:
    received = Received([], status=503)
    async with answering(received.answer) as url:
        first = await office.grow(1)
        made = await office.push(url)
        anchoring = office.anchoring()
        await anchoring.work_off()
        [failed] = await office.anchors()
        last = await office.grow(3)
        await office.later(anchoring, timedelta(seconds=3))
        too_early = len(received.told)
        received.status = 200
        await office.later(anchoring)
        [taken] = await office.anchors()

    assert (failed["id"], failed["problem"], failed["failures"], failed["size"]) == (made["id"], "http_503", 1, 0)
    assert too_early == 1
    assert received.sizes() == [first, last]
    assert (taken["problem"], taken["failures"], taken["failing_since"], taken["behind"]) == (None, 0, None, 0)


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest/meta-data", "https://10.1.2.3/hook", "http://172.16.0.1/hook", "ftp://a.example",
     "https://user:secret@127.0.0.1/hook", "https://127.0.0.1:6379/hook", "http://[::ffff:10.0.0.1]/", "nonsense"],
)  # fmt: skip
async def test_a_webhook_leads_to_nothing_that_providers_may_not_lead_to(office: Office, url: str) -> None:
    answer = await office.send("POST", "/pushes", {"name": "mine", "url": url})

    assert answer.status_code == 400, answer.text
    assert (await office.send("GET", "/pushes")).json()["data"] == []


async def test_an_address_that_is_refused_by_now_gets_nothing(office: Office) -> None:
    received = Received([])
    async with answering(received.answer) as url:
        await office.grow(1)
        await office.push(url)
        closed = Egress(EgressPolicy())
        await Anchoring(office.house.resources, Upstream(closed), ()).work_off()
        await closed.close()

    assert received.told == []
    assert (await office.anchors())[0]["problem"] == "egress_refused"


async def test_webhooks_whose_secret_cannot_be_opened_hold_no_witness_up(office: Office, tmp_path: Path) -> None:
    size = await office.grow(1)
    made = await office.push(f"http://127.0.0.1:{free_port()}")
    await office.house.resources.database["audit_pushes"].update_one(
        {"_id": made["id"], "tenant_id": office.tenant.id}, {"$set": {"sealed": b"x" * 60}}
    )
    async with watching(tmp_path / "w") as place:
        place.trusts(*await office.log_keys())
        await office.anchoring(office.witness(place.key, place.url)).work_off()

    assert [(state["kind"], state["size"]) for state in await office.anchors()] == [("witness", size)]


async def test_a_log_with_a_hole_holds_no_other_tenant_up(office: Office, tmp_path: Path) -> None:
    await office.grow(3)
    async with watching(tmp_path / "w") as place:
        place.trusts(*await office.log_keys())
        anchoring = office.anchoring(office.witness(place.key, place.url))
        await anchoring.work_off()
        await office.grow(2)
        await office.house.resources.database["audit_batches"].delete_one({"tenant_id": office.tenant.id, "start": 0})
        await office.later(anchoring)

    assert (await office.anchors())[0]["problem"] == "log_hole"


async def test_a_webhook_is_not_followed_elsewhere(office: Office) -> None:
    received = Received([])

    async def elsewhere(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=307, headers={"location": f"{inner}/hook"})

    async with answering(received.answer) as inner, answering(elsewhere) as url:
        await office.grow(1)
        await office.push(url)
        await office.anchoring().work_off()

    assert received.told == []
    assert (await office.anchors())[0]["problem"] == "redirect"


async def test_setting_up_and_taking_away_a_webhook_are_recorded_without_its_secret(office: Office) -> None:
    made = await office.push(f"http://127.0.0.1:{free_port()}")
    gone = await office.send("DELETE", f"/pushes/{made['id']}")
    listed = (await office.send("GET", "/pushes")).json()["data"]

    stored = await office.house.resources.database["audit_records"].find({"tenant_id": office.tenant.id}).to_list()
    said = [parse(each["canonical"]) for each in stored]
    assert gone.status_code == 204
    assert listed == []
    assert [(each["kind"], each["action"], each["by"], each["object_id"]) for each in said] == [
        ("admin", "push_created", office.owner.id, made["id"]),
        ("admin", "push_deleted", office.owner.id, made["id"]),
    ]
    assert made["secret"] not in str(stored)


async def test_a_webhook_is_not_set_up_where_that_cannot_be_recorded(office: Office) -> None:
    del office.house.resources.parts[Trail]
    answer = await office.send("POST", "/pushes", {"name": "mine", "url": f"http://127.0.0.1:{free_port()}"})

    assert answer.status_code == 503
    assert await office.house.resources.database["audit_pushes"].count_documents({"tenant_id": office.tenant.id}) == 0


async def test_members_and_strangers_set_up_and_take_away_nothing(office: Office) -> None:
    made = await office.push(f"http://127.0.0.1:{free_port()}")
    member = await office.house.join(office.tenant, "member")
    stranger = await office.house.person()
    foreign = await office.house.tenant(stranger, "globex")
    path = f"{API}/pushes/{made['id']}"

    refused = await office.house.client.delete(path, headers=await office.house.as_member(member, office.tenant))
    headers = await office.house.as_member(stranger, foreign)
    not_found = await office.house.client.delete(path, headers=headers)

    assert (refused.status_code, not_found.status_code) == (403, 404)
    assert (await office.house.client.get(f"{API}/pushes", headers=headers)).json()["data"] == []


@pytest.mark.parametrize("path", ["/anchors", "/pushes"])
async def test_nobody_looks_at_the_places_anonymously(office: Office, path: str) -> None:
    assert (await office.house.client.get(f"{API}{path}")).status_code == 401


async def test_another_tenants_places_are_not_listed(office: Office, tmp_path: Path) -> None:
    await office.grow(1)
    async with watching(tmp_path / "w") as place:
        await office.anchoring(office.witness(place.key, place.url)).work_off()
    stranger = await office.house.person()
    foreign = await office.house.tenant(stranger, "globex")
    headers = await office.house.as_member(stranger, foreign)

    assert (await office.house.client.get(f"{API}/anchors", headers=headers)).json()["data"] == []
    assert len(await office.anchors()) == 1
