"""The demonstration as somebody runs it in a terminal: with commands beside it, and Ctrl-C at any moment."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]


class Demo:
    """A running `trueport demo` and what it has said so far."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        # Python's own output is buffered when nobody sits at a terminal.
        self.environment = {
            "TRUEPORT_DATA_DIR": str(folder / "data"), "TRUEPORT_SPOOL_SEGMENT_MIB": "4", "PYTHONUNBUFFERED": "1",
            "PATH": os.environ["PATH"], "HOME": str(folder),
        }  # fmt: skip
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trueport", "demo", "--port", str(port)], env=self.environment,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        self.said = ""

    def until(self, text: str) -> str:
        """Everything said up to the line with `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return self.said
        self.errors.seek(0)
        raise AssertionError(f"it ended before it said {text!r}: {self.said}{self.errors.read()}")

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """What a terminal does on Ctrl-C: the signal goes to everything in the foreground. Gives the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(PATIENCE_S)

    def run(self, *arguments: str) -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "trueport", *arguments], env=self.environment, capture_output=True, text=True,
            timeout=PATIENCE_S, check=True, cwd=ROOT,
        )  # fmt: skip
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def status(self, key: str) -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/openai/v1/models", headers={"authorization": f"Bearer {key}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    running = Demo(folder, free_port())
    try:
        yield running
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        running.errors.close()
        assert running.process.stdout is not None
        running.process.stdout.close()


def left_running(folder: Path) -> list[list[str]]:
    """Processes that work in the folder. The database knows it by its arguments, everything else by environment."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(str(folder) in text for text in told) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process.cmdline())
    return found


def becomes(condition: Callable[[], bool], *, within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def test_ctrl_c_stops_everything_and_commands_beside_it_are_noticed_until_then(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        said = running.until("Ctrl-C stops everything")
        assert [kind in said for kind in ("call 1 (plain)", "call 2 (plain)", "call 3 (streamed)")] == [True] * 3
        assert "Paris is the capital of France." in said
        key = re.search(r"sk-tp-[a-z0-9]+-[A-Za-z0-9]+-[A-Za-z0-9]+", said)
        assert key is not None
        assert running.status(key[0]) == 200

        made = running.run("keys", "create", "--tenant", "demo", "--name", "beside", "--json")
        assert running.status(made["key"]) == 200
        running.run("keys", "disable", made["id"], "--tenant", "demo", "--json")
        # A second is what is promised; the machine may be busy with other tests.
        assert becomes(lambda: running.status(made["key"]) == 401, within_s=5)
        assert running.status(key[0]) == 200
        assert len(left_running(tmp_path)) >= 4

        assert running.interrupt() in (0, 130)

        assert left_running(tmp_path) == []
        running.errors.seek(0)
        assert "Traceback" not in running.errors.read()
        log = (tmp_path / "data" / "demo-server.log").read_text()
        assert "Traceback" not in log
        assert "journal_not_drained" not in log


@pytest.mark.parametrize(
    ("moment", "number"),
    [("embedded database", signal.SIGINT), ("simulated provider", signal.SIGTERM), ("the gateway", signal.SIGINT)],
    ids=["at the database", "at the provider", "at the gateway"],
)
def test_a_demonstration_that_is_stopped_while_it_starts_leaves_nothing_running(
    tmp_path: Path, moment: str, number: int
) -> None:
    with demo(tmp_path) as running:
        running.until(f"Starting the {moment.removeprefix('the ')}")

        assert running.interrupt(number) in (0, 130)

        assert becomes(lambda: left_running(tmp_path) == [], within_s=10), left_running(tmp_path)
        running.errors.seek(0)
        assert "Traceback" not in running.errors.read()
