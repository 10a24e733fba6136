"""A lean load driver: raw sockets, keep-alive, one request at a time on each connection."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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


def request_bytes(port: int, key: str, body: bytes) -> bytes:
    """A chat completion request as an SDK sends it."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n"
        % (port, key.encode(), len(body))
    ) + body


async def run(port: int, request: bytes, *, calls: int, connections: int, pause_s: float = 0.0) -> Measured:
    """Send `calls` requests over `connections` sockets; with a pause, at a low rate instead of back to back.

    An answer that is not 200, or not whole, counts as failed, and the connection is made anew.
    """
    measured = Measured()
    left = iter(range(calls))

    async def one_connection() -> None:
        reader, writer = await _connect(port)
        for _ in left:
            started_s = time.perf_counter()
            writer.write(request)
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
