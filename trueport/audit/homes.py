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


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a living writer under one root. `lock` is a descriptor, whose lock ends with the process."""

    root: Path
    directory: Path
    lock: int


def open_home(root: Path, writer: str) -> Home:
    """Make a writer's folder. Raises OSError."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = root / f".new-{writer}"
    hidden.mkdir(mode=0o700)
    try:
        lock = os.open(hidden / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        with suppress(OSError):
            hidden.rmdir()
        raise
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Adopters see it from here on, and with the lock held: an unlocked one would be a dead process's to them.
    hidden.rename(root / writer)
    return Home(root, root / writer, lock)


def room_bytes(folders: Iterable[Path], unit: int) -> int:
    """What the disks below these folders still take in whole pieces of `unit` bytes; a disk counts once."""
    found: dict[int, int] = {}
    for folder in folders:
        # What does not answer has no room.
        with suppress(OSError):
            status = os.statvfs(folder)
            found[folder.stat().st_dev] = status.f_bavail * status.f_frsize // unit * unit
    return sum(found.values())
