"""A lean Redis client: one shared connection, and all commands of a loop turn in one write.

The limiter runs one script for every call the gateway serves, and a pooled general-purpose client costs more CPU for
it than the rest of the admission together. This module does that one thing: commands of concurrent tasks share a
connection, pile up during a turn of the event loop, leave in one write, and their replies are told apart by their
order. Everything else in the product that speaks to Redis uses redis-py.

Order is all that matches a reply to its command, so a connection is never used again once that could go wrong: a
command that runs into its deadline ends it at once, with everything in flight, and a command whose caller was
cancelled lets it finish what is in flight, whose replies still arrive in order, and take no more.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from trueport.kit.secret import Secret

CONNECT_TIMEOUT_S: Final = 0.1
COMMAND_TIMEOUT_S: Final = 0.05
MOST_IN_FLIGHT: Final = 4096

_NOTHING: Final = object()

Reply = object
Argument = str | int | float | bytes


class RedisAway(Exception):
    """Redis could not be reached, or went silent, or hung up."""


class ErrorReply(Exception):
    """Redis answered, with an error."""

    @property
    def knows_no_such_script(self) -> bool:
        return str(self).startswith("NOSCRIPT")

    @property
    def comes_from_the_wrong_server(self) -> bool:
        # A replica, or a node that gave the slot away. Inside scripts older servers wrap the error, so look anywhere.
        return any(word in str(self) for word in ("READONLY", "MOVED"))


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis listens and how to introduce oneself. `path`, a Unix socket, takes the place of host and port."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    tls: bool = False
    user: str | None = None
    password: Secret | None = None
    database: int = 0

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read `redis://user:password@host:port/db`, the same with `rediss:` (TLS), or `unix://user:password@/path?db=n`.

        Raises ValueError, which does not repeat the URL: it may hold a password.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("a Redis URL begins with redis://, rediss:// or unix://")
        user = unquote(parts.username) if parts.username else None
        password = Secret(unquote(parts.password)) if parts.password else None
        on_socket = parts.scheme == "unix"
        number = parse_qs(parts.query).get("db", ["0"])[0] if on_socket else parts.path.strip("/") or "0"
        try:
            database, port = int(number), parts.port or 6379
        except ValueError:
            raise ValueError("the port and the database of a Redis URL are numbers") from None
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=port,
            path=unquote(parts.path) if on_socket else None,
            tls=parts.scheme == "rediss",
            user=user,
            password=password,
            database=database,
        )

    def greeting(self) -> list[bytes]:
        """The commands that open a connection."""
        commands = []
        if self.password is not None:
            name = () if self.user is None else (self.user,)
            commands.append(pack("AUTH", *name, self.password.reveal()))
        if self.database:
            commands.append(pack("SELECT", self.database))
        return commands


def pack(*arguments: Argument) -> bytes:
    """A command in the form Redis reads (RESP2, an array of bulk strings)."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub spells a 1-tuple
    return packed


class Connection(asyncio.Protocol):
    """One socket. `accepts` says whether it takes commands; once false it stays so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader(notEnoughData=_NOTHING, replyError=ErrorReply)
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()
        self._outbox: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._look_due = math.inf  # an earlier deadline than this needs an earlier look
        self.accepts = False

    def send(self, command: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Queue a packed command for this turn's write; the future gets its reply, ErrorReply, or RedisAway.

        deadline: on the loop's clock. Passing it ends the connection.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        if len(self._waiting) >= MOST_IN_FLIGHT:
            future.set_exception(RedisAway("too many commands in flight"))
            return future
        if not self._outbox:
            self._loop.call_soon(self._write)
        self._outbox.append(command)
        self._waiting.append((future, deadline))
        if deadline < self._look_due:
            self._look_at(deadline)
        return future

    def retire(self) -> None:
        """Take no more commands, and hang up when those in flight are answered."""
        self.accepts = False
        if not self._waiting and self._transport is not None:
            self._transport.close()

    def end(self, reason: str) -> None:
        """Hang up now; everything in flight fails."""
        self.accepts = False
        if self._transport is not None:
            self._transport.abort()
        self._outbox.clear()
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(RedisAway(reason))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked with isinstance: uvloop's transports do what a Transport does without being one.
        self._transport = cast(asyncio.Transport, transport)
        self.accepts = True

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                future, _ = self._waiting.popleft()
                if future.done():
                    continue  # its caller has left
                if isinstance(reply, ErrorReply):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.end("Redis broke the protocol")
            return
        if not self.accepts and not self._waiting and self._transport is not None:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.end("Redis hung up")

    def _write(self) -> None:
        if self._outbox and self._transport is not None:
            self._transport.write(b"".join(self._outbox))
            self._outbox.clear()

    def _look_at(self, moment: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._look_due = moment
        self._watch = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Whether a command is overdue. One timer watches them all: most are answered long before it fires.

        Both event loops read their sockets before they run timers, so a reply that arrived while the loop was held up
        is not taken for late.
        """
        self._look_due = math.inf
        if not self._waiting:
            return
        earliest = min(deadline for _, deadline in self._waiting)
        if self._loop.time() < earliest:
            self._look_at(earliest)
        else:
            self.end("Redis did not answer in time")


class RespClient:
    """Commands over one connection that is opened when needed and replaced when spoilt.

    Belongs to the event loop it is first used in. `sent` counts the commands handed to a socket.
    """

    def __init__(
        self,
        address: Address,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        timeout_s: float = COMMAND_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._tls = tls
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._is_closed = False
        self.sent = 0

    def deadline(self) -> float:
        """The moment, on the loop's clock, by which a command given now has to be answered."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def call(self, command: bytes, deadline: float) -> Reply:
        """The reply to a packed command. Waiting for a connection counts.

        Raises RedisAway, and ErrorReply for an error that Redis itself gives. Whether a command that ended in
        RedisAway or was cancelled has been carried out is not known.
        """
        connection = self._connection
        if connection is None or not connection.accepts:
            connection = await self._connected(deadline)
        self.sent += 1
        future = connection.send(command, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                connection.retire()
            raise

    async def call_all(self, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to several commands in one write; a failed one has its exception in its place.

        Raises RedisAway when there is no connection, and then nothing was sent.
        """
        deadline = self.deadline()
        connection = self._connection
        if connection is None or not connection.accepts:
            connection = await self._connected(deadline)
        self.sent += len(commands)
        futures = [connection.send(command, deadline) for command in commands]
        try:
            return await asyncio.gather(*futures, return_exceptions=True)
        except asyncio.CancelledError:
            connection.retire()
            raise

    def drop(self) -> None:
        """Use another connection from now on: this server is not the right one any more."""
        if self._connection is not None:
            self._connection.retire()
            self._connection = None

    async def close(self) -> None:
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.end("the client was closed")

    async def _connected(self, deadline: float) -> Connection:
        """A connection that takes commands, opened once for all who wait for it."""
        if self._is_closed:
            raise RedisAway("the client was closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._connecting)
        except TimeoutError:
            raise RedisAway("no connection in time") from None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(loop)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._dial(loop, lambda: connection)
                by = loop.time() + self._connect_timeout_s
                sent = [connection.send(command, by) for command in self._address.greeting()]
                for reply in await asyncio.gather(*sent, return_exceptions=True):
                    if isinstance(reply, BaseException):
                        raise reply
        except (OSError, TimeoutError, ErrorReply, RedisAway) as error:
            connection.end("not introduced")
            raise RedisAway(f"no connection: {type(error).__name__}") from error
        except asyncio.CancelledError:
            connection.end("the client was closed")
            raise
        self._connection = connection
        return connection

    async def _dial(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], Connection]) -> None:
        address = self._address
        if address.path is not None:
            await loop.create_unix_connection(protocol, address.path)
        elif address.tls:
            context = self._tls or ssl.create_default_context()
            await loop.create_connection(protocol, address.host, address.port, ssl=context)
        else:
            await loop.create_connection(protocol, address.host, address.port)


def _retrieve(task: asyncio.Task[Connection]) -> None:
    """Look at the outcome of a connect whose waiters may all have left, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
