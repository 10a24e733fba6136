"""Ordering a tenant's records, signing what the tree says, and proving from it."""

from dataclasses import dataclass
from typing import Final

from trueport.audit.notes import Checkpoint, sign_checkpoint
from trueport.audit.sequencer import Batch, Sequencer
from trueport.audit.tree import consistency_ranges, inclusion_ranges, prove_consistency, prove_inclusion
from trueport.domains.analytics.api import AuditRecord
from trueport.domains.audit.anchoring.repository import Cosignatures
from trueport.domains.audit.keys import LogKeys, Validity, origin_of
from trueport.domains.audit.models import AuditCheckpoint, numbered
from trueport.domains.audit.repository import Batches, Checkpoints, OrderedRecords, StoredLog, StoredTiles, batch_of
from trueport.domains.audit.tiles import Tiles
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database, Duplicate

_MOST_BATCHES: Final = 20


class LogRolledBack(TrueportError):
    """The database knows fewer records, or others, than a checkpoint that was signed before."""

    code = "audit_log_rolled_back"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A record with the proof that it is in the tree of a signed checkpoint. `proof` goes from the leaf upwards."""

    record: AuditRecord
    seq: int
    checkpoint: AuditCheckpoint
    proof: tuple[bytes, ...]


class AuditLog:
    """The order of one tenant's records, and what is proved from it."""

    def __init__(self, database: Database, scope: TenantScope, keys: LogKeys, clock: Clock) -> None:
        self._scope = scope
        self._records = OrderedRecords(database, scope)
        self._batches = Batches(database, scope)
        self._checkpoints = Checkpoints(database, scope)
        self._cosignatures = Cosignatures(database, scope)
        self._tiles = Tiles(StoredTiles(database, scope), self._batches, clock)
        self._keys = keys
        self._clock = clock
        self._sequencer = Sequencer(StoredLog(self._records, self._batches), clock)

    async def advance(self) -> int:
        """Order what waits and sign the tree; returns how many records got a place.

        Raises LogRolledBack, after which nothing is added: what was signed once has to stay true.
        """
        newest = await self._checkpoints.newest()
        await self._refuse_a_shorter_past(newest)
        count = 0
        for _ in range(_MOST_BATCHES):
            batch = await self._sequencer.run_once()
            if batch is None:
                break
            count += len(batch.ids)
        last = await self._batches.newest()
        if last is not None:
            await self._sign(batch_of(last), newest)
            await self._tiles.catch_up(last.end)
        return count

    async def _sign(self, batch: Batch, newest: AuditCheckpoint | None) -> None:
        if newest is not None and newest.size >= batch.end:
            return
        note = await sign_checkpoint(
            Checkpoint(origin_of(self._scope.tenant_id), batch.end, batch.root),
            await self._keys.signers(self._scope.tenant_id),
        )
        try:
            await self._checkpoints.insert(
                AuditCheckpoint(
                    id=numbered(self._scope.tenant_id, batch.end),
                    tenant_id=self._scope.tenant_id,
                    created_at=self._clock.now(),
                    size=batch.end,
                    root=batch.root.hex(),
                    note=str(note),
                )
            )
        except Duplicate:
            # Another process has signed the same tree; one batch ends there, so it is the same root.
            return

    async def _refuse_a_shorter_past(self, newest: AuditCheckpoint | None) -> None:
        if newest is None:
            return
        last = await self._batches.beginning_before(newest.size)
        if last is None or last.end < newest.size:
            raise LogRolledBack(f"The log has fewer records than the {newest.size} of its signed checkpoint.")
        if last.end == newest.size and batch_of(last).root.hex() != newest.root:
            raise LogRolledBack(f"The first {newest.size} records are not those of the signed checkpoint.")

    async def checkpoint(self, size: int | None = None) -> AuditCheckpoint:
        """The newest checkpoint, or that of a size. Raises NotFound."""
        if size is not None:
            return await self._checkpoints.get(numbered(self._scope.tenant_id, size))
        newest = await self._checkpoints.newest()
        if newest is None:
            raise NotFound("Nothing has been recorded yet.")
        return newest

    async def witnessed(self) -> AuditCheckpoint:
        """The newest checkpoint that a witness has signed. Raises NotFound."""
        size = await self._cosignatures.newest_size()
        if size is None:
            raise NotFound("No witness has signed a checkpoint yet.")
        return await self.checkpoint(size)

    async def note_of(self, checkpoint: AuditCheckpoint) -> str:
        """Its note with the lines of the witnesses."""
        return checkpoint.note + "".join(await self._cosignatures.of(checkpoint.size))

    async def key_validity(self) -> list[Validity]:
        return await self._keys.validity(self._scope.tenant_id)

    async def receipt_of(self, interaction_id: str) -> Receipt:
        """The first record of an interaction and its proof.

        A call that was refused before it was sent anywhere has its outcome only. Raises NotFound, also for a record
        that is not under a checkpoint yet.
        """
        record = await self._records.first_of(interaction_id)
        newest = await self.checkpoint()
        if record.batch is None or record.batch >= newest.size:
            raise NotFound("This record is not under a signed checkpoint yet: ask again in a few seconds.")
        batch = await self._batches.get(numbered(self._scope.tenant_id, record.batch))
        seq = batch.start + batch.ids.index(record.id)
        return Receipt(record, seq, newest, tuple(await self.inclusion(seq, newest.size)))

    async def inclusion(self, seq: int, size: int) -> list[bytes]:
        """The proof that the record at `seq` is in the tree of `size`. Raises InvalidRequest."""
        await self._refuse_unknown(size)
        try:
            ranges = inclusion_ranges(seq, size)
        except ValueError as error:
            raise InvalidRequest("seq is below size.", param="seq") from error
        return prove_inclusion(await self._tiles.nodes(ranges), seq, size)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of `new` begins with that of `old`. Raises InvalidRequest."""
        await self._refuse_unknown(new)
        try:
            ranges = consistency_ranges(old, new)
        except ValueError as error:
            raise InvalidRequest("from is not above to.", param="from") from error
        return prove_consistency(await self._tiles.nodes(ranges), old, new)

    async def _refuse_unknown(self, size: int) -> None:
        last = await self._batches.newest()
        if size < 0 or last is None or size > last.end:
            raise InvalidRequest("The log is not that long.", param="size")
