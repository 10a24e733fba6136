"""Which chains that promise heartbeats have begun, and which of them have ended, as their records say."""

from collections.abc import Sequence

from pymongo import UpdateOne

from trueport.audit.shipper import ShippedRecord
from trueport.kit.clock import from_epoch_us
from trueport.storage.mongo import Document


def writer_id(tenant_id: str, writer: str) -> str:
    return f"{tenant_id}|{writer}"


def writer_documents(batch: Sequence[ShippedRecord]) -> list[Document]:
    """The AuditWriter of each chain that begins among these records."""
    return [
        {
            "_id": writer_id(record["tenant"], record["writer"]),
            "tenant_id": record["tenant"],
            "revision": 0,
            "created_at": from_epoch_us(record["at"]),
            "writer": record["writer"],
            "suspected_wseq": -1,
            "suspected_at": from_epoch_us(record["at"]),
            "lease_until": from_epoch_us(record["at"]),
            "ended_at": None,
        }
        for record in (shipped.record for shipped in batch)
        if record["wseq"] == 0 and "heartbeat_s" in record
    ]


def writer_updates(batch: Sequence[ShippedRecord]) -> list[UpdateOne]:
    """What heartbeats, and records of lost writers, change in them: a writer with a new heartbeat has not ended."""
    updates: list[UpdateOne] = []
    for record in (shipped.record for shipped in batch):
        if record["kind"] not in ("heartbeat", "lost_writer"):
            continue
        of = record.get("of")
        wanted = {"_id": writer_id(record["tenant"], of or record["writer"]), "tenant_id": record["tenant"]}
        ended_at = from_epoch_us(record["at"]) if of else None
        # Where nothing would change, nothing is written.
        is_other = {"ended_at": None} if of else {"ended_at": {"$ne": None}}
        updates.append(UpdateOne({**wanted, **is_other}, {"$set": {"ended_at": ended_at}, "$inc": {"revision": 1}}))
    return updates
