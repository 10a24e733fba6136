"""The worker processes: one listening socket that all share, each replaced when it ends, all drained at the end."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final

import click
import uvicorn

from trueport.cli.session import Failed
from trueport.web.connection import IDLE_S, Connection

BACKLOG: Final = 4_096
DRAIN_S: Final = 50.0
"""The gateway's own grace for streams (30 s), for cancelled calls and for the journal, and a little more."""
_OWN_CALLS_S: Final = 2.0
_CRASH_LOOP_S: Final = 5.5
_START_S: Final = 60.0
_FAILED_TO_START: Final = 3


def listen(host: str, port: int) -> socket.socket:
    """The socket that all workers accept from. Raises Failed when the address cannot be taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise Failed(f"Cannot listen on {host} port {port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def run_workers(listener: socket.socket, count: int) -> None:
    """Keep `count` workers running until SIGTERM or SIGINT; SIGHUP replaces them one by one.

    Raises Failed when a worker that was just replaced ends again at once.
    """
    Supervisor(listener, count).run()


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    ready: Pipe
    is_replacement: bool
    started_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts, replaces and ends the workers of one socket."""

    def __init__(self, listener: socket.socket, count: int) -> None:
        self._listener = listener
        self._count = count
        self._workers: list[_Worker] = []
        self._asked_to_stop = self._asked_to_replace = False
        self._wake, self._waker = socket.socketpair()

    def run(self) -> None:
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        earlier = {one: signal.signal(one, self._on_signal) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        earlier_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            self._workers = [self._start(is_replacement=False) for _ in range(self._count)]
            while not self._asked_to_stop:
                self._wait([worker.process.sentinel for worker in self._workers])
                if self._asked_to_replace:
                    self._asked_to_replace = False
                    self._replace_all()
                self._replace_ended()
        finally:
            # Before the workers end, so that new connections are refused and do not wait for nobody.
            self._listener.close()
            _end([worker.process for worker in self._workers])
            signal.set_wakeup_fd(earlier_fd)
            for one, handler in earlier.items():
                signal.signal(one, handler)
            self._wake.close()
            self._waker.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._asked_to_replace = True
        else:
            self._asked_to_stop = True

    def _wait(self, things: list[Any], timeout_s: float | None = None) -> list[Any]:
        """Those of `things` that are ready; also returns when a signal came or the time is over."""
        found = wait([*things, self._wake], timeout_s)
        with suppress(BlockingIOError):
            while self._wake.recv(64):
                pass
        return [one for one in found if one is not self._wake]

    def _start(self, *, is_replacement: bool) -> _Worker:
        ready, says_ready = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=_work, args=(self._listener, says_ready), name="trueport-worker")
        process.start()
        says_ready.close()
        return _Worker(process, ready, is_replacement)

    def _replace_ended(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._asked_to_stop:
                continue
            if worker.is_replacement and time.monotonic() - worker.started_s < _CRASH_LOOP_S:
                raise Failed("The workers end again and again; the log says why.")
            worker.ready.close()
            self._workers[index] = self._start(is_replacement=True)

    def _replace_all(self) -> None:
        """A worker leaves only when its successor takes calls; one that does not start leaves all as they were."""
        for index, old in enumerate(self._workers):
            new = self._start(is_replacement=False)
            deadline_s = time.monotonic() + _START_S
            has_begun = False
            while not has_begun and new.process.is_alive() and not self._asked_to_stop:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    break
                if new.ready in self._wait([new.ready, new.process.sentinel], left_s):
                    has_begun = _has_begun(new.ready)
                    break
            if not has_begun:
                _end([new.process])
                click.echo("A new worker did not start; the earlier ones go on.", err=True)
                return
            self._workers[index] = new
            _end([old.process])


def _has_begun(ready: Pipe) -> bool:
    try:
        return bool(ready.recv())
    except EOFError:
        return False


def _end(processes: list[BaseProcess]) -> None:
    """Let them drain, all at the same time, and kill what is left after `DRAIN_S`."""
    for process in processes:
        process.terminate()
    deadline_s = time.monotonic() + DRAIN_S
    for process in processes:
        process.join(max(0.0, deadline_s - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _work(listener: socket.socket, says_ready: Pipe) -> None:
    """The life of one worker process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C and a closed terminal reach the whole group; it is the supervisor who says what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    config = uvicorn.Config(
        "trueport.asgi:worker",
        factory=True,
        interface="asgi3",
        http=Connection,
        ws="none",
        loop="uvloop",
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_S,
        # The gateway itself says whose forwarded addresses count.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = Server(config, says_ready)
    server.run([listener])
    _flush_log()
    # Not by the interpreter's own end, which waits for threads that nobody needs any more.
    os._exit(0 if server.started else _FAILED_TO_START)


def _flush_log() -> None:
    """Let the thread that writes the log finish what is queued."""
    deadline_s = time.monotonic() + 1.0
    queues: list[Any] = [one.queue for one in logging.getLogger().handlers if isinstance(one, QueueHandler)]
    while any(not one.empty() for one in queues) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    sys.stderr.flush()


class Server(uvicorn.Server):
    """uvicorn's server, which drains as the gateway does and wakes once a second only."""

    def __init__(self, config: uvicorn.Config, says_ready: Pipe) -> None:
        super().__init__(config)
        self._says_ready = says_ready
        self._stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_term)
        yield

    def _on_term(self) -> None:
        self.should_exit = True
        self._stop.set()

    async def main_loop(self) -> None:
        with suppress(OSError):
            self._says_ready.send(True)
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing new, let calls end, let the application drain, close what is left."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        connections, tasks = self.server_state.connections, self.server_state.tasks
        for connection in list(connections):
            connection.shutdown()
        # Management requests; a gateway's call may go on, and has its own grace in the application's end.
        if tasks:
            await asyncio.wait(list(tasks), timeout=_OWN_CALLS_S)
        await self.lifespan.shutdown()
        for task in list(tasks):
            task.cancel()
        for connection in list(connections):
            connection.transport.close()
        # Their last bytes, and what they clean up.
        deadline_s = time.monotonic() + 1.0
        # The sets are uvicorn's and tell nobody that they are empty.
        while (connections or tasks) and time.monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
