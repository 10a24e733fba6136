"""One installation for the whole folder, and what its tests use to talk to it."""

import asyncio
import base64
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.installation import Installation, installation
from tests.support.ports import free_port
from tests.support.simulator import PATIENCE_S, RawReply, connected

OWN_PORT = free_port()
STEP_PORT = free_port()
ROUTES = [
    {"match": {"model": "sim-*"}, "targets": [{"credential": "sim"}]},
    # Ends of waiting are to be seen without waiting long for them.
    {"match": {"model": "quick-*"}, "targets": [{"credential": "sim", "model": "sim-model", "timeout_s": 1.5}]},
    {"match": {"model": "missing-*"}, "targets": [{"credential": "sim"}]},
    {"match": {"model": "closed-*"}, "targets": [{"credential": "closed"}]},
    {
        "match": {"model": "second-*"},
        "targets": [{"credential": "closed"}, {"credential": "sim", "model": "sim-model"}],
    },
    {"match": {"model": "own-*"}, "targets": [{"credential": "own", "timeout_s": 0.6}]},
    {"match": {"model": "refused-*"}, "targets": [{"credential": "refused"}]},
    {"match": {"model": "claude-*"}, "targets": [{"credential": "anthropic"}]},
    {"match": {"model": "gemini-*"}, "targets": [{"credential": "google"}]},
    {"match": {"model": "text-embedding-*"}, "targets": [{"credential": "sim"}]},
    # Billed by the picture and by the second of sound.
    {"match": {"model": "dall-e-*"}, "targets": [{"credential": "sim"}]},
    {"match": {"model": "whisper-*"}, "targets": [{"credential": "sim"}]},
    {"match": {"model": "az-*"}, "targets": [{"credential": "azure"}]},
    {"match": {"model": "az1-*"}, "targets": [{"credential": "azure-v1"}]},
    {"match": {"model": "step-openai"}, "targets": [{"credential": "step-openai"}]},
    {"match": {"model": "step-anthropic"}, "targets": [{"credential": "step-anthropic"}]},
    {"match": {"model": "step-google"}, "targets": [{"credential": "step-google"}]},
    {"match": {"model": "step-azure"}, "targets": [{"credential": "step-azure"}]},
]


@dataclass(frozen=True)
class Reply:
    """An answer as it came; `events` are the pieces between blank lines of a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def interaction(self) -> str:
        return self.headers["x-trueport-interaction"]

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found

    @property
    def events(self) -> list[bytes]:
        return [event for event in self.body.split(b"\n\n") if event]


class Gateway:
    """The running installation as a client and as an investigator sees it."""

    def __init__(self, place: Installation) -> None:
        self.place = place
        self.url = place.url
        self.port = place.port
        self.key = place.key
        self._token = place.scoped_token()

    async def call(
        self,
        body: bytes | Mapping[str, Any] = b"",
        *,
        path: str = "/openai/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Reply:
        """One request on a connection of its own, answered or failed within the tests' patience."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", "connection: close"]
        lines += [f"authorization: Bearer {key or self.key}", f"content-length: {len(data)}"]
        if data and "content-type" not in (headers or {}):
            lines.append("content-type: application/json")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return parsed(await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data))

    async def chat(self, prompt: str = "Hello", *, model: str = "sim-model", script: str = "", **members: Any) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **members}
        return await self.call(body, headers={"x-simulator": script} if script else None)

    async def raw(self, request: bytes) -> RawReply:
        """What the server answers to these bytes until it ends the connection."""
        received = bytearray()
        reset = False
        async with asyncio.timeout(PATIENCE_S), connected(self.port) as (reader, writer):
            writer.write(request)
            try:
                while data := await reader.read(65536):
                    received += data
            except ConnectionError:
                reset = True
        return RawReply(bytes(received), was_reset=reset)

    def seen_upstream(self, interaction: str) -> dict[str, Any]:
        """The request that the provider received for this interaction: method, path, headers, body as bytes."""
        url = f"{self.place.simulator.url}/_simulator/last?interaction={interaction}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
            seen: dict[str, Any] = json.load(reply)
        return {**seen, "body": base64.b64decode(seen["body"]), "sent": base64.b64decode(seen["sent"])}

    def billed_upstream(self, interaction: str) -> dict[str, Any]:
        """The provider's own book entry for this interaction, once it is over there."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            url = f"{self.place.simulator.url}/_simulator/ledger?limit=10000"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
                entries = json.load(reply)["entries"]
            for entry in entries:
                if entry["interaction"] == interaction and entry["ended"] is not None:
                    return dict(entry)
            assert time.monotonic() < deadline_s, f"the provider has not ended {interaction}"
            time.sleep(0.03)

    def record(self, interaction: str) -> dict[str, Any]:
        """The interaction's entry in the log, once its outcome has arrived there."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            status, entry = self.place.ask(
                f"/trueportai-services/api/v1/analytics/logs/{interaction}", token=self._token
            )
            if status == 200 and entry["end"] != "in_progress":
                return dict(entry)
            assert time.monotonic() < deadline_s, f"no outcome of {interaction}: {status} {entry}"
            time.sleep(0.03)

    def is_ready(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S) as reply:
            return bool(reply.status == 200)


def parsed(raw: RawReply) -> Reply:
    headers = {}
    for line in raw.head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = raw.unchunked() if headers.get("transfer-encoding") == "chunked" else raw.body
    return Reply(raw.status, headers, body)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation") / "data", REFUSED_KEY="sk-invalid") as found:
        found.set_up()
        sim = {"provider": "openai", "base_url": f"{found.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
        credentials = {
            "sim": sim,
            "closed": {**sim, "base_url": f"http://127.0.0.1:{free_port()}/v1"},
            # For tests that stand in for the provider themselves.
            "own": {**sim, "base_url": f"http://127.0.0.1:{OWN_PORT}/v1"},
            "refused": {**sim, "secret": {"env": "REFUSED_KEY"}},
            "anthropic": {**sim, "provider": "anthropic", "base_url": found.simulator.url},
            "google": {**sim, "provider": "google", "base_url": found.simulator.url},
            "azure": {**sim, "provider": "azure", "base_url": found.simulator.url},
            "azure-v1": {**sim, "provider": "azure", "base_url": f"{found.simulator.url}/openai/v1"},
            # For a provider that goes on only when the client has what it sent before.
            "step-openai": {**sim, "base_url": f"http://127.0.0.1:{STEP_PORT}/v1"},
            **{
                f"step-{name}": {**sim, "provider": name, "base_url": f"http://127.0.0.1:{STEP_PORT}"}
                for name in ("anthropic", "google", "azure")
            },
        }
        found.configure(found.tenant, credentials=credentials, routes=ROUTES)
        found.serve()
        yield found


@pytest.fixture(scope="session")
def gateway(place: Installation) -> Gateway:
    return Gateway(place)


@pytest.fixture(scope="session")
def new_key(place: Installation) -> Callable[..., dict[str, Any]]:
    """Makes a further key through the management API: its `id` and its text, `key`."""
    token = place.scoped_token()

    def create(**options: Any) -> dict[str, Any]:
        body = {"name": "further", "env": "prod", "requests_per_minute": 10_000, **options}
        status, made = place.ask("/trueportai-services/api/v1/keys", body=body, token=token)
        assert status == 201, made
        return dict(made)

    return create
