"""One file of the spool: a header, then frames, then zeros.

A frame is `u32 length || u32 crc32c || payload`, its payload `u32 record length || canonical record || blobs`, and
each blob `u32 length || bytes`. Numbers are big-endian. A reader stops at the first frame that does not hold: after
a crash that is the torn end, and nothing good ever follows it.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import google_crc32c

MAGIC: Final = b"TPSPOOL1"
HEADER_BYTES: Final = 512
FRAME_HEAD: Final = struct.Struct(">II")
_LENGTH: Final = struct.Struct(">I")
_ZEROS: Final = bytes(1 << 20)
SUFFIX: Final = ".seg"
PREPARED_SUFFIX: Final = ".new"
"""A segment that is ready and not yet part of the journal."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it stands in a segment. `end` is the offset behind it."""

    record: bytes
    blobs: tuple[bytes, ...]
    end: int


def frame_bytes(record: bytes, blobs: Sequence[bytes]) -> bytes:
    """The frame of a record and the ciphertexts that travel beside it."""
    parts = [_LENGTH.pack(len(record)), record]
    for blob in blobs:
        parts += (_LENGTH.pack(len(blob)), blob)
    payload = b"".join(parts)
    return FRAME_HEAD.pack(len(payload), google_crc32c.value(payload)) + payload


def header_bytes(writer: str, number: int) -> bytes:
    """The first 512 bytes of a segment."""
    text = f"{number}|{writer}".encode()
    head = MAGIC + _LENGTH.pack(len(text)) + text
    head += _LENGTH.pack(google_crc32c.value(head))
    return head.ljust(HEADER_BYTES, b"\0")


def path_of(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}{SUFFIX}"


def numbers_in(directory: Path) -> list[int]:
    """The numbers of the segments in a writer's directory, in order."""
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


def create(path: Path, size: int, header: bytes) -> int:
    """A new segment of `size` bytes, zeros written once so that later syncs need no metadata. Returns its descriptor.

    Raises OSError, for instance when the disk is full; then nothing is left behind.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, size)
        at = 0
        while at < size:
            at += os.pwrite(handle, _ZEROS[: min(len(_ZEROS), size - at)], at)
        os.pwrite(handle, header, 0)
        os.fsync(handle)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle


def frames(data: bytes, start: int = HEADER_BYTES) -> Iterator[Frame]:
    """The frames in a segment's bytes from offset `start` to the first that does not hold."""
    at = start
    while at + FRAME_HEAD.size <= len(data):
        length, crc = FRAME_HEAD.unpack_from(data, at)
        body_at = at + FRAME_HEAD.size
        payload = data[body_at : body_at + length]
        if length < _LENGTH.size or len(payload) < length or google_crc32c.value(payload) != crc:
            return
        at = body_at + length
        record, *blobs = _pieces(payload)
        yield Frame(record, tuple(blobs), at)


def _pieces(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at + _LENGTH.size <= len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        yield payload[at : at + length]
        at += length
