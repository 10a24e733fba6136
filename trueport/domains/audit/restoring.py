"""Making a tenant's records, their order and what is made from them again, from an archive that the verifier accepts.

Everything may be done again: what ends half-way is begun anew and finds what is there. The checkpoints come last, so
that a log that has one is whole.
"""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from trueport.audit.archive import folder_of
from trueport.audit.notes import VerifierKey
from trueport.audit.restoring import RestoredSegment, segments_in
from trueport.audit.sequencer import MOST_RECORDS, Batch, Waiting, next_batch
from trueport.audit.shipper import ShippedRecord
from trueport.audit.verifier import Source
from trueport.domains.analytics.api import MongoSink
from trueport.domains.audit.erasure.repository import Holds
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.models import ArchivedSegment, AuditCheckpoint, numbered
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.repository import ArchivedSegments, Batches, Checkpoints, document_of
from trueport.domains.audit.retention import Retention
from trueport.kit.clock import Clock, from_epoch_us
from trueport.kit.errors import Conflict, NotFound
from trueport.kit.tenancy import TenantScope
from trueport.settings import ArchiveSettings
from trueport.storage.archives import ArchiveStore
from trueport.storage.documents import ContentStore
from trueport.storage.mongo import Database

_AT_ONCE: Final = 300


class LogNotEmpty(Conflict):
    """The tenant has records here, which a restored log cannot follow."""

    code = "audit_log_not_empty"

    def __init__(self) -> None:
        super().__init__("This organisation has records here already: restore into an empty database.")


class Restore:
    """Restores one tenant's log. `contents` is where the sealed contents go. No server may record meanwhile."""

    def __init__(
        self,
        database: Database,
        scope: TenantScope,
        keys: LogKeys,
        contents: ContentStore,
        rules: ArchiveSettings,
        clock: Clock,
    ) -> None:
        self._scope = scope
        self._batches = Batches(database, scope)
        self._checkpoints = Checkpoints(database, scope)
        self._segments = ArchivedSegments(database, scope)
        self._holds = Holds(database, scope)
        self._sink = MongoSink(database, contents)
        self._retention = Retention(database, scope, rules, clock)
        self._keys = keys
        self._clock = clock

    async def run(self, source: Source, public_keys: Sequence[VerifierKey], archives: Stores | None = None) -> int:
        """Restore everything that a verified archive holds; returns how many records.

        archives: those of this tenant; what they hold of `source` is not archived again. Raises LogNotEmpty, and a kit
        Unavailable, after which it can be run again.
        """
        if await self._checkpoints.newest() is not None:
            raise LogNotEmpty
        last: Batch | None = None
        segments: list[RestoredSegment] = []
        began = self._clock.now()
        for segment in segments_in(source):
            if not segments:
                began = from_epoch_us(segment.records[0].record["at"])
            for at in range(0, len(segment.records), MOST_RECORDS):
                last = await self._batch(last, segment.records[at : at + MOST_RECORDS])
            segments.append(segment)
        await self._keys.adopt([key.public_key for key in public_keys], began)
        await self._know_archived(segments, archives)
        # The segments are new here, whatever holds were looked up before.
        await self._holds.look_again()
        await self._checkpoints.insert_missing([self._checkpoint(segment) for segment in segments])
        return last.end if last else 0

    async def _batch(self, last: Batch | None, records: Sequence[ShippedRecord]) -> Batch:
        """The batch first: records without one would be taken for such that wait for a place."""
        at_us = max(each.record["at"] for each in records)
        batch = next_batch(self._scope.tenant_id, last, [_waiting(each) for each in records], (), at_us)
        document = document_of(batch)
        if await self._batches.insert_missing([document]) == set() and await self._batches.get(document.id) != document:
            raise LogNotEmpty
        placed = dict.fromkeys(batch.ids, batch.start)
        for start in range(0, len(records), _AT_ONCE):
            await self._sink.store(records[start : start + _AT_ONCE], placed=placed)
        return batch

    def _checkpoint(self, segment: RestoredSegment) -> AuditCheckpoint:
        note = segment.checkpoint.decode()
        root = base64.b64decode(note.split("\n")[2]).hex()
        return AuditCheckpoint(
            id=numbered(self._scope.tenant_id, segment.end),
            tenant_id=self._scope.tenant_id,
            created_at=self._clock.now(),
            size=segment.end,
            root=root,
            note=note,
        )

    async def _know_archived(self, segments: Sequence[RestoredSegment], archives: Stores | None) -> None:
        now, kept = self._clock.now(), await self._retention.now()
        for segment in segments:
            place = None if archives is None else await self._place_of(segment, archives)
            if place is None:
                return
            until = segment.retained_until
            await self._segments.insert_missing(
                [
                    ArchivedSegment(
                        id=numbered(self._scope.tenant_id, segment.start),
                        tenant_id=self._scope.tenant_id,
                        created_at=now,
                        start=segment.start,
                        end=segment.end,
                        previous=segment.previous,
                        retained_until=now if until is None else datetime.fromisoformat(until.replace("Z", "+00:00")),
                        calls_days=kept.calls,
                        deeds_days=kept.deeds,
                        lease_until=now,
                        place=place,
                        objects=[f"{folder_of(self._scope.tenant_id)}/{name}" for name in segment.names],
                        manifest=segment.manifest,
                        archived_at=now,
                        first_at=from_epoch_us(min(each.record["at"] for each in segment.records)),
                    )
                ]
            )

    async def _place_of(self, segment: RestoredSegment, archives: Stores) -> str | None:
        for place, archive in archives.all():
            if await self._is_in(archive, segment):
                return place
        return None

    async def _is_in(self, archive: ArchiveStore, segment: RestoredSegment) -> bool:
        """Whether all of it is there: its checkpoint is what was written last."""
        try:
            stored = await archive.get(f"{folder_of(self._scope.tenant_id)}/{segment.names[-1]}")
        except NotFound:
            return False
        return stored == segment.checkpoint


def _waiting(record: ShippedRecord) -> Waiting:
    fields = record.record
    return Waiting(record.id, record.leaf, fields["writer"], fields["wseq"], str(fields["prev"]), fields["at"])
