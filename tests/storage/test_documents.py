import asyncio
import os
import stat
from pathlib import Path

import pytest

from trueport.kit.errors import Conflict, NotFound
from trueport.storage.documents import (
    Blanking,
    ContentStore,
    FolderStore,
    StorageUnavailable,
    UnknownStorage,
    open_store,
)

NAME = "ten_acme/content/2026-11-23/int_1.bin"


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return FolderStore(tmp_path / "storage")


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def drafts(root: Path) -> list[Path]:
    return [path for path in files(root) if path.name.startswith(".")]


async def test_an_object_comes_back_byte_for_byte(store: ContentStore) -> None:
    data = bytes(range(256)) * 5_000

    await store.put(NAME, data)

    assert await store.get(NAME) == data


async def test_the_same_bytes_again_are_no_error_and_others_are(store: ContentStore, tmp_path: Path) -> None:
    await store.put(NAME, b"first")

    await store.put(NAME, b"first")
    with pytest.raises(Conflict):
        await store.put(NAME, b"other")

    assert await store.get(NAME) == b"first"
    assert drafts(tmp_path) == []


async def test_of_many_who_write_one_name_at_once_one_wins(store: ContentStore, tmp_path: Path) -> None:
    # Not zeros: an object of zeros is what blanking leaves of any other, which may be offered again.
    objects = [bytes([number]) * 100 for number in range(1, 17)]
    outcomes = await asyncio.gather(*(store.put(NAME, data) for data in objects), return_exceptions=True)

    winners = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome is not None)
    assert await store.get(NAME) == objects[winners[0]]
    assert drafts(tmp_path) == []


async def test_what_does_not_exist_is_not_found(store: ContentStore) -> None:
    await store.put(NAME, b"x")

    for missing in ("ten_acme/content/2026-11-23/int_2.bin", "ten_other/x", "ten_acme", f"{NAME}/deeper"):
        with pytest.raises(NotFound):
            await store.get(missing)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "a/../b", "a/..", "/etc/passwd", "a//b", "a/", "/a", "a/./b", ".hidden", "a/.hidden",
        "a\\b", "a\x00b", "a\nb", "a b", "ä", "a/b..c", "~/x", "C:x", "x" * 201, "/".join(["x" * 199] * 5), "a\n",
    ],
)  # fmt: skip
async def test_a_name_that_could_lead_elsewhere_is_refused(store: ContentStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name of an object"):
        await store.put(name, b"x")
    with pytest.raises(ValueError, match="name of an object"):
        await store.get(name)

    assert files(tmp_path) == []


async def test_a_link_that_leads_out_of_the_folder_is_not_followed(store: ContentStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "storage"
    root.mkdir()
    (root / "ten_acme").symlink_to(outside)
    (root / "link").symlink_to(outside / "secret")

    for name in ("ten_acme/secret", "link"):
        with pytest.raises(StorageUnavailable):
            await store.get(name)
    with pytest.raises(StorageUnavailable):
        await store.put("ten_acme/new", b"x")

    assert [path.name for path in outside.iterdir()] == ["secret"]


async def test_only_this_user_can_read_the_objects(store: ContentStore, tmp_path: Path) -> None:
    await store.put(NAME, b"x")

    assert [path for path in (tmp_path / "storage").rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE((tmp_path / "storage").stat().st_mode) == 0o700


async def test_the_object_and_each_new_folder_are_synced_before_it_counts(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    await store.put("a/b/object", b"x")

    assert synced[:3] == [tmp_path.name, "storage", "a"]
    assert synced[3].startswith(".object.")
    assert synced[4:] == ["b"]


async def test_a_write_that_breaks_off_leaves_nothing(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trueport.storage.documents._sync_folder", lambda _: None)
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable):
            await store.put(NAME, b"x")

    assert files(tmp_path) == []
    await store.put(NAME, b"x")


async def test_a_folder_that_cannot_be_written_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    assert await FolderStore(tmp_path / "new").ping()
    assert not await FolderStore(tmp_path / "file" / "below").ping()
    assert list((tmp_path / "new").iterdir()) == []


async def test_the_url_says_where_objects_lie(tmp_path: Path) -> None:
    await open_store("file:", tmp_path / "data").put("a", b"1")
    await open_store(f"file://{tmp_path}/with%20space", tmp_path / "data").put("a", b"2")

    assert (tmp_path / "data" / "storage" / "a").read_bytes() == b"1"
    assert (tmp_path / "with space" / "a").read_bytes() == b"2"


@pytest.mark.parametrize("url", ["s3://bucket/x", "az://c/x", "gs://b/x", "file://host/x", "ftp://h/x", "storage", ""])
def test_a_kind_of_storage_that_cannot_be_reached_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(UnknownStorage, match="file:"):
        open_store(url, tmp_path)


async def test_blanked_parts_are_zeros_and_the_rest_stays(store: ContentStore) -> None:
    assert isinstance(store, Blanking)
    await store.put(NAME, b"one two three")

    await store.blank(NAME, [(0, 3), (8, 100)])
    await store.blank(NAME, [(0, 3)])

    assert await store.get(NAME) == bytes(3) + b" two " + bytes(5)


async def test_a_blanked_object_takes_its_own_bytes_again_and_no_others(store: ContentStore) -> None:
    assert isinstance(store, Blanking)
    await store.put(NAME, b"one two three")
    await store.blank(NAME, [(4, 3)])

    await store.put(NAME, b"one two three")
    for other in (b"one two thre", b"one two threE", b"One two three"):
        with pytest.raises(Conflict):
            await store.put(NAME, other)

    assert await store.get(NAME) == b"one " + bytes(3) + b" three"


async def test_there_is_nothing_to_blank_where_nothing_is(store: ContentStore) -> None:
    assert isinstance(store, Blanking)
    await store.blank(NAME, [(0, 3)])

    with pytest.raises(NotFound):
        await store.get(NAME)
