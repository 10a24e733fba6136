"""Parts for tests that need a provider: the simulator as a child process, and calls to it over a bare socket."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

# Far beyond what any step takes; it only keeps a broken test from hanging.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """A running `trueport simulate`; `url` has no `/v1`."""

    url: str
    port: int
    process: subprocess.Popen[str]


@contextmanager
def simulator_process(*arguments: str) -> Iterator[SimulatorProcess]:
    """A simulator in a process of its own on a free port, ready to be called; it is stopped afterwards."""
    command = [sys.executable, "-c", "from trueport.cli.simulate import simulate; simulate()"]
    process = subprocess.Popen([*command, "--port", "0", "--json", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        yield SimulatorProcess(started["url"], started["port"], process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def chat_body(prompt: str = "Hello", **members: object) -> bytes:
    """The JSON of a chat request with one user message."""
    body = {"model": "sim-model", "messages": [{"role": "user", "content": prompt}], **members}
    return msgspec.json.encode(body)


def request_bytes(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
    key: str | None = "sk-test-abcd",
) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = {"host": "simulator", "content-length": str(len(body)), **(headers or {})}
    if key is not None:
        lines["authorization"] = f"Bearer {key}"
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class RawReply:
    """What arrived before the connection ended; `was_reset` tells RST from a clean end."""

    wire: bytes
    was_reset: bool

    @property
    def status(self) -> int:
        return int(self.wire.split(b" ", 2)[1])

    @property
    def head(self) -> bytes:
        return self.wire.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.wire.partition(b"\r\n\r\n")[2]

    @property
    def is_whole(self) -> bool:
        """Whether a chunked body has its last chunk."""
        return self.wire.endswith(b"0\r\n\r\n")

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        return None

    def unchunked(self) -> bytes:
        """The body without its chunk framing, as far as whole chunks arrived."""
        rest = self.body
        parts: list[bytes] = []
        while True:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size or b"0", 16)
            if not length or len(rest) < length:
                return b"".join(parts)
            parts.append(rest[:length])
            rest = rest[length + 2 :]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is gone after the block, whatever became of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=16 * 1024 * 1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def raw_call(port: int, request: bytes) -> RawReply:
    """Send `request` and read until the server ends the connection."""
    received = bytearray()
    async with connected(port) as (reader, writer):
        writer.write(request)
        try:
            while data := await asyncio.wait_for(reader.read(65536), PATIENCE_S):
                received += data
        except ConnectionResetError:
            return RawReply(bytes(received), was_reset=True)
    return RawReply(bytes(received), was_reset=False)


async def chat_call(port: int, prompt: str = "Hello", *, script: str = "", **members: object) -> RawReply:
    """One chat call on a connection of its own, with `script` in the x-simulator header."""
    headers = {"connection": "close", **({"x-simulator": script} if script else {})}
    return await raw_call(port, request_bytes(chat_body(prompt, **members), headers=headers))


async def post(
    port: int, path: str, value: object, *, headers: Mapping[str, str] | None = None, script: str = ""
) -> RawReply:
    """POST `value` as JSON on a connection of its own, with no key but what `headers` hold."""
    more = {"connection": "close", **({"x-simulator": script} if script else {}), **(headers or {})}
    return await raw_call(port, request_bytes(msgspec.json.encode(value), path=path, headers=more, key=None))


async def get(
    port: int, path: str, *, headers: Mapping[str, str] | None = None, method: str = "GET", script: str = ""
) -> RawReply:
    """GET (or DELETE) on a connection of its own, with no key but what `headers` hold."""
    more = {"connection": "close", **({"x-simulator": script} if script else {}), **(headers or {})}
    return await raw_call(port, request_bytes(method=method, path=path, headers=more, key=None))


def sse_events(stream: bytes) -> list[tuple[str | None, Any]]:
    """The name (None without one) and the JSON of every event; `[DONE]` stays text and comments go."""
    found: list[tuple[str | None, Any]] = []
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line.partition(b": ") for line in block.split(b"\n") if line and not line.startswith(b":")]
        if not lines:
            continue
        name = next((value.decode() for field, _, value in lines if field == b"event"), None)
        data = b"\n".join(value for field, _, value in lines if field == b"data")
        found.append((name, "[DONE]" if data == b"[DONE]" else json.loads(data)))
    return found
