"""Erasing a person: what they said can be opened by nobody, the trail stays whole, and a crash leaves nothing half."""

import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import bson
import pytest

from tests.support.erasure import Recording, recording
from tests.support.web import House, problem
from trueport.audit import verifier
from trueport.audit.canonical import parse
from trueport.audit.notes import parse_note
from trueport.audit.sealing import open_content
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.audit.erasure import erasing as erasing_module
from trueport.domains.audit.erasure.erasing import Erasing, finish_erasures
from trueport.domains.audit.erasure.keys import ContentErased, unwrapped
from trueport.domains.audit.erasure.models import SubjectKey
from trueport.domains.audit.erasure.repository import Erasures, SubjectKeyRows
from trueport.domains.audit.exporting import Export
from trueport.domains.auth.models import Tenant, User
from trueport.domains.proxy.recorder import content_place
from trueport.kit.crypto import SealBroken
from trueport.kit.errors import Unavailable
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore
from trueport.web.trail import Trail

URL = "/trueportai-services/api/v1/subjects/erasures"
CANARY = b"canary-c41f7a: what Ada told the model"
BASIS = "GDPR art. 17(1)(b)"


@pytest.fixture
async def process(house: House, tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(house, tmp_path) as opened:
        yield opened


class Desk:
    """A tenant and its owner, who asks for things."""

    def __init__(self, house: House, owner: User, tenant: Tenant, headers: dict[str, str]) -> None:
        self.house, self.owner, self.tenant, self.headers = house, owner, tenant, headers

    async def erase(self, **whom: str) -> Any:
        return await self.house.client.post(URL, headers=self.headers, json={"legal_basis": BASIS, **whom})

    def erasing(self) -> Erasing:
        return Erasing(self.house.resources, TenantScope(TenantId(self.tenant.id)))


@pytest.fixture
async def desk(house: House) -> Desk:
    owner = await house.person()
    tenant = await house.tenant(owner)
    return Desk(house, owner, tenant, await house.as_member(owner, tenant))


async def test_nobody_erases_anonymously(house: House) -> None:
    assert (await house.client.post(URL, json={"user": "ada", "legal_basis": BASIS})).status_code == 401
    assert (await house.client.get(URL)).status_code == 401


async def test_a_foreign_tenants_erasure_is_not_found_and_its_list_is_empty(
    house: House, process: Recording, desk: Desk
) -> None:
    erasure = (await desk.erase(user="ada")).json()
    other = await house.person()
    headers = await house.as_member(other, await house.tenant(other, "globex"))

    for path in (f"{URL}/{erasure['id']}", f"{URL}/{erasure['id']}/certificate"):
        problem(await house.client.get(path, headers=headers), 404, "not_found")
    assert (await house.client.get(URL, headers=headers)).json()["data"] == []


async def test_a_member_without_the_permission_erases_nobody(house: House, process: Recording, desk: Desk) -> None:
    member = await house.join(desk.tenant, "member")

    headers = await house.as_member(member, desk.tenant)
    answer = await house.client.post(URL, headers=headers, json={"user": "ada", "legal_basis": BASIS})

    problem(answer, 403, "permission_missing")
    assert (await house.client.get(URL, headers=desk.headers)).json()["data"] == []


@pytest.mark.parametrize("whom", [{}, {"user": "ada", "key_id": "key_a"}, {"subject": "ada"}])
async def test_it_has_to_be_said_who_is_to_be_erased(process: Recording, desk: Desk, whom: dict[str, str]) -> None:
    assert (await desk.erase(**whom)).status_code == 400


async def test_what_an_erased_person_said_opens_no_more_and_others_words_do(process: Recording, desk: Desk) -> None:
    tenant = desk.tenant.id
    ada = await process.call(tenant, CANARY, b"answer", user="ada")
    bob = await process.call(tenant, b"Bob's", b"answer", user="bob")
    nobody = await process.call(tenant, b"no name", b"answer")
    process.house.clock.advance(40 * 86_400)
    later = await process.call(tenant, CANARY, b"answer", user="ada", key_id="key_b")
    await process.ship()
    assert await process.told(tenant, ada) == CANARY
    desk.headers = await process.house.as_member(desk.owner, desk.tenant)

    answer = await desk.erase(user="ada")

    assert answer.status_code == 201
    assert (answer.json()["state"], len(answer.json()["keys"])) == ("done", 2)
    for erased in (ada, later):
        with pytest.raises(ContentErased):
            await process.told(tenant, erased)
    assert await process.told(tenant, bob) == b"Bob's"
    assert await process.told(tenant, nobody) == b"no name"


async def test_what_a_person_says_after_the_erasure_is_sealed_under_a_new_key(process: Recording, desk: Desk) -> None:
    tenant = desk.tenant.id
    await process.call(tenant, CANARY, b"answer", user="ada")
    erased = (await desk.erase(user="ada")).json()

    again = await process.call(tenant, b"hello again", b"answer", user="ada")
    await process.ship()

    assert await process.told(tenant, again) == b"hello again"
    assert {key.id for key in await stored_keys(process, tenant)}.isdisjoint(erased["keys"])


async def test_calls_that_name_nobody_are_erased_by_their_api_key(process: Recording, desk: Desk) -> None:
    tenant = desk.tenant.id
    nameless = await process.call(tenant, CANARY, b"answer", key_id="key_a")
    named = await process.call(tenant, b"Bob's", b"answer", user="bob", key_id="key_a")
    await process.ship()

    await desk.erase(key_id="key_a")

    with pytest.raises(ContentErased):
        await process.told(tenant, nameless)
    assert await process.told(tenant, named) == b"Bob's"


async def test_the_erased_text_is_nowhere_and_no_key_that_is_left_opens_it(
    process: Recording, desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant, scope = desk.tenant.id, TenantScope(TenantId(desk.tenant.id))
    database = process.house.resources.database
    await process.call(tenant, CANARY, CANARY, user="ada")
    await process.call(tenant, b"Bob's", b"answer", user="bob")
    await process.ship()
    await process.call(tenant, CANARY, CANARY, user="ada")  # still in the journal alone

    await desk.erase(user="ada")

    own_key = await process.keys.tenant_key(scope.tenant_id)
    left = [unwrapped(key, scope, own_key) for key in await stored_keys(process, tenant)]
    assert left
    await process.ship()
    tried = 0
    async for document in database[+AuditRecord].find({"tenant_id": tenant}):
        record = AuditRecord.model_validate_doc(document)
        reference, description = record.content_reference, parse(record.canonical).get("content")
        if reference is None or description is None or record.rid in await told_by_bob(process, tenant):
            continue
        data = (await process.store.get(reference.object))[reference.offset : reference.offset + reference.length]
        for key in (*left, own_key):
            tried += 1
            with pytest.raises(SealBroken):
                open_content(
                    key, {**description, "kc": key.commitment}, data, content_place(tenant, record.rid, record.kind)
                )
    assert tried == 2 * 2 * 2
    seen = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    async for name in names_of(database):
        seen += [
            bson.encode(document) for document in await database[name].find({}, comment="trueport-platform").to_list()
        ]
    seen.append(caplog.text.encode())
    assert len(seen) > 10
    for spelling in (CANARY, base64.b64encode(CANARY)[:-4], CANARY.hex().encode()):
        assert not any(spelling in each for each in seen)


async def test_the_archive_is_whole_after_an_erasure_and_says_what_was_erased(
    process: Recording, desk: Desk, tmp_path: Path
) -> None:
    tenant = desk.tenant.id
    await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    await process.log(tenant).advance()
    erased = (await desk.erase(user="ada")).json()
    await process.ship()
    await process.log(tenant).advance()

    report, records = await exported(process, tenant, tmp_path / "archive")

    # The storage's folder let itself be overwritten, and the trail says why.
    assert (report.problems, report.erased) == ([], 2)
    [record] = [each for each in records if each["kind"] == "erasure"]
    assert (record["kids"], record["subject"], record["legal_basis"]) == (erased["keys"], erased["subject"], BASIS)
    assert record["requester"] == desk.owner.id
    assert f"{record['rid']}#erasure" == erased["record"]


async def test_contents_that_the_storage_gives_up_after_an_erasure_are_not_missed(
    process: Recording, desk: Desk, tmp_path: Path
) -> None:
    tenant = desk.tenant.id
    await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    await desk.erase(user="ada")
    await process.ship()
    await process.log(tenant).advance()
    stored = list((tmp_path / "storage").rglob("*.bin"))
    assert stored
    for path in stored:
        path.unlink()

    report, _ = await exported(process, tenant, tmp_path / "archive")

    assert (report.problems, report.erased) == ([], 2)


async def test_a_certificate_is_checked_with_the_public_keys_alone(process: Recording, desk: Desk) -> None:
    await process.call(desk.tenant.id, CANARY, b"answer", user="ada.lovelace")
    erased = (await desk.erase(user="ada.lovelace")).json()

    answer = await process.house.client.get(f"{URL}/{erased['id']}/certificate", headers=desk.headers)

    note = parse_note(answer.content)
    keys = await process.log_keys.verifier_keys(TenantId(desk.tenant.id))
    assert note.signed_by(keys) == keys
    said = json.loads(note.text)
    assert (said["record"], said["destroyed_keys"], said["subject"]) == (
        erased["record"], erased["keys"], erased["subject"],
    )  # fmt: skip
    assert "lovelace" not in note.text


async def test_sealed_contents_are_overwritten_where_the_storage_allows_it(
    process: Recording, desk: Desk, tmp_path: Path
) -> None:
    tenant = desk.tenant.id
    await process.call(tenant, CANARY, b"answer", user="ada")
    bob = await process.call(tenant, b"Bob's", b"answer", user="bob")
    await process.ship()
    [path] = (tmp_path / "storage").rglob("*.bin")
    before = path.read_bytes()

    erased = (await desk.erase(user="ada")).json()

    [intent] = await records_with_key(process, tenant, erased["keys"], "intent")
    reference = intent.content_reference
    assert reference is not None
    after, place = path.read_bytes(), slice(reference.offset, reference.offset + reference.length)
    assert not any(after[place])
    assert any(before[place])
    assert await process.told(tenant, bob) == b"Bob's"
    # A batch that is offered again, as after a crash of the shipper, meets what is left of it.
    await process.store.put(str(path.relative_to(tmp_path / "storage")), before)
    assert path.read_bytes() == after


async def test_what_is_sealed_under_the_new_key_is_not_overwritten(
    process: Recording, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = desk.tenant.id
    await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    with monkeypatch.context() as patched:
        # The keys are gone and the rest is not done: meanwhile she calls again.
        breaks_off(patched, erasing_module, "sign_note", 1, after=False)
        await desk.erase(user="ada")
    again = await process.call(tenant, b"hello again", b"answer", user="ada")
    await process.ship()
    process.house.clock.advance(61)

    await finish_erasures(process.house.resources)

    assert await process.told(tenant, again) == b"hello again"


STEPS: list[tuple[Any, str, int]] = [
    (Trail, "record", 1),
    (Erasures, "update", 1),  # the lease
    (Erasures, "update", 2),  # recorded
    (Erasures, "update", 3),  # done
    (SubjectKeyRows, "destroy", 1),
    (erasing_module, "bump_revision", 1),
    (FolderStore, "blank", 1),
    (erasing_module, "sign_note", 1),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("place", "step", "nth"), STEPS, ids=[f"{step}-{nth}" for _, step, nth in STEPS])
async def test_an_erasure_that_breaks_off_at_any_step_is_finished_by_the_next_run(
    process: Recording, desk: Desk, monkeypatch: pytest.MonkeyPatch, place: Any, step: str, nth: int, after: bool
) -> None:
    tenant = desk.tenant.id
    call = await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    with monkeypatch.context() as patched:
        breaks_off(patched, place, step, nth, after=after)
        assert (await desk.erase(user="ada")).status_code == 503
    process.house.clock.advance(61)

    await finish_erasures(process.house.resources)

    [done] = (await process.house.client.get(URL, headers=desk.headers)).json()["data"]
    assert (done["state"], len(done["keys"])) == ("done", 1)
    with pytest.raises(ContentErased):
        await process.told(tenant, call)
    await process.ship()
    # The record was there before a key was destroyed, so one names every key that is gone.
    records = await records_of_kind(process, tenant, "erasure")
    assert done["record"] in {f"{each['rid']}#erasure" for each in records}
    assert all(each["kids"] == done["keys"] for each in records)


async def test_nothing_is_destroyed_when_it_cannot_be_recorded(process: Recording, desk: Desk) -> None:
    tenant = desk.tenant.id
    call = await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    del process.house.resources.parts[Trail]

    problem(await desk.erase(user="ada"), 503, "audit_unavailable")

    assert await process.told(tenant, call) == CANARY


async def test_two_processes_that_finish_one_erasure_record_it_once(process: Recording, desk: Desk) -> None:
    await process.call(desk.tenant.id, CANARY, b"answer", user="ada")
    erasing, trail = desk.erasing(), process.house.resources.part(Trail)
    asked = await erasing.ask(await erasing.subject(user="ada"), "operator", BASIS)

    first = await Erasures(process.house.resources.database, TenantScope(TenantId(desk.tenant.id))).lease(
        asked.id, process.house.clock.now(), process.house.clock.now().replace(year=2100)
    )
    second = await erasing.finish(trail, asked.id)

    assert first is not None
    assert second.state == "asked"
    await process.ship()
    assert await records_of_kind(process, desk.tenant.id, "erasure") == []


async def test_what_was_asked_for_elsewhere_is_done_by_the_job(process: Recording, desk: Desk) -> None:
    tenant = desk.tenant.id
    call = await process.call(tenant, CANARY, b"answer", user="ada")
    await process.ship()
    erasing = desk.erasing()
    asked = await erasing.ask(await erasing.subject(user="ada"), "operator", BASIS)

    await finish_erasures(process.house.resources)

    with pytest.raises(ContentErased):
        await process.told(tenant, call)
    assert (await erasing.get(asked.id)).state == "done"


def breaks_off(patched: pytest.MonkeyPatch, place: Any, step: str, nth: int, *, after: bool) -> None:
    """The process ends before or after the nth time it takes this step, and does nothing from then on."""
    original: Callable[..., Awaitable[Any]] = getattr(place, step)
    calls = 0

    async def broken(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < nth:
            return await original(*args, **named)
        if after and calls == nth:
            await original(*args, **named)
        raise Unavailable("The process has ended.")

    patched.setattr(place, step, broken)


async def stored_keys(process: Recording, tenant: str) -> list[SubjectKey]:
    return await SubjectKeyRows(process.house.resources.database, TenantScope(TenantId(tenant))).find()


async def told_by_bob(process: Recording, tenant: str) -> set[str]:
    bob = await Erasing(process.house.resources, TenantScope(TenantId(tenant))).subject(user="bob")
    rows = process.house.resources.database["interactions"].find({"tenant_id": tenant, "subject": bob})
    return {row["_id"] async for row in rows}


async def names_of(database: Any) -> AsyncIterator[str]:
    for name in await database.list_collection_names():
        yield name


async def records_of_kind(process: Recording, tenant: str, kind: str) -> list[dict[str, Any]]:
    found = process.house.resources.database[+AuditRecord].find({"tenant_id": tenant, "kind": kind})
    return [parse(document["canonical"]) async for document in found]


async def records_with_key(process: Recording, tenant: str, kids: list[str], kind: str) -> list[AuditRecord]:
    found = process.house.resources.database[+AuditRecord].find({"tenant_id": tenant, "kind": kind})
    records = [AuditRecord.model_validate_doc(document) async for document in found]
    return [each for each in records if parse(each.canonical)["content"]["kid"] in kids]


async def exported(process: Recording, tenant: str, folder: Path) -> tuple[verifier.Report, list[dict[str, Any]]]:
    scope, target = TenantScope(TenantId(tenant)), FolderStore(folder)
    async for written in Export(process.house.resources.database, scope, process.log_keys, process.store).segments():
        for each in written.objects:
            await target.put(each.name, each.data)
    keys = [str(key) for key in await process.log_keys.verifier_keys(scope.tenant_id)]
    report = verifier.verify(verifier.Folder(folder), verifier.read_keys("\n".join(keys)))
    records = process.house.resources.database[+AuditRecord].find({"tenant_id": tenant})
    return report, [parse(document["canonical"]) async for document in records]
