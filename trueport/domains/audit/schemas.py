"""The answers of this domain's HTTP surface."""

import base64
from typing import Any

import msgspec

from trueport.audit.canonical import parse
from trueport.domains.audit.models import AuditCheckpoint
from trueport.domains.audit.service import Receipt
from trueport.kit.clock import rfc3339


class CheckpointShown(msgspec.Struct):
    """`note` is the signed text as verifiers read it (C2SP tlog-checkpoint); `root` is in hex."""

    size: int
    root: str
    created_at: str
    note: str


class KeysShown(msgspec.Struct):
    """Every key that has signed for this log, the oldest first, in the form name+key id+base64."""

    origin: str
    keys: list[str]


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


def show_checkpoint(stored: AuditCheckpoint) -> CheckpointShown:
    return CheckpointShown(stored.size, stored.root, rfc3339(stored.created_at), stored.note)


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
