"""The answers of this domain's HTTP surface."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from trueport.audit.canonical import parse
from trueport.domains.analytics.api import AuditRecord
from trueport.domains.audit.keys import Validity
from trueport.domains.audit.models import AuditCheckpoint
from trueport.domains.audit.service import Receipt
from trueport.kit.clock import from_epoch_us, rfc3339


class CheckpointShown(msgspec.Struct):
    """`note` is the signed text as verifiers read it (C2SP tlog-checkpoint); `root` is in hex."""

    size: int
    root: str
    created_at: str
    note: str


class ValidityShown(msgspec.Struct):
    """When a key signs. `retires_at` is null while no end is known; what it signed before its end stays valid."""

    key: str
    key_id: str
    begins_at: str
    retires_at: str | None


class KeysShown(msgspec.Struct):
    """Every key that has signed for this log, the oldest first, in the form name+key id+base64, and when it signs."""

    origin: str
    keys: list[str]
    validity: list[ValidityShown]


class ProofShown(msgspec.Struct):
    """`hashes` are in base64, from the leaf upwards (RFC 6962, sections 2.1.1 and 2.1.2)."""

    hashes: list[str]


class ReceiptShown(msgspec.Struct):
    """A record and the proof of its place.

    `canonical` are the exact bytes (base64) of `record`; SHA-256 of 0x00 and these bytes is `leaf` (hex). `proof` leads
    from it to the root in the checkpoint.
    """

    id: str
    seq: int
    leaf: str
    canonical: str
    record: dict[str, Any]
    proof: list[str]
    checkpoint: CheckpointShown


class DeedShown(msgspec.Struct):
    """What somebody did: who (`by`), what (`action`) and to what are members of `record`; `leaf` is its hash (hex)."""

    id: str
    kind: str
    at: str
    leaf: str
    record: dict[str, Any]


def show_deed(stored: AuditRecord) -> DeedShown:
    record = parse(stored.canonical)
    return DeedShown(stored.id, stored.kind, rfc3339(from_epoch_us(record["at"])), stored.leaf, record)


def show_checkpoint(stored: AuditCheckpoint, note: str | None = None) -> CheckpointShown:
    """note: with what witnesses have signed, where that is known."""
    return CheckpointShown(stored.size, stored.root, rfc3339(stored.created_at), note or stored.note)


def show_keys(origin: str, found: Sequence[Validity]) -> KeysShown:
    return KeysShown(origin, [str(each.key) for each in found], [show_validity(each) for each in found])


def show_validity(each: Validity) -> ValidityShown:
    ends = None if each.retires_at is None else rfc3339(each.retires_at)
    return ValidityShown(str(each.key), each.key.key_id.hex(), rfc3339(each.begins_at), ends)


def show_proof(hashes: list[bytes]) -> ProofShown:
    return ProofShown([base64.b64encode(each).decode() for each in hashes])


def show_receipt(receipt: Receipt) -> ReceiptShown:
    record = receipt.record
    return ReceiptShown(
        id=record.id,
        seq=receipt.seq,
        leaf=record.leaf,
        canonical=base64.b64encode(record.canonical).decode(),
        record=parse(record.canonical),
        proof=[base64.b64encode(each).decode() for each in receipt.proof],
        checkpoint=show_checkpoint(receipt.checkpoint),
    )
