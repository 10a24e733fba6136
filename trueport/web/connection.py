"""One client's connection: uvicorn's HTTP/1.1 on httptools, with the bounds and the framing rules it leaves out.

The parser (llhttp, strict) runs on the event loop's own thread, so a request reaches the application without a
hand-over between threads. What is added: a head has a greatest size and a time to arrive in; a body is framed in one
way only (RFC 9112, 6.1 and 6.3); a client that leaves is noticed by the request under way also when it has sent further
ones; an answer given before the request was read ends the connection; HTTP/1.0 clients get no chunks.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MOST_HEAD_BYTES: Final = 64 << 10
"""Of a request line with its headers, and of anything else that is not body: trailers, chunk extensions."""
HEAD_S: Final = 10.0
"""From the connection, or from a head's first byte, to its last one."""
IDLE_S: Final = 75
"""Longer than load balancers keep a connection by default, so that it is they who close it."""
MOST_HELD_BYTES: Final = 256 << 10
"""What a client may send ahead of the answer it waits for."""
MOST_CALLS: Final = 2_048
"""Under way in one process, held streams included; further ones are answered with 503."""
_LINGER_S: Final = 2.0

_OF_THE_CONNECTION: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CHUNKED: Final = re.compile(rb"[Cc][Hh][Uu][Nn][Kk][Ee][Dd]")


class BadFraming(Exception):
    """Two servers in a row might disagree about where this request ends."""


class HeadTooLarge(Exception):
    """The request's head has more than `MOST_HEAD_BYTES`."""


async def _busy(_scope: Any, _receive: Any, send: Any) -> None:
    """The answer of a process that has `MOST_CALLS` under way."""
    headers = [(b"content-length", b"0"), (b"retry-after", b"1"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Exchange(RequestResponseCycle):
    """One request and its answer."""

    protocol: "Connection"

    async def send(self, message: Any) -> None:
        """One ASGI message to the client; waits while it takes no more. Silent once the client has gone."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.transport.is_closing():
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError("A response starts with its head.")
            self._send_head(message["status"], message.get("headers", ()))
        elif self.response_complete or message["type"] != "http.response.body":
            raise RuntimeError("A response has one head and ends once.")
        else:
            self._send_body(message.get("body", b""), has_more=message.get("more_body", False))

    def _send_head(self, status: int, headers: Any) -> None:
        self.waiting_for_100_continue = False
        # What of this request is still to come would be read as the next one.
        if self.more_body:
            self.keep_alive = False
        parts = [STATUS_LINE[status]]
        says_close = False
        for name, value in (*self.default_headers, *headers):
            key = name.lower()
            if key in _OF_THE_CONNECTION:
                if key == b"transfer-encoding":
                    continue
                if key == b"content-length":
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                elif b"close" in value.lower():
                    self.keep_alive = False
                    says_close = True
            parts += (key, b": ", value, b"\r\n")
        lines = len(parts) // 4 + 1
        if not self.keep_alive and not says_close:
            parts.append(b"connection: close\r\n")
            lines += 1
        has_body = self.scope["method"] != "HEAD" and status not in (204, 304)
        if has_body and self.chunked_encoding is None and self.scope["http_version"] != "1.0":
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        head = b"".join((*parts, b"\r\n"))
        if head.count(b"\n") != lines + 1 or head.count(b"\r") != lines + 1 or b"\0" in head:
            raise RuntimeError("A header of the response holds a control character.")
        self.response_started = True
        self.transport.write(head)

    def _send_body(self, body: bytes, *, has_more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(data if has_more else data + b"0\r\n\r\n")
        else:
            if self.chunked_encoding is False:
                self.expected_content_length -= len(body)
                if self.expected_content_length < 0:
                    raise RuntimeError("A response is longer than it said.")
            self.transport.write(body)
        if has_more:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("A response is shorter than it said.")
        self.response_complete = True
        self.message_event.set()
        if self.more_body:
            self.protocol.linger()
        elif not self.keep_alive:
            self.transport.close()
        self.on_response()


class Connection(HttpToolsProtocol):
    """What uvicorn makes for every connection it accepts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn lets bytes follow a request that asked for the connection's end: they are not looked at either way.
        self._running: Exchange | None = None
        self._held = bytearray()
        self._is_in_head = False
        self._is_lingering = False
        # Bytes since the last head, piece of body, or end of a request.
        self._unframed = 0
        # Bytes of body still to come that the parser leaves to us, as after an offer of another protocol.
        self._raw_left = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self._held.clear()
        running = self._running
        if running is not None:
            running.disconnected = running.disconnected or not running.response_complete
            running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        running = self._running
        if (
            running is not None
            and not running.response_complete
            and (running is not self.cycle or not running.more_body)
        ):
            # Only looked at after the answer under way: reading goes on, so that a client's leaving is noticed.
            self._held += data
            if len(self._held) > MOST_HELD_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if self._raw_left:
            self._feed_raw(data)
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._unframed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # Answered as what it is besides, and nothing after it is read.
            self._is_in_head = False
            self._unframed = 0
            self.cycle.keep_alive = False
            if self._raw_left:
                self._feed_raw(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(431 if isinstance(error.__context__, HeadTooLarge) else 400)
            return
        if self._unframed > MOST_HEAD_BYTES:
            self._refuse(431)
        elif not self._is_in_head:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _feed_raw(self, data: bytes) -> None:
        piece = data[: self._raw_left]
        self._raw_left -= len(piece)
        if piece:
            self.on_body(piece)
        if not self._raw_left:
            super().on_message_complete()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int) -> None:
        """End the connection; with an answer of no content, where none is under way that it would be taken for."""
        running = self._running
        if running is None or running.response_complete or (running is self.cycle and not running.response_started):
            phrase = HTTPStatus(status).phrase.encode()
            self.transport.write(b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % (status, phrase))
        self.transport.close()

    # --- what the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header: it came after everything that was decided by the headers.
        if not self._is_in_head:
            return
        # As uvicorn does it, without a second call for each header.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        version = self.parser.get_http_version()
        if self._unframed > MOST_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MOST_HEAD_BYTES:
                raise HeadTooLarge
        self._unframed = 0
        framing = [header for header in self.headers if header[0] in {b"content-length", b"transfer-encoding"}]
        if len(framing) > 1:
            raise BadFraming
        for name, value in framing:
            if name == b"transfer-encoding" and (version == "1.0" or _CHUNKED.fullmatch(value.strip()) is None):
                raise BadFraming
        if self.parser.should_upgrade() and framing:
            # The parser takes what follows for the other protocol. Some clients offer HTTP/2 with every request.
            name, value = framing[0]
            if name == b"transfer-encoding":
                raise BadFraming
            self._raw_left = int(value)
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        exchange.protocol = self
        self.cycle = exchange
        if self._running is None or self._running.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:
            self.pipeline.appendleft((exchange, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app if len(self.tasks) < MOST_CALLS else _busy)

    def on_body(self, body: bytes) -> None:
        self._unframed = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if cycle is self._running and len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._unframed = 0
        if not self._raw_left:
            super().on_message_complete()

    # --- what the exchange tells

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._held and not self.transport.is_closing():
            self.loop.call_soon(self._feed_held)

    def _feed_held(self) -> None:
        held = bytes(self._held)
        self._held.clear()
        if held and not self.transport.is_closing():
            self.data_received(held)

    def linger(self) -> None:
        """Close once the client had time to read the answer: closing with bytes unread would take it away."""
        self._is_lingering = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
