"""A lean load driver: raw sockets, keep-alive, one request at a time on each connection."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice, repeat

_END_OF_HEAD = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_LAST_EVENT = b"data: [DONE]"
_LONGEST_REPLY_BYTES = 1 << 22
_PATIENCE_S = 60.0


@dataclass
class Measured:
    """What a run of calls looked like from the client's side."""

    answered: int = 0
    failed: int = 0
    took_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def calls_per_s(self) -> float:
        return self.answered / self.took_s

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1_000 if ordered else 0.0


@dataclass
class Streamed:
    """What streams looked like from the client's side. `alone` counts the events that came in a read of their own."""

    firsts_s: list[float] = field(default_factory=list)
    events: int = 0
    alone: int = 0
    failed: int = 0

    @property
    def alone_share(self) -> float:
        return self.alone / self.events if self.events else 0.0


def request_bytes(port: int, key: str, body: bytes) -> bytes:
    """A chat completion request as an SDK sends it."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n"
        % (port, key.encode(), len(body))
    ) + body


async def run(
    port: int, request: bytes | Iterator[bytes], *, calls: int, connections: int, pause_s: float = 0.0
) -> Measured:
    """Send `calls` requests over `connections` sockets; with a pause, at a low rate instead of back to back.

    They are all alike, or each the next of an iterator.

    An answer that is not 200, or not whole, counts as failed, and the connection is made anew.
    """
    measured = Measured()
    left = repeat(request, calls) if isinstance(request, bytes) else islice(request, calls)

    async def one_connection() -> None:
        reader, writer = await _connect(port)
        for content in left:
            started_s = time.perf_counter()
            writer.write(content)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    is_whole = await _read_reply(reader)
            except (EOFError, OSError, TimeoutError, ValueError):
                is_whole = False
                writer.close()
                reader, writer = await _connect(port)
            if is_whole:
                measured.answered += 1
                measured.latencies_s.append(time.perf_counter() - started_s)
            else:
                measured.failed += 1
            if pause_s:
                await asyncio.sleep(pause_s)
        writer.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(connections)))
    measured.took_s = time.perf_counter() - started_s
    return measured


async def stream_in_pairs(
    one: tuple[int, bytes], other: tuple[int, bytes], *, pairs: int, pause_s: float
) -> tuple[Streamed, Streamed]:
    """Streams at two ports in turn, one at a time, each port and request on a connection of its own.

    In turn, so that whatever else the machine is doing meets both alike: the n-th of the one is to be compared with
    the n-th of the other. A stream that is not whole counts as failed, and its pair is left out.
    """
    found = Streamed(), Streamed()
    connections = [await _connect(port) for port, _ in (one, other)]
    for number in range(pairs):
        firsts_s = []
        # Whoever comes second finds warmer caches.
        for at in (0, 1) if number % 2 else (1, 0):
            reader, writer = connections[at]
            async with asyncio.timeout(_PATIENCE_S):
                firsts_s.append((at, await _read_stream(reader, writer, (one, other)[at][1], found[at])))
            await asyncio.sleep(pause_s)
        if all(first_s is not None for _, first_s in firsts_s):
            for at, first_s in firsts_s:
                found[at].firsts_s.append(first_s or 0.0)
    for _, writer in connections:
        writer.close()
    return found


async def _read_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, found: Streamed
) -> float | None:
    """Seconds until the first event of one stream had come, None when it was not whole."""
    started_s = time.perf_counter()
    writer.write(request)
    first_s = None
    received = bytearray()
    while not received.endswith(_LAST_CHUNK):
        piece = await reader.read(65_536)
        if not piece:
            break
        came = piece.count(b"data: {")
        if came and first_s is None:
            first_s = time.perf_counter() - started_s
        found.events += came
        found.alone += came == 1
        received += piece
    is_whole = received.startswith(b"HTTP/1.1 200") and _LAST_EVENT in received and first_s is not None
    found.failed += not is_whole
    return first_s if is_whole else None


@asynccontextmanager
async def held_streams(port: int, request: bytes, count: int) -> AsyncIterator[None]:
    """Keep `count` streams open, each past its first event; they are cut when the block ends."""
    connections = [await _connect(port) for _ in range(count)]
    try:
        for _, writer in connections:
            writer.write(request)
        async with asyncio.timeout(_PATIENCE_S):
            for reader, _ in connections:
                await reader.readuntil(b"data: ")
        yield
    finally:
        for _, writer in connections:
            writer.transport.abort()
        # The sockets are closed a turn of the loop later, and streams left open would hold up the server's stop.
        await asyncio.sleep(0.1)


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST_REPLY_BYTES)


async def _read_reply(reader: asyncio.StreamReader) -> bool:
    """Whether the answer is a 200 with a body that has its stated length, or a stream that has its last event."""
    head = (await reader.readuntil(_END_OF_HEAD)).lower()
    is_ok = head[9:12] == b"200"
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
        return is_ok
    body = await reader.readuntil(_LAST_CHUNK)
    return is_ok and _LAST_EVENT in body
