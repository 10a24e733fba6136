"""What can be read of an installation from outside: CPU and memory of its processes, and what is not shipped yet."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.installation import Installation
from trueport.audit.adoption import CURSOR_NAME
from trueport.audit.segment import FRAME_HEAD, HEADER_BYTES, numbers_in, path_of

_PATIENCE_S = 120.0


def gateway_processes(place: Installation) -> list[psutil.Process]:
    """The supervisor and its workers."""
    assert place.server is not None
    parent = psutil.Process(place.server.pid)
    return [parent, *(child for child in parent.children(recursive=True) if not _is_database(child))]


def database_processes(place: Installation) -> list[psutil.Process]:
    assert place.server is not None
    return [child for child in psutil.Process(place.server.pid).children(recursive=True) if _is_database(child)]


def _is_database(process: psutil.Process) -> bool:
    return any("secantusd" in part for part in process.cmdline())


def pin(place: Installation) -> bool:
    """Gateway on one core, everything else on the other. False where there is one core, or no way to say."""
    if (psutil.cpu_count() or 1) < 2 or sys.platform != "linux":
        return False
    for process in gateway_processes(place):
        _keep_to(process, 0)
    for process in (*database_processes(place), psutil.Process(place.simulator.process.pid), psutil.Process()):
        _keep_to(process, 1)
    return True


def _keep_to(process: psutil.Process, core: int) -> None:
    # The affinity of a process is that of its first thread; the others have their own.
    for thread in process.threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {core})


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """User and system time so far."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def memory_mib(processes: Iterable[psutil.Process]) -> float:
    """Resident memory; pages that processes share are counted once where the system tells (PSS)."""
    found = [process.memory_full_info() for process in processes]
    return float(sum(getattr(memory, "pss", memory.rss) for memory in found)) / (1 << 20)


async def all_shipped(place: Installation) -> None:
    """Wait until the database has every record of the journal. Raises TimeoutError."""
    deadline_s = time.monotonic() + _PATIENCE_S
    journals = [path for path in (place.data_dir / "spool").glob("[!.]*") if path.is_dir()]
    assert journals, "no journal to look at"
    while not all(map(_is_shipped, journals)):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the journal is not shipped")
        await asyncio.sleep(0.1)


def _is_shipped(journal: Path) -> bool:
    """Whether no frame stands behind the shipper's cursor."""
    try:
        cursor = json.loads((journal / CURSOR_NAME).read_text())
    except FileNotFoundError:
        cursor = {"segment": 1, "offset": HEADER_BYTES}
    for number in numbers_in(journal):
        if number >= cursor["segment"]:
            # Shipped segments are deleted meanwhile.
            with suppress(FileNotFoundError), path_of(journal, number).open("rb") as segment:
                segment.seek(cursor["offset"] if number == cursor["segment"] else HEADER_BYTES)
                if any(segment.read(FRAME_HEAD.size)):
                    return False
    return True
