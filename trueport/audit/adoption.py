"""Finishing what dead processes began: their records are shipped, their open intents closed as `abandoned`.

A process holds the lock of its directories for life, so a lock that can be taken belongs to a dead one. It has one
directory under each root it used, and they are read as one. One adopter works at a time. Before it closes another's
intents it adds its own name to those directories: should it die between closing them and deleting the directories, the
next adopter finds the `abandoned` records in the journals named there, which are always finished last, and does not
write them again. The same holds for heartbeats that say where the dead writer's chains ended. An adopter that failed
and lives on keeps the segments with those records until the directories are gone. So every record keeps one name and
every chain stays whole. A directory is renamed before it is deleted: one deleted half way might have lost the names and
kept the intents. For the same reason all directories of a writer are marked as done before the first is renamed.

While a root cannot be written to, what lies under the other one is shipped and left where it is: the missing root may
hold outcomes of its intents.
"""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from trueport.audit.canonical import parse
from trueport.audit.homes import LOCK_NAME, delete_unfinished
from trueport.audit.records import OWN_FIELDS
from trueport.audit.segment import HEADER_BYTES, Frame, frames, numbers_in, path_of
from trueport.audit.spool import FINISHED, Spool
from trueport.kit.ids import new_id
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_MARK: Final = "adopted-by"
_DONE: Final = "done"
CURSOR_NAME: Final = "cursor.json"
"""Where a writer keeps the place up to which its records are shipped."""

Ship = Callable[[Sequence[Frame]], Awaitable[None]]
_Lock = Literal["ours", "others", "out_of_reach"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place up to which a writer's records are shipped, and what is an exception to that.

    `unread` maps segments before it that could not be read to the offset they are shipped up to; `undeleted` are
    segments that are done with and could not be deleted.
    """

    segment: int = 0
    offset: int = 0
    unread: dict[int, int] = field(default_factory=dict)
    undeleted: frozenset[int] = frozenset()

    def save(self, directory: Path) -> None:
        """Raises OSError. Not synced: an older one only means that some records are offered again."""
        path = directory / CURSOR_NAME
        draft = path.with_suffix(".tmp")
        said: dict[str, object] = {"segment": self.segment, "offset": self.offset}
        if self.unread:
            said["unread"] = {str(number): offset for number, offset in self.unread.items()}
        if self.undeleted:
            said["undeleted"] = sorted(self.undeleted)
        draft.write_text(json.dumps(said))
        draft.replace(path)

    def is_behind(self, segment: int, frame: Frame) -> bool:
        """Whether the frame has been shipped."""
        if segment in self.unread:
            return frame.end <= self.unread[segment]
        return (segment, frame.end) <= (self.segment, self.offset)


async def adopt_dead_writers(roots: Sequence[Path], spool: Spool, ship: Ship) -> int:
    """Adopt every dead writer's directories under `roots`; returns how many writers. Another process at it: none.

    Raises what `ship` raises, and OSError where no root can be reached; what is not finished is found again next time.
    """
    for root in roots:
        with suppress(OSError):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        states = {root: held.enter_context(_locked(root / "adoption.lock")) for root in roots}
        within = [root for root, state in states.items() if state == "ours"]
        if "others" in states.values():
            return 0
        if not within:
            raise OSError("no folder of the journal can be written to")
        is_whole = len(within) == len(states)
        await asyncio.to_thread(delete_unfinished, within)
        await asyncio.to_thread(_delete_finished, within)
        for name in [name for name in spool.pins if not _directories(roots, name)]:
            del spool.pins[name]
        adopted = 0
        for name in _dead_first_marked(within, spool.writer):
            with ExitStack() as directory_locks:
                directories = _directories(within, name)
                locks = [directory_locks.enter_context(_locked(each / LOCK_NAME)) for each in directories]
                if all(lock == "ours" for lock in locks):
                    adopted += await _try(name, directories, within, spool, ship, is_whole=is_whole)
        return adopted


async def _try(
    name: str, directories: Sequence[Path], roots: Sequence[Path], spool: Spool, ship: Ship, *, is_whole: bool
) -> bool:
    """Adopt one. One that cannot be read keeps nobody from the others."""
    try:
        left = await asyncio.to_thread(_read, directories)
    except OSError as error:
        log.error("dead_writer_not_read", writer=name, error_type=type(error).__name__)
        return False
    await ship(left.unshipped)
    if not is_whole:
        await asyncio.to_thread(left.end.save, directories[-1])
        return False
    await _finish(name, directories, left, roots, spool)
    return True


async def _finish(name: str, directories: Sequence[Path], left: "_Left", roots: Sequence[Path], spool: Spool) -> None:
    """Close the open intents of a writer whose records are shipped, and delete its directories."""
    is_done = any((directory / _DONE).exists() for directory in directories)
    open_intents = [] if is_done else _open_intents(left.everything)
    lengths = {} if is_done else _lengths(left.everything)
    adopters = sorted({adopter for each in directories for adopter in _marked(each)})
    for adopter in adopters if lengths else ():
        earlier = await asyncio.to_thread(_read, _directories(roots, adopter))
        told = list(map(_record, earlier.everything))
        closed = {record["rid"] for record in told if record["kind"] == "abandoned"}
        open_intents = [record for record in open_intents if record["rid"] not in closed]
        ended = {record["tenant"] for record in told if record["kind"] == "heartbeat" and record.get("of") == name}
        lengths = {tenant: length for tenant, length in lengths.items() if tenant not in ended}
    if open_intents or lengths:
        for directory in directories:
            _write_synced(directory / _MARK, "\n".join([*adopters, spool.writer]))
        for intent in open_intents:
            fields = {field: value for field, value in intent.items() if field not in OWN_FIELDS}
            fields.pop("content", None)
            spool.append(
                "abandoned", intent["rid"], intent["tenant"],
                {**fields, "dead_writer": intent["writer"], "intent_at": intent["at"], "end": "abandoned"},
            )  # fmt: skip
            spool.pin(name)
        for tenant, length in lengths.items():
            spool.append("heartbeat", new_id("hbt"), tenant, {"of": name, "records": length})
            spool.pin(name)
        await spool.durable(spool.position)
    log.info("dead_writer_adopted", writer=name, records=len(left.unshipped), count=len(open_intents))
    await asyncio.to_thread(_put_away, directories)
    spool.pins.pop(name, None)
    await asyncio.to_thread(_delete_finished, [directory.parent for directory in directories])


def _put_away(directories: Sequence[Path]) -> None:
    if len(directories) > 1:
        for directory in directories:
            _write_synced(directory / _DONE, "")
    for directory in directories:
        directory.rename(directory.with_name(f"{FINISHED}{directory.name}"))


def _delete_finished(roots: Sequence[Path]) -> None:
    for root in roots:
        for directory in root.glob(f"{FINISHED}*/"):
            shutil.rmtree(directory)


def _directories(roots: Sequence[Path], writer: str) -> list[Path]:
    return [root / writer for root in roots if (root / writer).is_dir()]


def _dead_first_marked(roots: Sequence[Path], own: str) -> list[str]:
    """Names of other writers: those that an adopter had begun come first, the adopters themselves later."""
    # A dot hides what is finished, and what a writer has not locked yet.
    names = {path.name for root in roots for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    marked = {name: any(_marked(each) for each in _directories(roots, name)) for name in names - {own}}
    return sorted(marked, key=lambda name: (not marked[name], name))


@dataclass(frozen=True, slots=True)
class _Left:
    """What a dead writer left: all its frames, those that are not shipped, and the cursor once they are."""

    everything: list[Frame]
    unshipped: list[Frame]
    end: Cursor


def _read(directories: Sequence[Path]) -> _Left:
    """Raises OSError."""
    cursors = [_cursor(directory) for directory in directories]
    cursor = max(cursors, key=lambda each: (each.segment, each.offset), default=Cursor())
    undeleted = frozenset(number for each in cursors for number in each.undeleted)
    found = {number: path_of(each, number) for each in directories for number in numbers_in(each)}
    everything: list[Frame] = []
    unshipped: list[Frame] = []
    end = (cursor.segment, cursor.offset)
    for number in sorted(found.keys() - undeleted):
        here = list(frames(found[number].read_bytes(), HEADER_BYTES))
        everything += here
        unshipped += [frame for frame in here if not cursor.is_behind(number, frame)]
        end = max(end, (number, here[-1].end if here else HEADER_BYTES))
    # Segments that are not here may come back with the root they are under.
    missing = {number: cursor.unread.get(number, HEADER_BYTES) for number in range(1, end[0])}
    return _Left(
        everything,
        unshipped,
        Cursor(
            *end,
            unread={number: at for number, at in missing.items() if number not in found and number not in undeleted},
            undeleted=undeleted,
        ),
    )


def _cursor(directory: Path) -> Cursor:
    try:
        saved = json.loads((directory / CURSOR_NAME).read_text())
        unread = {int(number): int(offset) for number, offset in saved.get("unread", {}).items()}
        undeleted = frozenset(map(int, saved.get("undeleted", ())))
        return Cursor(int(saved["segment"]), int(saved["offset"]), unread, undeleted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Cursor()


def _open_intents(found: Sequence[Frame]) -> list[dict[str, Any]]:
    intents: dict[str, dict[str, Any]] = {}
    for record in map(_record, found):
        if record["kind"] == "intent":
            intents[record["rid"]] = record
        elif record["kind"] in ("outcome", "abandoned"):
            intents.pop(record["rid"], None)
    return list(intents.values())


def _lengths(found: Sequence[Frame]) -> dict[str, int]:
    """How many records each tenant's chain has, for those whose end is among the frames."""
    return {record["tenant"]: record["wseq"] + 1 for record in map(_record, found)}


def _record(frame: Frame) -> dict[str, Any]:
    return parse(frame.record)


def _marked(directory: Path) -> list[str]:
    """The adopters that have begun with a directory."""
    mark = directory / _MARK
    return mark.read_text().split() if mark.exists() else []


def _write_synced(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[_Lock]:
    """Whose the lock is; it is held inside the block where it is ours."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("spool_folder_out_of_reach", error_type=type(error).__name__)
        yield "out_of_reach"
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield "others"
            return
        yield "ours"
    finally:
        os.close(handle)
