"""A whole installation as a user runs it: data folder, simulated provider, server process; for end-to-end tests.

Everything is started through the command line and talked to over loopback. `Installation.serve` can be killed and
started again on the same data.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.ports import free_port
from tests.support.simulator import SimulatorProcess, simulator_process
from trueport.cli.session import with_resources
from trueport.settings import load_settings
from trueport.web.domain import Resources

PASSWORD = "correct horse battery staple"
PATIENCE_S = 60.0


@dataclass
class Installation:
    """Where everything is, and the first tenant's access."""

    data_dir: Path
    environment: dict[str, str]
    port: int
    simulator: SimulatorProcess
    tenant: str = "acme"
    access: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return self.access["api_key"]

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run a `trueport` command on this installation; its standard output. Fails the test when the command does."""
        done = subprocess.run(
            [sys.executable, "-m", "trueport", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"trueport {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout

    def set_up(self, slug: str = "acme", *, requests_per_minute: int = 0) -> None:
        """First tenant, its route to the simulator, and a key with the given limit (0: none)."""
        self.access = json.loads(
            self.run("init", "--tenant", slug, "--email", f"owner@{slug}.example", "--password-stdin", "--json",
                     stdin=PASSWORD + "\n")
        )  # fmt: skip
        self.configure(slug)
        made = self.create_key(slug, requests_per_minute=requests_per_minute)
        self.access["api_key"], self.access["key_id"] = made["key"], made["id"]

    def configure(self, slug: str = "acme", **members: Any) -> None:
        """Apply a configuration file with a credential for the simulator and the given further members."""
        path = self.data_dir / f"{slug}.yaml"
        credential = {"provider": "openai", "base_url": f"{self.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
        path.write_text(json.dumps({"version": 1, "tenant": slug, "credentials": {"sim": credential}, **members}))
        self.run("config", "apply", str(path), "--tenant", slug)

    def create_key(self, slug: str = "acme", *, requests_per_minute: int = 0, **options: str) -> dict[str, str]:
        extra = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        made: dict[str, str] = json.loads(
            self.run("keys", "create", "--tenant", slug, "--env", "prod", "--name", "test", "--json",
                     "--requests-per-minute", str(requests_per_minute), *extra)
        )  # fmt: skip
        return made

    def serve(self, **settings: str) -> None:
        """Start the server and wait until it is ready."""
        log = (self.data_dir / "server.log").open("ab")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "trueport", "serve"],
            env={**self.environment, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            assert self.server is not None
            assert self.server.poll() is None, f"the server ended: {self.log_tail()}"
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {self.log_tail()}")

    def log_tail(self) -> str:
        return (self.data_dir / "server.log").read_text()[-3000:]

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """End the server: politely, or with SIGKILL as a crash (its workers and database follow by themselves)."""
        server, self.server = self.server, None
        if server is None:
            return
        server.send_signal(sig)
        try:
            server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for worker in psutil.Process(server.pid).children(recursive=True):
                if "trueport" in " ".join(worker.cmdline()):
                    worker.send_signal(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(f"the server does not end: {self.log_tail()}") from None
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def ask(
        self, path: str, *, body: Any = None, token: str | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """One management request as JSON; status and parsed answer."""
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(
            f"{self.url}{path}", data=None if body is None else json.dumps(body).encode(), headers=headers,
            method=method or ("GET" if body is None else "POST"),
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def scoped_token(self, email: str | None = None, password: str = PASSWORD) -> str:
        """A token of the tenant's owner (or of somebody else) for the first tenant."""
        status, answer = self.ask(
            "/platform/api/global/auth/login",
            body={"email": email or f"owner@{self.tenant}.example", "password": password},
        )
        assert status in (200, 201), answer
        status, scoped = self.ask(
            "/platform/api/global/auth/select-tenant",
            body={"tenant_id": self.access["tenant_id"]},
            token=answer["access_token"],
        )
        assert status in (200, 201), scoped
        return str(scoped["access_token"])

    def documents(self, collection: str) -> list[dict[str, Any]]:
        """All documents of a collection, read past the server (which has to run, or not, either works)."""

        async def read(resources: Resources) -> list[dict[str, Any]]:
            return await resources.database[collection].find({}, comment="trueport-platform").to_list()

        return with_resources(load_settings(self.environment), read)

    def call_records(self) -> list[dict[str, Any]]:
        """The stored records of calls, without those of what people did."""
        return [record for record in self.documents("audit_records") if record["kind"] in _OF_CALLS]

    def settled_call_records(self, count: int) -> list[dict[str, Any]]:
        """The same once there are at least `count`, or what there is after some patience."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            found = self.call_records()
            if len(found) >= count or time.monotonic() > deadline_s:
                return found
            time.sleep(0.2)


_OF_CALLS: Final = ("intent", "attempt", "outcome", "abandoned")


@contextmanager
def installation(data_dir: Path, **settings: str) -> Iterator[Installation]:
    """A fresh installation with its own simulator; nothing is set up or served yet."""
    data_dir.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRUEPORT_")},
        "TRUEPORT_DATA_DIR": str(data_dir),
        "TRUEPORT_PORT": str(port),
        "TRUEPORT_EGRESS_ALLOW": "127.0.0.1",
        "TRUEPORT_SPOOL_SEGMENT_MIB": "4",
        # Tests of single faults follow each other faster than any provider fails; those of circuits switch them on.
        "TRUEPORT_BREAKER_FAILURES": "0",
        # Without a model: tests of what detectors find have engines of their own.
        "TRUEPORT_DETECTION_URL": "rules:",
        "SIM_KEY": "sk-simulated-provider-key",
        **settings,
    }
    with simulator_process() as simulator:
        found = Installation(data_dir, environment, port, simulator)
        try:
            yield found
        finally:
            found.stop()


async def eventually(condition: Any, *, within_s: float = 10.0) -> None:
    """Wait until `condition()` holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        await asyncio.sleep(0.02)
