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

from trueport import __version__
from trueport.audit.canonical import canonical, leaf_hash
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
    writer: str = ""


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
    sealed, data = payload_of(tenant_id, start, records), data_of(tenant_id, start, records)
    manifest = manifest_of(
        tenant_id, start, records, data=data, sealed=sealed, root=root, previous=previous, signers=signers
    )
    note = await manifest_note(manifest, origin, signers)
    return Segment((sealed, data, manifest, note), digest_of(manifest))


def data_of(tenant_id: str, start: int, records: Sequence[ArchivedRecord]) -> NamedObject:
    """The object with the records themselves. Raises ValueError without records."""
    lines = b"".join(record.canonical + b"\n" for record in records)
    return _compressed(f"{_stem(tenant_id, start, records)}.jsonl.zst", lines)


def payload_of(tenant_id: str, start: int, records: Sequence[ArchivedRecord]) -> NamedObject:
    """The object with their sealed contents. Raises ValueError without records."""
    payload = b"".join(_framed(blob) for record in records for blob in record.blobs)
    return _compressed(f"{_stem(tenant_id, start, records)}.payload.zst", payload)


def manifest_of(
    tenant_id: str,
    start: int,
    records: Sequence[ArchivedRecord],
    *,
    data: NamedObject,
    sealed: NamedObject,
    root: bytes,
    previous: str,
    signers: Sequence[Signer],
    retained_until: str | None = None,
) -> NamedObject:
    """What the two objects are, as they lie in the archive, and where they stand.

    retained_until: until when the objects were to be locked (RFC 3339); None where nothing locks them.
    """
    end = start + len(records)
    leaves = b"".join(leaf_hash(record.canonical) for record in records)
    manifest = canonical(
        {
            "v": 1,
            "tenant": tenant_id,
            "start": start,
            "end": end,
            "count": len(records),
            "first_at": min(record.at_us for record in records),
            "last_at": max(record.at_us for record in records),
            "writers": sorted({record.writer for record in records} - {""}),
            "objects": [_described(tenant_id, data), _described(tenant_id, sealed)],
            "leaves_sha256": hashlib.sha256(leaves).hexdigest(),
            "tree": {"size": end, "root": root.hex()},
            "previous": previous,
            "retained_until": retained_until,
            "keys": [signer.verifier_key.key_id.hex() for signer in signers],
            "software": f"trueport {__version__}",
        }
    )
    return NamedObject(f"{_stem(tenant_id, start, records)}.manifest.json", manifest)


async def manifest_note(manifest: NamedObject, origin: str, signers: Sequence[Signer]) -> NamedObject:
    """The log's signature over a manifest."""
    note = await sign_note(f"{origin}\nmanifest\n{digest_of(manifest)}\n", signers)
    return NamedObject(f"{manifest.name}.note", str(note).encode())


def digest_of(stored: NamedObject) -> str:
    """SHA-256 of an object, in hex."""
    return hashlib.sha256(stored.data).hexdigest()


def checkpoint_object(tenant_id: str, size: int, note: Note | str) -> NamedObject:
    return NamedObject(f"{folder_of(tenant_id)}/checkpoint/{size:016d}.note", str(note).encode())


def _compressed(name: str, content: bytes) -> NamedObject:
    return NamedObject(name, zstandard.ZstdCompressor(level=_LEVEL).compress(content))


def _stem(tenant_id: str, start: int, records: Sequence[ArchivedRecord]) -> str:
    if not records:
        raise ValueError("a segment has records")
    day = from_epoch_us(records[0].at_us).date().isoformat()
    return f"{folder_of(tenant_id)}/d={day}/{start:016d}-{start + len(records):016d}"


def _described(tenant_id: str, packed: NamedObject) -> dict[str, object]:
    # From what was packed and not from what went in: an object may be from before a crash, or of another version.
    content = zstandard.ZstdDecompressor().decompress(packed.data)
    return {
        "name": packed.name.removeprefix(f"{folder_of(tenant_id)}/"),
        "bytes": len(packed.data),
        "sha256": digest_of(packed),
        "bytes_uncompressed": len(content),
        "sha256_uncompressed": hashlib.sha256(content).hexdigest(),
    }


def _framed(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest() + len(blob).to_bytes(4, "big") + blob
