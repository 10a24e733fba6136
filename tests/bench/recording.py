"""What the trail costs and how fast it is: `python -m tests.bench.recording`. Each figure stands beside its aim.

The gateway runs in this process, so that the same call can be made with and without recording in turn; database and
simulated provider are processes of their own.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.support.archives import Archive, archive_of, public_keys, records_by
from tests.support.installation import Installation, installation
from trueport.app import create_app, installed_domains
from trueport.audit.canonical import parse
from trueport.audit.shipper import Shipper
from trueport.audit.spool import Spool
from trueport.audit.verifier import verify
from trueport.domains.analytics.api import MongoSink
from trueport.domains.audit.sequencing import Backlog
from trueport.domains.auth.api import work_scope
from trueport.domains.proxy.http import GatewayApp
from trueport.gateway.call import Admitted, Call, Caller, Outcome
from trueport.gateway.ports import Tools
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.clock import SystemClock, from_epoch_us
from trueport.kit.deadline import Deadline
from trueport.kit.ids import TenantId
from trueport.lifespan import open_resources
from trueport.settings import Settings, load_settings
from trueport.storage.documents import open_store
from trueport.storage.mongo import Database
from trueport.web.domain import Resources

PROVIDER_MS: Final = 20
AT_ONCE: Final = 8
_PAUSE_S: Final = 0.01
_PATIENCE_S: Final = 90.0


@dataclass(frozen=True)
class Figure:
    """Something measured, and what it should be: at most or at least `aim`."""

    name: str
    value: float
    unit: str
    aim: float
    is_most: bool = True

    @property
    def is_met(self) -> bool:
        return self.value <= self.aim if self.is_most else self.value >= self.aim

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "is_met": self.is_met}

    def line(self) -> str:
        bound = "at most" if self.is_most else "at least"
        verdict = "met" if self.is_met else "NOT met"
        value, aim = _number(self.value), _number(self.aim)
        return f"{self.name:<62}{value:>9} {self.unit:<10} aim: {bound} {aim} {self.unit}, {verdict}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


@dataclass(frozen=True)
class Plan:
    """`pairs` of calls, `records` to ship, `load_s` of steady load for the age of records, `archived` calls."""

    pairs: int = 300
    records: int = 10_000
    load_s: float = 10.0
    calls_per_s: int = 40
    archived: int = 10_000


QUICK: Final = Plan(pairs=60, records=2_000, load_s=3.0, archived=2_000)
SMALLEST: Final = Plan(pairs=5, records=200, load_s=0.5, calls_per_s=10, archived=100)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recording", description=__doc__)
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--quick", action="store_true", help="a first look")
    parser.add_argument("--smallest", action="store_true", help="hardly anything, to see that it runs")
    options = parser.parse_args()
    plan = SMALLEST if options.smallest else QUICK if options.quick else Plan()
    figures = measure(plan)
    if options.as_json:
        found = [figure.as_json() for figure in figures]
        print(json.dumps({"python": sys.version.split()[0], "cores": os.cpu_count(), "figures": found}))
    else:
        print_lines(figures)


def print_lines(figures: list[Figure]) -> None:
    print(f"Recording, on {os.cpu_count()} cores with the embedded database:")
    for figure in figures:
        print(figure.line())


def measure(plan: Plan) -> list[Figure]:
    """All figures. Takes about half a minute with the usual plan."""
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(Path(folder) / "data", TRUEPORT_SPOOL_SEGMENT_MIB="64") as place,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        place.set_up()
        settings = load_settings(place.environment)
        figures = runner.run(_served(place, settings, plan))
    return [*figures, _verifying(plan.archived)]


async def _served(place: Installation, settings: Settings, plan: Plan) -> list[Figure]:
    async with _house(settings) as (gateway, resources):
        tools = gateway.tools
        assert tools is not None
        path = partial(_request_path, gateway, tools, place.key)
        usual, usual_p99 = await path(3 * plan.pairs, delay_ms=PROVIDER_MS, at_once=AT_ONCE)
        alone, _ = await path(plan.pairs, delay_ms=PROVIDER_MS, at_once=1)
        # Waiting for a provider is when the disk works: with one that answers at once, the disk is waited for.
        hasty, _ = await path(plan.pairs, delay_ms=0, at_once=1)
        oldest_s, slow_s = await _ages(gateway, resources, place, plan)
        # From here on the job leaves what is shipped to `_ordering`, which would else wait for what it never gets.
        resources.part(Backlog)._sweep_at_s = math.inf
        rate = await _shipping(settings, resources.database, gateway, tools, place.key, plan.records)
        ordered = await _ordering(resources, place, plan.records)
    return [
        Figure(f"on the path of a call, provider in {PROVIDER_MS} ms, {AT_ONCE} at once, median", usual, "ms", 0.3),
        Figure(f"on the path of a call, provider in {PROVIDER_MS} ms, {AT_ONCE} at once, p99", usual_p99, "ms", 10),
        Figure(f"on the path of a call, provider in {PROVIDER_MS} ms, one by one, median", alone, "ms", 0.3),
        Figure("on the path of a call, provider at once, one by one, median", hasty, "ms", 0.3),
        Figure("shipped by one worker", rate, "records/s", 2_000, is_most=False),
        Figure("ordered and signed by one worker", ordered, "records/s", 2_000, is_most=False),
        Figure("age of a record when it is under a signed checkpoint, p99", slow_s, "s", 10),
        Figure("age of a record when it is under a signed checkpoint, most", oldest_s, "s", 60),
    ]


@asynccontextmanager
async def _house(settings: Settings) -> AsyncIterator[tuple[GatewayApp, Resources]]:
    """Gateway, shipper and the jobs of the trail, in this process."""
    gateway = GatewayApp()
    opened: list[Resources] = []

    @asynccontextmanager
    async def opening(given: Settings) -> AsyncIterator[Resources]:
        async with open_resources(given, gateway=gateway) as resources:
            opened.append(resources)
            yield resources

    app = create_app(settings, installed_domains(settings.domains), open_resources=opening)
    async with app.lifespan():
        # As a worker process is set up.
        sys.setswitchinterval(0.001)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        yield gateway, opened[0]


class Unrecorded:
    """A Recorder that records nothing: what a call costs without one."""

    waits_before_upstream = False
    receipt = ""

    async def intent(self, admitted: Admitted) -> "Unrecorded":  # noqa: ARG002 - a Recorder's
        return self

    def refused(self, call: Call, caller: Caller, snapshot: TenantSnapshot, outcome: Outcome) -> str:  # noqa: ARG002
        return ""

    async def settled(self) -> None: ...
    async def durable(self) -> None: ...
    def close(self, outcome: Outcome) -> None: ...


async def _call(gateway: GatewayApp, key: str, prompt: str) -> float:
    """One call, carried by the gateway without a server in front; how many seconds it took."""
    body = json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": prompt}]}).encode()
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        if not given.is_set():
            given.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    given = asyncio.Event()
    headers = [
        (b"host", b"127.0.0.1"), (b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers,
             "client": ("127.0.0.1", 1)}  # fmt: skip
    started_s = time.perf_counter()
    await gateway(scope, receive, send)
    took_s = time.perf_counter() - started_s
    assert status == [200], status
    return took_s


async def _request_path(
    gateway: GatewayApp, tools: Tools, key: str, pairs: int, *, delay_ms: int, at_once: int
) -> tuple[float, float]:
    """Milliseconds that recording adds to a call: the median over pairs, and the difference of 99th percentiles.

    Each of `at_once` clients makes a call with and one without in turn, which are a pair.
    """
    kinds = {True: tools, False: replace(tools, recorder=Unrecorded())}
    took_s: dict[bool, list[float]] = {True: [], False: []}
    prompt = "x" * 380 + " [[tokens: 120]]" + (f"[[fault: delay={delay_ms}ms]]" if delay_ms else "")

    async def client(count: int) -> None:
        for number in range(count + count // 5):
            pair_s: dict[bool, float] = {}
            for is_recorded in (True, False) if number % 2 else (False, True):
                # The gateway takes its tools before it waits for anything.
                gateway.tools = kinds[is_recorded]
                pair_s[is_recorded] = await _call(gateway, key, prompt)
                await asyncio.sleep(_PAUSE_S)
            if number >= count // 5:
                for is_recorded, spent_s in pair_s.items():
                    took_s[is_recorded].append(spent_s)

    await asyncio.gather(*(client(max(pairs // at_once, 5)) for _ in range(at_once)))
    gateway.tools = tools
    recorded, other = (sorted(took_s[kind]) for kind in (True, False))
    last = int(len(recorded) * 0.99)
    added_s = [with_s - without_s for with_s, without_s in zip(took_s[True], took_s[False], strict=True)]
    return statistics.median(added_s) * 1e3, (recorded[last] - other[last]) * 1e3


async def _ages(gateway: GatewayApp, resources: Resources, place: Installation, plan: Plan) -> tuple[float, float]:
    """Seconds from a record to the first signed checkpoint that it is under: the most, and the 99th percentile."""
    since = resources.clock.now()
    calls = []
    for _ in range(int(plan.load_s * plan.calls_per_s)):
        calls.append(asyncio.create_task(_call(gateway, place.key, "x" * 380 + " [[tokens: 120]]")))
        await asyncio.sleep(1 / plan.calls_per_s)
    await asyncio.gather(*calls)
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        ages = await _ages_since(resources.database, place.access["tenant_id"], since)
        if len(ages) >= 2 * len(calls):
            return ages[-1], ages[int(len(ages) * 0.99)]
        assert time.monotonic() < deadline_s, "the records are not under a checkpoint"
        await asyncio.sleep(0.2)


async def _ages_since(database: Database, tenant_id: str, since: datetime) -> list[float]:
    own = {"tenant_id": tenant_id}
    batches = await database["audit_batches"].find(own).to_list()
    checkpoints = sorted(
        [(one["size"], one["created_at"]) for one in await database["audit_checkpoints"].find(own).to_list()]
    )
    sizes = [size for size, _ in checkpoints]
    placed = {name: batch["start"] + number for batch in batches for number, name in enumerate(batch["ids"])}
    ages: list[float] = []
    for record in await database["audit_records"].find(own).to_list():
        at = from_epoch_us(parse(record["canonical"])["at"])
        place = placed.get(record["_id"])
        signed = bisect_left(sizes, place + 1) if place is not None else len(sizes)
        if at >= since and signed < len(sizes):
            ages.append((checkpoints[signed][1] - at).total_seconds())
    return sorted(ages)


async def _shipping(
    settings: Settings, database: Database, gateway: GatewayApp, tools: Tools, key: str, records: int
) -> float:
    """Records a second that one shipper brings into the database, of calls as they are: two each, with content."""
    recorder: Any = tools.recorder
    own = recorder._spool
    root = settings.data_dir / "bench-spool"
    spool = Spool(root, clock=SystemClock(), segment_bytes=64 << 20, capacity_bytes=1 << 30)
    recorder._spool = spool
    try:
        for start in range(0, records // 2, 50):
            await asyncio.gather(
                *(
                    _call(gateway, key, "x" * 380 + " [[tokens: 120]]")
                    for _ in range(start, min(start + 50, records // 2))
                )
            )
    finally:
        recorder._spool = own
    sink = MongoSink(database, open_store(settings.storage_url, settings.data_dir))
    shipper = Shipper(spool, root, sink)
    started_s = time.perf_counter()
    assert await shipper.drain(Deadline.after(_PATIENCE_S))
    took_s = time.perf_counter() - started_s
    spool.close(is_shipped=True)
    return records / took_s


async def _ordering(resources: Resources, place: Installation, records: int) -> float:
    """Records a second that get a place and a checkpoint, when so many wait."""
    backlog = resources.part(Backlog)
    started_s = time.perf_counter()
    log = backlog._log(work_scope(TenantId(place.access["tenant_id"])))
    ordered = 0
    while ordered < records // 2:
        ordered += await log.advance()
        assert time.perf_counter() - started_s < _PATIENCE_S, ordered
    return ordered / (time.perf_counter() - started_s)


def _verifying(calls: int) -> Figure:
    """Records a second that one core checks, all of them in one segment."""
    records = records_by(random.Random(1), calls)
    objects, _ = archive_of(records, [len(records)])
    archive = Archive(objects, tuple(records), (len(records),), (), ())
    started_s = time.process_time()
    report = verify(archive, public_keys())
    took_s = time.process_time() - started_s
    assert not report.problems
    return Figure("read by the verifier", report.records / took_s, "records/s", 20_000, is_most=False)


if __name__ == "__main__":
    main()
