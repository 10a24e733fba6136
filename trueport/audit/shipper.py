"""From the local journal to the database: at least once on the way, exactly once in effect.

Records have names that never change, so a store that knows a name already has nothing to do. The place up to which
the store has acknowledged is saved after the acknowledgement, never before.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from trueport.audit.adoption import Cursor, adopt_dead_writers
from trueport.audit.canonical import leaf_hash, parse
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.records import HEARTBEAT_S, number_of, record_id
from trueport.audit.segment import HEADER_BYTES, Frame, frames
from trueport.audit.spool import Spool
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable
from trueport.kit.logging import get_logger

log = get_logger(__name__)

MOST_RECORDS: Final = 500
_GATHER_S: Final = 0.1
_ADOPT_EVERY_S: Final = 5.0
_LONGEST_BACKOFF_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ShippedRecord:
    """A record on its way, with the ciphertexts it describes in the order it names them."""

    id: str
    record: dict[str, Any]
    canonical: bytes
    leaf: bytes
    blobs: tuple[bytes, ...]


class RecordSink(Protocol):
    """Where records go."""

    async def store(self, batch: Sequence[ShippedRecord]) -> None:
        """Keep the records for good; known ids are no error. Raises a kit Unavailable when it should be tried again."""


def shipped(frame: Frame) -> ShippedRecord:
    """The record in a frame, ready to ship."""
    record = parse(frame.record)
    return ShippedRecord(
        id=record_id(record["rid"], record["kind"], number_of(record["kind"], record)),
        record=record,
        canonical=frame.record,
        leaf=leaf_hash(frame.record),
        blobs=frame.blobs,
    )


class Shipper:
    """Ships the live journal, and now and then those of dead processes under the same roots."""

    def __init__(self, spool: Spool, root: Path, sink: RecordSink) -> None:
        self.spool = spool
        self._roots = (root, *(each for each in spool.roots if each != root))
        self._sink = sink
        self._segment = 1
        self._offset = HEADER_BYTES
        self._is_cursor_old = False
        self._unreadable = 0
        self.is_behind = False
        self._has_adopted = asyncio.Event()

    async def has_adopted(self, deadline: Deadline) -> bool:
        """Wait until `run` has looked for journals of dead processes for the first time; False when it takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s()):
                await self._has_adopted.wait()
        return self._has_adopted.is_set()

    async def run(self) -> None:
        """Ship for ever, with a heartbeat a minute. Cancel it before `finish`."""
        adopt_at_s = 0.0
        loop = asyncio.get_running_loop()
        beat_at_s = loop.time() + HEARTBEAT_S
        while True:
            if loop.time() >= beat_at_s:
                self._beat()
                beat_at_s = loop.time() + HEARTBEAT_S
            if loop.time() >= adopt_at_s:
                await self._try_to_adopt()
                self._has_adopted.set()
                self._read_again()
                adopt_at_s = loop.time() + _ADOPT_EVERY_S
            if await self._ship_some() < MOST_RECORDS:
                # Many small batches cost the calls beside them more than one larger one a little later.
                await asyncio.sleep(_GATHER_S)

    def _beat(self) -> bool:
        """Write the heartbeats that are due; False when not all could be written."""
        try:
            self.spool.beat()
        except SpoolUnavailable:
            log.warning("heartbeat_not_written")
            return False
        return True

    async def finish(self, deadline: Deadline) -> bool:
        """Write where each chain ends and ship all there is, for a process that stops.

        False when either did not succeed: the journal is then left for adoption.
        """
        has_ended = self._beat()
        return await self.drain(deadline) and has_ended

    async def drain(self, deadline: Deadline) -> bool:
        """Ship what is written by now; False when the deadline passed first. The rest is left for adoption."""
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                while await self._ship_some():
                    pass
        except TimeoutError:
            return False
        return True

    async def _ship_some(self) -> int:
        """Ship one batch from the live journal; how many records that were."""
        batch, segment, offset = self._next_batch()
        if not batch and (segment, offset) == (self._segment, self._offset):
            return 0
        await self._store(batch)
        self._segment, self._offset = segment, offset
        self._save_cursor()
        for number, _ in self.spool.ends():
            if number < segment:
                self.spool.delete(number)
        return len(batch)

    def _next_batch(self) -> tuple[list[ShippedRecord], int, int]:
        batch: list[ShippedRecord] = []
        segment, offset = self._segment, self._offset
        for number, end in self.spool.ends():
            if number < segment:
                continue
            if number > segment:
                segment, offset = number, HEADER_BYTES
            while offset < end and len(batch) < MOST_RECORDS:
                found = self._frames_at(number, offset, MOST_RECORDS - len(batch))
                if not found:
                    break
                batch += map(shipped, found)
                offset += found[-1].end
            if offset < end and number not in self.spool.unread:
                break
        return batch, segment, offset

    def _frames_at(self, number: int, offset: int, most: int) -> list[Frame]:
        """Some frames of a live segment. One on a disk that does not answer is left for later."""
        try:
            return _first(self.spool.read(number, offset), most) or _first(self.spool.read_all(number, offset), 1)
        except OSError as error:
            if number != self._unreadable:
                log.error("spool_read_failed", segment=number, error_type=type(error).__name__)
            self._unreadable = number
            if number != self.spool.ends()[-1][0]:
                self.spool.unread[number] = offset
            return []

    def _read_again(self) -> None:
        """Go back to segments that could not be read, where they can be now. What is shipped twice counts once."""
        for number, offset in sorted(self.spool.unread.items()):
            try:
                self.spool.read(number, offset)
            except OSError:
                return
            self._segment, self._offset = number, offset
            self.spool.unread.clear()
            return

    async def _store(self, batch: Sequence[ShippedRecord]) -> None:
        backoff_s = 0.1
        while batch:
            try:
                await self._sink.store(batch)
            except Unavailable as error:
                if not self.is_behind:
                    log.warning("shipping_delayed", code=error.code, records=len(batch))
                self.is_behind = True
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                self.is_behind = False
                return

    def _save_cursor(self) -> None:
        cursor = Cursor(self._segment, self._offset, self.spool.unread, frozenset(self.spool.undeleted))
        try:
            cursor.save(self.spool.directory)
        except OSError as error:
            # An older one only means that some records are offered again.
            if not self._is_cursor_old:
                log.warning("spool_cursor_not_saved", error_type=type(error).__name__)
            self._is_cursor_old = True
        else:
            self._is_cursor_old = False

    async def adopt(self) -> int:
        """Finish what dead processes left under the roots; returns how many there were.

        Raises a kit Unavailable or OSError when it has to be tried again.
        """
        return await adopt_dead_writers(self._roots, self.spool, self._ship_frames)

    async def _try_to_adopt(self) -> None:
        try:
            await self.adopt()
        except (Unavailable, OSError) as error:
            log.warning("adoption_failed", error_type=type(error).__name__)

    async def _ship_frames(self, found: Sequence[Frame]) -> None:
        for start in range(0, len(found), MOST_RECORDS):
            await self._store([shipped(frame) for frame in found[start : start + MOST_RECORDS]])


def _first(data: bytes, most: int) -> list[Frame]:
    return list(islice(frames(data, 0), most))
