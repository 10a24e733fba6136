"""Where a writer keeps its segments: a folder of its own under each root it uses, held by a lock for life.

There are one or two roots. The second is used when the first takes nothing more; adopters put the folders of one
writer together again.
"""

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOCK_NAME: Final = "lock"
_UNFINISHED: Final = ".new-"
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a living writer under one root. `lock` is a descriptor, whose lock ends with the process."""

    root: Path
    directory: Path
    lock: int


def open_home(root: Path, writer: str) -> Home:
    """Make a writer's folder. Raises OSError."""
    for attempt in range(_ATTEMPTS - 1):
        # An adopter took the folder for a dead process's in the moment before it was locked: the next has another name.
        with suppress(FileNotFoundError, BlockingIOError):
            return _make_home(root, writer, attempt)
    return _make_home(root, writer, _ATTEMPTS - 1)


def _make_home(root: Path, writer: str, attempt: int) -> Home:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = root / f"{_UNFINISHED}{writer}-{attempt}"
    hidden.mkdir(mode=0o700)
    try:
        lock = os.open(hidden / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        with suppress(OSError):
            hidden.rmdir()
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Adopters see it from here on, and with the lock held: an unlocked one would be a dead process's to them.
        hidden.rename(root / writer)
    except OSError:
        os.close(lock)
        raise
    return Home(root, root / writer, lock)


def delete_unfinished(roots: Iterable[Path]) -> None:
    """Delete the folders that no process lived to finish making: they hold no record. Raises OSError for the roots."""
    for hidden in (each for root in roots for each in root.glob(f"{_UNFINISHED}*/")):
        try:
            lock = os.open(hidden / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            with suppress(OSError):
                hidden.rmdir()
            continue
        # A lock that is held is that of a process that is about to give the folder its name.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (hidden / LOCK_NAME).unlink()
            hidden.rmdir()
        os.close(lock)


def room_bytes(folders: Iterable[Path], unit: int) -> int:
    """What the disks below these folders still take in whole pieces of `unit` bytes; a disk counts once."""
    found: dict[int, int] = {}
    for folder in folders:
        # What does not answer has no room.
        with suppress(OSError):
            status = os.statvfs(folder)
            found[folder.stat().st_dev] = status.f_bavail * status.f_frsize // unit * unit
    return sum(found.values())
