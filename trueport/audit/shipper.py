"""From the local journal to the database: at least once on the way, exactly once in effect.

Records have names that never change, so a store that knows a name already has nothing to do. The place up to which
the store has acknowledged is saved after the acknowledgement, never before.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from trueport.audit.adoption import CURSOR_NAME, adopt_dead_writers
from trueport.audit.canonical import leaf_hash, parse
from trueport.audit.records import number_of, record_id
from trueport.audit.segment import HEADER_BYTES, Frame, frames
from trueport.audit.spool import Spool
from trueport.kit.deadline import Deadline
from trueport.kit.errors import Unavailable
from trueport.kit.logging import get_logger

log = get_logger(__name__)

MOST_RECORDS: Final = 500
_IDLE_S: Final = 0.05
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
    """Ships the live journal, and now and then those of dead processes under the same root."""

    def __init__(self, spool: Spool, root: Path, sink: RecordSink) -> None:
        self._spool = spool
        self._root = root
        self._sink = sink
        self._segment = 1
        self._offset = HEADER_BYTES
        self.is_behind = False

    async def run(self) -> None:
        """Ship for ever. Cancel it after `drain`."""
        adopt_at_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= adopt_at_s:
                await self._try_to_adopt()
                adopt_at_s = loop.time() + _ADOPT_EVERY_S
            if not await self._ship_some():
                await asyncio.sleep(_IDLE_S)

    async def drain(self, deadline: Deadline) -> bool:
        """Ship what is written by now; False when the deadline passed first. The rest is left for adoption."""
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                while await self._ship_some():
                    pass
        except TimeoutError:
            return False
        return True

    async def _ship_some(self) -> bool:
        """Ship one batch from the live journal; False when there was nothing to ship."""
        batch, segment, offset = self._next_batch()
        if not batch and (segment, offset) == (self._segment, self._offset):
            return False
        await self._store(batch)
        self._segment, self._offset = segment, offset
        self._save_cursor()
        for number, _ in self._spool.ends():
            if number < segment:
                self._spool.delete(number)
        return bool(batch)

    def _next_batch(self) -> tuple[list[ShippedRecord], int, int]:
        batch: list[ShippedRecord] = []
        segment, offset = self._segment, self._offset
        for number, end in self._spool.ends():
            if number < segment:
                continue
            if number > segment:
                segment, offset = number, HEADER_BYTES
            while offset < end and len(batch) < MOST_RECORDS:
                found = _first(self._spool.read(number, offset), MOST_RECORDS - len(batch))
                if not found:
                    found = _first(self._spool.read_all(number, offset), 1)
                if not found:
                    break
                batch += map(shipped, found)
                offset += found[-1].end
            if offset < end:
                break
        return batch, segment, offset

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
        path = self._spool.directory / CURSOR_NAME
        draft = path.with_suffix(".tmp")
        # Not synced: an older cursor after a power loss only means that some records are offered again.
        with contextlib.suppress(FileNotFoundError):
            draft.write_text(json.dumps({"segment": self._segment, "offset": self._offset}))
            draft.replace(path)

    async def adopt(self) -> int:
        """Finish what dead processes left under the root; returns how many there were.

        Raises a kit Unavailable or OSError when it has to be tried again.
        """
        return await adopt_dead_writers(self._root, self._spool, self._ship_frames)

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
