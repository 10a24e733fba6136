"""Circuits of four worker processes that share a Redis: a dead provider is left alone, by all of them together.

The provider that is dead is a listener which counts connections and resets them; the load opens a connection for every
call, so that each worker gets its share.
"""

import asyncio
import json
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import aiohttp
import pytest

from tests.support.chaos_load import chat, fetch
from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, inspector, private_redis
from tests.support.tenants import TenantAccess, further_tenant
from trueport.storage.embedded import EmbeddedMongo

WORKERS: Final = 4
PER_S: Final = 200
# What a dead provider may receive before its circuit opens, whatever the number of workers.
MOST_BEFORE_OPEN: Final = 20
# The first cool-down is 10 s, give or take a tenth, and every further one twice as long.
LONGEST_FIRST_COOLDOWN_S: Final = 11.0
RECOVERY_S: Final = 2.0
HEALTH: Final = "/trueportai-services/api/v1/routes/health"
LISTENING: Final = ("dead", "revived", "alone", "long-dead")
REFUSING: Final = ("refusing", "visible", "neighbours")
DIALECTS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"input": "Hi"},
    "/anthropic/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "/google/v1beta/models/{model}:generateContent": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "/google/v1beta/models/{model}:streamGenerateContent?alt=sse": {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]
    },
}


@dataclass
class Listener:
    """A provider's address: resets every connection and counts them, or, once `is_well`, answers."""

    port: int
    is_well: bool = False
    connections: int = 0
    at_s: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Listener"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1_000)
        try:
            yield self
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.at_s.append(time.monotonic())
        if not self.is_well:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()


_ANSWER: Final = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "back"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


@dataclass
class Cluster:
    """Four workers with Redis, two tenants that use the same provider, and addresses where nobody is well."""

    place: Installation
    redis: RedisServer
    ours: TenantAccess
    theirs: TenantAccess
    ports: dict[str, int]

    def circuits(self, tenant: TenantAccess) -> dict[str, dict[str, Any]]:
        """What the management API shows, by credential."""
        status, shown = self.place.ask(HEALTH, token=tenant.token)
        assert status == 200, shown
        return {entry["credential"]: entry for entry in shown["data"]}

    def metrics(self) -> dict[str, float]:
        lines = fetch(f"{self.place.url}/metrics").decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    ports = {name: free_port() for name in (*LISTENING, *REFUSING)}
    settings = {"TRUEPORT_WORKERS": str(WORKERS), "TRUEPORT_BREAKER_FAILURES": "5", "WRONG_KEY": "sk-invalid"}
    with (
        private_redis() as redis,
        installation(tmp_path_factory.mktemp("breakers") / "data", TRUEPORT_REDIS_URL=redis.url, **settings) as place,
    ):
        # Running beside the commands, so that none of them has to start it.
        database = EmbeddedMongo(place.data_dir)
        database.start()
        try:
            place.set_up()
            configuration = _configuration(place, ports)
            place.configure(**configuration)
        finally:
            database.stop()
        place.serve()
        ours = TenantAccess(place.tenant, place.key, place.scoped_token())
        yield Cluster(place, redis, ours, further_tenant(place, "neighbour", **configuration), ports)


def _configuration(place: Installation, ports: dict[str, int]) -> dict[str, Any]:
    """The same for both tenants: every credential with a route of its name. Some addresses are never listened at."""
    simulator: dict[str, Any] = {
        "provider": "openai",
        "base_url": f"{place.simulator.url}/v1",
        "secret": {"env": "SIM_KEY"},
    }
    credentials = {
        "sim": simulator,
        # The same host by another name, so that its circuit is another one.
        "by-name": {**simulator, "base_url": f"http://localhost:{place.simulator.port}/v1"},
        "wrong-key": {**simulator, "secret": {"env": "WRONG_KEY"}},
        **{name: {**simulator, "base_url": f"http://127.0.0.1:{port}/v1"} for name, port in ports.items()},
    }
    routes = [{"match": {"model": name}, "targets": [{"credential": name}]} for name in credentials]
    routes.append({"match": {"model": "stubborn"}, "targets": [{"credential": "refusing", "retries": 2}]})
    return {"credentials": credentials, "routes": routes}


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told, and when."""

    status: int
    code: str | None
    attempts: str
    body: bytes
    headers: dict[str, str]
    took_s: float
    at_s: float


async def ask(
    session: aiohttp.ClientSession, cluster: Cluster, tenant: TenantAccess, model: str, prompt: str = "Hi"
) -> Told:
    return await post(session, cluster, tenant, "/v1/chat/completions", chat(prompt) | {"model": model})


async def post(
    session: aiohttp.ClientSession, cluster: Cluster, tenant: TenantAccess, path: str, body: dict[str, Any]
) -> Told:
    started_s = time.monotonic()
    headers = {"authorization": f"Bearer {tenant.key}"}
    async with session.post(f"{cluster.place.url}{path}", json=body, headers=headers) as reply:
        content = await reply.read()
        error = json.loads(content)["error"] if reply.status >= 400 else {}
        now_s = time.monotonic()
        told = {name.lower(): value for name, value in reply.headers.items()}
        return Told(
            reply.status, error.get("code"), told["x-trueport-attempts"], content, told, now_s - started_s, now_s
        )


@asynccontextmanager
async def fresh_connections() -> AsyncIterator[aiohttp.ClientSession]:
    """A connection for each call, so that every worker gets some."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        yield session


async def load(
    cluster: Cluster,
    tenant: TenantAccess,
    model: str,
    *,
    per_s: float,
    for_s: float,
    until: Callable[[], bool] | None = None,
) -> list[Told]:
    """Calls at a steady rate whatever becomes of them; ends early once `until` holds."""
    calls: list[asyncio.Task[Told]] = []
    async with fresh_connections() as session:
        started_s = time.monotonic()
        for number in range(int(per_s * for_s)):
            if until is not None and until():
                break
            await asyncio.sleep(started_s + number / per_s - time.monotonic())
            calls.append(asyncio.create_task(ask(session, cluster, tenant, model)))
        return await asyncio.gather(*calls)


def most_at_once(told: Sequence[Told]) -> int:
    """How many of these calls were under way at one moment."""
    begins = [(each.at_s - each.took_s, 1) for each in told]
    ends = [(each.at_s, -1) for each in told]
    return max(accumulate(change for _, change in sorted(begins + ends)))


# --- a dead provider


async def test_a_dead_provider_gets_few_calls_and_then_one_for_each_cool_down(cluster: Cluster) -> None:
    async with Listener(cluster.ports["dead"]).running() as dead:
        told = await load(cluster, cluster.ours, "dead", per_s=PER_S, for_s=LONGEST_FIRST_COOLDOWN_S + 1.5)
        at_the_end = cluster.circuits(cluster.ours)["dead"]

        # Other credentials, and the same address for another tenant, are not held back.
        async with fresh_connections() as session:
            assert (await ask(session, cluster, cluster.ours, "sim")).status == 200
            theirs = await ask(session, cluster, cluster.theirs, "dead")
        assert (theirs.status, theirs.code) == (502, "upstream_connect")

    opened_s = min(each.at_s for each in told if each.status == 503)
    before = [at_s for at_s in dead.at_s if at_s < opened_s + 1]
    after = [at_s for at_s in dead.at_s if opened_s + 1 <= at_s <= told[-1].at_s]
    print(f"{len(before)} calls before the circuit opened, {len(after)} after, of {len(told)}")  # noqa: T201
    # Where the machine stood still, the calls it owed came all at once, and were on their way when the circuit opened.
    on_their_way = most_at_once([each for each in told if each.at_s - each.took_s < opened_s])
    assert 5 <= len(before) <= max(MOST_BEFORE_OPEN, 5 + on_their_way)
    # One cool-down has passed; the probe found that nothing is better.
    assert len(after) == 1
    assert {(each.status, each.code) for each in told} == {(502, "upstream_connect"), (503, "circuit_open")}
    assert (at_the_end["state"], at_the_end["mode"]) == ("open", "redis")
    # The second cool-down is longer than the first can be.
    assert at_the_end["retry_after_ms"] > LONGEST_FIRST_COOLDOWN_S * 1_000


async def test_an_open_circuit_can_be_seen_everywhere(cluster: Cluster) -> None:
    before = cluster.metrics()
    async with fresh_connections() as session:
        for _ in range(12):
            await ask(session, cluster, cluster.ours, "visible")

    shown = cluster.circuits(cluster.ours)
    assert (shown["visible"]["state"], shown["visible"]["pinned"]) == ("open", None)
    assert 0 < shown["visible"]["retry_after_ms"] <= LONGEST_FIRST_COOLDOWN_S * 1_000
    assert shown["sim"]["state"] == "closed"
    with inspector(cluster.redis.url) as redis:
        states = {name.decode(): redis.get(name) for name in redis.scan_iter("circuit_breaker:*:state")}
    assert all(re.fullmatch(r"circuit_breaker:custom:[0-9a-f]{16}:state", name) for name in states)
    assert b"open" in states.values()
    until_s = time.monotonic() + PATIENCE_S
    while not _is_counted(before, now := cluster.metrics()):
        assert time.monotonic() < until_s, {name: value for name, value in now.items() if "circuit" in name}
        await asyncio.sleep(0.2)
    status, ready = cluster.place.ask("/readyz")
    assert status == 200
    assert "circuits" in str(ready)


def _is_counted(before: dict[str, float], now: dict[str, float]) -> bool:
    return (
        now["trueport_circuits_open"] >= 1
        and now["trueport_circuit_openings"] > before["trueport_circuit_openings"]
        and now["trueport_circuit_denials"] > before["trueport_circuit_denials"]
    )


async def test_a_provider_that_is_back_is_used_within_its_cool_down_and_two_seconds(cluster: Cluster) -> None:
    listener = Listener(cluster.ports["revived"])
    async with listener.running():
        dead = await load(cluster, cluster.ours, "revived", per_s=40, for_s=1.5)
        assert dead[-1].code == "circuit_open"
        opened_s = next(each.at_s for each in dead if each.code == "circuit_open")
        listener.is_well = True
        told = await load(cluster, cluster.ours, "revived", per_s=40, for_s=LONGEST_FIRST_COOLDOWN_S + RECOVERY_S)
        good = [each.at_s for each in told if each.status == 200]
        last = told[-20:]

    assert good
    assert min(good) - opened_s <= LONGEST_FIRST_COOLDOWN_S + RECOVERY_S
    assert {each.status for each in last} == {200}
    assert cluster.circuits(cluster.ours)["revived"]["state"] == "closed"


async def test_when_nobody_is_left_to_ask_every_dialect_says_so_at_once(cluster: Cluster) -> None:
    async with fresh_connections() as session:
        for _ in range(12):
            await ask(session, cluster, cluster.ours, "refusing")
        told = [
            await post(
                session,
                cluster,
                cluster.ours,
                path.format(model="refusing"),
                {"model": "refusing", **body} if "{" not in path else body,
            )
            for path, body in DIALECTS.items()
        ]
        stubborn = await ask(session, cluster, cluster.ours, "stubborn")

    for path, each in zip(DIALECTS, told, strict=True):
        assert each.status == 503, path
        assert b"circuit_open" in each.body.lower(), path
        assert 1 <= int(each.headers["retry-after"]) <= LONGEST_FIRST_COOLDOWN_S, path
        # Nobody was waited for; the bound is that of a busy machine.
        assert each.took_s < 1
    # A circuit that is open is no reason to try the same target again.
    assert (stubborn.code, stubborn.attempts) == ("circuit_open", "1")


# --- what one tenant does


async def test_what_one_tenant_does_to_its_account_leaves_all_others_alone(cluster: Cluster) -> None:
    """A bad key, an address where nobody is, an exhausted account and a provider that fails for one tenant."""
    misery = {
        "wrong-key": "Hi",
        "neighbours": "Hi",
        "sim": "[[fault: status=429]]",
        "by-name": "[[fault: status=500]]",
    }
    async with fresh_connections() as session:
        seen = {}
        for model, prompt in misery.items():
            told = [await ask(session, cluster, cluster.theirs, model, prompt) for _ in range(15)]
            seen[model] = Counter((each.status, each.code) for each in told)
        ours = {model: await ask(session, cluster, cluster.ours, model) for model in ("sim", "by-name")}
        # The account that is over its limit is not broken, and one bad key says nothing about the host.
        theirs = {model: await ask(session, cluster, cluster.theirs, model) for model in ("sim", "by-name")}

    assert set(seen["wrong-key"]) == {(502, "upstream_auth")}
    assert {status for status, _ in seen["sim"]} == {429}
    assert (503, "circuit_open") in seen["neighbours"]
    assert (503, "circuit_open") in seen["by-name"]
    assert {model: each.status for model, each in ours.items()} == {"sim": 200, "by-name": 200}
    assert {model: each.status for model, each in theirs.items()} == {"sim": 200, "by-name": 503}
    states = {name: entry["state"] for name, entry in cluster.circuits(cluster.theirs).items()}
    assert (states["by-name"], states["neighbours"], states["sim"], states["wrong-key"]) == (
        "open", "open", "closed", "closed",
    )  # fmt: skip
    own = {name: entry["state"] for name, entry in cluster.circuits(cluster.ours).items()}
    assert (own["by-name"], own["sim"], own["wrong-key"]) == ("closed", "closed", "closed")


# --- without Redis


async def test_without_redis_each_process_keeps_circuits_of_its_own_and_says_so(cluster: Cluster) -> None:
    async with Listener(cluster.ports["alone"]).running() as dead, fresh_connections() as session:
        cluster.redis.kill()
        try:
            told = [await ask(session, cluster, cluster.ours, "alone") for _ in range(80)]
            modes = {cluster.circuits(cluster.ours)["alone"]["mode"] for _ in range(20)}
            _, ready = await asyncio.to_thread(cluster.place.ask, "/readyz")
        finally:
            cluster.redis.start()
    until_s = time.monotonic() + PATIENCE_S
    while _modes(cluster) != {"redis"}:
        assert time.monotonic() < until_s, "not every worker asks Redis again"
        await asyncio.sleep(0.2)

    assert {(each.status, each.code) for each in told} == {(502, "upstream_connect"), (503, "circuit_open")}
    assert 5 <= dead.connections <= WORKERS * 5
    assert modes == {"local"}
    assert (ready["status"], ready["checks"]["circuits"]) == ("degraded", "degraded")


def _modes(cluster: Cluster) -> set[str]:
    """Who decides, as told by whichever workers answer twenty questions."""
    return {cluster.circuits(cluster.ours)["sim"]["mode"] for _ in range(20)}


# --- longer


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_provider_that_stays_dead_for_minutes_gets_nothing_but_probes(cluster: Cluster) -> None:
    for_s = 200.0
    async with Listener(cluster.ports["long-dead"]).running() as dead:
        told = await load(cluster, cluster.ours, "long-dead", per_s=PER_S, for_s=for_s)

    # Cool-downs of 10, 20, 40 and 80 s fit into it.
    assert dead.connections <= MOST_BEFORE_OPEN + 4
    assert Counter(each.code for each in told)["upstream_connect"] == dead.connections
