"""Finishing what dead processes began: their records are shipped, their open intents closed as `abandoned`.

A process holds the lock of its directory for life, so a lock that can be taken belongs to a dead one. One adopter
works at a time. Before it closes another's intents it adds its own name to that directory: should it die between
closing them and deleting the directory, the next adopter finds the `abandoned` records in the journals named there,
which are always finished last, and does not write them again. An adopter that failed and lives on keeps the segments
with those records until the directory is gone. So every record keeps one name and every chain stays whole. A directory
is renamed before it is deleted: one deleted half way might have lost the names and kept the intents.
"""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from trueport.audit.canonical import parse
from trueport.audit.records import OWN_FIELDS
from trueport.audit.segment import HEADER_BYTES, Frame, frames, numbers_in, path_of
from trueport.audit.spool import FINISHED, LOCK_NAME, Spool
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_MARK: Final = "adopted-by"
CURSOR_NAME: Final = "cursor.json"
"""Where a writer keeps the place up to which its records are shipped."""

Ship = Callable[[Sequence[Frame]], Awaitable[None]]


async def adopt_dead_writers(root: Path, spool: Spool, ship: Ship) -> int:
    """Adopt every dead writer's directory under `root`; returns how many. Another process at it: none.

    Raises what `ship` raises; what is not finished then is found again next time.
    """
    with _locked(root / "adoption.lock") as is_ours:
        if not is_ours:
            return 0
        await asyncio.to_thread(_delete_finished, root)
        for name in [name for name in spool.pins if not (root / name).exists()]:
            del spool.pins[name]
        adopted = 0
        for directory in _dead_first_marked(root, spool.directory):
            with _locked(directory / LOCK_NAME) as is_dead:
                if is_dead:
                    await _adopt(directory, root, spool, ship)
                    adopted += 1
        return adopted


async def _adopt(directory: Path, root: Path, spool: Spool, ship: Ship) -> None:
    everything, unshipped = await asyncio.to_thread(_read, directory)
    await ship(unshipped)
    open_intents = _open_intents(everything)
    mark = directory / _MARK
    adopters = mark.read_text().split() if mark.exists() else []
    for adopter in adopters if open_intents else ():
        earlier, _ = await asyncio.to_thread(_read, root / adopter)
        closed = {record["rid"] for record in map(_record, earlier) if record["kind"] == "abandoned"}
        open_intents = [record for record in open_intents if record["rid"] not in closed]
    if open_intents:
        _write_mark(mark, [*adopters, spool.writer])
        for intent in open_intents:
            fields = {name: value for name, value in intent.items() if name not in OWN_FIELDS}
            fields.pop("content", None)
            spool.append(
                "abandoned", intent["rid"], intent["tenant"],
                {**fields, "dead_writer": intent["writer"], "intent_at": intent["at"], "end": "abandoned"},
            )  # fmt: skip
            spool.pin(directory.name)
        await spool.durable(spool.position)
    log.info("dead_writer_adopted", writer=directory.name, records=len(unshipped), count=len(open_intents))
    await asyncio.to_thread(directory.rename, root / f"{FINISHED}{directory.name}")
    spool.pins.pop(directory.name, None)
    await asyncio.to_thread(_delete_finished, root)


def _delete_finished(root: Path) -> None:
    for directory in root.glob(f"{FINISHED}*/"):
        shutil.rmtree(directory)


def _dead_first_marked(root: Path, own: Path) -> list[Path]:
    """Directories of other writers: those that an adopter had begun come first, the adopters' own journals later."""
    # A dot hides what is finished, and what a writer has not locked yet.
    others = [path for path in root.iterdir() if path.is_dir() and path != own and not path.name.startswith(".")]
    return sorted(others, key=lambda path: (not (path / _MARK).exists(), path.name))


def _read(directory: Path) -> tuple[list[Frame], list[Frame]]:
    """All frames of a directory, and those behind its saved cursor."""
    segment, offset = _cursor(directory)
    everything: list[Frame] = []
    unshipped: list[Frame] = []
    for number in numbers_in(directory) if directory.is_dir() else []:
        found = list(frames(path_of(directory, number).read_bytes(), HEADER_BYTES))
        everything += found
        if number > segment:
            unshipped += found
        elif number == segment:
            unshipped += [frame for frame in found if frame.end > offset]
    return everything, unshipped


def _cursor(directory: Path) -> tuple[int, int]:
    try:
        saved = json.loads((directory / CURSOR_NAME).read_text())
        return int(saved["segment"]), int(saved["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _open_intents(found: Sequence[Frame]) -> list[dict[str, Any]]:
    intents: dict[str, dict[str, Any]] = {}
    for record in map(_record, found):
        if record["kind"] == "intent":
            intents[record["rid"]] = record
        elif record["kind"] in ("outcome", "abandoned"):
            intents.pop(record["rid"], None)
    return list(intents.values())


def _record(frame: Frame) -> dict[str, Any]:
    return parse(frame.record)


def _write_mark(mark: Path, writers: Sequence[str]) -> None:
    draft = mark.with_suffix(".tmp")
    with draft.open("w") as file:
        file.write("\n".join(writers))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(mark)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock could be taken; it is held inside the block."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
