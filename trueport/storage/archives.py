"""Where archives lie: objects that are written once and, where the store can promise it, locked until a day.

`put_if_absent` never replaces. Whoever writes reads back and compares: the same bytes mean that it was done before,
others mean that somebody else was there.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from trueport.kit.clock import Clock
from trueport.kit.errors import Conflict, Unavailable
from trueport.storage.documents import FolderStore, StorageUnavailable, UnknownStorage

_KINDS: Final = ("s3", "az", "gs")
NEEDS_PACKAGE: Final = "Archives in Azure and Google need a package: pip install 'trueport[storage]'."


class ArchiveUnavailable(Unavailable):
    """The archive does not take or give objects right now.

    `reason` is for the log: a status with the store's own word for it, such as `404 NoSuchBucket`, or a kind of error.
    """

    code = "archive_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("The archive is not available at the moment.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Immutability:
    """Whether the store itself keeps objects from being changed and deleted (`worm`), and how that is known."""

    worm: bool
    why: str


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """`locked_until` is until when the store refuses everybody to change or delete the object; None: it does not.

    `is_held`: it refuses that without an end, because of a legal hold.
    """

    size: int
    locked_until: datetime | None
    is_held: bool = False


class ArchiveStore(Protocol):
    """Objects by name, such as `audit/v1/t=ten_…/checkpoint/0000000000000700.note`.

    Every method raises ArchiveUnavailable, after which it is not known what became of it; again does no harm.
    """

    async def immutability(self) -> Immutability: ...

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        """Store an object so that it survives a power loss; one that has the name already stays as it is.

        Where the store is WORM nobody can change or delete it before `locked_until`.
        """

    async def get(self, name: str) -> bytes:
        """The object. Raises NotFound."""

    async def head(self, name: str) -> ObjectHead:
        """Raises NotFound."""

    async def list(self, prefix: str) -> list[str]:
        """The names of the objects in this folder and those below it, sorted. No folder is an empty list."""

    async def hold(self, name: str, *, is_held: bool) -> bool:
        """Set or lift the store's own legal hold on an object; False where the store has none. Raises NotFound."""

    async def remove(self, name: str) -> None:
        """Remove an object that nothing locks. For probes: what is evidence is never removed by us."""


@runtime_checkable
class Located(Protocol):
    """A store that says where it is."""

    async def location(self) -> str:
        """The store's own name of its region, such as `eu-central-1`. Raises ArchiveUnavailable."""


class FolderArchive:
    """An archive in a local folder, for one machine and for tests. Whoever owns the machine can change it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store = FolderStore(root)

    async def immutability(self) -> Immutability:
        return Immutability(worm=False, why="a local folder: whoever owns the machine can change it")

    async def put_if_absent(self, name: str, data: bytes, locked_until: datetime) -> None:
        del locked_until
        try:
            with suppress(Conflict):
                await self._store.put(name, data)
        except StorageUnavailable as error:
            raise ArchiveUnavailable(type(error.__cause__).__name__) from error

    async def get(self, name: str) -> bytes:
        try:
            return await self._store.get(name)
        except StorageUnavailable as error:
            raise ArchiveUnavailable(type(error.__cause__).__name__) from error

    async def head(self, name: str) -> ObjectHead:
        return ObjectHead(len(await self.get(name)), locked_until=None)

    async def list(self, prefix: str) -> list[str]:
        return await asyncio.to_thread(_names_below, self._root, prefix.rstrip("/"))

    async def hold(self, name: str, *, is_held: bool) -> bool:
        del name, is_held
        return False

    async def remove(self, name: str) -> None:
        try:
            await asyncio.to_thread((self._root / name).unlink, missing_ok=True)
        except OSError as error:
            raise ArchiveUnavailable(type(error).__name__) from error


def _names_below(root: Path, prefix: str) -> list[str]:
    files = (path for path in (root / prefix).rglob("*") if path.is_file())
    # A dot begins the name of a draft, never of an object.
    return sorted(str(path.relative_to(root)) for path in files if not path.name.startswith("."))


def open_archive(url: str, data_dir: Path, clock: Clock, environ: Mapping[str, str]) -> ArchiveStore:
    """The archive that TRUEPORT_ARCHIVE_URL names; credentials of object stores are those of the environment.

    Raises UnknownStorage for a scheme that is not available here, also when the package for it is not installed.
    """
    if url == "file:":
        return FolderArchive(data_dir / "archive")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderArchive(Path(unquote(parts.path)))
    if parts.scheme not in _KINDS or not parts.netloc:
        raise UnknownStorage(f"{parts.scheme}: is no archive: use file:, s3://bucket/prefix, az:// or gs://.")
    if parts.scheme == "s3":
        from trueport.storage.s3_archives import S3Archive  # noqa: PLC0415  # it is made of what is defined here

        return S3Archive.of(url, clock, environ)
    try:
        from trueport.storage.object_archives import ObjectArchive  # noqa: PLC0415  # obstore is optional
    except ImportError as error:
        raise UnknownStorage(NEEDS_PACKAGE) from error
    return ObjectArchive.of(url)
