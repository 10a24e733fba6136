"""The simulator itself: a plain asyncio protocol that performs the steps of each reply, and their books."""

import asyncio
import math
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, cast

from trueport.kit.clock import Clock, SystemClock
from trueport.simulator import control
from trueport.simulator.calls import Answer, Call
from trueport.simulator.directives import Tally, from_list
from trueport.simulator.errors import error_reply
from trueport.simulator.exchange import Exchange, Recent
from trueport.simulator.faults import bent_steps
from trueport.simulator.http import BadRequest, Request, RequestReader
from trueport.simulator.ledger import DEFAULT_CAPACITY, Entry, Ledger, LineFile
from trueport.simulator.reply import End, Pause, Reply, Sending, Step, Write, framing_of, in_bulk, in_steps, paced
from trueport.simulator.routing import answer, route
from trueport.simulator.script import NO_SCRIPT, Script
from trueport.simulator.store import Store
from trueport.simulator.tokens import Tokens

# Closing a socket that lingers for zero seconds sends RST instead of FIN.
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_STOP_S: Final = 5.0
_SETTLE_S: Final = 20.0
_MOST_WAITING_BYTES: Final = 1024 * 1024


class Simulator:
    """A provider on one loopback port.

    async with Simulator.running() as simulator:
        client = AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="sk-test")

    `default_script` applies to every request, before the request's own directives.
    """

    def __init__(
        self, *, capacity: int = DEFAULT_CAPACITY, ledger_file: LineFile | None = None, clock: Clock | None = None
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.ledger = Ledger(capacity, ledger_file)
        self.recent = Recent()
        self.tally = Tally()
        self.store = Store()
        self.tokens = Tokens()
        self.default_script: Script = NO_SCRIPT
        self.url = ""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator["Simulator"]:
        """A simulator that listens while the block runs; port 0 picks a free one."""
        simulator = cls()
        await simulator.start(host, port, tls=tls)
        try:
            yield simulator
        finally:
            await simulator.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen, and set `url` and `port`. Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, loop), host, port, ssl=tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if tls is None else 'https'}://{shown}:{self.port}"

    async def stop(self) -> None:
        """Stop listening and cut what is still open."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None
        # Aborted transports close in the loop's next turns; without waiting they would outlive the loop.
        await asyncio.wait_for(self._empty.wait(), _STOP_S)

    async def settled(self, timeout_s: float = _SETTLE_S) -> None:
        """Return once no call is in flight. Raises TimeoutError when that takes longer than `timeout_s`."""
        await asyncio.wait_for(self._settled.wait(), timeout_s)

    def joined(self, connection: "Connection") -> None:
        self._connections.add(connection)
        self._empty.clear()

    def left(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def obey(self, script: str) -> None:
        """Apply these directives (`fault=status=503; pace=1ms`) to every request; empty stops it.

        Raises DirectiveError.
        """
        self.default_script = from_list(script)

    def reset(self) -> None:
        """Forget the ledger, recent exchanges, stored objects, the default script and how often faults have struck."""
        self.ledger.clear()
        self.recent.clear()
        self.tally.clear()
        self.store.clear()
        self.tokens.clear()
        self.default_script = NO_SCRIPT

    def begin(self, request: Request) -> Exchange:
        """Decide the answer to `request` and open its entry."""
        digest = sha256(request.body).hexdigest()
        seq = self.ledger.take_seq()
        request_id = f"req_{digest[:20]}{seq:012d}"
        chosen = route(request)
        dialect = chosen.dialect
        key = dialect.key(request)
        call = Call(request, digest, self.default_script, self.tally, self.store, self.tokens, request_id, key)
        given = answer(call, chosen)
        reply, faults = given.reply, given.script.faults
        keep_alive = request.keep_alive and framing_of(reply) != "close"
        entry = Entry(
            seq=seq,
            at_us=self.clock.epoch_us(),
            method=request.method,
            path=request.path,
            model=given.model,
            interaction=request.headers.get("x-client-request-id"),
            key_hint=key[-4:] if key else None,
            stream=reply.events is not None,
            status=reply.status,
            fault="; ".join([fault.text for fault in faults]) if faults else None,
            body_sha256=digest,
            dialect=dialect.name,
        )
        steps = _steps(given, Sending(request_id, keep_alive, dialect.letterhead))
        exchange = Exchange(
            request,
            entry,
            steps,
            reply.usage,
            self.clock.monotonic(),
            keep_alive=keep_alive,
        )
        self._in_flight += 1
        self._settled.clear()
        self.ledger.open(entry)
        self.recent.add(exchange)
        return exchange

    def end(self, exchange: Exchange, *, completed: bool, client_gone: bool = False) -> None:
        """Close the exchange's entry."""
        entry = exchange.entry
        entry.ended_us = self.clock.epoch_us()
        entry.completed = completed
        entry.client_gone = client_gone
        if client_gone:
            entry.closed_after_ms = round((self.clock.monotonic() - exchange.started) * 1000, 3)
        self.ledger.close(entry)
        self._in_flight -= 1
        if not self._in_flight:
            self._settled.set()


def _steps(given: Answer, sending: Sending) -> Iterator[Step]:
    """The steps of an answer: in as few writes as possible, unless its script cares how it is sent."""
    script = given.script
    if not script.faults and (script.pace_s is None or given.reply.events is None):
        return in_bulk(given.reply, sending)
    steps = in_steps(given.reply, sending)
    if script.pace_s is not None:
        steps = paced(steps, script.pace_s)
    return bent_steps(steps, script.faults)


class Connection(asyncio.Protocol):
    """A client's connection: reads requests, performs the steps of each answer, notices when the client leaves.

    A step is taken only when the socket has taken everything before it, so nothing piles up for a client that
    does not read, and an entry is completed only by bytes that have left the process.
    """

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self._simulator = simulator
        self._loop = loop
        self._reader = RequestReader()
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._timer: asyncio.Handle | None = None
        self._is_full = False
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's, they only behave like them.
        self._transport = cast("asyncio.Transport", transport)
        # With next to no allowance a write that does not leave at once pauses us, and we resume when all has left.
        # Not 0: asyncio's TLS transport would then pause with nothing left to send, and never resume.
        self._transport.set_write_buffer_limits(high=1, low=0)
        opened = transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._simulator.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it went does not matter
        self._is_over = True
        self._simulator.left(self)
        if self._timer is not None:
            self._timer.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._simulator.end(exchange, completed=False, client_gone=True)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._exchange is None:
            self._pump()
        elif self._reader.waiting > _MOST_WAITING_BYTES:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        # Never during a Pause: that step is taken only once everything before it has left.
        if self._exchange is not None:
            self._pump()

    def abort(self) -> None:
        self._transport.abort()

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    def _pump(self) -> None:
        """Answer what has been received until there is something to wait for."""
        while not self._is_over:
            if self._exchange is None and not self._begin_next():
                return
            if not self._advance():
                return

    def _begin_next(self) -> bool:
        """Take up the next request; False when there is none yet."""
        try:
            request = self._next_request()
        except BadRequest:
            self._refuse()
            return False
        if request is None:
            if self._reader.wants_continue:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        self._exchange = self._simulator.begin(request)
        return True

    def _next_request(self) -> Request | None:
        """The next request to the provider; those to its own endpoints and for tokens are answered on the way."""
        while True:
            request = self._reader.next_request()
            if request is None:
                return None
            if request.path.startswith(control.PREFIX):
                aside = control.answer(self._simulator, request)
            elif request.path.endswith("/token") and (token := self._simulator.tokens.answer(request)) is not None:
                aside = token
            else:
                return request
            self._send_aside(aside, keep_alive=request.keep_alive)

    def _advance(self) -> bool:
        """Take the exchange's steps; True when it is over and the next request may be taken up."""
        exchange = self._exchange
        if exchange is None:
            return False
        while not self._is_full:
            step = next(exchange.steps, None)
            if step is None:
                return self._complete(exchange)
            if isinstance(step, Write):
                self._transport.write(step.wire)
                exchange.record(step)
            elif isinstance(step, Pause):
                self._wait(step.seconds)
                return False
            else:
                self._give_up(exchange, step)
                return False
        return False

    def _complete(self, exchange: Exchange) -> bool:
        self._exchange = None
        self._simulator.end(exchange, completed=True)
        if not exchange.keep_alive:
            self._is_over = True
            self._transport.close()
        return True

    def _wait(self, seconds: float) -> None:
        if seconds == 0:
            self._timer = self._loop.call_soon(self._wake)
        elif seconds != math.inf:
            self._timer = self._loop.call_later(seconds, self._wake)

    def _give_up(self, exchange: Exchange, how: End) -> None:
        self._exchange = None
        self._is_over = True
        self._simulator.end(exchange, completed=False)
        if how is End.CLOSE:
            self._transport.close()
            return
        opened = self._transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def _refuse(self) -> None:
        """Answer what is not a request, and close: nothing after it can be trusted to begin a new one."""
        self._is_over = True
        self._send_aside(error_reply(400, "This is not an HTTP/1.1 request the simulator can read."), keep_alive=False)

    def _send_aside(self, reply: Reply, *, keep_alive: bool) -> None:
        """Write a reply that is in nobody's books."""
        for step in in_bulk(reply, Sending("req_aside", keep_alive)):
            if isinstance(step, Write):
                self._transport.write(step.wire)
        if not keep_alive:
            self._is_over = True
            self._transport.close()
