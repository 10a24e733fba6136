"""Reads an archive back, segment by segment, for whoever makes records of it again. The verifier has to have run."""

import hashlib
import io
import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import zstandard

from trueport.audit.segment import Frame
from trueport.audit.shipper import ShippedRecord, shipped
from trueport.audit.verifier import Source

_MANIFEST: Final = re.compile(r"d=\d{4}-\d\d-\d\d/(\d{16})-(\d{16})\.manifest\.json")
_OBJECT: Final = re.compile(r"d=\d{4}-\d\d-\d\d/(\d{16})-(\d{16})\.")
_MOST_OBJECT_BYTES: Final = 1 << 30
_HASH_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class RestoredSegment:
    """The records at [start, end), the names of their objects in the order of writing, and the note that ends them.

    `manifest` is the SHA-256 (hex) of the manifest, `previous` that of the one before.
    """

    start: int
    end: int
    records: tuple[ShippedRecord, ...]
    names: tuple[str, ...]
    manifest: str
    previous: str
    retained_until: str | None
    checkpoint: bytes


class Finished:
    """An archive without what a process left behind that ended while it wrote the last segment: nobody signed that.

    Only what would follow the last finished segment is left out. A Source; `left_out` are the names.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        names = set(source.names())
        begun = {name: (int(match[1]), int(match[2])) for name in names if (match := _OBJECT.match(name))}
        finished = {span for span in begun.values() if self._is_finished(span, begun, names)}
        end = max((end for _, end in finished), default=0)
        self.left_out = sorted(name for name, span in begun.items() if span[0] == end and span not in finished)

    @staticmethod
    def _is_finished(span: tuple[int, int], begun: Mapping[str, tuple[int, int]], names: Container[str]) -> bool:
        """The checkpoint is what is written last."""
        endings = {name.partition(".")[2] for name, other in begun.items() if other == span}
        return f"checkpoint/{span[1]:016d}.note" in names and endings >= {"manifest.json", "manifest.json.note"}

    def names(self) -> Sequence[str]:
        left_out = set(self.left_out)
        return [name for name in self._source.names() if name not in left_out]

    def read(self, name: str) -> bytes:
        return self._source.read(name)


def segments_in(source: Source) -> Iterator[RestoredSegment]:
    """The segments of an archive in their order. Raises what damage raises: the verifier says what that is."""
    found = sorted((int(match[1]), name) for name in source.names() if (match := _MANIFEST.fullmatch(name)))
    for _, name in found:
        data = source.read(name)
        manifest: dict[str, Any] = json.loads(data)
        lines, payload = (_unpacked(source.read(each["name"])) for each in manifest["objects"])
        checkpoint = f"checkpoint/{manifest['end']:016d}.note"
        described = [each["name"] for each in manifest["objects"]]
        yield RestoredSegment(
            start=manifest["start"],
            end=manifest["end"],
            records=tuple(_records(lines, dict(_blobs(payload)))),
            names=(*reversed(described), name, f"{name}.note", checkpoint),
            manifest=hashlib.sha256(data).hexdigest(),
            previous=manifest["previous"],
            retained_until=manifest.get("retained_until"),
            checkpoint=source.read(checkpoint),
        )


def _records(lines: bytes, blobs: dict[str, bytes]) -> Iterator[ShippedRecord]:
    for line in lines.split(b"\n")[:-1]:
        bare = shipped(Frame(line, (), 0))
        content = bare.record.get("content")
        blob = blobs.get(content["ct_sha256"]) if isinstance(content, dict) else None
        yield bare if blob is None else shipped(Frame(line, (blob,), 0))


def _blobs(payload: bytes) -> Iterator[tuple[str, bytes]]:
    at, head = 0, _HASH_BYTES + _LENGTH_BYTES
    while at < len(payload):
        length = int.from_bytes(payload[at + _HASH_BYTES : at + head], "big")
        yield payload[at : at + _HASH_BYTES].hex(), payload[at + head : at + head + length]
        at += head + length


def _unpacked(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(data)) as reader:
        content: bytes = reader.read(_MOST_OBJECT_BYTES)
    return content
