"""The local journal: a record counts as written when this file has it.

`append` is one synchronous write, which survives the death of the process; the kernel makes groups of writes survive a
power loss beside everything else, or a thread does where the kernel cannot. Each process writes to a directory of its
own and holds a lock on it for life, so that whoever gets the lock later knows its owner is dead (see adoption.py).
Where a second root is given, the journal goes on there when the disk below the first takes nothing more, or its folder
is deleted.
"""

import asyncio
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from trueport.audit.chains import Chains
from trueport.audit.homes import Home, open_home, room_bytes
from trueport.audit.journal import Appended, Mode, SpoolReservation, SpoolSheds, SpoolUnavailable
from trueport.audit.records import HEARTBEAT_S, Kind
from trueport.audit.segment import (
    HEADER_BYTES,
    PREPARED_SUFFIX,
    SUFFIX,
    create,
    frame_bytes,
    header_bytes,
    path_of,
)
from trueport.audit.syncing import KernelSync
from trueport.kit.clock import Clock
from trueport.kit.ids import new_id
from trueport.kit.logging import get_logger

__all__ = ["Appended", "Mode", "Spool", "SpoolReservation", "SpoolUnavailable"]

log = get_logger(__name__)

ALARM_SHARE: Final = 0.70
"""From here on somebody should look; every call is still taken."""
SHED_SHARE: Final = 0.85
"""From here on calls that can wait are refused."""
FULL_SHARE: Final = 0.95
"""From here on every call is refused: what is left is for the outcomes of those under way."""
_MARKS: Final = ((ALARM_SHARE, "spool_filling_up"), (SHED_SHARE, "spool_sheds_load"), (FULL_SHARE, "spool_full"))
_LOOK_EVERY_S: Final = 1.0
_COPY_BYTES: Final = 1 << 20
_GROUP_S: Final = 0.005
_PREPARED_IN_S: Final = 0.2
_REST_S: Final = 0.005
FINISHED: Final = ".gone-"
"""Before the name of a directory that is being deleted."""


class _Unsynced(NamedTuple):
    """A frame that a power loss may still take. `opens` is the rid of its intent."""

    position: int
    frame: bytes
    tenant: str
    opens: str | None


@dataclass(slots=True)
class _Segment:
    number: int
    handle: int
    size: int
    home: Home
    end: int = HEADER_BYTES


class Spool:
    """The journal of one process. `append` and `reserve` belong to the thread of the event loop."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        segment_bytes: int,
        capacity_bytes: int,
        mode: Mode = "strict",
        second_root: Path | None = None,
        syncs_in_kernel: bool = True,
    ) -> None:
        """Raises OSError when no segment can be made under either root."""
        self.roots = (root,) if second_root is None else (root, second_root)
        self.mode = mode
        self.capacity_bytes = capacity_bytes
        self.reserved_bytes = 0
        self.last_sync_ms = 0.0
        self.open_intents: dict[str, int] = {}
        self._open_calls: Counter[str] = Counter()
        # Tenants whose chain got records since its last heartbeat, and the segment that holds its newest one.
        self._stirred: dict[str, int] = {}
        self.pins: dict[str, set[int]] = {}
        self.unread: dict[int, int] = {}
        self.undeleted: set[int] = set()
        self._segment_bytes = segment_bytes
        self._chains = Chains(clock, heartbeat_s=HEARTBEAT_S)
        self.writer = self._chains.writer
        self._position = 0
        self._synced = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        # The current segment failed, and is neither written nor synced any more.
        self._is_broken = False
        # No further segment could be made; what stands in the current one is as safe as before.
        self._cannot_roll = False
        self._is_gone = False
        self._cannot_prepare = False
        self._pending: deque[_Unsynced] = deque()
        self._marks_passed = 0
        self._looked_at_s = 0.0
        self._synced_at_s = 0.0
        # Adopters want to look there, and the room there counts.
        for each in self.roots[1:]:
            with suppress(OSError):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._opening = threading.Lock()
        self._homes: list[Home] = []
        self._old_handles: list[int] = []
        self._segments: dict[int, _Segment] = {}
        self._current = self._segments[1] = self._new_segment(1, segment_bytes, self._all_homes())
        self._prepared: _Segment | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._syncs_in_kernel = syncs_in_kernel
        self._kernel: KernelSync | None = None
        self._in_kernel = False
        self._wake = threading.Event()
        self._sync_timer: asyncio.TimerHandle | None = None
        self._prepares = False
        self._is_prepared = threading.Event()
        self._is_prepared.set()
        self._stopping = False
        self._unsynced: set[int] = set()
        self._syncing: set[int] = set()
        self._limit_bytes = self._limit()
        self._syncer = threading.Thread(target=self._sync_for_ever, name="spool-sync", daemon=True)
        self._syncer.start()

    @property
    def directory(self) -> Path:
        """The folder that is written to."""
        return self._current.home.directory

    @property
    def filled_share(self) -> float:
        """How much of the room, of the setting's or the disk's, is taken or promised."""
        return (self.used_bytes + self.reserved_bytes) / max(self._limit_bytes, 1)

    @property
    def used_bytes(self) -> int:
        """Disk that records not yet shipped and deleted take."""
        return sum(segment.end for segment in self._segments.values())

    @property
    def is_healthy(self) -> bool:
        """Whether records can be written, as far as is known."""
        return not (self._is_broken or self._cannot_roll or self._is_gone)

    @property
    def position(self) -> int:
        return self._position

    def ends(self) -> list[tuple[int, int]]:
        """Number and end offset of each segment that still exists, in order."""
        return [(segment.number, segment.end) for segment in self._segments.values()]

    def reserve(self, size_bytes: int, *, can_wait: bool = False) -> SpoolReservation:
        """Keep room for an outcome of this size. Raises SpoolUnavailable when no further call may start.

        Calls that can wait are turned away before the others are.
        """
        if time.monotonic() - self._looked_at_s >= _LOOK_EVERY_S:
            self.look_after()
        share = (self.used_bytes + self.reserved_bytes + size_bytes) / max(self._limit_bytes, 1)
        self._note_mark(share)
        if not self.is_healthy or self._cannot_prepare or share > FULL_SHARE:
            raise SpoolUnavailable
        if can_wait and share > SHED_SHARE:
            raise SpoolSheds
        self.reserved_bytes += size_bytes
        return SpoolReservation(size_bytes)

    def _note_mark(self, share: float) -> None:
        """Say once that a mark was passed, and again when it was passed anew."""
        if not self._marks_passed and share <= _MARKS[0][0]:
            return
        passed = sum(share > mark for mark, _ in _MARKS)
        if passed > self._marks_passed:
            log.error(_MARKS[passed - 1][1], bytes=self.used_bytes, limit=self._limit_bytes)
        self._marks_passed = passed

    def _limit(self) -> int:
        """How much the journal may hold: the setting's number, or what the disks have if that is less."""
        with self._guard:
            prepared = self._prepared.size if self._prepared else 0
        allocated = sum(segment.size for segment in self._segments.values()) + prepared
        folders = [self._current.home.root, *(root for root in self.roots if root != self._current.home.root)]
        return min(self.capacity_bytes, allocated + room_bytes(folders, self._segment_bytes))

    def release(self, reservation: SpoolReservation) -> None:
        """Give room back. A second time does nothing."""
        self.reserved_bytes -= reservation.size_bytes
        reservation.size_bytes = 0

    def append(
        self, kind: Kind, rid: str, tenant: str, fields: dict[str, object], blobs: Sequence[bytes] = ()
    ) -> Appended:
        """Write one record. It survives the death of this process when this returns.

        Raises SpoolUnavailable when neither this segment nor a new one takes it, and ValueError or TypeError for a
        record that makes no sense: an attempt without its number `n`, a field that is the journal's own.
        """
        linked = self._chains.link(kind, rid, tenant, fields)
        frame = frame_bytes(linked.record, blobs)
        self._write(frame, may_grow=kind == "outcome")
        with self._guard:
            # One step for the syncing thread: a position it sees is in a segment it syncs.
            self._position += len(frame)
            self._pending.append(_Unsynced(self._position, frame, tenant, rid if kind == "intent" else None))
            self._unsynced.add(self._current.number)
        self._chains.extend(linked)
        self._note_state(kind, rid, tenant, says_of_itself="of" not in fields)
        self._sync_soon()
        return Appended(linked.record_id, linked.leaf, self._position)

    def _note_state(self, kind: Kind, rid: str, tenant: str, *, says_of_itself: bool) -> None:
        """Remember which calls are open, and which chains have no heartbeat as their newest record."""
        if kind == "heartbeat" and says_of_itself:
            self._stirred.pop(tenant, None)
            return
        self._stirred[tenant] = self._current.number
        if kind == "intent":
            self.open_intents[rid] = self._current.number
            self._open_calls[tenant] += 1
        elif kind in ("outcome", "abandoned") and self.open_intents.pop(rid, None) is not None:
            self._open_calls[tenant] -= 1
            if not self._open_calls[tenant]:
                del self._open_calls[tenant]

    def beat(self) -> int:
        """Say of each chain that got records since its last heartbeat how many of its calls are open.

        Returns how many chains that were. One that ends in a heartbeat with no open calls is at rest: nothing is
        missing behind it, however long its writer has nothing to say, or is gone. Raises SpoolUnavailable; what could
        not be said is said the next time.
        """
        return self._beat_for(list(self._stirred))

    def _beat_for(self, tenants: Sequence[str]) -> int:
        for tenant in tenants:
            self.append("heartbeat", new_id("hbt"), tenant, {"open": self._open_calls[tenant]})
        return len(tenants)

    def durable(self, position: int) -> asyncio.Future[None]:
        """Done when everything up to `position` would survive a power loss; fails with SpoolUnavailable."""
        loop = self._loop or self._meet(asyncio.get_running_loop())
        future: asyncio.Future[None] = loop.create_future()
        if position <= self._synced:
            future.set_result(None)
        else:
            self._waiting.append((position, future))
            if self._kernel is None:
                self._wake.set()
            elif not self._in_kernel:
                # Others who have something to wait for in this turn of the loop share the sync.
                loop.call_soon(self._begin_sync)
            # The thread may have finished between the look above and the line before this one.
            if position <= self._synced:
                self._settle()
        return future

    def sync_ahead(self) -> None:
        """Begin to sync what has been written, for somebody who will wait for it after doing something else.

        Only after a rest: a busy journal's next group is about to be synced anyway, and one more costs more than the
        wait it saves.
        """
        if time.monotonic() - self._synced_at_s <= _REST_S:
            return
        if self._loop is None:
            self._wake.set()
        else:
            # In the loop's next turn: asking the kernel takes as long as a tenth of a call, and a woken thread would
            # ask for the interpreter, both in the time until the provider is asked.
            self._loop.call_soon(self._begin_sync)

    async def settled(self) -> None:
        """Nothing to wait for: what was appended survives the death of the process."""

    def _sync_soon(self) -> None:
        """Nobody waits for this record: let it share the sync of the next one that somebody waits for, or 5 ms."""
        if self._sync_timer is not None:
            return
        try:
            loop = self._meet(asyncio.get_running_loop())
        except RuntimeError:
            self._wake.set()
            return
        self._sync_timer = loop.call_later(_GROUP_S, self._sync_now)

    def _sync_now(self) -> None:
        self._sync_timer = None
        if self._unsynced:
            self._begin_sync()

    def _meet(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """The loop that has this journal from now on."""
        if loop is not self._loop:
            self._loop = loop
            self._finish_kernel()
            self._kernel = KernelSync.of(loop) if self._syncs_in_kernel else None
        return loop

    def _begin_sync(self) -> None:
        """Have what is written synced. One sync at a time: the end of one makes everything before it durable."""
        kernel = self._kernel
        if kernel is None:
            self._wake.set()
            return
        with self._guard:
            if self._in_kernel:
                return  # its end begins the next one
            number = self._current.number
            is_simple = not (self._is_broken or self._syncing or self._unsynced != {number})
            if is_simple:
                target = self._pending[-1].position
                self._unsynced, self._syncing, self._in_kernel = set(), {number}, True
        if not is_simple:
            self._wake.set()
            return
        started_s = time.monotonic()

        def ended(error: OSError | None) -> None:
            self._in_kernel = False
            self._note_sync({number}, target, started_s, error)
            if self._unsynced and self._waiting:
                self._begin_sync()
            elif self._unsynced:
                self._sync_soon()

        try:
            kernel.begin(self._current.handle, ended)
        except (OSError, OverflowError, SystemError, ValueError) as error:
            log.warning("spool_syncs_by_thread", error_type=type(error).__name__)
            with self._guard:
                self._unsynced.add(number)
                self._syncing, self._in_kernel = set(), False
            self._kernel = None
            self._wake.set()

    def _finish_kernel(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.finish()

    def read(self, number: int, start: int) -> bytes:
        """The written bytes of a segment from offset `start`, at most 4 MiB; whole frames are the caller's to find."""
        segment = self._segments[number]
        return os.pread(segment.handle, min(segment.end - start, 4 << 20), start)

    def read_all(self, number: int, start: int) -> bytes:
        """The same without the bound, for a frame that is larger."""
        segment = self._segments[number]
        return os.pread(segment.handle, segment.end - start, start)

    def delete(self, number: int) -> bool:
        """Remove a segment that is fully shipped; False while it is current, pinned, or holds an intent still open."""
        segment = self._segments.get(number)
        if segment is None or segment is self._current or number in self.open_intents.values():
            return False
        if number in self.unread:
            return False
        if any(number in pinned for pinned in self.pins.values()):
            return False
        with self._guard:
            if number in self._unsynced or number in self._syncing:
                return False
        # Whoever adopts the rest has to find in it how each chain stands.
        with suppress(SpoolUnavailable):
            self._beat_for([tenant for tenant, newest in self._stirred.items() if newest == number])
        with self._guard:
            del self._segments[number]
        os.close(segment.handle)
        try:
            path_of(segment.home.directory, number).unlink(missing_ok=True)
        except OSError as error:
            # On a disk that can only be read. Whoever adopts it has to know that it is done with.
            self.undeleted.add(number)
            log.error("spool_delete_failed", segment=number, error_type=type(error).__name__)
        self._note_mark(self.filled_share)
        return True

    def close(self, *, is_shipped: bool = False) -> None:
        """Sync what is written and let go of the directory, or remove it when all of it was shipped.

        What was not shipped is left for adoption.
        """
        if self._is_broken and not self._is_gone:
            # The last chance of what the failed segment may not have kept.
            with suppress(SpoolUnavailable):
                self._roll(0)
        if not self._is_gone:
            with suppress(SpoolUnavailable):
                self._save_deleted()
        self._finish_kernel()
        self._stopping = True
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        self._wake.set()
        self._syncer.join(timeout=10)
        for handle in (*(segment.handle for segment in self._segments.values()), *self._old_handles):
            os.close(handle)
        if self._prepared is not None:
            os.close(self._prepared.handle)
            with suppress(OSError):
                self._prepared_path(self._prepared).unlink(missing_ok=True)
        if is_shipped and not self.open_intents and not self.pins and not self.unread and not self.undeleted:
            for home in self._homes:
                # The new name comes first: half a directory could hold an intent, and neither its outcome nor a lock.
                with suppress(OSError):
                    finished = home.directory.rename(home.directory.with_name(FINISHED + home.directory.name))
                    shutil.rmtree(finished, ignore_errors=True)
        for home in self._homes:
            os.close(home.lock)

    def pin(self, name: str) -> None:
        """Keep the current segment until `pins` loses this name, shipped or not."""
        self.pins.setdefault(name, set()).add(self._current.number)

    def _write(self, frame: bytes, *, may_grow: bool) -> None:
        if self._is_broken or self._current.end + len(frame) > self._current.size:
            try:
                self._roll(len(frame))
            except SpoolUnavailable:
                # A segment that no other can follow grows for the outcomes of calls under way, while there is room.
                if not may_grow or self._is_broken or not self._put(frame):
                    raise
                return
        if self._put(frame):
            return
        # A part of a frame may stand there now: nothing is written behind it, the frame goes to a new segment.
        self._roll(len(frame))
        if not self._put(frame):
            raise SpoolUnavailable

    def _put(self, frame: bytes) -> bool:
        """Write to the current segment. False, and the segment is not written again, when not all of it got there."""
        segment = self._current
        try:
            if os.pwrite(segment.handle, frame, segment.end) == len(frame):
                segment.end += len(frame)
                return True
        except OSError as error:
            log.error("spool_write_failed", segment=segment.number, error_type=type(error).__name__)
        self._is_broken = True
        return False

    def _roll(self, frame_size: int) -> None:
        """Make a segment current that takes a frame of this size. Raises SpoolUnavailable.

        When the one before it failed, its records that are not known to be on the disk are written again first.
        """
        was_broken = self._is_broken
        with self._guard:
            pending = list(self._pending) if was_broken else []
        frame_size += sum(len(each.frame) for each in pending)
        size, home = max(self._segment_bytes, HEADER_BYTES + frame_size), self._current.home
        self._current = self._take_prepared(size, may_use=not was_broken) or self._make_segment(size)
        self._segments[self._current.number] = self._current
        self._cannot_roll = False
        if self._current.home is not home:
            self._save_deleted()
        for each in pending:
            if not self._put(each.frame):
                raise SpoolUnavailable
        if not was_broken:
            return
        for each in pending:
            if each.tenant in self._stirred:
                self._stirred[each.tenant] = self._current.number
            if each.opens in self.open_intents:
                self.open_intents[each.opens] = self._current.number
        with self._guard:
            # Never sync a failed file again: the kernel may say yes without having written.
            self._unsynced = {self._current.number} if pending else set()
            self._is_broken = False
        self._wake.set()

    def _take_prepared(self, size: int, *, may_use: bool = True) -> _Segment | None:
        # Making another one takes as long as waiting for the thread, and on a full disk there is room for one only.
        self._is_prepared.wait(_PREPARED_IN_S)
        with self._guard:
            prepared, self._prepared = self._prepared, None
        if prepared is None:
            return None
        path = self._prepared_path(prepared)
        # Of a disk that failed, another file is no better where there is another disk.
        may_use = may_use or len(self.roots) == 1
        if may_use and prepared.size >= size and prepared.number == self._current.number + 1:
            with suppress(OSError):
                path.rename(path_of(prepared.home.directory, prepared.number))
                return prepared
        os.close(prepared.handle)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def _make_segment(self, size: int) -> _Segment:
        number = self._current.number + 1
        try:
            return self._new_segment(number, size, self._all_homes(is_failing=self._is_broken))
        except OSError as error:
            self._cannot_roll = True
            log.error("spool_segment_failed", segment=number, error_type=type(error).__name__)
            raise SpoolUnavailable from error

    @staticmethod
    def _prepared_path(segment: _Segment) -> Path:
        # Its own name until it is used, since a roll that does not wait for it makes a segment of the same number.
        return path_of(segment.home.directory, segment.number).with_suffix(PREPARED_SUFFIX)

    def _new_segment(self, number: int, size: int, homes: Iterator[Home], *, suffix: str = SUFFIX) -> _Segment:
        """A segment in the first of these homes that takes it. Raises the OSError of the last one."""
        problem: OSError | None = None
        for home in homes:
            path = path_of(home.directory, number).with_suffix(suffix)
            try:
                handle = create(path, size, header_bytes(self.writer, number))
            except OSError as error:
                problem = error
                continue
            if problem is not None:
                log.error("spool_changed_folder", segment=number, error_type=type(problem).__name__)
            return _Segment(number, handle, size, home)
        raise problem or OSError("no folder for the journal")

    def _all_homes(self, *, is_failing: bool = False) -> Iterator[Home]:
        """Those to try, in order: the one in use comes first, or last where it has just failed."""
        roots = list(self.roots)
        if self._segments:
            at = roots.index(self._current.home.root) + is_failing
            roots = [*roots[at:], *roots[:at]]
        for number, root in enumerate(roots):
            try:
                yield self._home(root)
            except OSError as error:
                log.error("spool_folder_failed", error_type=type(error).__name__)
                if number == len(roots) - 1:
                    raise

    def _home(self, root: Path) -> Home:
        """This writer's folder under a root, made when it is first needed. Raises OSError."""
        with self._opening:
            found = next((home for home in self._homes if home.root == root), None)
            if found is None:
                found = open_home(root, self.writer)
                self._homes.append(found)
            return found

    def look_after(self) -> None:
        """See whether the file is still in its folder, and whether it is time to prepare the next one.

        Raises SpoolUnavailable as long as no segment can be written. A folder that was deleted took its lock with
        it, so that others could adopt what is still being written: this journal then takes no calls any more.
        """
        self._looked_at_s = time.monotonic()
        if not self._is_gone:
            self._save_deleted()
        if self._is_gone:
            raise SpoolUnavailable
        self._limit_bytes = self._limit()
        current = self._current
        if self._is_broken or self._cannot_roll:
            self._roll(0)
        elif self._cannot_prepare or (self._prepared is None and current.end + self.reserved_bytes > current.size // 2):
            self._prepares = True
            self._is_prepared.clear()
            self._wake.set()

    def _save_deleted(self) -> None:
        """Write segments whose files were deleted to another folder, while they can still be read."""
        lost = [segment for segment in self._segments.values() if os.fstat(segment.handle).st_nlink == 0]
        if not lost:
            return
        log.error("spool_folder_gone", segment=lost[-1].number, count=len(lost))
        gone = {segment.home.root for segment in lost}
        left = [root for root in self.roots if root not in gone]
        try:
            # Their lock went with them, so that others could adopt what would still be written there.
            home = self._home(left[0])
            for segment in lost:
                self._copy(segment, home)
        except (IndexError, OSError) as error:
            self._is_gone = True
            raise SpoolUnavailable from error
        self._take_prepared(0, may_use=False)

    def _copy(self, segment: _Segment, home: Home) -> None:
        """The same segment in another folder. Raises OSError; it then stands as it was."""
        path = path_of(home.directory, segment.number)
        handle = create(path, segment.size, header_bytes(self.writer, segment.number))
        try:
            at = HEADER_BYTES
            while at < segment.end:
                piece = os.pread(segment.handle, min(segment.end - at, _COPY_BYTES), at)
                if not piece or os.pwrite(handle, piece, at) != len(piece):
                    raise OSError("a deleted segment could not be copied")
                at += len(piece)
            os.fsync(handle)
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        # The syncing thread may have it in hand.
        self._old_handles.append(segment.handle)
        segment.handle, segment.home = handle, home

    def _sync_for_ever(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._prepares:
                self._prepares = False
                self._prepare_next()
                self._is_prepared.set()
            with self._guard:
                target = self._pending[-1].position if self._pending else self._position
                # A failed segment is not synced again: its records wait for the next one.
                numbers: set[int] = set()
                if not (self._is_broken or self._in_kernel):
                    numbers, self._unsynced = self._unsynced, numbers
                    self._syncing = numbers
            if numbers:
                self._sync(numbers, target)
            elif self._is_broken and self._waiting:
                self._tell(self._fail)
            if self._stopping:
                with self._guard:
                    if self._is_broken or not self._unsynced:
                        return
                self._wake.set()

    def _sync(self, numbers: set[int], target: int) -> None:
        started_s = time.monotonic()
        problem: OSError | None = None
        for number in sorted(numbers):
            try:
                os.fdatasync(self._segments[number].handle)
            except OSError as error:
                problem = error
        self._note_sync(numbers, target, started_s, problem)

    def _note_sync(self, numbers: set[int], target: int, started_s: float, problem: OSError | None) -> None:
        """Take note of a sync that has ended, on whichever thread."""
        self._synced_at_s = time.monotonic()
        self.last_sync_ms = (self._synced_at_s - started_s) * 1_000
        with self._guard:
            self._syncing = set()
            if problem is None:
                self._synced = max(self._synced, target)
                while self._pending and self._pending[0].position <= target:
                    self._pending.popleft()
            else:
                self._is_broken = True
        if problem is not None:
            log.error("spool_sync_failed", segments=sorted(numbers), error_type=type(problem).__name__)
            self._tell(self._fail)
        elif self._waiting:
            # Whoever comes to wait after this look sees what has been synced, and needs nobody to wake the loop.
            self._tell(self._settle)

    def _tell(self, what: Callable[[], None]) -> None:
        """Have the loop settle with whoever waits."""
        # A loop that is closed took everybody who waited with it.
        with suppress(RuntimeError):
            if threading.current_thread() is not self._syncer:
                what()
            elif self._loop is not None:
                self._loop.call_soon_threadsafe(what)

    def _settle(self) -> None:
        """Answer those whose records are durable."""
        waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        for position, future in self._waiting:
            if position > self._synced:
                waiting.append((position, future))
            elif not future.done():
                future.set_result(None)
        # In one step: the syncing thread must at no moment find nobody waiting where somebody is.
        self._waiting = waiting

    def _fail(self) -> None:
        """Answer those whose records are not: they are written again with the next record, or look, that works."""
        self._settle()
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(SpoolUnavailable())

    def _prepare_next(self) -> None:
        number = self._current.number + 1
        try:
            prepared = self._new_segment(number, self._segment_bytes, self._all_homes(), suffix=PREPARED_SUFFIX)
        except OSError as error:
            self._cannot_prepare = True
            log.error("spool_prepare_failed", segment=number, error_type=type(error).__name__)
            return
        self._cannot_prepare = False
        with self._guard:
            if self._current.number < number and self._prepared is None:
                self._prepared = prepared
                return
        os.close(prepared.handle)
        with suppress(OSError):
            self._prepared_path(prepared).unlink(missing_ok=True)
