"""Windows of many calls before one model: few threads, a bounded queue, and the calls take turns.

A call of two hundred windows and one of a single window each get every other thread, so that a long prompt does not
hold up short ones. A window that several calls ask for at once is read once, and one that nobody waits for any more
is not read at all.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from trueport.detection.accounting import Work
from trueport.detection.base import DetectorFailed
from trueport.detection.guard import Verdict
from trueport.detection.windows import TokenIds
from trueport.kit.logging import get_logger

log = get_logger(__name__)

Run = Callable[[TokenIds], tuple[Verdict, float]]
"""From a window to its verdict and the seconds of a core it took. Called on threads of the pool."""
Keep = Callable[[bytes, Verdict], None]
"""Told of each verdict by its window's key, on the event loop, also when the call that asked has left."""


class _Ticket:
    """One window that waits for its verdict, for as many calls as want it."""

    __slots__ = ("answer", "ids", "is_taken", "key", "readers")

    def __init__(self, key: bytes, ids: TokenIds, answer: "asyncio.Future[Verdict]") -> None:
        self.key = key
        self.ids = ids
        self.answer = answer
        self.readers = 0
        self.is_taken = False

    @property
    def is_waiting(self) -> bool:
        return self.readers > 0 and not self.is_taken


class Turns:
    """The queue and its threads. Used from one event loop."""

    def __init__(self, run: Run, keep: Keep, *, threads: int, most_waiting: int) -> None:
        """`most_waiting` windows are kept at most."""
        self._run_model = run
        self._keep = keep
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="trueport-guard")
        self._idle = threads
        self._most_waiting = most_waiting
        self._calls: deque[deque[_Ticket]] = deque()
        self._tickets: dict[bytes, _Ticket] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.waiting = 0
        self.work = Work()

    async def read(self, windows: Mapping[bytes, TokenIds]) -> dict[bytes, Verdict]:
        """The verdict of each window by the key it has here; they are read in the order given.

        Raises DetectorFailed: "overloaded" at once when the queue has no room for all of them, "unavailable" after
        `close`, and whatever the run of one of them raised.
        """
        if self._is_closed:
            raise DetectorFailed("unavailable")
        if self.waiting + sum(key not in self._tickets for key in windows) > self._most_waiting:
            raise DetectorFailed("overloaded")
        tickets = [self._join(key, ids) for key, ids in windows.items()]
        call = deque(tickets)
        self._calls.append(call)
        self._start()
        try:
            # Not gather: when one call is cancelled, another may still wait for the same window.
            await asyncio.wait([ticket.answer for ticket in tickets], return_when=asyncio.FIRST_EXCEPTION)
            for ticket in tickets:
                if ticket.answer.done():
                    # Raises what the run raised.
                    ticket.answer.result()
            return {ticket.key: ticket.answer.result() for ticket in tickets}
        finally:
            for ticket in tickets:
                self._leave(ticket)
            with contextlib.suppress(ValueError):
                self._calls.remove(call)

    async def close(self) -> None:
        """Let the runs under way end and nothing more start. Whoever waits gets DetectorFailed("unavailable")."""
        self._is_closed = True
        self._calls.clear()
        for ticket in self._tickets.values():
            if not ticket.is_taken:
                _fail(ticket, DetectorFailed("unavailable"))
        if self._runs:
            await asyncio.wait(self._runs)
        self._pool.shutdown(wait=False)

    def _join(self, key: bytes, ids: TokenIds) -> _Ticket:
        ticket = self._tickets.get(key)
        if ticket is None:
            ticket = self._tickets[key] = _Ticket(key, ids, asyncio.get_running_loop().create_future())
            self.waiting += 1
        ticket.readers += 1
        return ticket

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.readers == 1 and ticket.is_waiting:
            self.waiting -= 1
        ticket.readers -= 1
        if ticket.readers == 0:
            del self._tickets[ticket.key]

    def _start(self) -> None:
        while self._idle > 0 and (ticket := self._next()) is not None:
            ticket.is_taken = True
            self.waiting -= 1
            self._idle -= 1
            task = asyncio.get_running_loop().create_task(self._read(ticket))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)

    def _next(self) -> _Ticket | None:
        """The next window of the call whose turn it is; the turn then goes to the call after it."""
        while self._calls:
            call = self._calls[0]
            while call:
                ticket = call.popleft()
                if ticket.is_waiting:
                    self._calls.rotate(-1)
                    return ticket
            self._calls.popleft()
        return None

    async def _read(self, ticket: _Ticket) -> None:
        try:
            loop = asyncio.get_running_loop()
            verdict, cpu_s = await loop.run_in_executor(self._pool, self._run_model, ticket.ids)
            self.work.cpu_s += cpu_s
            self.work.windows_read += 1
            self._keep(ticket.key, verdict)
            if not ticket.answer.done():
                ticket.answer.set_result(verdict)
        except DetectorFailed as failed:
            _fail(ticket, failed)
        except Exception as error:  # noqa: BLE001 - nobody awaits this task, but calls wait for the answer
            log.error("model_broke", error_type=type(error).__name__)
            _fail(ticket, DetectorFailed("unavailable"))
        finally:
            self._idle += 1
            self._start()


def _fail(ticket: _Ticket, failed: DetectorFailed) -> None:
    if not ticket.answer.done():
        ticket.answer.set_exception(failed)
        # Whoever waited may have left, and then nobody is there to retrieve it.
        ticket.answer.exception()
