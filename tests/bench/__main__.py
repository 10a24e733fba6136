"""Paired rounds, gateway and direct in one run; medians. Figures of different runs are not to be compared."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from tests.bench import recording
from tests.bench.driver import Measured, Streamed, held_streams, request_bytes, run, stream_in_pairs
from tests.bench.readings import all_shipped, cpu_s, database_processes, gateway_processes, memory_mib, pin
from tests.support.installation import Installation, installation

EVENTS = 50
SLOW_CONNECTIONS = 2
SLOW_PAUSE_S = 0.02
FEW_EVENTS = 10
FIRST_EVENT_WITHIN_MS = 2.0
CONDITIONS = (
    "On: API key, a rate limit in process, journal in strict mode (intent durable before the answer), sealed content\n"
    "of request and answer, shipping to the embedded database, interaction log, prices, metrics; one worker.\n"
    "Off: TLS to the provider, Redis, policies."
)


@dataclass(frozen=True)
class Plan:
    """How much is sent. `calls` back to back in each half of a round, `slow_calls` of them at a low rate.

    `pairs` of streams run one after the other, through the gateway and directly in turn.
    """

    rounds: int
    calls: int
    slow_calls: int
    streams: int
    pairs: int
    held: int
    connections: int


@dataclass(frozen=True)
class Round:
    """One paired round. CPU in microseconds, of everything a call causes until its records are shipped.

    `added_first_event_ms` is the median, over pairs of streams, of the time to the first event through the gateway
    minus that of the direct one. The shares are those of the events that came alone and not with the one before.
    """

    gateway_cpu_us_per_call: float
    database_cpu_us_per_call: float
    gateway_calls_per_s: float
    direct_calls_per_s: float
    added_p50_ms: float
    added_p99_ms: float
    direct_p50_ms: float
    gateway_cpu_us_per_event: float
    added_first_event_ms: float
    direct_first_event_ms: float
    events_alone_share: float
    direct_events_alone_share: float
    loaded_mib: float
    failed: int


@dataclass(frozen=True)
class Found:
    """What a whole run found. `held_stream_kib` is the gateway's memory for one more open stream."""

    rounds: list[Round]
    idle_mib: float
    held_stream_kib: float
    is_pinned: bool

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(getattr(one, name) for one in self.rounds) for name in asdict(self.rounds[0])}


@dataclass(frozen=True)
class Requests:
    """The bytes to send: through the gateway, to the provider directly, streamed, and streamed without an end.

    The two that are paced give their few events so slowly that each has left before the next is made.
    """

    via: bytes
    direct: bytes
    via_stream: bytes
    via_endless: bytes
    via_paced: bytes
    direct_paced: bytes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls, for a first look")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=0, help="plain calls in each half of a round")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    calls = options.calls or (600 if options.quick else 3_000)
    plan = Plan(
        rounds=options.rounds,
        calls=calls,
        slow_calls=max(calls // 10, 30),
        streams=max(calls // 20, options.connections),
        pairs=max(calls // 20, 10),
        # More than there were calls at once before, whose memory is free to be taken again.
        held=8 * options.connections,
        connections=options.connections,
    )
    with serving() as place, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(place, plan))
    trail = recording.Plan() if calls >= 3_000 else recording.QUICK if calls >= 600 else recording.SMALLEST
    figures = recording.measure(trail)
    if options.as_json:
        print_json(found, plan, figures)
    else:
        print_table(found, plan)
        print()
        recording.print_lines(figures)
    if any(one.failed for one in found.rounds):
        sys.exit("some calls failed")


@contextmanager
def serving() -> Iterator[Installation]:
    """An installation as it comes, with journal segments larger than those of the tests."""
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(Path(folder) / "data", TRUEPORT_SPOOL_SEGMENT_MIB="64") as place,
    ):
        # A limit that is never reached, so that it is counted against like any other.
        place.set_up(requests_per_minute=1_000_000)
        place.serve()
        yield place


async def measure(place: Installation, plan: Plan) -> Found:
    is_pinned = pin(place)
    requests = make_requests(place)
    idle_mib = memory_mib(gateway_processes(place))
    await run(place.port, requests.via, calls=plan.calls // 3, connections=plan.connections)
    await run(place.simulator.port, requests.direct, calls=plan.calls // 3, connections=plan.connections)
    await run(place.port, requests.via_stream, calls=plan.connections, connections=plan.connections)
    await all_shipped(place)
    rounds = [await measure_round(place, requests, plan) for _ in range(plan.rounds)]
    return Found(rounds, idle_mib, await held_stream_kib(place, requests, plan.held), is_pinned)


def make_requests(place: Installation) -> Requests:
    """Half a kilobyte to ask, about one to answer."""
    plain = chat("x" * 380 + " [[tokens: 120]]")
    streamed = chat(f"[[tokens: {EVENTS}]] [[pace: 1ms]]", stream=True)
    endless = chat("[[tokens: 1000]] [[pace: 200ms]]", stream=True)
    paced = chat(f"[[tokens: {FEW_EVENTS}]] [[pace: 4ms]]", stream=True)
    return Requests(
        via=request_bytes(place.port, place.key, plain),
        direct=request_bytes(place.simulator.port, "sk-direct", plain),
        via_stream=request_bytes(place.port, place.key, streamed),
        via_endless=request_bytes(place.port, place.key, endless),
        via_paced=request_bytes(place.port, place.key, paced),
        direct_paced=request_bytes(place.simulator.port, "sk-direct", paced),
    )


def chat(prompt: str, **members: object) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"model": "sim-model", "messages": messages, **members}).encode()


async def measure_round(place: Installation, requests: Requests, plan: Plan) -> Round:
    gateway, database = gateway_processes(place), database_processes(place)
    provider = place.simulator.port
    before_s, database_before_s = cpu_s(gateway), cpu_s(database)
    loaded = await run(place.port, requests.via, calls=plan.calls, connections=plan.connections)
    loaded_mib = memory_mib(gateway)
    # Shipping runs behind the calls and belongs to their price.
    await all_shipped(place)
    cpu_us = (cpu_s(gateway) - before_s) * 1e6 / plan.calls
    database_us = (cpu_s(database) - database_before_s) * 1e6 / plan.calls
    direct = await run(provider, requests.direct, calls=plan.calls, connections=plan.connections)
    slow = await run_slowly(place.port, requests.via, plan)
    slow_direct = await run_slowly(provider, requests.direct, plan)
    await all_shipped(place)
    before_s = cpu_s(gateway)
    flowing = await run(place.port, requests.via_stream, calls=plan.streams, connections=plan.connections)
    await all_shipped(place)
    event_us = (cpu_s(gateway) - before_s) * 1e6 / (plan.streams * EVENTS)
    paced, paced_direct = await stream_in_pairs(
        (place.port, requests.via_paced), (provider, requests.direct_paced), pairs=plan.pairs, pause_s=SLOW_PAUSE_S
    )
    return Round(
        gateway_cpu_us_per_call=cpu_us,
        database_cpu_us_per_call=database_us,
        gateway_calls_per_s=loaded.calls_per_s,
        direct_calls_per_s=direct.calls_per_s,
        added_p50_ms=slow.quantile_ms(0.5) - slow_direct.quantile_ms(0.5),
        added_p99_ms=slow.quantile_ms(0.99) - slow_direct.quantile_ms(0.99),
        direct_p50_ms=slow_direct.quantile_ms(0.5),
        gateway_cpu_us_per_event=event_us,
        added_first_event_ms=median_difference_ms(paced, paced_direct),
        direct_first_event_ms=statistics.median(paced_direct.firsts_s) * 1e3 if paced_direct.firsts_s else 0.0,
        events_alone_share=paced.alone_share,
        direct_events_alone_share=paced_direct.alone_share,
        loaded_mib=loaded_mib,
        failed=sum(part.failed for part in (loaded, direct, slow, slow_direct, flowing, paced, paced_direct)),
    )


def median_difference_ms(via: Streamed, direct: Streamed) -> float:
    """Milliseconds by which the first event of a stream comes later than that of its direct twin."""
    pairs = zip(via.firsts_s, direct.firsts_s, strict=True)
    differences_s = [through_s - straight_s for through_s, straight_s in pairs]
    return statistics.median(differences_s) * 1e3 if differences_s else 0.0


async def run_slowly(port: int, request: bytes, plan: Plan) -> Measured:
    return await run(port, request, calls=plan.slow_calls, connections=SLOW_CONNECTIONS, pause_s=SLOW_PAUSE_S)


async def held_stream_kib(place: Installation, requests: Requests, count: int) -> float:
    gateway = gateway_processes(place)
    before_mib = memory_mib(gateway)
    async with held_streams(place.port, requests.via_endless, count):
        return (memory_mib(gateway) - before_mib) * 1_024 / count


def print_json(found: Found, plan: Plan, figures: Sequence[recording.Figure]) -> None:
    machine = {"python": sys.version.split()[0], "cores": os.cpu_count(), "conditions": CONDITIONS}
    measured = {**asdict(found), "medians": found.medians(), "recording": [figure.as_json() for figure in figures]}
    print(json.dumps({**machine, "plan": asdict(plan), **measured}))


def print_table(found: Found, plan: Plan) -> None:
    medians = found.medians()
    pinned = "the gateway on a core of its own" if found.is_pinned else "nothing pinned"
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {pinned}.\n{CONDITIONS}\n")
    print(
        f"A round: {plan.calls} calls and {plan.streams} streams of {EVENTS} events on {plan.connections} connections, "
        f"and\n{plan.slow_calls} calls at a low rate for the latencies; {plan.pairs} pairs of streams for the first "
        "event.\n"
    )
    header = (
        "CPU/call",
        "database",
        "added p50",
        "added p99",
        "direct p50",
        "calls/s",
        "direct/s",
        "CPU/event",
        "failed",
    )
    print("  round" + "".join(f"{title:>12}" for title in header))
    for name, one in [*((str(n), asdict(r)) for n, r in enumerate(found.rounds, start=1)), ("median", medians)]:
        print(
            f"{name:>7}{one['gateway_cpu_us_per_call']:>9.0f} us{one['database_cpu_us_per_call']:>9.0f} us"
            f"{one['added_p50_ms']:>9.2f} ms{one['added_p99_ms']:>9.2f} ms{one['direct_p50_ms']:>9.2f} ms"
            f"{one['gateway_calls_per_s']:>12.0f}{one['direct_calls_per_s']:>12.0f}"
            f"{one['gateway_cpu_us_per_event']:>9.1f} us{one['failed']:>12.0f}"
        )
    slower = (medians["added_p50_ms"] + medians["direct_p50_ms"]) / medians["direct_p50_ms"]
    share = medians["gateway_calls_per_s"] / medians["direct_calls_per_s"]
    within = "within" if medians["added_first_event_ms"] <= FIRST_EVENT_WITHIN_MS else "NOT within"
    print(
        f"\nA stream's first event comes {medians['added_first_event_ms']:.2f} ms later than directly "
        f"({medians['direct_first_event_ms']:.2f} ms), which is {within} {FIRST_EVENT_WITHIN_MS:.0f} ms;\n"
        f"{medians['events_alone_share']:.1%} of the events come one by one, directly "
        f"{medians['direct_events_alone_share']:.1%}."
    )
    print(
        f"\nAgainst the direct path: {slower:.1f} times its p50, {share:.2f} of its calls a second.\n"
        f"Memory of the gateway: {found.idle_mib:.0f} MiB idle, {medians['loaded_mib']:.0f} MiB under load, "
        f"{found.held_stream_kib:.0f} KiB for each of {plan.held} held streams.\n"
        "CPU/call is all the gateway's processes do for a call until its records are shipped; CPU/event that of a\n"
        "whole stream, over its events."
    )


if __name__ == "__main__":
    main()
