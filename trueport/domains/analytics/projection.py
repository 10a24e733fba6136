"""From records of the trail to the documents they become. Nothing here waits, and the order of arrival never matters.

Documents are built as plain members: every call passes here twice, and going through the models would cost more than
all the rest. A test holds both shapes together.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import UpdateOne

from trueport.audit.shipper import ShippedRecord
from trueport.kit.clock import from_epoch_us
from trueport.storage.mongo import Document

_LONGEST_NAME: Final = 256
# What a provider reports is a stranger's number: one that nobody can have used is none, and sums stay within 64 bits.
_MOST: Final = 1 << 48
_RARE_PARTS: Final = (
    "cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens",
    "audio_output_tokens", "image_input_tokens", "image_output_tokens", "web_searches", "images", "audio_ms",
)  # fmt: skip
_MOST_VIOLATIONS: Final = 200
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
_OPEN_ENDS: Final = ("in_progress", "abandoned")


@dataclass(frozen=True, slots=True)
class RowWrite:
    """An upsert of one interaction. `may_lose`: an existing row that it does not match is to stay as it is.

    `row` is all of it where it is probably new: inserting one costs a database a fraction of an upsert.
    """

    update: UpdateOne
    may_lose: bool = False
    row: Document | None = None


def audit_document(shipped: ShippedRecord, content: Document | None) -> Document:
    """The AuditRecord of a record; `content` is the ContentReference of its ciphertexts."""
    record = shipped.record
    return {
        "_id": shipped.id,
        "tenant_id": record["tenant"],
        "revision": 0,
        "created_at": from_epoch_us(record["at"]),
        "batch": None,
        "kind": record["kind"],
        "rid": record["rid"],
        "writer": record["writer"],
        "wseq": record["wseq"],
        "leaf": shipped.leaf.hex(),
        "canonical": shipped.canonical,
        "content": content,
    }


def interaction_document(record: Mapping[str, Any], retention: timedelta) -> Document:
    """The InteractionRow that an intent, an outcome or an abandoned record describes alone; `receipt` is None.

    Members a record does not have get the model's defaults: a refusal knows no model, an intent no ending.
    """
    kind, at_us = record["kind"], record["at"]
    started_us = record.get("started_at", at_us)
    started_at = from_epoch_us(started_us)
    has_ended = kind == "outcome"
    usage = record.get("usage") or {}
    input_tokens, output_tokens = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    first_byte_us, cost = record.get("first_byte_us"), record.get("cost_nano_usd")
    return {
        "_id": record["rid"],
        "tenant_id": record["tenant"],
        "revision": 0,
        "created_at": started_at,
        "ended_at": from_epoch_us(at_us) if has_ended else None,
        "expires_at": started_at + retention,
        "request_id": _name(record.get("request_id")),
        "receipt": None,
        "key_id": record.get("key_id"),
        "env": record.get("env"),
        "dialect": record.get("dialect"),
        "method": record.get("method"),
        "operation": _name(record.get("operation")),
        "model": _name(record.get("model")),
        "model_counted": _name(record.get("model_counted")),
        "model_served": _name(record.get("model_served")),
        "provider": record.get("provider"),
        "target": _name(record.get("target")),
        "stream": record.get("stream", False),
        "status": record.get("status"),
        "end": "in_progress" if kind == "intent" else record["end"],
        "error": record.get("error"),
        "decision": record.get("decision"),
        "policy_version": record.get("policy_version"),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_tokens": _count(usage.get("cached_tokens")),
        "reasoning_tokens": _count(usage.get("reasoning_tokens")),
        "total_tokens": input_tokens + output_tokens,
        "usage_source": record.get("usage_source", "none"),
        "usage_doubtful": record.get("usage_doubtful", False),
        "cost_nano_usd": None if cost is None else _count(cost),
        "price_version": record.get("price_version"),
        "latency_ms": max(at_us - started_us, 0) // 1_000 if has_ended else None,
        "first_byte_ms": None if first_byte_us is None else first_byte_us // 1_000,
        "request_bytes": record.get("request_bytes", 0),
        "reply_bytes": record.get("reply_bytes", 0),
        "attempts": [
            {
                "target": _name(attempt["target"]),
                "status": attempt["status"],
                "error": attempt["error"],
                "took_us": attempt["took_us"],
            }
            for attempt in record.get("attempts") or ()
        ],
        **_seldom_there(record, usage),
    }


def _seldom_there(record: Mapping[str, Any], usage: Mapping[str, Any]) -> Document:
    """What most calls do not have. Left out it reads as the model's default, and most rows stay small."""
    names = {
        "user": record.get("user"),
        "subject": record.get("subject"),
        "repeats": record.get("repeats"),
        "service_tier": usage.get("service_tier"),
    }
    found: Document = {name: _name(value) for name, value in names.items() if value is not None}
    found.update({name: counted for name in _RARE_PARTS if (counted := _count(usage.get(name)))})
    if charged := _count(record.get("charged_nano_usd")):
        found["charged_nano_usd"] = charged
    return found


def violation_documents(record: Mapping[str, Any], retention: timedelta) -> Iterator[Document]:
    """The Violations of one outcome, at most the first 200; none for other records.

    The same record always gives the same ids, so that offering it again resets no case.
    """
    if record["kind"] != "outcome":
        return
    created_at = from_epoch_us(record["at"])
    expires_at = from_epoch_us(record.get("started_at", record["at"])) + retention
    for number, decision in enumerate((record.get("decisions") or ())[:_MOST_VIOLATIONS]):
        yield _violation(record, decision, f"{number}", created_at, expires_at)


def later_violation(
    record: Mapping[str, Any], decision: Mapping[str, Any], found_at: datetime, expires_at: datetime
) -> Document:
    """The Violation of a decision on recorded content. Found twice, it has the same id."""
    name = "|".join(
        str(decision[member]) for member in ("policy_id", "side", "path", "category", "type", "start", "end")
    )
    violation = _violation(record, decision, f"after|{name}", from_epoch_us(record["at"]), expires_at)
    return {**violation, "found": "after", "found_at": found_at}


def scan_documents(record: Mapping[str, Any], retention: timedelta) -> tuple[Document, Document] | None:
    """The Scan and the ScanTask that an outcome asks for; None for one that asks for none, and for other records."""
    wanted = record.get("scan") if record["kind"] == "outcome" else None
    if not wanted:
        return None
    created_at = from_epoch_us(record["at"])
    scan = {
        "_id": record["rid"],
        "tenant_id": record["tenant"],
        "revision": 0,
        "created_at": created_at,
        "expires_at": from_epoch_us(record.get("started_at", record["at"])) + retention,
        "policy_version": record.get("policy_version") or 0,
        "wanted": [dict(each) for each in wanted],
        "state": "waiting",
        "problems": [],
        "violations": 0,
        "tries": 0,
        "ended_at": None,
    }
    task = {
        "_id": record["rid"],
        "tenant": record["tenant"],
        "revision": 0,
        "created_at": created_at,
        "due_at": created_at,
        "tries": 0,
        "claimed_by": "",
    }
    return scan, task


def _violation(
    record: Mapping[str, Any], decision: Mapping[str, Any], name: str, created_at: datetime, expires_at: datetime
) -> Document:
    return {
        "_id": _violation_id(record["rid"], name),
        "tenant_id": record["tenant"],
        "revision": 0,
        "created_at": created_at,
        "expires_at": expires_at,
        "interaction_id": record["rid"],
        "env": record.get("env"),
        "key_id": record.get("key_id"),
        "user": _name(record.get("user")),
        "model": _name(record.get("model")),
        "provider": record.get("provider"),
        "side": decision["side"],
        "policy_id": decision.get("policy_id"),
        "policy": _name(decision["policy"]),
        "policy_version": decision.get("policy_version"),
        "action": decision["action"],
        "mode": decision["mode"],
        "category": decision["category"],
        "type": _name(decision["type"]),
        "path": _name(decision["path"]),
        "start": _count(decision.get("start")),
        "end": _count(decision.get("end")),
        "score_bp": decision.get("score_bp"),
        "threshold_bp": decision.get("threshold_bp"),
        "detector": decision.get("detector"),
        "detector_version": _name(decision.get("model")),
        "found": "during",
        "found_at": None,
        "status": "open",
        "assignee": None,
        "labels": [],
        "entries": [],
    }


def _violation_id(interaction_id: str, name: str) -> str:
    """Sorts with its interaction: the time of that id, then a digest in the alphabet of ids."""
    body = interaction_id.partition("_")[2]
    digest = hashlib.blake2b(f"{interaction_id}#{name}".encode(), digest_size=16).digest()
    return f"vio_{body[:10]}{''.join(_DIGITS[byte & 31] for byte in digest)}"


def row_writes(batch: Sequence[ShippedRecord], retention: timedelta) -> list[RowWrite]:
    """The upserts that bring the interaction log up to these records, in any order and any number of times.

    An outcome counts above an abandoned record, and that above an intent. The receipt is the intent's alone, so it
    is set apart from the rest; a call refused before it had an intent gave its client the outcome's leaf.
    """
    seen: dict[tuple[str, str], dict[str, ShippedRecord]] = {}
    for shipped in batch:
        record = shipped.record
        if record["kind"] in ("intent", "outcome", "abandoned"):
            seen.setdefault((record["tenant"], record["rid"]), {}).setdefault(record["kind"], shipped)
    writes: list[RowWrite] = []
    for kinds in seen.values():
        intent, abandoned, outcome = kinds.get("intent"), kinds.get("abandoned"), kinds.get("outcome")
        if outcome is not None:
            writes.append(_outcome_write(outcome, intent, retention))
            continue
        if intent is not None:
            writes.append(_intent_write(intent, retention))
        if abandoned is not None:
            writes.append(_abandoned_write(abandoned, retention))
    return writes


def _outcome_write(outcome: ShippedRecord, intent: ShippedRecord | None, retention: timedelta) -> RowWrite:
    wanted, members = _split(outcome, retention)
    row: Document | None = None
    first = intent or (outcome if outcome.record.get("decision") == "refuse" else None)
    if first is not None:
        change = {"$set": {**members, "receipt": first.leaf.hex()}}
        row = {**wanted, **members, "receipt": first.leaf.hex()}
    else:
        change = {"$set": members, "$setOnInsert": {"receipt": None}}
    return RowWrite(UpdateOne(wanted, change, upsert=True), row=row)


def _intent_write(intent: ShippedRecord, retention: timedelta) -> RowWrite:
    wanted, members = _split(intent, retention)
    change = {"$set": {"receipt": intent.leaf.hex()}, "$setOnInsert": members}
    row = {**wanted, **members, "receipt": intent.leaf.hex()}
    return RowWrite(UpdateOne(wanted, change, upsert=True), row=row)


def _abandoned_write(abandoned: ShippedRecord, retention: timedelta) -> RowWrite:
    wanted, members = _split(abandoned, retention)
    # A row with an outcome does not match, and cannot be inserted a second time either: it stays.
    wanted["end"] = {"$in": _OPEN_ENDS}
    change = {"$set": members, "$setOnInsert": {"receipt": None}}
    return RowWrite(UpdateOne(wanted, change, upsert=True), may_lose=True)


def _split(shipped: ShippedRecord, retention: timedelta) -> tuple[Document, Document]:
    """The filter that names the row, and its other members but the receipt."""
    members = interaction_document(shipped.record, retention)
    del members["receipt"]
    return {"_id": members.pop("_id"), "tenant_id": members.pop("tenant_id")}, members


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MOST else 0


def _name(value: str | None) -> str | None:
    return value if value is None or len(value) <= _LONGEST_NAME else value[:_LONGEST_NAME]
