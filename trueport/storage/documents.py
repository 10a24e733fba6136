"""Where a tenant's content lies: named objects that are written once."""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from trueport.kit.errors import Conflict, NotFound, TrueportError, Unavailable

# 200 characters a part leave room for the name of a draft within the 255 bytes of most file systems.
_LONGEST_NAME: Final = 800
_LONGEST_PART: Final = 200
_NAME: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.=-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")


class StorageUnavailable(Unavailable):
    """The content store does not take or give objects right now."""

    code = "storage_unavailable"

    def __init__(self) -> None:
        super().__init__("The content storage is not available at the moment.")


class UnknownStorage(TrueportError):
    """The storage URL names a kind this installation cannot reach."""

    code = "unknown_storage"
    status = 500


class ContentStore(Protocol):
    """Objects by name, such as `ten_…/content/2026-11-23/….bin`. An object never changes once it is written."""

    async def put(self, name: str, data: bytes) -> None:
        """Store an object so that it survives a power loss. The same bytes again are no error, others are a Conflict.

        Raises StorageUnavailable.
        """

    async def get(self, name: str) -> bytes:
        """The object. Raises NotFound, StorageUnavailable."""

    async def ping(self) -> bool:
        """Whether objects can be written."""


@runtime_checkable
class Blanking(Protocol):
    """A store that can overwrite what nobody may read any more. One that keeps objects for good cannot."""

    async def blank(self, name: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Put zeros in place of these ranges, each a start and a length, so that it survives a power loss.

        An object that is not there is no error. Raises StorageUnavailable.
        """


class FolderStore:
    """A local folder, one file per object, written beside its place and linked there when it is complete.

    Only the process's user can read it. A crash may leave a draft behind, whose name begins with a dot as no object's
    does.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, data: bytes) -> None:
        """See ContentStore. Raises ValueError for what cannot be an object's name."""
        path = self._path(name)
        try:
            await asyncio.to_thread(_write_once, self._root, path, data)
        except OSError as error:
            raise StorageUnavailable from error

    async def get(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return await asyncio.to_thread(_read, self._root, path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound("There is no such object.") from error
        except OSError as error:
            raise StorageUnavailable from error

    async def blank(self, name: str, ranges: Sequence[tuple[int, int]]) -> None:
        """See Blanking. Done in place, so that two who blank one object at once do not undo each other's work."""
        path = self._path(name)
        try:
            await asyncio.to_thread(_blank, self._root, path, ranges)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise StorageUnavailable from error

    async def ping(self) -> bool:
        try:
            await asyncio.to_thread(_probe, self._root)
        except OSError:
            return False
        return True

    def _path(self, name: str) -> Path:
        if (
            len(name) > _LONGEST_NAME
            or _NAME.fullmatch(name) is None
            or any(len(part) > _LONGEST_PART for part in name.split("/"))
        ):
            raise ValueError("not the name of an object")
        return self._root / name


def _read(root: Path, path: Path) -> bytes:
    _stay_inside(root, path)
    return path.read_bytes()


def _write_once(root: Path, path: Path, data: bytes) -> None:
    _make_folder(path.parent)
    _stay_inside(root, path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A link, because a rename would replace what is there.
        path.hardlink_to(draft)
    except FileExistsError:
        if not _is_same(path.read_bytes(), data):
            raise Conflict("Another object has this name already.") from None
    finally:
        draft.unlink(missing_ok=True)
    # Also when it was there: whoever wrote it may have ended before this step.
    _sync_folder(path.parent)


def _is_same(kept: bytes, data: bytes) -> bool:
    """Whether these are the bytes, or what blanking has left of them: a batch may be offered again long afterwards."""
    if kept == data:
        return True
    return len(kept) == len(data) and kept == bytes(new if old else 0 for old, new in zip(kept, data, strict=True))


def _blank(root: Path, path: Path, ranges: Sequence[tuple[int, int]]) -> None:
    _stay_inside(root, path)
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        for start, length in ranges:
            file.seek(start)
            # An object never grows.
            file.write(bytes(max(0, min(length, size - start))))
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Create a folder and those above it, so that they are there after a power loss and nobody else's to read."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _sync_folder(folder.parent)


def _stay_inside(root: Path, path: Path) -> None:
    """Raise OSError when a link leads out of the root."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise PermissionError("a link leads out of the storage folder")


def _probe(root: Path) -> None:
    _make_folder(root)
    draft = root / f".probe.{secrets.token_hex(8)}"
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(b"?")
    finally:
        draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_store(url: str, data_dir: Path) -> ContentStore:
    """The store behind TRUEPORT_STORAGE_URL. Raises UnknownStorage for a scheme that is not available here."""
    if url == "file:":
        return FolderStore(data_dir / "storage")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderStore(Path(unquote(parts.path)))
    raise UnknownStorage(f"{parts.scheme}:// storage is not available in this version: use file: or file:///folder.")
