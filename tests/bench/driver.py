"""A lean load driver: raw sockets, keep-alive, one request at a time on each connection."""

import asyncio
import time
from dataclasses import dataclass, field

_END_OF_HEAD = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Measured:
    """What a run of calls looked like from the client's side."""

    answered: int = 0
    failed: int = 0
    latencies_s: list[float] = field(default_factory=list)

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
    """Send `calls` requests over `connections` sockets; with a pause, at a fixed low rate instead of back to back."""
    measured = Measured()
    left = iter(range(calls))

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        for _ in left:
            started_s = time.perf_counter()
            writer.write(request)
            status = await _read_reply(reader)
            measured.latencies_s.append(time.perf_counter() - started_s)
            if status == 200:
                measured.answered += 1
            else:
                measured.failed += 1
            if pause_s:
                await asyncio.sleep(pause_s)
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(connections)))
    return measured


async def _read_reply(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(_END_OF_HEAD)
    status = int(head[9:12])
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(lower[at + 15 : lower.index(b"\r\n", at)]))
        return status
    while not (await reader.readuntil(b"\r\n\r\n")).endswith(_LAST_CHUNK):
        pass
    return status
