"""One HTTP/1.1 request and the head of its answer, on a connection of a pool.

aiohttp makes and keeps the connections (names, addresses, TLS) and its parser, written in C, reads the answers. Its
session is left out: what that prepares anew for every request (merged headers, cookies, redirects, a task for the
body) costs more than the rest of an exchange, and a gateway needs none of it.
"""

import asyncio
import re
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from trueport.gateway.egress import Pool, Wire

_OURS: Final = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "cookie", "expect", "host", "keep-alive"),
        *("proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_DEFAULTS: Final = (("accept", "Accept: */*\r\n"), ("user-agent", "User-Agent: TruePortAI\r\n"))
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# RFC 9110, section 9.2.2: sending them a second time changes nothing.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_AT_ONCE_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16
_SWITCHING_PROTOCOLS: Final = 101


class HeadersLate(Exception):
    """The head of the answer was not complete in time."""


class Exchange:
    """An answer whose head is there, and the connection that its body comes on until `end`."""

    __slots__ = ("_connection", "_wire", "_writing", "content", "message")

    def __init__(
        self,
        connection: Connection,
        wire: Wire,
        writing: "asyncio.Task[None] | None",
        message: RawResponseMessage,
        content: StreamReader,
    ) -> None:
        self._connection = connection
        self._wire = wire
        self._writing = writing
        self.message = message
        self.content = content

    @property
    def content_length(self) -> int | None:
        """The body's stated length; the parser has seen that it is a number."""
        stated = self.message.headers.get("Content-Length")
        return None if stated is None else int(stated)

    @property
    def lost(self) -> BaseException | None:
        """How the connection ended, while the exchange still has it."""
        return self._wire.exception()

    def end(self, *, may_reuse: bool) -> None:
        """Leave the connection to the next request, if this one is wholly over; else it is cut, whatever is unsent."""
        if may_reuse and self.content.is_eof() and (self._writing is None or self._writing.done()):
            self._connection.release()
        else:
            _cut(self._connection, self._writing)


async def exchange(
    pool: Pool, method: str, head: bytes, body: bytes, *, connect: aiohttp.ClientTimeout, headers_by_s: float
) -> Exchange:
    """Send a request and wait for the head of its answer; 1xx answers are passed over.

    `headers_by_s` is a time of the running loop. A kept connection may have ended under an idempotent request, which
    is then sent once more; nothing else is repeated.

    Raises ConnectionTimeoutError, HeadersLate, and what aiohttp raises for connections and answers that are not good.
    """
    while True:
        try:
            connection = await pool.connect(connect)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        wire = pool.wire_of(connection)
        was_kept, wire.is_kept = wire.is_kept, True
        try:
            return await _exchange_on(
                connection, wire, head, body, has_body=method != "HEAD", headers_by_s=headers_by_s
            )
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if not (was_kept and method in _IDEMPOTENT):
                raise


async def _exchange_on(
    connection: Connection, wire: Wire, head: bytes, body: bytes, *, has_body: bool, headers_by_s: float
) -> Exchange:
    loop = asyncio.get_running_loop()
    writing: asyncio.Task[None] | None = None
    timer = loop.call_at(headers_by_s, _too_late, wire)
    try:
        wire.expect_answer(has_body=has_body)
        transport = wire.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        if len(body) <= _AT_ONCE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            writing = loop.create_task(_write_in_turns(wire, body))
        message, content = await wire.read()
        while message.code < 200 and message.code != _SWITCHING_PROTOCOLS:
            message, content = await wire.read()
    except BaseException:
        _cut(connection, writing)
        raise
    finally:
        timer.cancel()
    return Exchange(connection, wire, writing, message, content)


def _too_late(wire: Wire) -> None:
    wire.set_exception(HeadersLate())


def _cut(connection: Connection, writing: "asyncio.Task[None] | None") -> None:
    if writing is not None:
        writing.cancel()
    transport = connection.transport
    if transport is not None:
        # Plain closing first flushes what is unsent and, with TLS, waits for the other side's goodbye.
        transport.abort()
    connection.close()


async def _write_in_turns(wire: Wire, body: bytes) -> None:
    """Write a large body as fast as it is taken, so that neither memory nor the loop is held by it."""
    view = memoryview(body)
    for start in range(0, len(body), _PIECE_BYTES):
        transport = wire.transport
        if transport is None:
            return  # whoever waits for the answer is told
        transport.write(view[start : start + _PIECE_BYTES])
        try:
            await wire.drained()
        except OSError:
            return
        await asyncio.sleep(0)


def request_head(method: str, url: URL, host: str, headers: tuple[tuple[str, str], ...], length: int) -> bytes:
    """The bytes before the body. The answer is asked for without compression.

    Raises ValueError for headers that belong to the connection, and for anything that could end its line early.
    """
    target = url.raw_path_qs
    if _TARGET.fullmatch(target) is None or _TOKEN.fullmatch(method) is None:
        raise ValueError("a request line holds a character that HTTP does not allow")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n", _own_lines(tuple([name for name, _ in headers]))]
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("a header's value holds a character that HTTP does not allow")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n" if not length and method in _WITHOUT_BODY else f"Content-Length: {length}\r\n\r\n")
    return "".join(lines).encode("ascii")


@lru_cache(maxsize=1_024)  # names come from our own tables, so there are few combinations
def _own_lines(names: tuple[str, ...]) -> str:
    """The header lines that go beside those of these names, which are looked at on the way."""
    present = set()
    for name in names:
        if name.lower() in _OURS:
            raise ValueError(f"the header {name.lower()} is set by the connection")
        if _TOKEN.fullmatch(name) is None:
            raise ValueError("a header's name holds a character that HTTP does not allow")
        present.add(name.lower())
    return "Accept-Encoding: identity\r\n" + "".join([line for name, line in _DEFAULTS if name not in present])
