"""The objects of an archive: what an examiner gets, and all that the verifier needs. Pure.

Under `audit/v1/t=<tenant>/`, for the records [start, end) of a tenant's order:

    d=<day>/<start>-<end>.jsonl.zst           their canonical bytes, one a line
    d=<day>/<start>-<end>.payload.zst         their sealed contents, each after its SHA-256 and its length
    d=<day>/<start>-<end>.manifest.json       what the two are, the root of the tree behind them, the manifest before
    d=<day>/<start>-<end>.manifest.json.note  the log's signature over the manifest
    checkpoint/<size>.note                    a signed checkpoint

They are written in this order, so that a manifest never speaks of what is not there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard

from trueport.audit.canonical import canonical
from trueport.audit.notes import Note, Signer, sign_note
from trueport.kit.clock import from_epoch_us

FIRST_MANIFEST: Final = "0" * 64
"""`previous` of a tenant's first manifest."""
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class ArchivedRecord:
    """A record as it was written, and the sealed contents it describes."""

    canonical: bytes
    at_us: int
    blobs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedObject:
    """The bytes that go under a name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of the order as objects, in the order in which they are to be written; the manifest is the third."""

    objects: tuple[NamedObject, ...]
    manifest_sha256: str


def folder_of(tenant_id: str) -> str:
    return f"audit/v1/t={tenant_id}"


async def segment_of(
    tenant_id: str,
    start: int,
    records: Sequence[ArchivedRecord],
    *,
    root: bytes,
    previous: str,
    origin: str,
    signers: Sequence[Signer],
) -> Segment:
    """The objects of the records from `start` on. `root` is that of the tree that ends with them.

    previous: SHA-256 (hex) of the manifest before. Raises ValueError without records, and what a signer raises.
    """
    if not records:
        raise ValueError("a segment has records")
    end = start + len(records)
    day = from_epoch_us(records[0].at_us).date().isoformat()
    stem = f"d={day}/{start:016d}-{end:016d}"
    lines = b"".join(record.canonical + b"\n" for record in records)
    payload = b"".join(_framed(blob) for record in records for blob in record.blobs)
    data = _compressed(f"{stem}.jsonl.zst", lines)
    sealed = _compressed(f"{stem}.payload.zst", payload)
    manifest = canonical(
        {
            "v": 1,
            "tenant": tenant_id,
            "start": start,
            "end": end,
            "count": len(records),
            "first_at": min(record.at_us for record in records),
            "last_at": max(record.at_us for record in records),
            "objects": [_described(data, lines), _described(sealed, payload)],
            "tree": {"size": end, "root": root.hex()},
            "previous": previous,
        }
    )
    digest = hashlib.sha256(manifest).hexdigest()
    note = await sign_note(f"{origin}\nmanifest\n{digest}\n", signers)
    name = f"{stem}.manifest.json"
    written = (sealed, data, NamedObject(name, manifest), NamedObject(f"{name}.note", str(note).encode()))
    return Segment(tuple(NamedObject(f"{folder_of(tenant_id)}/{each.name}", each.data) for each in written), digest)


def checkpoint_object(tenant_id: str, size: int, note: Note | str) -> NamedObject:
    return NamedObject(f"{folder_of(tenant_id)}/checkpoint/{size:016d}.note", str(note).encode())


def _compressed(name: str, content: bytes) -> NamedObject:
    return NamedObject(name, zstandard.ZstdCompressor(level=_LEVEL).compress(content))


def _described(packed: NamedObject, content: bytes) -> dict[str, object]:
    return {
        "name": packed.name,
        "bytes": len(packed.data),
        "sha256": hashlib.sha256(packed.data).hexdigest(),
        "bytes_uncompressed": len(content),
    }


def _framed(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest() + len(blob).to_bytes(4, "big") + blob
