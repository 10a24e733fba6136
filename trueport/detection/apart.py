"""The embedded detector as the gateway has it: a process of its own, so that reading never holds up the event loop.

The model, its tokenizer and their libraries are in that process alone (trueport.detection.reader). Should it die,
the calls it was reading fail and another is started: at once when it had served for a while, after a pause that
grows when it dies again and again, in which calls fail without waiting.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from trueport.detection.accounting import Work
from trueport.detection.artefact import NAME, BrokenArtefact, read_meta
from trueport.detection.base import DetectorFailed
from trueport.detection.frames import Answer, Broken, Leave, Read, Ready, frame, next_reply
from trueport.detection.types import Category, Passage, Reading
from trueport.kit.logging import get_logger

log = get_logger(__name__)

MOST_UNDER_WAY: Final = 32 << 20
"""Code points of the texts that are being read; what comes beyond is refused as overload."""
_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
_STEADY_S: Final = 30.0
_START_S: Final = 60.0
# What a Python program needs; secrets of the gateway are in other variables.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")


@dataclass(slots=True)
class _Line:
    """One reading process that has its model, and what it was asked: answers by number."""

    process: subprocess.Popen[bytes]
    writer: asyncio.StreamWriter
    calls: dict[int, "asyncio.Future[Answer]"] = field(default_factory=dict)
    code_points: int = 0

    def has_room_for(self, code_points: int) -> bool:
        # What is not sent yet counts too: a process that was stopped reads nothing, whoever leaves.
        unread = max(self.code_points, self.writer.transport.get_write_buffer_size())
        return unread == 0 or unread + code_points <= MOST_UNDER_WAY


class OnnxApart:
    """The model in a folder, run by another process. Used from one event loop."""

    name: Final = NAME

    def __init__(self, folder: Path) -> None:
        """Read the folder's description; `prepare` or the first call starts the process. Raises BrokenArtefact."""
        self._folder = folder
        self._meta = read_meta(folder)
        self._numbers = count()
        self._keeper: asyncio.Task[None] | None = None
        self._line: _Line | None = None
        self._coming: asyncio.Future[_Line] | None = None
        self._is_pausing = False
        self._is_closed = False
        self._work = Work()

    @property
    def version(self) -> str:
        return self._meta.version

    @property
    def categories(self) -> frozenset[Category]:
        return self._meta.categories

    @property
    def bands(self) -> Mapping[Category, Mapping[str, float]]:
        """As in the folder's description."""
        return self._meta.bands

    @property
    def work(self) -> Work:
        return self._work

    @property
    def pid(self) -> int | None:
        """Of the process that reads, where there is one that has its model."""
        return self._line.process.pid if self._line is not None else None

    async def prepare(self) -> None:
        """Wait until the model is loaded. Raises DetectorFailed, with "contract" for a model that cannot be used."""
        await self._connected()

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        """One reading for each passage, as OnnxDetector gives them. Raises DetectorFailed."""
        line = await self._connected()
        code_points = sum(len(passage.text) for passage in passages)
        if not line.has_room_for(code_points):
            raise DetectorFailed("overloaded")
        number = next(self._numbers)
        line.writer.write(frame(Read(number, tuple(passages), wanted & self.categories)))
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        line.calls[number] = answer
        line.code_points += code_points
        try:
            answered = await answer
        except asyncio.CancelledError:
            line.writer.write(frame(Leave(number)))
            raise
        finally:
            line.code_points -= code_points
            del line.calls[number]
        if answered.failed is not None:
            raise DetectorFailed(answered.failed)
        return answered.readings

    async def close(self) -> None:
        self._is_closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def _connected(self) -> _Line:
        if self._line is not None:
            return self._line
        if self._is_closed or self._is_pausing:
            raise DetectorFailed("unavailable")
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        # Shielded: the first caller's leaving must not take the process from the others.
        return await asyncio.shield(self._coming)

    async def _keep(self) -> None:
        """Have a reading process for as long as this is not cancelled."""
        loop = asyncio.get_running_loop()
        deaths = 0
        try:
            while True:
                started_s = loop.time()
                await self._live_and_die()
                deaths = 1 if loop.time() - started_s > _STEADY_S else deaths + 1
                if pause_s := _PAUSES_S[min(deaths, len(_PAUSES_S)) - 1]:
                    self._is_pausing = True
                    # Whoever asked since the process was lost.
                    self._lose(DetectorFailed("unavailable"))
                    await asyncio.sleep(pause_s)
                    self._is_pausing = False
        finally:
            self._is_closed = True
            self._lose(DetectorFailed("unavailable"))

    async def _live_and_die(self) -> None:
        """Start a process and take its answers until it is gone."""
        failed = DetectorFailed("unavailable")
        ours, theirs = socket.socketpair()
        with theirs:
            process = _start(self._folder, theirs)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            with contextlib.closing(writer):
                async with asyncio.timeout(_START_S):
                    first = await next_reply(reader)
                if isinstance(first, Ready) and first.version == self.version:
                    self._line = _Line(process, writer)
                    if self._coming is not None:
                        self._coming.set_result(self._line)
                        self._coming = None
                    await self._hand_out(reader, self._line)
            reason = first.reason if isinstance(first, Broken) else "The model is another one by now"
            log.error("model_refused", component=self.name, reason=reason)
            failed = DetectorFailed("contract")
            failed.__cause__ = BrokenArtefact(reason)
        except (EOFError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            log.error("reading_process_lost", component=self.name, pid=process.pid, error_type=type(error).__name__)
        finally:
            self._lose(failed)
            # It has nothing to tidy up, and whoever waited for it has been told.
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _hand_out(self, reader: asyncio.StreamReader, line: _Line) -> NoReturn:
        """Raises when there are no more answers."""
        while True:
            answer = await next_reply(reader)
            if not isinstance(answer, Answer):
                raise msgspec.ValidationError("no answer")
            self._work.windows_read += answer.work.windows_read
            self._work.windows_remembered += answer.work.windows_remembered
            self._work.cpu_s += answer.work.cpu_s
            call = line.calls.get(answer.number)
            if call is not None and not call.done():
                call.set_result(answer)

    def _lose(self, failed: DetectorFailed) -> None:
        """There is no process any more: whoever waits for it or for its answer is told."""
        line, self._line = self._line, None
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.set_exception(failed)
            # Whoever waited may have left, and then nobody is there to retrieve it.
            coming.exception()
        for call in line.calls.values() if line is not None else ():
            if not call.done():
                call.set_exception(DetectorFailed("unavailable"))


def _start(folder: Path, connection: socket.socket) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # The same packages as here, wherever this process has them from.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trueport.detection.reader", str(folder.absolute())],
        env=environment,
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
