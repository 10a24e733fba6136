"""Taking records out of the database whose time there is over: never one that is not in the archive, or that is held.

The order stays: batches, tiles and checkpoints are not touched, so that every proof that was ever given still leads
to the signed root. Of each writer the newest record stays too, since its next one has to be seen to follow it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from trueport.audit.canonical import parse
from trueport.domains.analytics.api import AuditRecord
from trueport.domains.audit.archiving import ArchiveTampered
from trueport.domains.audit.erasure.holding import Holding, RecordMetadata, is_held
from trueport.domains.audit.models import ArchivedSegment
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.repository import ArchivedSegments, Batches, OrderedRecords
from trueport.domains.audit.retention import KeptFor, Retention
from trueport.kit.clock import Clock, from_epoch_us
from trueport.kit.errors import NotFound
from trueport.kit.tenancy import TenantScope
from trueport.settings import ArchiveSettings
from trueport.storage.mongo import Database

_AT_ONCE: Final = 500


class Pruner:
    """Prunes the records of one tenant."""

    def __init__(
        self, database: Database, scope: TenantScope, stores: Stores, rules: ArchiveSettings, clock: Clock
    ) -> None:
        self._segments = ArchivedSegments(database, scope)
        self._batches = Batches(database, scope)
        self._records = OrderedRecords(database, scope)
        self._holding = Holding(database, scope, clock)
        self._retention = Retention(database, scope, rules, clock)
        self._stores = stores
        self._clock = clock

    async def run(self) -> int:
        """Remove what may go; returns how many records. Raises ArchiveTampered and a kit Unavailable."""
        count, now, kept = 0, self._clock.now(), await self._retention.now()
        newest: dict[str, int] = {}
        for segment in await self._segments.to_prune():
            kept_here = kept.at_least(KeptFor(segment.calls_days, segment.deeds_days))
            if segment.first_at is None or segment.first_at + kept_here.shortest > now:
                continue
            await self._refuse_lost(segment)
            pruned, left = await self._prune(segment, kept_here, newest)
            count += pruned
            changes = {"pruned": segment.pruned + pruned, "pruned_at": None if left else now}
            await self._segments.update(segment.id, changes)
        return count

    async def _prune(self, segment: ArchivedSegment, kept: KeptFor, newest: dict[str, int]) -> tuple[int, int]:
        """How many records of the segment went, and how many have yet to go."""
        pruned = left = 0
        ids = await self._ids(segment)
        for start in range(0, len(ids), _AT_ONCE):
            found = await self._records.named(ids[start : start + _AT_ONCE])
            holds = await self._holding.in_force()
            going: list[str] = []
            for record in found.values():
                fields: dict[str, Any] = parse(record.canonical)
                if await self._is_newest(record, newest):
                    continue
                is_over = from_epoch_us(fields["at"]) + kept.of(fields) <= self._clock.now()
                if is_over and not is_held(RecordMetadata.of(fields), holds):
                    going.append(record.id)
                else:
                    left += 1
            # Noted before, since a log from which something has gone is exported from its archive.
            if going and segment.pruned == 0 and pruned == 0:
                await self._segments.update(segment.id, {"pruned": 1})
            pruned += await self._records.prune(going)
        return pruned, left

    async def _ids(self, segment: ArchivedSegment) -> Sequence[str]:
        ids: list[str] = []
        while segment.start + len(ids) < segment.end:
            at = segment.start + len(ids)
            batch = await self._batches.beginning_before(at + 1)
            if batch is None or batch.end <= at:
                raise ArchiveTampered(f"The order has no record {at}.")
            ids += batch.ids[at - batch.start : segment.end - batch.start]
        return ids

    async def _is_newest(self, record: AuditRecord, newest: dict[str, int]) -> bool:
        if record.writer not in newest:
            newest[record.writer] = await self._records.last_wseq(record.writer)
        return record.wseq >= newest[record.writer]

    async def _refuse_lost(self, segment: ArchivedSegment) -> None:
        """Raise ArchiveTampered unless the archive still holds what was read back from it."""
        store = self._stores.at(segment.place)
        for name in segment.objects:
            try:
                if name.endswith(".manifest.json"):
                    if hashlib.sha256(await store.get(name)).hexdigest() != segment.manifest:
                        raise ArchiveTampered(f"The archive holds another {name} than was written.")
                else:
                    await store.head(name)
            except NotFound as error:
                raise ArchiveTampered(f"The archive has lost {name}.") from error
