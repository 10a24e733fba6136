"""Taking a tenant's records to the archive: payload, data, manifest, its signature, checkpoint, in this order.

What is to be written is noted in the database before, and an object that is in the archive already is never written
again: it stays if it is one of those that were announced, and otherwise somebody else was there. So a process may end
at any point, and any number may work on one segment.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from odmantic import query

from trueport.audit.archive import (
    FIRST_MANIFEST,
    ArchivedRecord,
    NamedObject,
    checkpoint_object,
    data_of,
    digest_of,
    manifest_note,
    manifest_of,
    payload_of,
)
from trueport.audit.canonical import leaf_hash, parse
from trueport.audit.tree import Edge
from trueport.domains.audit.erasure.repository import Erasures
from trueport.domains.audit.exporting import Export
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.models import ArchivedSegment, AuditCheckpoint, numbered
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.repository import ArchivedSegments, Batches, Checkpoints, OrderedRecords, batch_of
from trueport.domains.audit.retention import KeptFor, Retention
from trueport.kit.clock import Clock, from_epoch_us, rfc3339
from trueport.kit.errors import NotFound, TrueportError
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.settings import ArchiveSettings
from trueport.storage.archives import ArchiveStore
from trueport.storage.documents import ContentStore
from trueport.storage.mongo import Database, Duplicate

log = get_logger(__name__)

MOST_RECORDS: Final = 10_000
LEASE: Final = timedelta(minutes=5)
STALE: Final = timedelta(days=1)
CONTENTS_WAIT: Final = timedelta(hours=24)


class ArchiveTampered(TrueportError):
    """The archive holds something that this installation has not written, or the database something it has not signed.

    Nothing more is archived or pruned of this tenant until a person has looked.
    """

    code = "archive_tampered"


class ContentsMissing(TrueportError):
    """Sealed contents of records to be archived are not in the storage, and no erasure says why."""

    code = "archive_contents_missing"


class MutableArchive(TrueportError):
    """The archive does not keep its objects from being changed, and nobody has said that this will do."""

    code = "archive_mutable"


class ArchiveOutsideRegions(TrueportError):
    """The tenant's archive lies in a region that the tenant does not allow any more."""

    code = "archive_outside_regions"


class Archiver:
    """Takes the records of one tenant to the archive. `contents` is where their sealed contents lie."""

    def __init__(
        self,
        database: Database,
        scope: TenantScope,
        keys: LogKeys,
        contents: ContentStore,
        stores: Stores,
        rules: ArchiveSettings,
        clock: Clock,
    ) -> None:
        self._scope = scope
        self._segments = ArchivedSegments(database, scope)
        self._records = OrderedRecords(database, scope)
        self._checkpoints = Checkpoints(database, scope)
        self._batches = Batches(database, scope)
        self._export = Export(database, scope, keys, contents)
        self._retention = Retention(database, scope, rules, clock)
        self._erasures = Erasures(database, scope)
        self._keys = keys
        self._stores = stores
        self._rules = rules
        self._clock = clock

    async def advance(self, *, everything: bool = False) -> int:
        """Archive what is due, or all that is under a checkpoint; returns how many records are newly in the archive.

        Raises MutableArchive, ArchiveOutsideRegions, ArchiveTampered, ContentsMissing and LogHasHole, and a kit
        Unavailable, after which it goes on where it was.
        """
        count = 0
        locked: dict[str, bool] = {}
        while (segment := await self._next(everything=everything)) is not None:
            # Asked only when there is something to write: most runs have nothing.
            if segment.place not in locked:
                locked[segment.place] = await self._refuse_unfit(segment.place)
            now = self._clock.now()
            leased = await self._segments.lease(segment, now, now + LEASE)
            if leased is None:
                break
            try:
                is_done = await self._write(leased, is_locked=locked[leased.place])
            finally:
                await self._segments.update(leased.id, {"lease_until": now})
            count += leased.end - leased.start if is_done else 0
        return count

    async def _refuse_unfit(self, place: str) -> bool:
        """Whether the store locks what it is given."""
        if place in self._stores.outside:
            raise ArchiveOutsideRegions("The archive lies in a region that this organisation does not allow.")
        promise = await self._stores.at(place).immutability()
        if not promise.worm and not self._rules.allows_mutable:
            raise MutableArchive(
                f"The archive can be changed: {promise.why}. TRUEPORT_ALLOW_MUTABLE_ARCHIVE=1 allows it."
            )
        return promise.worm

    async def _next(self, *, everything: bool) -> ArchivedSegment | None:
        """The segment that was begun, else a new one if enough waits for long enough."""
        newest = await self._segments.newest()
        if newest is not None and newest.archived_at is None:
            is_wanted = self._stores.is_set or newest.announced
            return await self._refreshed(newest) if is_wanted else None
        start = newest.end if newest else 0
        checkpoint = await self._end(start, everything=everything)
        if checkpoint is None:
            return None
        now, (kept, retained_until) = self._clock.now(), await self._promise()
        segment = ArchivedSegment(
            id=numbered(self._scope.tenant_id, start),
            tenant_id=self._scope.tenant_id,
            created_at=now,
            start=start,
            end=checkpoint.size,
            previous=(newest.manifest if newest else None) or FIRST_MANIFEST,
            retained_until=retained_until,
            calls_days=kept.calls,
            deeds_days=kept.deeds,
            lease_until=now,
            place=self._stores.current,
        )
        try:
            return await self._segments.insert(segment)
        except Duplicate:
            return await self._segments.get(segment.id)

    async def _promise(self) -> tuple[KeptFor, datetime]:
        """For how long records are kept as of now, and until when their objects are to be locked then."""
        kept = await self._retention.now()
        return kept, self._clock.now().replace(microsecond=0) + timedelta(days=kept.longest)

    async def _refreshed(self, segment: ArchivedSegment) -> ArchivedSegment:
        """The segment that was begun; one of which nothing could be written for long is locked for its full time.

        It stays where it was begun, unless nothing of it is there, or that place has not taken it for a day.
        """
        now, (kept, until) = self._clock.now(), await self._promise()
        changes: dict[str, object] = {}
        if not segment.announced and segment.retained_until + STALE <= until:
            changes = {"retained_until": until, "calls_days": kept.calls, "deeds_days": kept.deeds}
        is_elsewhere = self._stores.is_set and segment.place != self._stores.current
        if is_elsewhere and (not segment.announced or segment.created_at + STALE <= now):
            changes["place"] = self._stores.current
        if not changes:
            return segment
        # Not under the hands of a process that is writing it.
        idle = query.lte(ArchivedSegment.lease_until, now)
        return await self._segments.update(segment.id, changes, idle) or segment

    async def _end(self, start: int, *, everything: bool) -> AuditCheckpoint | None:
        """The checkpoint at which the next segment ends; None when there is no reason for one yet."""
        first = await self._checkpoints.first_above(start)
        if first is None:
            return None
        last = await self._checkpoints.last_between(start, start + MOST_RECORDS) or first
        room, fits = self._rules.segment_bytes, last.size
        for at, size in await self._records.sizes(start, last.size):
            room -= size
            if room < 0:
                fits = at
                break
        is_full = room < 0 or await self._checkpoints.first_above(start + MOST_RECORDS) is not None
        is_old = first.created_at + timedelta(seconds=self._rules.every_s) <= self._clock.now()
        if not (is_full or is_old or everything) or not self._stores.is_set:
            return None
        return await self._checkpoints.last_between(start, fits) or first

    async def _write(self, segment: ArchivedSegment, *, is_locked: bool) -> bool:
        """Whether it is in the archive now: not when it has been given another place meanwhile."""
        tenant_id, start = self._scope.tenant_id, segment.start
        checkpoint = await self._checkpoints.get(numbered(tenant_id, segment.end))
        records, root = await self._export.read(start, segment.end)
        await self._refuse_unsigned(segment, records, checkpoint)
        await self._wait_for_contents(segment, records)
        signers = await self._keys.signers(tenant_id)
        keep = partial(self._keep, segment, is_locked=is_locked)
        sealed = await keep(await asyncio.to_thread(payload_of, tenant_id, start, records))
        data = await keep(await asyncio.to_thread(data_of, tenant_id, start, records))
        make: Callable[[], NamedObject] = partial(
            manifest_of, tenant_id, start, records, data=data, sealed=sealed, root=root, previous=segment.previous,
            signers=signers, retained_until=rfc3339(segment.retained_until) if is_locked else None,
        )  # fmt: skip
        manifest = await keep(await asyncio.to_thread(make))
        note = await keep(await manifest_note(manifest, origin_of(tenant_id), signers))
        signed = await keep(checkpoint_object(tenant_id, segment.end, checkpoint.note))
        names = [each.name for each in (sealed, data, manifest, note, signed)]
        first_at = from_epoch_us(min(record.at_us for record in records))
        done = {
            "objects": names,
            "first_at": first_at,
            "manifest": digest_of(manifest),
            "archived_at": self._clock.now(),
        }
        same_place = query.eq(ArchivedSegment.place, segment.place)
        return await self._segments.update(segment.id, done, same_place) is not None

    async def _refuse_unsigned(
        self, segment: ArchivedSegment, records: Sequence[ArchivedRecord], checkpoint: AuditCheckpoint
    ) -> None:
        """Raise ArchiveTampered unless these are the records that the checkpoint was signed over."""
        before = await self._batches.beginning_before(segment.start)
        edge = batch_of(before).edge if before else Edge()
        found = await asyncio.to_thread(lambda: edge.extend([leaf_hash(record.canonical) for record in records]))
        if found.size != segment.end or found.root.hex() != checkpoint.root:
            raise ArchiveTampered(f"The records {segment.start} to {segment.end} are not those that were signed.")

    async def _wait_for_contents(self, segment: ArchivedSegment, records: Sequence[ArchivedRecord]) -> None:
        """Raise ContentsMissing for contents that nobody has erased and that the storage does not have.

        Only for a while: it may be another machine's folder, or a mistake in the settings; but what is lost is lost,
        and must not keep everything after it from being archived.
        """
        missing = await self._missing(records)
        if not missing:
            return
        log.error("archive_contents_missing", tenant_id=self._scope.tenant_id, start=segment.start, count=missing)
        if segment.created_at + CONTENTS_WAIT > self._clock.now():
            raise ContentsMissing(f"The storage does not have {missing} sealed contents of these records.")

    async def _missing(self, records: Sequence[ArchivedRecord]) -> int:
        kids = await asyncio.to_thread(_kids_without_content, records)
        erased = await self._erasures.erased(sorted(set(kids))) if kids else frozenset()
        return sum(kid not in erased for kid in kids)

    async def _keep(self, segment: ArchivedSegment, made: NamedObject, *, is_locked: bool) -> NamedObject:
        """The object as it lies in the archive, read back; it is `made` unless another run has written it before."""
        store = self._stores.at(segment.place)
        expected = await asyncio.to_thread(digest_of, made)
        try:
            stored = await store.get(made.name)
        except NotFound:
            await self._announce(segment, expected)
            await store.put_if_absent(made.name, made.data, segment.retained_until)
            stored = await store.get(made.name)
        found = NamedObject(made.name, stored)
        digest = await asyncio.to_thread(digest_of, found)
        if digest != expected and digest not in (await self._segments.get(segment.id)).announced:
            raise ArchiveTampered(f"The archive holds another {made.name} than was written.")
        if is_locked:
            await self._refuse_unlocked(store, made.name, segment.retained_until)
        return found

    async def _refuse_unlocked(self, store: ArchiveStore, name: str, until: datetime) -> None:
        locked_until = (await store.head(name)).locked_until
        if locked_until is None or locked_until < until:
            raise ArchiveTampered(f"The archive does not lock {name} for as long as it was asked to.")

    async def _announce(self, segment: ArchivedSegment, digest: str) -> None:
        """Note what is about to be written."""
        stored = await self._segments.get(segment.id)
        while digest not in stored.announced:
            stored = await self._segments.announce(stored, digest)


def _kids_without_content(records: Sequence[ArchivedRecord]) -> list[str]:
    """The keys of the sealed contents that should be with these records and are not."""
    described = (parse(record.canonical).get("content") for record in records if not record.blobs)
    return [str(content.get("kid")) for content in described if isinstance(content, dict)]
