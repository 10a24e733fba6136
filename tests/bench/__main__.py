"""Paired rounds, gateway and direct in one run; medians. Figures of different runs are not to be compared."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import uvloop

from tests.bench.driver import Measured, request_bytes, run
from tests.support.installation import Installation, installation

EVENTS = 50


@dataclass(frozen=True)
class Round:
    """One paired round. CPU in microseconds, latencies in milliseconds."""

    gateway_cpu_us_per_call: float
    database_cpu_us_per_call: float
    added_p50_ms: float
    added_p99_ms: float
    direct_p50_ms: float
    gateway_cpu_us_per_event: float
    failed: int


@dataclass(frozen=True)
class Requests:
    """The bytes to send: through the gateway, to the provider directly, and streamed through the gateway."""

    via: bytes
    direct: bytes
    via_stream: bytes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls, for a first look")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=0, help="plain calls in each half of a round")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    calls = options.calls or (600 if options.quick else 3_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(Path(folder) / "data", TRUEPORT_SPOOL_SEGMENT_MIB="64") as place,
    ):
        place.set_up()
        place.serve()
        pin(place)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rounds, idle_mib, loaded_mib = runner.run(measure(place, options.rounds, calls, options.connections))
    report(rounds, idle_mib, loaded_mib, calls, options.connections, as_json=options.as_json)
    if any(one.failed for one in rounds):
        sys.exit("some calls failed")


def gateway_processes(place: Installation) -> list[psutil.Process]:
    assert place.server is not None
    parent = psutil.Process(place.server.pid)
    return [parent, *(child for child in parent.children(recursive=True) if not _is_database(child))]


def database_processes(place: Installation) -> list[psutil.Process]:
    assert place.server is not None
    return [child for child in psutil.Process(place.server.pid).children(recursive=True) if _is_database(child)]


def _is_database(process: psutil.Process) -> bool:
    return any("secantusd" in part for part in process.cmdline())


def pin(place: Installation) -> None:
    """Gateway on one core, everything else on the other, where there are two."""
    if (os.cpu_count() or 1) < 2:
        return
    for process in gateway_processes(place):
        process.cpu_affinity([0])
    for process in (*database_processes(place), psutil.Process(place.simulator.process.pid), psutil.Process()):
        process.cpu_affinity([1])


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def memory_mib(processes: Iterable[psutil.Process]) -> float:
    return sum(process.memory_info().rss for process in processes) / (1 << 20)


async def measure(place: Installation, rounds: int, calls: int, connections: int) -> tuple[list[Round], float, float]:
    gateway = gateway_processes(place)
    idle_mib = memory_mib(gateway)
    prompt = "x" * 380 + " [[tokens: 60]]"
    plain = json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": prompt}]}).encode()
    streamed = json.dumps(
        {"model": "sim-model", "stream": True,
         "messages": [{"role": "user", "content": f"[[tokens: {EVENTS}]] [[pace: 1ms]]"}]}
    ).encode()  # fmt: skip
    via = request_bytes(place.port, place.key, plain)
    direct = request_bytes(place.simulator.port, "sk-direct", plain)
    via_stream = request_bytes(place.port, place.key, streamed)
    await run(place.port, via, calls=calls // 3, connections=connections)
    await run(place.simulator.port, direct, calls=calls // 3, connections=connections)
    requests = Requests(via, direct, via_stream)
    found = [await _round(place, requests, calls, connections) for _ in range(rounds)]
    return found, idle_mib, memory_mib(gateway)


async def _round(place: Installation, requests: Requests, calls: int, connections: int) -> Round:
    gateway, database = gateway_processes(place), database_processes(place)
    via, direct, via_stream = requests.via, requests.direct, requests.via_stream
    before_s, database_before_s = cpu_s(gateway), cpu_s(database)
    load = await run(place.port, via, calls=calls, connections=connections)
    # Shipping runs behind the calls and belongs to their price.
    await asyncio.sleep(1.5)
    cpu_us = (cpu_s(gateway) - before_s) * 1e6 / calls
    database_us = (cpu_s(database) - database_before_s) * 1e6 / calls
    slow_calls = max(calls // 20, 30)
    slow: Measured = await run(place.port, via, calls=slow_calls, connections=2, pause_s=0.02)
    plain: Measured = await run(place.simulator.port, direct, calls=slow_calls, connections=2, pause_s=0.02)
    streams = max(calls // 20, connections)
    before_s = cpu_s(gateway)
    flowing = await run(place.port, via_stream, calls=streams, connections=connections)
    event_us = (cpu_s(gateway) - before_s) * 1e6 / (streams * EVENTS)
    return Round(
        gateway_cpu_us_per_call=cpu_us,
        database_cpu_us_per_call=database_us,
        added_p50_ms=slow.quantile_ms(0.5) - plain.quantile_ms(0.5),
        added_p99_ms=slow.quantile_ms(0.99) - plain.quantile_ms(0.99),
        direct_p50_ms=plain.quantile_ms(0.5),
        gateway_cpu_us_per_event=event_us,
        failed=load.failed + slow.failed + plain.failed + flowing.failed,
    )


def report(
    rounds: list[Round], idle_mib: float, loaded_mib: float, calls: int, connections: int, *, as_json: bool
) -> None:
    medians = {name: statistics.median(getattr(one, name) for one in rounds) for name in asdict(rounds[0])}
    if as_json:
        print(json.dumps({"rounds": [asdict(one) for one in rounds], "medians": medians,
                          "idle_mib": idle_mib, "loaded_mib": loaded_mib}))  # fmt: skip
        return
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {calls} calls a round, {connections} connections.\n"
        "On: key, limits in process, intent and outcome in the journal (strict), sealed content, shipping to the\n"
        "embedded database, metrics. The gateway has a core of its own where there are two.\n"
    )
    header = ("round", "gateway CPU", "database CPU", "added p50", "added p99", "direct p50", "CPU/event", "failed")
    print("{:>7} {:>12} {:>13} {:>10} {:>10} {:>11} {:>10} {:>7}".format(*header))
    for name, one in [*((str(n), asdict(r)) for n, r in enumerate(rounds, start=1)), ("median", medians)]:
        print(
            f"{name:>7} {one['gateway_cpu_us_per_call']:>9.0f} us {one['database_cpu_us_per_call']:>10.0f} us "
            f"{one['added_p50_ms']:>7.2f} ms {one['added_p99_ms']:>7.2f} ms {one['direct_p50_ms']:>8.2f} ms "
            f"{one['gateway_cpu_us_per_event']:>7.1f} us {one['failed']:>7.0f}"
        )
    print(f"\nMemory of the gateway: {idle_mib:.0f} MiB idle, {loaded_mib:.0f} MiB after the load.")


if __name__ == "__main__":
    main()
