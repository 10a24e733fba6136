"""What every archive store does, over the local folder and S3; and what only a store with locks promises."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from yarl import URL

from tests.support.s3_server import S3Server, s3_server
from trueport.kit.clock import SystemClock
from trueport.kit.errors import NotFound
from trueport.kit.ids import new_id
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, open_archive
from trueport.storage.documents import UnknownStorage

__all__ = ["s3_server"]

NAME = "audit/v1/t=ten_1/d=2026-11-23/0000000000000000-0000000000000700.jsonl.zst"
LATER = (SystemClock().now() + timedelta(days=400)).replace(microsecond=0)


def opened(url: str, folder: Path, environ: Mapping[str, str]) -> ArchiveStore:
    return open_archive(url, folder, SystemClock(), environ)


@pytest.fixture(params=["folder", "s3", "s3 without locks", "any object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveStore:
    if request.param == "folder":
        return opened("file:", tmp_path, {})
    if request.param == "any object store":
        pytest.importorskip("obstore")
        from obstore.store import MemoryStore

        from trueport.storage.object_archives import ObjectArchive

        return ObjectArchive(MemoryStore())
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.bucket(new_id("b").replace("_", "-").lower(), is_locked=request.param == "s3")
    return opened(f"s3://{bucket}/of/us", tmp_path, server.environ)


async def test_what_is_stored_is_given_back(store: ArchiveStore) -> None:
    data = b"\x00what was said" * 200_000

    await store.put_if_absent(NAME, data, LATER)

    assert await store.get(NAME) == data
    assert (await store.head(NAME)).size == len(data)


async def test_a_second_object_of_a_name_changes_nothing(store: ArchiveStore) -> None:
    await store.put_if_absent(NAME, b"first", LATER)
    await store.put_if_absent(NAME, b"first", LATER)
    await store.put_if_absent(NAME, b"other", LATER)

    assert await store.get(NAME) == b"first"


async def test_names_are_listed_by_folder_and_in_order(store: ArchiveStore) -> None:
    note = "audit/v1/t=ten_1/checkpoint/0000000000000700.note"
    for name in (NAME, note, "audit/v1/t=ten_2/checkpoint/0000000000000001.note"):
        await store.put_if_absent(name, b"x", LATER)

    assert await store.list("audit/v1/t=ten_1") == [note, NAME]
    assert await store.list("audit/v1/t=ten_3") == []


async def test_what_is_not_there_is_not_found(store: ArchiveStore) -> None:
    with pytest.raises(NotFound):
        await store.get(NAME)
    with pytest.raises(NotFound):
        await store.head(NAME)


async def test_a_store_without_locks_says_so(store: ArchiveStore, request: pytest.FixtureRequest) -> None:
    await store.put_if_absent(NAME, b"x", LATER)

    is_locked = "[s3]" in request.node.name

    assert (await store.immutability()).worm is is_locked
    assert (await store.head(NAME)).locked_until == (LATER if is_locked else None)


async def test_a_hold_is_set_and_lifted_where_the_store_has_them_and_elsewhere_it_says_no(
    store: ArchiveStore, request: pytest.FixtureRequest
) -> None:
    await store.put_if_absent(NAME, b"x", LATER)
    has_holds = "[s3]" in request.node.name

    for is_held in (True, True, False):
        assert await store.hold(NAME, is_held=is_held) is has_holds
        assert (await store.head(NAME)).is_held is (is_held and has_holds)


@pytest.mark.parametrize("store", ["folder", "s3 without locks", "any object store"], indirect=True)
async def test_what_nothing_locks_can_be_removed_and_again(store: ArchiveStore) -> None:
    await store.put_if_absent("probe/t=ten_1/1.txt", b"x", LATER)

    for _ in range(2):
        await store.remove("probe/t=ten_1/1.txt")

    with pytest.raises(NotFound):
        await store.get("probe/t=ten_1/1.txt")


async def test_a_locked_object_can_be_neither_deleted_nor_replaced(s3_server: S3Server, tmp_path: Path) -> None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # botocore has no types

    bucket = s3_server.bucket(new_id("b").replace("_", "-").lower())
    store = opened(f"s3://{bucket}", tmp_path, s3_server.environ)
    await store.put_if_absent(NAME, b"evidence", LATER)
    version = s3_server.client.list_object_versions(Bucket=bucket)["Versions"][0]["VersionId"]
    of_it = {"Bucket": bucket, "Key": NAME, "VersionId": version}

    for bypass in (False, True):
        with pytest.raises(ClientError):
            s3_server.client.delete_object(**of_it, BypassGovernanceRetention=bypass)

    await store.put_if_absent(NAME, b"forged", LATER)
    assert len(s3_server.client.list_object_versions(Bucket=bucket)["Versions"]) == 1
    assert await store.get(NAME) == b"evidence"


async def test_a_store_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    store = opened("s3://bucket", tmp_path, environ)

    with pytest.raises(ArchiveUnavailable):
        await store.immutability()
    with pytest.raises(ArchiveUnavailable):
        await store.put_if_absent(NAME, b"x", LATER)
    with pytest.raises(ArchiveUnavailable):
        await store.head(NAME)


@pytest.mark.parametrize("url", ["ftp://files", "s3://", "file://elsewhere/folder", "s3://no-credentials"])
def test_a_url_that_leads_nowhere_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownStorage):
        opened(url, tmp_path, {})


@pytest.mark.parametrize("token", [None, "a-token"])
def test_requests_are_signed_as_amazon_signs_them(token: str | None) -> None:
    """Against botocore: the emulator takes any signature."""
    pytest.importorskip("botocore")
    pytest.importorskip("obstore")
    from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]  # botocore has no types
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # nor has this
    from botocore.credentials import Credentials  # type: ignore[import-untyped]  # nor this

    from trueport.storage.s3_archives import S3Access, sign_s3

    access = S3Access("https://s3.eu-central-1.amazonaws.com", "eu-central-1", "AKIAEXAMPLE", "s3cret", token)
    for verb, rest, headers, data in (
        (
            "PUT",
            "/bucket/audit/v1/t%3Dten_1/a.note",
            {"if-none-match": "*", "x-amz-object-lock-mode": "COMPLIANCE"},
            b"x",
        ),
        ("GET", "/bucket?object-lock=", {}, b""),
        ("HEAD", "/bucket/a", {}, b""),
    ):
        url = access.endpoint + rest
        theirs = AWSRequest(verb, url, headers=headers, data=data)
        S3SigV4Auth(Credentials("AKIAEXAMPLE", "s3cret", token), "s3", "eu-central-1").add_auth(theirs)
        now = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

        ours = sign_s3(access, verb, URL(url, encoded=True), hashlib.sha256(data).hexdigest(), headers, now)

        assert ours["authorization"] == theirs.headers["Authorization"]
