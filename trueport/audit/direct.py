"""A journal without a disk: records go to the database, and answers end when it has acknowledged them.

For places where a process is frozen once it has answered and may never be woken again (AWS Lambda). What could not be
stored is kept in memory and goes first with the next record, so that no chain has a hole as long as the process lives.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from trueport.audit.chains import Chains
from trueport.audit.journal import Appended, Mode, SpoolReservation, SpoolUnavailable
from trueport.audit.records import Kind
from trueport.audit.segment import Frame
from trueport.audit.shipper import MOST_RECORDS, RecordSink, shipped
from trueport.kit.clock import Clock
from trueport.kit.errors import Unavailable
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_MOST_WAITING: Final = 1_000


class DirectJournal:
    """Belongs to the thread of the event loop. A Journal."""

    # The intent has to be in the database before a provider is asked: there is nothing else it could be in.
    mode: Mode = "strict_power"

    def __init__(self, sink: RecordSink, clock: Clock) -> None:
        self._chains = Chains(clock)
        self.writer = self._chains.writer
        self.is_healthy = True
        self._sink = sink
        self._waiting: deque[Frame] = deque()
        self._position = 0
        self._stored = 0
        self._storing: asyncio.Task[None] | None = None

    def reserve(self, size_bytes: int, *, can_wait: bool = False) -> SpoolReservation:  # noqa: ARG002 - a Journal's
        if len(self._waiting) >= _MOST_WAITING:
            # Somebody has to try, or it would stay like this.
            self._store_soon()
            raise SpoolUnavailable
        return SpoolReservation(size_bytes)

    def release(self, reservation: SpoolReservation) -> None:
        reservation.size_bytes = 0

    def append(
        self, kind: Kind, rid: str, tenant: str, fields: dict[str, object], blobs: Sequence[bytes] = ()
    ) -> Appended:
        linked = self._chains.link(kind, rid, tenant, fields)
        self._chains.extend(linked)
        self._position += 1
        self._waiting.append(Frame(linked.record, tuple(blobs), self._position))
        self._store_soon()
        return Appended(linked.record_id, linked.leaf, self._position)

    def sync_ahead(self) -> None:
        """Nothing to do: storing has begun."""

    async def durable(self, position: int) -> None:
        while self._stored < position:
            await asyncio.shield(self._store_soon())

    async def settled(self) -> None:
        await self.durable(self._position)

    def close(self, *, is_shipped: bool = False) -> None:
        """Nothing is left behind that another process could find."""
        if not is_shipped:
            log.error("records_lost", records=len(self._waiting))

    def _store_soon(self) -> asyncio.Task[None]:
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store(), name="store-records")
            # Whoever waits is told by `durable`; it is no matter of the loop's when nobody does.
            self._storing.add_done_callback(_look)
        return self._storing

    async def _store(self) -> None:
        """Store what waits, in order and one batch at a time."""
        while self._waiting:
            batch = list(self._waiting)[:MOST_RECORDS]
            try:
                await self._sink.store([shipped(frame) for frame in batch])
            except Unavailable as error:
                self.is_healthy = False
                log.error("records_not_stored", code=error.code, records=len(batch))
                raise SpoolUnavailable from error
            self.is_healthy = True
            for frame in batch:
                self._waiting.popleft()
                self._stored = frame.end


def _look(done: asyncio.Task[None]) -> None:
    if not done.cancelled():
        done.exception()
