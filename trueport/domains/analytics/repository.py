"""All queries of this domain."""

import base64
import binascii
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from trueport.domains.analytics.models import AuditRecord, End, InteractionRow, Violation
from trueport.kit.clock import from_epoch_us, to_epoch_us
from trueport.kit.errors import InvalidRequest
from trueport.kit.tenancy import Environment
from trueport.storage.mongo import Document, store_errors
from trueport.storage.scoped import MOST_ITEMS, Page, TenantRepository

GroupBy = Literal["none", "hour", "day", "model", "provider", "key", "env", "end"]

MOST_GROUPS: Final = 10_000
"""More than the hours of 400 days."""

COUNTED_ENDS: Final[tuple[End, ...]] = (
    "completed", "refused", "client_closed", "upstream_failed", "key_revoked", "gateway_failed", "abandoned",
    "in_progress",
)  # fmt: skip
SUMMED: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "total_tokens", "cost_nano_usd")
AVERAGED: Final = ("latency_ms", "first_byte_ms")

_KEYS: Final[Mapping[GroupBy, object]] = {
    "none": None,
    "hour": {"$dateToString": {"date": "$created_at", "format": "%Y-%m-%dT%H:00:00.000Z"}},
    "day": {"$dateToString": {"date": "$created_at", "format": "%Y-%m-%dT00:00:00.000Z"}},
    "model": "$model",
    "provider": "$provider",
    "key": "$key_id",
    "env": "$env",
    "end": "$end",
}
_OUTCOMES_AT_ONCE: Final = 1_000
_POSITION: Final = re.compile(r"(?P<us>[0-9]{1,17})\.(?P<id>[A-Za-z0-9_]{1,64})")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What the log is asked for; None is "any". `status` is a range, its end excluded, as is `until`.

    The bounds of the cost, in nano-dollars, are both included; a call whose cost is not known is in neither.
    """

    since: datetime | None = None
    until: datetime | None = None
    env: Environment | None = None
    key_id: str | None = None
    model: str | None = None
    user: str | None = None
    provider: str | None = None
    status: tuple[int, int] | None = None
    least_cost_nano_usd: int | None = None
    most_cost_nano_usd: int | None = None
    end: End | None = None
    decision: str | None = None
    request_id: str | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether a call begun then is in the period."""
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)

    def as_query(self) -> Document:
        wanted: Document = {
            name: value
            for name in ("env", "key_id", "model", "user", "provider", "end", "decision", "request_id")
            if (value := getattr(self, name)) is not None
        }
        if self.status is not None:
            wanted["status"] = {"$gte": self.status[0], "$lt": self.status[1]}
        cost = {"$gte": self.least_cost_nano_usd, "$lte": self.most_cost_nano_usd}
        if limits := {operator: amount for operator, amount in cost.items() if amount is not None}:
            wanted["cost_nano_usd"] = limits
        period = {"$gte": self.since, "$lt": self.until}
        if bounds := {operator: moment for operator, moment in period.items() if moment is not None}:
            wanted["created_at"] = bounds
        return wanted


class Interactions(TenantRepository[InteractionRow]):
    model = InteractionRow

    async def newest(self, wanted: LogFilter, *, limit: int, after: str | None) -> Page[InteractionRow]:
        """A page of the log, newest start first. Raises InvalidRequest for a cursor this method did not give."""
        most = min(max(limit, 1), MOST_ITEMS) + 1
        found: list[Document] = []
        if after is not None:
            moment, row_id = _position(after)
            # In two queries, because the embedded server's planner reads no index for an `$or`.
            if wanted.covers(moment):
                found = await self._newest({**wanted.as_query(), "created_at": moment, "_id": {"$lt": row_id}}, most)
            wanted = replace(wanted, until=min(moment, wanted.until or moment))
        if len(found) < most:
            found += await self._newest(wanted.as_query(), most - len(found))
        rows = [self._shape(document) for document in found[: most - 1]]
        return Page(rows, _cursor(found[most - 2]) if len(found) == most else None)

    async def _newest(self, wanted: Document, most: int) -> list[Document]:
        with store_errors():
            cursor = self._collection.find(self._scoped([wanted])).sort([("created_at", -1), ("_id", -1)])
            return await cursor.limit(most).to_list()

    async def sums(self, since: datetime, until: datetime, group_by: GroupBy) -> list[Document]:
        """Sums per group of the interactions begun in a period, at most MOST_GROUPS + 1.

        Hours and days in their order, other groups the busiest first. Members: `_id` (the group), `requests`, one
        count for each end, the SUMMED, `estimated_requests`, `unpriced_requests`, and for each of AVERAGED its sum
        and `<name>_count`.
        """
        group: dict[str, Any] = {"_id": _KEYS[group_by], "requests": {"$sum": 1}}
        for end in COUNTED_ENDS:
            group[end] = _count_if({"$eq": ["$end", end]})
        for name in SUMMED:
            group[name] = {"$sum": f"${name}"}
        for name in AVERAGED:
            group[name] = {"$sum": f"${name}"}
            group[f"{name}_count"] = _count_if({"$ne": [f"${name}", None]})
        group["estimated_requests"] = _count_if({"$eq": ["$usage_source", "estimated"]})
        group["unpriced_requests"] = _count_if(
            {"$and": [{"$ne": ["$usage_source", "none"]}, {"$eq": ["$cost_nano_usd", None]}]}
        )
        order = {"_id": 1} if group_by in ("hour", "day") else {"requests": -1, "_id": 1}
        period = {"created_at": {"$gte": since, "$lt": until}}
        return await self.aggregate(
            [{"$match": period}, {"$group": group}, {"$sort": order}, {"$limit": MOST_GROUPS + 1}]
        )

    async def spent(self, wanted: LogFilter) -> Mapping[str | None, int]:
        """Nano-dollars that budgets counted for the interactions that match, for each model they were counted under."""
        stages = [
            {"$match": wanted.as_query()},
            {
                "$group": {
                    "_id": "$model_counted",
                    "cost": {"$sum": "$cost_nano_usd"},
                    "charged": {"$sum": "$charged_nano_usd"},
                }
            },
        ]
        return {document["_id"]: document["cost"] + document["charged"] for document in await self.aggregate(stages)}


class Violations(TenantRepository[Violation]):
    model = Violation


class AuditRecords(TenantRepository[AuditRecord]):
    model = AuditRecord

    async def outcomes(self, since: datetime, until: datetime) -> AsyncIterator[list[bytes]]:
        """The canonical bytes of the calls that ended in a period, its end excluded, in pages."""
        wanted: Document = {"kind": "outcome", "created_at": {"$gte": since, "$lt": until}}
        after: Document = {}
        while True:
            with store_errors():
                cursor = self._collection.find(self._scoped([{**wanted, **after}]), {"canonical": 1})
                found = await cursor.sort("_id", 1).limit(_OUTCOMES_AT_ONCE).to_list()
            if not found:
                return
            yield [bytes(document["canonical"]) for document in found]
            after = {"_id": {"$gt": found[-1]["_id"]}}

    async def count_outcomes(self, since: datetime, until: datetime) -> int:
        wanted: Document = {"kind": "outcome", "created_at": {"$gte": since, "$lt": until}}
        with store_errors():
            return await self._collection.count_documents(self._scoped([wanted]))


def _count_if(condition: object) -> object:
    return {"$sum": {"$cond": [condition, 1, 0]}}


def _cursor(document: Document) -> str:
    place = f"{to_epoch_us(document['created_at'])}.{document['_id']}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found = _POSITION.fullmatch(text)
        if found is not None:
            return from_epoch_us(int(found["us"])), found["id"]
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise InvalidRequest("after is not a cursor of this list.", param="after")
