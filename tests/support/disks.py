"""Real disks that can be filled, broken and taken away: a small tmpfs, and an ext4 in a file. They need root."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

_SHUT_DOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from then on every access to the file system ends in EIO, as on a disk that has died."""
_AT_ONCE: Final = struct.pack("I", 2)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let tests mount: {done.stderr.strip()[:200]}")


@contextmanager
def _mounted(at: Path, *arguments: str) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a disk needs root")
    at.mkdir()
    _mount(*arguments, str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def small_disk(at: Path, kib: int) -> Iterator[Path]:
    """A tmpfs of this size."""
    with _mounted(at, "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs") as mounted:
        yield mounted


@contextmanager
def block_disk(at: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB in a file."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    image = at.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    try:
        with _mounted(at, "-o", "loop,errors=remount-ro", str(image)) as mounted:
            yield mounted
    finally:
        with suppress(FileNotFoundError):
            image.unlink()


def break_disk(disk: Path) -> None:
    """Every access to a `block_disk` ends in EIO from now on."""
    handle = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, _SHUT_DOWN, _AT_ONCE)
    finally:
        os.close(handle)


def make_read_only(disk: Path) -> None:
    """As a kernel does that has found an error: a `block_disk` with files open for writing is not remounted politely.

    Skips the test where the kernel has no way to be told of an error.
    """
    device = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {disk} " in line)
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    if not trigger.exists():
        pytest.skip("this kernel does not let tests report a file system error")
    trigger.write_text("a test says so")
