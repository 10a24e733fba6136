"""All queries of this domain."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from odmantic import query

from trueport.audit.canonical import leaf_hash, parse
from trueport.audit.records import record_id
from trueport.audit.sequencer import Batch, Break, Link, Waiting
from trueport.audit.tree import HASH_BYTES, Edge
from trueport.domains.analytics.api import AuditRecord, AuditWriter
from trueport.domains.audit.models import (
    ArchivedSegment,
    AuditBatch,
    AuditCheckpoint,
    AuditRetention,
    AuditTile,
    SigningKey,
    StoredBreak,
    numbered,
)
from trueport.kit.clock import from_epoch_us
from trueport.storage.mongo import Duplicate, store_errors
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import Filter, Page, TenantRepository

# The embedded server takes disproportionately long for more.
_HOLDS_AT_ONCE: Final = 500
_NAMES_AT_ONCE: Final = 100
# Names of what people did are `rec_…`; the second is the text that follows all of them.
_DEEDS_FROM: Final = "rec_"
_DEEDS_TO: Final = "rec`"
# What a record without its content comes to, before compression.
_RECORD_BYTES: Final = 1_024


class SigningKeys(PlatformRepository[SigningKey]):
    model = SigningKey


class Batches(TenantRepository[AuditBatch]):
    model = AuditBatch

    async def newest(self) -> AuditBatch | None:
        page = await self.page(limit=1)
        return page.items[0] if page.items else None

    async def beginning_before(self, place: int) -> AuditBatch | None:
        """The last batch that begins before `place`."""
        found = await self._below(numbered(self.scope.tenant_id, place))
        return found[0] if found else None

    async def _below(self, name: str) -> list[AuditBatch]:
        with store_errors():
            cursor = self._collection.find(self._scoped([{"_id": {"$lt": name}}])).sort("_id", -1).limit(1)
            return [self._shape(document) for document in await cursor.to_list()]


class Checkpoints(TenantRepository[AuditCheckpoint]):
    model = AuditCheckpoint

    async def newest(self) -> AuditCheckpoint | None:
        page = await self.page(limit=1)
        return page.items[0] if page.items else None

    async def last_between(self, low: int, high: int) -> AuditCheckpoint | None:
        """The largest one above `low` and up to `high`."""
        return await self._one(numbered(self.scope.tenant_id, low), numbered(self.scope.tenant_id, high), -1)

    async def first_above(self, low: int) -> AuditCheckpoint | None:
        return await self._one(numbered(self.scope.tenant_id, low), f"{self.scope.tenant_id}|~", 1)

    async def last_before(self, moment: datetime) -> AuditCheckpoint | None:
        """The last one that was signed before a moment."""
        with store_errors():
            cursor = self._collection.find(self._scoped([{"created_at": {"$lt": moment}}])).sort("created_at", -1)
            found = await cursor.limit(1).to_list()
        return self._shape(found[0]) if found else None

    async def _one(self, above: str, up_to: str, direction: int) -> AuditCheckpoint | None:
        with store_errors():
            cursor = self._collection.find(self._scoped([{"_id": {"$gt": above, "$lte": up_to}}]))
            found = await cursor.sort("_id", direction).limit(1).to_list()
        return self._shape(found[0]) if found else None


class ArchivedSegments(TenantRepository[ArchivedSegment]):
    model = ArchivedSegment

    async def newest(self) -> ArchivedSegment | None:
        page = await self.page(limit=1)
        return page.items[0] if page.items else None

    async def newest_archived(self) -> ArchivedSegment | None:
        page = await self.page(query.ne(ArchivedSegment.archived_at, None), limit=1)
        return page.items[0] if page.items else None

    async def lease(self, segment: ArchivedSegment, now: datetime, until: datetime) -> ArchivedSegment | None:
        """Take the segment, where it was seen to lie, for this process alone until then; None: another one has it."""
        # The place is written too, since a segment from before there were places has none.
        changes = {"lease_until": until, "place": segment.place}
        return await self.update(segment.id, changes, query.lte(ArchivedSegment.lease_until, now))

    async def to_prune(self) -> list[ArchivedSegment]:
        """Those that are in the archive and have records in the database, the oldest first."""
        return await self.find(query.ne(ArchivedSegment.archived_at, None), query.eq(ArchivedSegment.pruned_at, None))

    async def before_what_is_left(self) -> list[ArchivedSegment]:
        """All up to the last one from which records have gone, the oldest first."""
        found = [each async for each in self.each(query.ne(ArchivedSegment.archived_at, None))]
        last = max((number for number, each in enumerate(found) if each.pruned), default=-1)
        return found[: last + 1]

    async def announce(self, segment: ArchivedSegment, digest: str) -> ArchivedSegment:
        """Note a digest with the segment, unless somebody else changed it since: what comes back is what is there."""
        changes = {"announced": [*segment.announced, digest]}
        changed = await self.update(segment.id, changes, query.eq(ArchivedSegment.revision, segment.revision))
        return changed or await self.get(segment.id)

    async def archived_from(self, start: int) -> list[ArchivedSegment]:
        """Those in the archive from this place of the order on, the oldest first; a thousand at most."""
        from_here = query.gte(ArchivedSegment.id, numbered(self.scope.tenant_id, start))
        return await self.find(from_here, query.ne(ArchivedSegment.archived_at, None))

    async def note_hold(self, segment: ArchivedSegment, hold_id: str) -> None:
        """Note that a hold is about a record in the segment, whoever else notes something."""
        stored = await self.get(segment.id)
        while hold_id not in stored.held_by:
            # Both, since a segment from before there were such holds has neither.
            changes = {"held_by": [*stored.held_by, hold_id], "hold": stored.hold}
            same = query.eq(ArchivedSegment.revision, stored.revision)
            stored = await self.update(segment.id, changes, same) or await self.get(segment.id)

    async def touched_by(self, hold_id: str) -> list[ArchivedSegment]:
        with store_errors():
            found = await self._collection.find(self._scoped([{"held_by": hold_id}])).sort("_id", 1).to_list()
        return [self._shape(document) for document in found]

    async def to_hold(self, hold_ids: Sequence[str]) -> list[ArchivedSegment]:
        """Those that one of these holds is about and that the store does not hold."""
        if not hold_ids:
            return []
        wanted = {"held_by": {"$in": list(hold_ids)}, "hold": {"$in": ["none", "setting", "lifting"]}}
        with store_errors():
            found = await self._collection.find(self._scoped([wanted])).sort("_id", 1).limit(_HOLDS_AT_ONCE).to_list()
        return [self._shape(document) for document in found]

    async def to_let_go(self, hold_ids: Sequence[str]) -> list[ArchivedSegment]:
        """Those that the store may hold, and that none of these holds is about."""
        wanted = {"hold": {"$in": ["on", "alone", "setting", "lifting"]}, "held_by": {"$nin": list(hold_ids)}}
        with store_errors():
            found = await self._collection.find(self._scoped([wanted])).sort("_id", 1).limit(_HOLDS_AT_ONCE).to_list()
        return [self._shape(document) for document in found]


class Retentions(TenantRepository[AuditRetention]):
    model = AuditRetention


class Writers(TenantRepository[AuditWriter]):
    model = AuditWriter

    async def lease(self, writer_id: str, now: datetime, until: datetime) -> AuditWriter | None:
        """Take a writer that has not ended for this process alone until then; None when another one has it."""
        changes = {"lease_until": until}
        return await self.update(
            writer_id, changes, query.lte(AuditWriter.lease_until, now), query.eq(AuditWriter.ended_at, None)
        )


class StoredTiles(TenantRepository[AuditTile]):
    model = AuditTile

    async def full(self, level: int) -> int:
        """How many there are of a level; they have no gaps."""
        with store_errors():
            wanted = self._scoped([{"_id": {"$lt": tile_id(self.scope.tenant_id, level + 1, 0)}}])
            found = await self._collection.find(wanted).sort("_id", -1).limit(1).to_list()
        newest = self._shape(found[0]) if found else None
        return newest.index + 1 if newest is not None and newest.level == level else 0

    async def roots(self, level: int, start: int, end: int) -> list[bytes]:
        """Of the tiles [start, end) of a level. At most 256."""
        names = [tile_id(self.scope.tenant_id, level, index) for index in range(start, end)]
        with store_errors():
            found = await self._collection.find(self._scoped([{"_id": {"$in": names}}])).sort("_id", 1).to_list()
        return [self._shape(document).root for document in found]


def tile_id(tenant_id: str, level: int, index: int) -> str:
    return numbered(f"{tenant_id}|{level:02d}", index)


class OrderedRecords(TenantRepository[AuditRecord]):
    """The records of a tenant, as far as their order is concerned."""

    model = AuditRecord

    async def without_place(self, most: int) -> list[AuditRecord]:
        """Those that wait; of each writer the first ones."""
        with store_errors():
            cursor = self._collection.find(self._scoped([{"batch": None}]))
            found = await cursor.sort([("writer", 1), ("wseq", 1)]).limit(most).to_list()
        return [self._shape(document) for document in found]

    async def note_batch(self, ids: Sequence[str], start: int) -> None:
        """Note with the records that the batch from `start` on has given them their places.

        Not each place with its record: a command for each record is ten times as much work for the database.
        """
        with store_errors():
            for at in range(0, len(ids), _NAMES_AT_ONCE):
                wanted = self._scoped([{"_id": {"$in": list(ids[at : at + _NAMES_AT_ONCE])}, "batch": None}])
                await self._collection.update_many(wanted, {"$set": {"batch": start}})

    async def at_links(self, links: Sequence[Link]) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        for link in links:
            wanted = {"writer": link.writer, "wseq": link.wseq}
            found += await self.find(wanted, limit=10)
        return found

    async def named(self, ids: Sequence[str]) -> dict[str, AuditRecord]:
        """Those of these names that are there."""
        found: list[AuditRecord] = []
        with store_errors():
            for at in range(0, len(ids), _NAMES_AT_ONCE):
                wanted = self._scoped([{"_id": {"$in": list(ids[at : at + _NAMES_AT_ONCE])}}])
                found += [self._shape(document) for document in await self._collection.find(wanted).to_list()]
        return {record.id: record for record in found}

    async def sizes(self, start: int, end: int) -> list[tuple[int, int]]:
        """Of each batch that begins in [start, end): where it begins, and roughly how many bytes its records are."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {"batch": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": "$batch", "sealed": {"$sum": "$content.length"}, "count": {"$sum": 1}}},
        ]
        found = await self.aggregate(pipeline)
        return sorted((each["_id"], each["sealed"] + each["count"] * _RECORD_BYTES) for each in found)

    async def last_wseq(self, writer: str) -> int:
        """The highest number in a writer's chain; -1 for a writer without records."""
        newest = await self.newest_of(writer)
        return newest.wseq if newest else -1

    async def newest_of(self, writer: str) -> AuditRecord | None:
        """The last record of a writer's chain, as far as it is here."""
        with store_errors():
            cursor = self._collection.find(self._scoped([{"writer": writer}])).sort("wseq", -1).limit(1)
            found = await cursor.to_list()
        return self._shape(found[0]) if found else None

    async def prune(self, ids: Sequence[str]) -> int:
        """Remove records that have a place; returns how many there were."""
        count = 0
        with store_errors():
            for at in range(0, len(ids), _NAMES_AT_ONCE):
                named = {"_id": {"$in": list(ids[at : at + _NAMES_AT_ONCE])}, "batch": {"$ne": None}}
                count += (await self._collection.delete_many(self._scoped([named]))).deleted_count
        return count

    async def first_of(self, interaction_id: str) -> AuditRecord:
        """The intent of an interaction, or the outcome of one that had none. Raises NotFound."""
        intent = await self.find_one({"_id": record_id(interaction_id, "intent")})
        return intent or await self.get(record_id(interaction_id, "outcome"))


class DeedRecords(TenantRepository[AuditRecord]):
    """The records of what people did. Their names begin alike, so that they lie together in the index of a tenant."""

    model = AuditRecord

    async def newest(
        self, kind: str | None, since: datetime | None, until: datetime | None, *, limit: int, after: str | None
    ) -> Page[AuditRecord]:
        """Newest first; since is included, until is not. Raises InvalidRequest for what is no limit or no cursor."""
        wanted: list[Filter] = [query.gte(AuditRecord.id, _DEEDS_FROM), query.lt(AuditRecord.id, _DEEDS_TO)]
        if kind is not None:
            wanted.append(query.eq(AuditRecord.kind, kind))
        if since is not None:
            wanted.append(query.gte(AuditRecord.created_at, since))
        if until is not None:
            wanted.append(query.lt(AuditRecord.created_at, until))
        return await self.page(*wanted, limit=limit, after=after)


class StoredLog:
    """A tenant's Log in the database."""

    def __init__(self, records: OrderedRecords, batches: Batches) -> None:
        self._records = records
        self._batches = batches

    @property
    def tenant_id(self) -> str:
        return self._batches.scope.tenant_id

    async def last(self) -> Batch | None:
        newest = await self._batches.newest()
        return None if newest is None else batch_of(newest)

    async def add(self, batch: Batch) -> bool:
        try:
            await self._batches.insert(document_of(batch))
        except Duplicate:
            # It may be our own, of which the acknowledgement was lost.
            return await self._batches.get(numbered(batch.tenant_id, batch.start)) == document_of(batch)
        return True

    async def place(self, batch: Batch) -> None:
        await self._records.note_batch(batch.ids, batch.start)

    async def waiting(self, most: int) -> Sequence[Waiting]:
        return [_waiting(record) for record in await self._records.without_place(most)]

    async def leaves_at(self, links: Iterable[Link]) -> Mapping[Link, bytes]:
        found = await self._records.at_links(sorted(links))
        return {
            Link(record.writer, record.wseq): bytes.fromhex(record.leaf) for record in found if record.batch is not None
        }


def batch_of(stored: AuditBatch) -> Batch:
    return Batch(
        tenant_id=stored.tenant_id,
        start=stored.start,
        ids=tuple(stored.ids),
        leaves=hashes_in(stored.leaves),
        edge=Edge(stored.end, hashes_in(stored.edge)),
        previous=stored.previous,
        at_us=stored.at_us,
        breaks=tuple(Break(each.writer, each.wseq, each.why) for each in stored.breaks),
    )


def hashes_in(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))


def document_of(batch: Batch) -> AuditBatch:
    return AuditBatch(
        id=numbered(batch.tenant_id, batch.start),
        tenant_id=batch.tenant_id,
        created_at=from_epoch_us(batch.at_us),
        start=batch.start,
        end=batch.end,
        ids=list(batch.ids),
        leaves=b"".join(batch.leaves),
        edge=b"".join(batch.edge.hashes),
        previous=batch.previous,
        at_us=batch.at_us,
        breaks=[StoredBreak(writer=each.writer, wseq=each.wseq, why=each.why) for each in batch.breaks],
    )


def _waiting(record: AuditRecord) -> Waiting:
    # The hash of what is there, and not the one beside it: the tree is over the bytes that a reader will find.
    parsed = parse(record.canonical)
    return Waiting(
        id=record.id,
        leaf=leaf_hash(record.canonical),
        writer=record.writer,
        wseq=record.wseq,
        prev=str(parsed["prev"]),
        at_us=int(parsed["at"]),
    )
