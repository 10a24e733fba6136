"""A tenant's own archive: chosen on record, tried before it is taken, and nothing lost when it changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.archiving import Office
from tests.support.ports import free_port
from tests.support.s3_server import S3Server, s3_server
from tests.support.s3_stub import refusing
from tests.support.web import House, open_house, problem, settings_of
from trueport.app import installed_domains
from trueport.domains.audit.archive_job import Archives
from trueport.domains.audit.archiving import ArchiveOutsideRegions, Archiver
from trueport.domains.audit.models import ArchivedSegment
from trueport.domains.audit.placing.models import StoredPlace
from trueport.domains.audit.pruning import Pruner
from trueport.domains.audit.restoring import Restore
from trueport.domains.auth.models import Tenant, User
from trueport.domains.config.models import Configuration
from trueport.kit.ids import new_id
from trueport.storage.archives import ArchiveUnavailable
from trueport.storage.documents import open_store
from trueport.storage.mongo import Database

__all__ = ["s3_server"]

ARCHIVE = "/trueportai-services/api/v1/audit/archive"
KEYS = {"access_key_id": "AKIATEST", "secret_access_key": "not-to-be-shown"}
FOLDER = {"provider": "folder", "prefix": "ours"}


@dataclass
class Town:
    """A tenant with an owner, in an installation that has an archive in a folder, and lets tenants have folders too."""

    house: House
    owner: User
    tenant: Tenant
    office: Office

    async def ask(self, method: str, path: str = "", body: object = None, user: User | None = None) -> Any:
        headers = await self.house.as_member(user or self.owner, self.tenant)
        return await self.house.client.request(method, f"{ARCHIVE}{path}", json=body, headers=headers)

    async def choose(self, body: object) -> dict[str, Any]:
        answer = await self.ask("PUT", "", body)
        assert answer.status_code == 200, answer.text
        chosen: dict[str, Any] = answer.json()
        return chosen

    async def shown(self) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.ask("GET")).json()
        return answer

    @property
    def archives(self) -> Archives:
        return self.house.resources.part(Archives)

    async def archiver(self) -> Archiver:
        return await self.archives.archiver(self.office.scope)

    async def archive(self, count: int = 2) -> int:
        await self.office.record(count)
        return await (await self.archiver()).advance(everything=True)

    async def segments(self) -> list[ArchivedSegment]:
        found = self.house.resources.database[+ArchivedSegment].find({"tenant_id": self.tenant.id}).sort("_id", 1)
        return [ArchivedSegment.model_validate_doc(each) for each in await found.to_list()]


@pytest.fixture
async def town(tmp_path: Path, database: Database) -> AsyncIterator[Town]:
    settings = settings_of(
        tmp_path,
        TRUEPORT_ARCHIVE_URL="file:",
        TRUEPORT_ALLOW_MUTABLE_ARCHIVE="1",
        TRUEPORT_ALLOW_FOLDER_ARCHIVES="1",
        TRUEPORT_EGRESS_ALLOW="127.0.0.1/32",
    )
    domains = [replace(domain, jobs=()) for domain in installed_domains(["auth", "config", "analytics", "audit"])]
    async with open_house(settings, database, domains) as house:
        owner = await house.person()
        tenant = await house.tenant(owner)
        office = Office(house, tenant.id, tmp_path)
        office.contents = open_store(settings.storage_url, settings.data_dir)  # type: ignore[assignment]  # a folder too
        yield Town(house, owner, tenant, office)


def s3_place(server: S3Server, *, is_locked: bool = True, **members: object) -> dict[str, Any]:
    bucket = server.bucket(new_id("b").replace("_", "-").lower(), is_locked=is_locked)
    place = {"provider": "s3", "bucket": bucket, "prefix": "trail", "location": "us-east-1"}
    return {**place, "endpoint": server.endpoint, "credentials": KEYS, **members}


async def test_nobody_reaches_an_archive_anonymously(town: Town) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/test")):
        assert (await town.house.client.request(method, f"{ARCHIVE}{path}", json=FOLDER)).status_code == 401


async def test_a_tenants_archive_is_nobody_elses(town: Town) -> None:
    await town.choose(FOLDER)
    await town.archive()
    other = await town.house.person()
    headers = await town.house.as_member(other, await town.house.tenant(other, "globex"))

    shown = (await town.house.client.get(ARCHIVE, headers=headers)).json()

    assert (shown["own"], shown["earlier"], shown["records"]) == (None, [], 0)
    problem(await town.house.client.request("DELETE", ARCHIVE, headers=headers), 404, "not_found")


async def test_a_member_who_may_not_change_storage_changes_none(town: Town) -> None:
    member = await town.house.join(town.tenant, "member")
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/test")):
        assert (await town.ask(method, path, FOLDER, member)).status_code == 403


async def test_the_credentials_are_sealed_and_neither_shown_nor_recorded(town: Town, s3_server: S3Server) -> None:
    chosen = await town.choose(s3_place(s3_server, region="eu"))

    assert chosen["region"] == "eu"
    stored = await town.house.resources.database[+StoredPlace].find_one({"tenant_id": town.tenant.id})
    everything = json.dumps([chosen, await town.shown(), town.house.records()], default=str) + str(stored)
    assert "not-to-be-shown" not in everything
    assert "AKIATEST" not in everything
    deed = town.house.records()[-1]
    assert (deed["action"], deed["credentials_given"]) == ("archive_chosen", sorted(KEYS))
    assert deed["after"]["bucket"] == chosen["bucket"]


async def test_the_same_place_keeps_its_credentials_and_another_one_needs_its_own(
    town: Town, s3_server: S3Server
) -> None:
    place = s3_place(s3_server)
    chosen = await town.choose(place)
    del place["credentials"]

    assert (await town.choose({**place, "region": "eu"}))["id"] == chosen["id"]
    problem(await town.ask("PUT", "", {**place, "prefix": "elsewhere"}), 400, "invalid_request")
    problem(await town.ask("PUT", "", {**place, "credentials": {"account_key": "x"}}), 400, "invalid_request")


async def test_segments_go_where_the_tenant_says_and_one_chain_leads_through_all_places(
    town: Town, s3_server: S3Server, tmp_path: Path
) -> None:
    assert await town.archive() == 4
    locked = s3_place(s3_server)
    await town.choose(locked)
    assert await town.archive() == 4
    await town.choose(FOLDER)
    assert await town.archive() == 4
    assert (await town.ask("DELETE")).status_code == 204
    assert await town.archive() == 4

    shown = await town.shown()
    assert (shown["own"], [each["segments"] for each in shown["earlier"]]) == (None, [1, 1])
    names = s3_server.client.list_objects_v2(Bucket=locked["bucket"], Prefix="trail/audit/")["Contents"]
    assert len(names) == 5
    segments = await town.segments()
    assert [each.previous for each in segments[1:]] == [each.manifest for each in segments[:-1]]
    stores = await town.archives.stores(town.office.scope)
    target = tmp_path / "merged"
    for _, store in stores.all():
        for name in await store.list("audit"):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await store.get(name))
    report = await asyncio.to_thread(town.office.verified, target, await town.office.public_keys())
    assert (report.problems, report.records, report.manifests) == ([], 16, 4)


async def test_what_was_pruned_is_exported_from_where_it_lies(town: Town, s3_server: S3Server) -> None:
    now = town.house.clock.now().replace(microsecond=0)
    await town.choose(s3_place(s3_server))
    await town.office.record(2, at=now)
    await (await town.archiver()).advance(everything=True)
    await town.choose(FOLDER)
    town.house.clock.advance(401 * 86_400)
    await town.office.record(1, at=town.house.clock.now().replace(microsecond=0))
    pruner: Pruner = await town.archives.pruner(town.office.scope)

    assert await pruner.run() == 4

    headers = await town.house.as_member(town.owner, town.tenant)
    exports = ARCHIVE.replace("/archive", "/exports")
    answer = await town.house.client.post(exports, json={"reason": "a court"}, headers=headers)
    assert answer.status_code == 200, answer.text


async def test_a_segment_that_was_begun_is_finished_where_it_was_begun(town: Town) -> None:
    await town.choose(FOLDER)
    await town.office.record(2)
    stores = await town.archives.stores(town.office.scope)
    first = next(path for place, path in stores.all() if place == stores.current)
    archiver = town.office.archiver_at(stores, 2)
    with pytest.raises(ArchiveUnavailable):
        await archiver.advance(everything=True)
    await town.ask("DELETE")

    assert await (await town.archiver()).advance(everything=True) == 4

    assert len(await first.list("audit")) == 5


async def test_a_segment_whose_place_is_gone_for_a_day_is_written_where_the_next_one_goes(town: Town) -> None:
    await town.choose(FOLDER)
    await town.office.record(2)
    stores = await town.archives.stores(town.office.scope)
    with pytest.raises(ArchiveUnavailable):
        await town.office.archiver_at(stores, 2).advance(everything=True)
    await town.ask("DELETE")
    town.house.clock.advance(86_400)

    assert await (await town.archiver()).advance(everything=True) == 4

    assert [each.place for each in await town.segments()] == [""]
    assert (await town.office.check()).problems == []


async def test_an_archive_outside_the_regions_that_are_allowed_gets_nothing_more(
    town: Town, s3_server: S3Server
) -> None:
    await town.choose(s3_place(s3_server, region="us"))
    configuration = Configuration(
        id=new_id("cfg"), tenant_id=town.tenant.id, version=1, regions=["eu"], changed_by="usr_1",
        created_at=town.house.clock.now(),
    )  # fmt: skip
    await town.house.resources.database[+Configuration].insert_one(configuration.model_dump_doc())
    await town.office.record(1)

    with pytest.raises(ArchiveOutsideRegions):
        await (await town.archiver()).advance(everything=True)

    refused = problem(await town.ask("PUT", "", s3_place(s3_server, region="us")), 400, "invalid_request")
    assert "eu" in refused["detail"]
    await town.choose(s3_place(s3_server, region="eu"))
    assert await (await town.archiver()).advance(everything=True) == 2


async def test_an_address_inside_the_house_is_refused(town: Town) -> None:
    place = {"provider": "s3", "bucket": "trail", "location": "eu-central-1", "credentials": KEYS}
    for endpoint in (
        "http://169.254.169.254",
        "https://10.0.0.1",
        "https://192.168.1.4:9000",
        "https://127.0.0.1/other/path",
        "http://127.0.0.1:6379",
        "ftp://127.0.0.1",
    ):
        refused = problem(await town.ask("PUT", "", {**place, "endpoint": endpoint}), 400, "invalid_request")
        assert refused["param"] == "endpoint"


async def test_an_address_that_is_refused_later_is_not_connected_to(town: Town, s3_server: S3Server) -> None:
    """A name may lead elsewhere tomorrow, and the operator may list less."""
    await town.choose(s3_place(s3_server))
    settings = settings_of(town.office.folder, TRUEPORT_ARCHIVE_URL="file:", TRUEPORT_ALLOW_MUTABLE_ARCHIVE="1")
    settings = replace(settings, keys=town.house.resources.settings.keys)
    archives = Archives(replace(town.house.resources, settings=settings), None)
    await town.office.record(1)

    with pytest.raises(ArchiveUnavailable) as raised:
        await (await archives.archiver(town.office.scope)).advance(everything=True)

    assert raised.value.reason == "egress_refused"


async def test_what_can_be_no_place_is_refused_by_the_member_that_is_wrong(town: Town) -> None:
    s3, azure, gcs = ({"provider": name, "bucket": "trail"} for name in ("s3", "azure", "gcs"))
    for param, body in (
        ("bucket", {**s3, "bucket": "b", "location": "eu-central-1"}),
        ("bucket", {**s3, "bucket": "trail/../x", "location": "eu-central-1"}),
        ("location", {**s3, "location": "evil.example/"}),
        ("account", {**azure, "account": "evil.example"}),
        ("endpoint", {**azure, "account": "acme", "endpoint": "https://x.example"}),
        ("prefix", {"provider": "folder", "prefix": "../other"}),
        ("bucket", {"provider": "folder", "bucket": "trail"}),
        ("credentials", {**azure, "account": "acme"}),
        ("credentials", {**gcs, "credentials": {"service_account": '{"type": "external_account"}'}}),
    ):
        refused = problem(await town.ask("PUT", "", {"credentials": KEYS, **body}), 400, "invalid_request")
        assert refused["param"] == param


async def test_folders_need_the_operators_word_and_stay_below_the_tenants_own(
    town: Town, tmp_path: Path, database: Database
) -> None:
    await town.choose(FOLDER)
    await town.archive()
    root = town.house.resources.settings.data_dir / "archives" / town.tenant.id / "ours"
    assert len([each for each in root.rglob("*") if each.is_file()]) == 5

    async with open_house(settings_of(tmp_path / "b"), database, installed_domains(["auth", "audit"])) as house:
        headers = await house.as_member(town.owner, town.tenant)
        problem(await house.client.put(ARCHIVE, json=FOLDER, headers=headers), 400, "invalid_request")


async def test_the_test_leaves_a_locked_object_and_says_so(town: Town, s3_server: S3Server) -> None:
    place = s3_place(s3_server)
    await town.choose(place)

    tested = (await town.ask("POST", "/test")).json()

    assert (tested["is_fit"], tested["worm"], tested["lacks"]) == (True, True, [])
    name, _, until = tested["left"].partition(", locked until ")
    head = s3_server.client.head_object(Bucket=place["bucket"], Key=f"trail/{name}")
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert f"{head['ObjectLockRetainUntilDate']:%Y-%m-%dT%H}" == until[:13]
    assert head["ObjectLockLegalHoldStatus"] == "OFF"
    assert town.house.records()[-1]["action"] == "archive_tested"


async def test_the_test_clears_away_what_nothing_locks(town: Town) -> None:
    await town.choose(FOLDER)

    tested = (await town.ask("POST", "/test")).json()

    assert (tested["is_fit"], tested["worm"], tested["left"]) == (True, False, "nothing")
    root = town.house.resources.settings.data_dir / "archives"
    assert [each for each in root.rglob("*") if each.is_file()] == []


async def test_a_bucket_that_is_missing_or_elsewhere_is_said_and_not_taken(town: Town, s3_server: S3Server) -> None:
    there = s3_place(s3_server)

    missing = problem(await town.ask("PUT", "", {**there, "bucket": "never-made"}), 422, "archive_unfit")
    elsewhere = problem(await town.ask("PUT", "", {**there, "location": "eu-central-1"}), 422, "archive_unfit")

    assert [each["field"] for each in missing["errors"]] == ["no_bucket"]
    assert [each["field"] for each in elsewhere["errors"]] == ["region"]
    assert (await town.shown())["own"] is None
    assert town.house.records()[-1]["result"] == "failed"


async def test_a_bucket_without_locks_needs_the_operators_word(
    town: Town, s3_server: S3Server, tmp_path: Path, database: Database
) -> None:
    settings = settings_of(tmp_path / "b", TRUEPORT_EGRESS_ALLOW="127.0.0.1/32")
    async with open_house(settings, database, installed_domains(["auth", "audit"])) as house:
        headers = await house.as_member(town.owner, town.tenant)
        place = s3_place(s3_server, is_locked=False)
        refused = problem(await house.client.put(ARCHIVE, json=place, headers=headers), 422, "archive_unfit")

    assert [each["field"] for each in refused["errors"]] == ["mutable"]
    assert s3_server.client.list_objects_v2(Bucket=place["bucket"]).get("Contents", []) == []


async def test_what_the_store_refuses_is_said_in_words(town: Town) -> None:
    place = {"provider": "s3", "bucket": "trail", "location": "us-east-1", "credentials": KEYS}
    for status, code, lack in (
        (403, "InvalidAccessKeyId", "wrong_key"),
        (403, "SignatureDoesNotMatch", "wrong_key"),
        (403, "AccessDenied", "not_allowed"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (307, "TemporaryRedirect", "region"),
        (503, "SlowDown", "no_answer"),
    ):
        with refusing(status, code) as endpoint:
            refused = problem(await town.ask("PUT", "", {**place, "endpoint": endpoint}), 422, "archive_unfit")
        assert [each["field"] for each in refused["errors"]] == [lack]
        assert code in refused["errors"][0]["message"]


async def test_a_store_that_is_not_there_is_said(town: Town) -> None:
    place = {"provider": "s3", "bucket": "trail", "location": "us-east-1", "credentials": KEYS}
    endpoint = f"http://127.0.0.1:{free_port()}"

    refused = problem(await town.ask("PUT", "", {**place, "endpoint": endpoint}), 422, "archive_unfit")

    assert [each["field"] for each in refused["errors"]] == ["no_answer"]


async def test_the_job_works_off_own_archives_beside_a_broken_one(town: Town, s3_server: S3Server) -> None:
    await town.choose(s3_place(s3_server))
    broken = await town.house.tenant(town.owner, "broken")
    other = Office(town.house, broken.id, town.office.folder / "other")
    other.contents = town.office.contents
    headers = await town.house.as_member(town.owner, broken)
    place = s3_place(s3_server)
    assert (await town.house.client.put(ARCHIVE, json=place, headers=headers)).status_code == 200
    away = {"$set": {"endpoint": f"http://127.0.0.1:{free_port()}"}}
    await town.house.resources.database[+StoredPlace].update_one({"tenant_id": broken.id}, away)
    await other.record(1)
    await town.office.record(1)
    town.house.clock.advance(900)

    await town.archives.work_off()

    assert (await town.shown())["records"] == 2
    assert (await town.house.client.get(ARCHIVE, headers=headers)).json()["records"] == 0


async def test_what_lies_in_own_places_is_known_again_after_a_restore(
    town: Town, s3_server: S3Server, tmp_path: Path
) -> None:
    await town.choose(s3_place(s3_server))
    await town.archive()
    stores = await town.archives.stores(town.office.scope)
    folder = await town.office.copied(stores.at(stores.current))
    database = town.house.resources.database
    for collection in ("audit_batches", "audit_checkpoints", "audit_tiles", "audit_archived", "audit_records"):
        await database[collection].delete_many({"tenant_id": town.tenant.id})
    restoring = Restore(
        database, town.office.scope, town.office.keys, town.office.contents, town.office.rules, town.house.clock
    )

    assert await restoring.run(*await town.office.source(folder), stores) == 4

    assert [each.place for each in await town.segments()] == [stores.current]
