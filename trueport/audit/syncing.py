"""Making files survive a loss of power without a thread: the kernel syncs, and the event loop is told.

A thread that calls `fdatasync` needs the interpreter before and after, and takes it from the event loop's thread in the
middle of a call. Linux takes a sync as an asynchronous operation since 4.18 (`io_submit` with IOCB_CMD_FDSYNC, on every
file system that can sync at all).
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

if sys.platform == "linux":
    from caio import linux_aio

_ROOM: Final = 8
"""Operations at once; the journal has one."""
_FINISH_S: Final = 10


class KernelSync:
    """Syncs of one event loop. Every method belongs to its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: "linux_aio.Context") -> None:
        self._loop = loop
        self._context = context
        self._under_way = 0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Self | None:
        """None where there is no such thing: another system, an older kernel, a sandbox that forbids it."""
        if sys.platform != "linux":
            return None
        try:
            context = linux_aio.Context(_ROOM)
            sync = cls(loop, context)
            loop.add_reader(context.fileno, sync._take)
        except (OSError, SystemError, NotImplementedError, RuntimeError):
            return None
        return sync

    def begin(self, handle: int, done: Callable[[OSError | None], None]) -> None:
        """Sync a file as `fdatasync` does; `done` is called with what went wrong, or None.

        Raises OSError, OverflowError, SystemError or ValueError when the kernel does not take it.
        """
        operation = linux_aio.Operation.fdsync(handle)

        def ended(result: int) -> None:
            self._under_way -= 1
            number = (1 << 64) - result if result else 0  # an error number, negative, in 64 bits
            done(OSError(number, os.strerror(number)) if number else None)

        operation.set_callback(ended)
        self._context.submit(operation)
        self._under_way += 1

    def finish(self) -> None:
        """Wait for what is under way, as the last thing done here."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._context.fileno)
        if self._under_way:
            self._context.process_events(_ROOM, self._under_way, _FINISH_S)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            self._context.poll()
        self._context.process_events(_ROOM, 0, 0)
