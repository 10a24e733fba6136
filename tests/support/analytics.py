"""Records of the trail as the gateway's recorder and the adoption of dead writers make them, without a journal."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tests.support.mongo import TENANT_COLLECTIONS
from trueport.audit.canonical import canonical, leaf_hash
from trueport.audit.records import VERSION, Kind
from trueport.audit.segment import Frame
from trueport.audit.shipper import ShippedRecord, shipped
from trueport.domains.analytics.models import AuditRecord, InteractionRow, Scan, Violation
from trueport.kit.clock import to_epoch_us
from trueport.kit.ids import new_id
from trueport.storage.mongo import Database, Document

TENANT_COLLECTIONS.update({+AuditRecord, +InteractionRow, +Violation, +Scan})


class Trail:
    """One writer's records. Each call here appends a record and gives it as the shipper would."""

    def __init__(self, writer: str = "host.7.18c") -> None:
        self.writer = writer
        self._chains: dict[str, tuple[int, str]] = {}

    def record(
        self, kind: Kind, rid: str, tenant: str, at_us: int, fields: dict[str, Any], *, blobs: Sequence[bytes] = ()
    ) -> ShippedRecord:
        wseq, prev = self._chains.get(tenant, (0, "0" * 64))
        data = canonical(
            {
                **fields,
                "v": VERSION,
                "kind": kind,
                "rid": rid,
                "tenant": tenant,
                "writer": self.writer,
                "wseq": wseq,
                "prev": prev,
                "at": at_us,
            }
        )
        self._chains[tenant] = (wseq + 1, leaf_hash(data).hex())
        return shipped(Frame(data, tuple(blobs), 0))

    def intent(
        self, tenant: str, started: datetime, *, rid: str | None = None, blobs: Sequence[bytes] = (), **changes: Any
    ) -> ShippedRecord:
        started_us = to_epoch_us(started)
        fields = {**intent_fields(started_us), **changes}
        return self.record("intent", rid or new_id("int"), tenant, started_us + 300, fields, blobs=blobs)

    def outcome(
        self, intent: ShippedRecord, *, took_ms: int = 873, blobs: Sequence[bytes] = (), **changes: Any
    ) -> ShippedRecord:
        """The end of a call; like the recorder's it repeats the intent."""
        fields = {**_repeated(intent), **outcome_fields(), **changes}
        at_us = fields["started_at"] + took_ms * 1_000
        return self.record("outcome", intent.record["rid"], intent.record["tenant"], at_us, fields, blobs=blobs)

    def abandoned(self, intent: ShippedRecord) -> ShippedRecord:
        record = intent.record
        fields = {
            **_repeated(intent),
            "dead_writer": record["writer"],
            "intent_at": record["at"],
            "end": "abandoned",
        }
        return self.record("abandoned", record["rid"], record["tenant"], record["at"] + 60_000_000, fields)

    def refused(self, tenant: str, started: datetime, **changes: Any) -> ShippedRecord:
        """A call that ended before it had an intent."""
        started_us = to_epoch_us(started)
        fields = {
            **caller_fields(started_us),
            **outcome_fields(),
            "end": "refused",
            "status": 429,
            "error": "rate_limited",
            "provider": None,
            "credential_id": None,
            "target": None,
            "model_served": None,
            "attempts": [],
            "usage": None,
            "usage_source": "none",
            "cost_nano_usd": None,
            "price_version": None,
            "first_byte_us": None,
            "decision": "refuse",
            **changes,
        }
        return self.record("outcome", new_id("int"), tenant, started_us + 2_000, fields)

    def call(self, tenant: str, started: datetime, **changes: Any) -> list[ShippedRecord]:
        """Intent and outcome of one call; changes go to both."""
        intent = self.intent(tenant, started, **{k: v for k, v in changes.items() if k in INTENT_NAMES})
        return [intent, self.outcome(intent, **changes)]


def caller_fields(started_us: int) -> dict[str, Any]:
    return {
        "request_id": "req-1",
        "key_id": "key_a",
        "env": "prod",
        "dialect": "openai",
        "method": "POST",
        "operation": "chat/completions",
        "started_at": started_us,
        "config_revision": 4,
        "policy_version": 2,
        "decision": "allow",
    }


def intent_fields(started_us: int) -> dict[str, Any]:
    return {
        **caller_fields(started_us),
        "model": "gpt-4o",
        "stream": True,
        "request_bytes": 321,
        "input_tokens_estimate": 80,
        "content": None,
    }


def outcome_fields() -> dict[str, Any]:
    return {
        "end": "completed",
        "status": 200,
        "error": None,
        "provider": "openai",
        "credential_id": "crd_a",
        "target": "main/gpt-4o",
        "model_served": "gpt-4o-2024-08-06",
        "attempts": [
            {"target": "main/gpt-4o", "status": 500, "error": "upstream_error", "took_us": 20_400},
            {"target": "main/gpt-4o", "status": 200, "error": None, "took_us": 790_100},
        ],
        "usage": {"input_tokens": 412, "output_tokens": 96, "cached_tokens": 128, "reasoning_tokens": 7},
        "usage_source": "provider",
        "usage_doubtful": False,
        "cost_nano_usd": 1_842_000,
        "price_version": "2026-11",
        "first_byte_us": 310_900,
        "reply_bytes": 2_048,
        "upstream_request_id": "up-1",
    }


INTENT_NAMES = frozenset(intent_fields(0))
_CHAIN_NAMES = frozenset({"v", "kind", "rid", "tenant", "writer", "wseq", "prev", "at", "content"})


def _repeated(intent: ShippedRecord) -> dict[str, Any]:
    return {name: value for name, value in intent.record.items() if name not in _CHAIN_NAMES}


async def rows_of(database: Database, tenant: str) -> list[Document]:
    return await database[+InteractionRow].find({"tenant_id": tenant}).sort("_id", 1).to_list()


async def row_of(database: Database, shipped: ShippedRecord) -> InteractionRow:
    """The row of the interaction this record belongs to."""
    wanted = {"_id": shipped.record["rid"], "tenant_id": shipped.record["tenant"]}
    found = await database[+InteractionRow].find_one(wanted)
    assert found is not None
    return InteractionRow.model_validate_doc(found)


async def records_of(database: Database, tenant: str) -> list[Document]:
    return await database[+AuditRecord].find({"tenant_id": tenant}).sort("_id", 1).to_list()


def flat(calls: Iterable[Sequence[ShippedRecord]]) -> list[ShippedRecord]:
    return [shipped for call in calls for shipped in call]
