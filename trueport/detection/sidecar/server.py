"""The Triton server as a child process: started, waited for, ended together with whoever started it."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from trueport.detection.sidecar.environment import Environment
from trueport.detection.sidecar.files import SidecarFailed
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_EXIT_S: Final = 5
_LOOK_S: Final = 0.1
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the backend itself puts it

# Runs between fork and the server: SIGTERM when the parent dies, however it dies. A program of its own, because
# Python code in a forked child of a process with threads can hang. 1 is PR_SET_PDEATHSIG.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class TritonServer:
    """One server over one model repository. `start` returns when its models are ready."""

    def __init__(
        self,
        environment: Environment,
        repository: Path,
        log_file: Path | None,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        http_port: int = 0,
        options: tuple[str, ...] = (),
    ) -> None:
        """Port 0 picks a free one at the first start and keeps it. Without a file the log goes to standard error."""
        self._environment = environment
        self._repository = repository
        self._log_file = log_file
        self._host = host
        self.grpc_port = grpc_port
        self.http_port = http_port
        self._options = options
        self._child: subprocess.Popen[bytes] | None = None
        # The Python backend's shared memory outlives a server that was killed; by this name it can be found.
        self.region = f"trueport_triton_{secrets.token_hex(6)}"

    @property
    def address(self) -> str:
        return f"{self._host}:{self.grpc_port}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Raises SidecarFailed when the server ends or is not ready in time."""
        self.grpc_port = self.grpc_port or _free_port(self._host)
        self.http_port = self.http_port or _free_port(self._host)
        for port in (self.grpc_port, self.http_port):
            _need_free(self._host, port)
        launcher = [sys.executable, "-c", _LAUNCHER, str(os.getpid())]
        with self._open_log() as output:
            self._child = subprocess.Popen(
                [*launcher, *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self._environment.variables()),
                # Ctrl-C in a terminal goes to the whole group; ending the server is for whoever started it.
                start_new_session=True,
            )
        try:
            self._wait_until_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> int:
        """Until the server ends; its exit code."""
        return self._child.wait() if self._child is not None else 0

    def stop(self) -> None:
        """End the server: requests under way are answered for at most some seconds."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.terminate()
            # A server that was stopped with SIGSTOP takes no other signal.
            self._child.send_signal(signal.SIGCONT)
            try:
                self._child.wait(_EXIT_S + 5)
            except subprocess.TimeoutExpired:
                self.kill()
        self._child = None
        self._clear_shared_memory()

    def kill(self) -> None:
        """End the server and its models at once."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._clear_shared_memory()

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._host}:{self.http_port}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _command(self) -> list[str]:
        tree = self._environment.server
        return [
            str(tree / "bin" / "tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={tree / 'backends'}",
            f"--cache-directory={tree / 'caches'}",
            f"--backend-config=python,shm-region-prefix-name={self.region}",
            f"--http-address={self._host}",
            f"--http-port={self.http_port}",
            f"--grpc-address={self._host}",
            f"--grpc-port={self.grpc_port}",
            "--allow-metrics=false",
            f"--exit-timeout-secs={_EXIT_S}",
            *self._options,
        ]

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[BinaryIO]:
        if self._log_file is None:
            # Standard output is for what the command itself says.
            yield sys.stderr.buffer
            return
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("wb") as file:
            yield file

    def _wait_until_ready(self, deadline_s: float) -> None:
        where = f"why is in {self._log_file}" if self._log_file else "why is in its log above"
        while not self.is_ready():
            if self._child is None or self._child.poll() is not None:
                raise SidecarFailed(f"The Triton server ended while it started; {where}.")
            if time.monotonic() > deadline_s:
                raise SidecarFailed(f"The Triton server was not ready in time; {where}.")
            time.sleep(_LOOK_S)

    def _clear_shared_memory(self) -> None:
        for region in _SHARED_MEMORY.glob(f"{self.region}*"):
            region.unlink(missing_ok=True)


def _free_port(host: str) -> int:
    with socket.socket() as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])


def _need_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SidecarFailed(f"Port {port} on {host} is taken; choose another one.") from error
