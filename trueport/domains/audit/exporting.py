"""A tenant's records in the form that the verifier reads: segments, each ending where a checkpoint was signed."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from trueport.audit.archive import (
    FIRST_MANIFEST,
    ArchivedRecord,
    NamedObject,
    Segment,
    checkpoint_object,
    segment_of,
)
from trueport.domains.analytics.api import AuditRecord
from trueport.domains.audit.anchoring.repository import Cosignatures
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.models import ArchivedSegment, AuditCheckpoint, numbered
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.repository import ArchivedSegments, Batches, Checkpoints, OrderedRecords, batch_of
from trueport.kit.clock import to_epoch_us
from trueport.kit.errors import NotFound, TrueportError
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import ContentStore
from trueport.storage.mongo import Database

MOST_RECORDS: Final = 10_000


class LogHasHole(TrueportError):
    """A record that has a place in the order is not in the database any more."""

    code = "audit_log_hole"


@dataclass(frozen=True, slots=True)
class Written:
    """A segment that ends with a checkpoint: what goes to the storage, in the order of writing.

    `beside` are checkpoints within it that join two keys, or that a witness has signed.
    """

    start: int
    end: int
    segment: Segment
    checkpoint: NamedObject
    beside: tuple[NamedObject, ...] = ()

    @property
    def objects(self) -> tuple[NamedObject, ...]:
        return (*self.segment.objects, *self.beside, self.checkpoint)


class Export:
    """Makes the archive of one tenant. `contents` is where the sealed contents of its records lie."""

    def __init__(
        self,
        database: Database,
        scope: TenantScope,
        keys: LogKeys,
        contents: ContentStore,
        archive: Stores | None = None,
    ) -> None:
        """archive: where the records are that have left the database; None where none have."""
        self._scope = scope
        self._records = OrderedRecords(database, scope)
        self._batches = Batches(database, scope)
        self._checkpoints = Checkpoints(database, scope)
        self._cosignatures = Cosignatures(database, scope)
        self._keys = keys
        self._contents = contents
        self._archived = ArchivedSegments(database, scope)
        self._archive = archive

    async def segments(self) -> AsyncIterator[Written]:
        """The whole archive up to the newest checkpoint. Raises a kit Unavailable and LogHasHole."""
        start, previous = 0, FIRST_MANIFEST
        beside = await self._beside()
        for pruned in await self._pruned():
            written = await self._copied(pruned)
            yield replace(written, beside=await self._within(beside, written.start, written.end))
            start, previous = written.end, written.segment.manifest_sha256
        signers = await self._keys.signers(self._scope.tenant_id)
        while (checkpoint := await self._next_end(start)) is not None:
            records, root = await self.read(start, checkpoint.size)
            segment = await segment_of(
                self._scope.tenant_id,
                start,
                records,
                root=root,
                previous=previous,
                origin=origin_of(self._scope.tenant_id),
                signers=signers,
            )
            notes = await self._within(beside, start, checkpoint.size)
            yield Written(start, checkpoint.size, segment, await self._named(checkpoint), notes)
            start, previous = checkpoint.size, segment.manifest_sha256

    async def _beside(self) -> list[AuditCheckpoint]:
        """For each key that has ended, the last checkpoint that it has signed, by which the next key is known; and
        the newest that a witness has signed."""
        ends = [each.retires_at for each in await self._keys.validity(self._scope.tenant_id) if each.retires_at]
        found = [await self._checkpoints.last_before(end) for end in ends]
        witnessed = await self._cosignatures.newest_size()
        if witnessed is not None:
            found.append(await self._checkpoints.find_one({"_id": numbered(self._scope.tenant_id, witnessed)}))
        return [each for each in found if each is not None]

    async def _within(self, beside: Sequence[AuditCheckpoint], start: int, end: int) -> tuple[NamedObject, ...]:
        return tuple([await self._named(each) for each in beside if start < each.size < end])

    async def _named(self, checkpoint: AuditCheckpoint) -> NamedObject:
        lines = await self._cosignatures.of(checkpoint.size)
        return checkpoint_object(self._scope.tenant_id, checkpoint.size, checkpoint.note + "".join(lines))

    async def _pruned(self) -> Sequence[ArchivedSegment]:
        return () if self._archive is None else await self._archived.before_what_is_left()

    async def _copied(self, segment: ArchivedSegment) -> Written:
        """A segment as it lies in the archive."""
        if self._archive is None or segment.manifest is None:
            raise LogHasHole("The records that have left the database are in no archive.")
        try:
            store = self._archive.at(segment.place)
            objects = [NamedObject(name, await store.get(name)) for name in segment.objects]
        except NotFound as error:
            raise LogHasHole("Some of the records that have left the database are not in the archive.") from error
        return Written(segment.start, segment.end, Segment(tuple(objects[:-1]), segment.manifest), objects[-1])

    async def _next_end(self, start: int) -> AuditCheckpoint | None:
        """The last checkpoint within a segment's length of `start`, or the first one behind it."""
        near = await self._checkpoints.last_between(start, start + MOST_RECORDS)
        return near or await self._checkpoints.first_above(start)

    async def read(self, start: int, end: int) -> tuple[list[ArchivedRecord], bytes]:
        """The records at [start, end) with their sealed contents, and the root of the tree that ends with them.

        Raises a kit Unavailable and LogHasHole.
        """
        found: list[ArchivedRecord] = []
        root = b""
        while start + len(found) < end:
            at = start + len(found)
            stored = await self._batches.beginning_before(at + 1)
            if stored is None or stored.end <= at:
                raise LogHasHole(f"The order has no record {at}.")
            batch = batch_of(stored)
            ids = batch.ids[at - batch.start : end - batch.start]
            records = await self._records.named(ids)
            if len(records) < len(set(ids)):
                raise LogHasHole(f"Of the records {at} to {at + len(ids)} some are not in the database.")
            found += await self._with_contents([records[each] for each in ids])
            root = batch.root
        return found, root

    async def _with_contents(self, records: Sequence[AuditRecord]) -> list[ArchivedRecord]:
        """The records with their sealed contents; without those that the storage has no more, as after an erasure."""
        objects: dict[str, bytes | None] = {}
        found: list[ArchivedRecord] = []
        for record in records:
            reference = record.content_reference
            blobs: tuple[bytes, ...] = ()
            if reference is not None:
                if reference.object not in objects:
                    objects[reference.object] = await self._object(reference.object)
                data = objects[reference.object]
                # One ciphertext a record: what its description pins.
                part = b"" if data is None else data[reference.offset : reference.offset + reference.length]
                # Nothing but zeros is what an erasure leaves; no ciphertext and tag look like that.
                blobs = (part,) if part.strip(b"\0") else ()
            found.append(ArchivedRecord(record.canonical, to_epoch_us(record.created_at), blobs, record.writer))
        return found

    async def _object(self, name: str) -> bytes | None:
        try:
            return await self._contents.get(name)
        except NotFound:
            return None
