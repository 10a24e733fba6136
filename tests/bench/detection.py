"""What a long prompt under detection costs everybody else: `python -m tests.bench.detection`.

Calls at a low rate, in turn while nothing else is to be done and while a prompt of 32,000 tokens is being scanned by
the embedded model; both kinds in one run, in slices, so that whatever else the machine does meets both alike.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

from tests.bench.driver import Measured, request_bytes, run
from tests.support.installation import Installation, installation

GOAL: Final = 1.20
TOKENS: Final = 32_000
CONNECTIONS: Final = 2
PAUSE_S: Final = 0.01
# Of one or two tokens each for the shipped model's tokenizer.
WORDS: Final = ("the", "river", "report", "says", "of", "cold", "mornings", "and", "a", "late", "train", "to", "market")


@dataclass
class Kind:
    """Calls of one kind: idle and while scanning, in slices."""

    idle: list[Measured] = field(default_factory=list)
    scanning: list[Measured] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in (*self.idle, *self.scanning))

    def quantile_ms(self, share: float) -> tuple[float, float]:
        return _pooled(self.idle).quantile_ms(share), _pooled(self.scanning).quantile_ms(share)

    def as_json(self) -> dict[str, float]:
        idle_p50, scanning_p50 = self.quantile_ms(0.5)
        idle, scanning = self.quantile_ms(0.99)
        return {
            "idle_p50_ms": idle_p50, "scanning_p50_ms": scanning_p50, "idle_p99_ms": idle, "scanning_p99_ms": scanning,
            "p99_ratio": scanning / idle if idle else 0.0, "calls": sum(one.answered for one in self.scanning),
            "failed": self.failed,
        }  # fmt: skip


@dataclass
class Found:
    """`unrelated` calls meet no policy, `guarded` ones are short texts that the model reads too."""

    unrelated: Kind = field(default_factory=Kind)
    guarded: Kind = field(default_factory=Kind)
    scans_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class House:
    place: Installation
    free_key: str
    guarded_key: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.detection", description=__doc__)
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--rounds", type=int, default=4, help="scans for each kind of call")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    with serving() as house, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(house, rounds=options.rounds, tokens=options.tokens))
    shown = {
        "cores": os.cpu_count(), "tokens": options.tokens, "goal": GOAL, "scan_s": statistics.median(found.scans_s),
        "unrelated": found.unrelated.as_json(), "guarded": found.guarded.as_json(),
    }  # fmt: skip
    if options.as_json:
        print(json.dumps(shown))
    else:
        print_table(found, options.tokens)
    if found.unrelated.failed or found.guarded.failed:
        sys.exit("some calls failed")


@contextmanager
def serving() -> Iterator[House]:
    """An installation with the embedded model, and two keys: a policy holds for the one and none for the other."""
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(Path(folder) / "data", TRUEPORT_DETECTION_URL="onnx:") as place,
    ):
        place.set_up()
        guarded = place.create_key()
        policy = {
            "name": "attacks", "on": ["input"], "when": {"category": "prompt_injection", "min_score": 1.0},
            "action": "block", "keys": [guarded["id"]], "timeout_ms": 60_000,
        }  # fmt: skip
        place.configure(policies=[policy])
        place.serve()
        yield House(place, place.key, guarded["key"])


async def measure(house: House, *, rounds: int, tokens: int) -> Found:
    found, draw, port = Found(), random.Random(7), house.place.port
    for requests in (short_requests(port, house.free_key), short_requests(port, house.guarded_key)):
        await run(port, requests, calls=50, connections=CONNECTIONS)
    for _ in range(rounds):
        for kind, key in ((found.unrelated, house.free_key), (found.guarded, house.guarded_key)):
            requests = short_requests(port, key)
            long = request_bytes(port, house.guarded_key, chat(long_text(draw, tokens)))
            scan = asyncio.create_task(run(port, long, calls=1, connections=1))
            started_s = asyncio.get_running_loop().time()
            while not scan.done():
                kind.scanning.append(await run(port, requests, calls=20, connections=CONNECTIONS, pause_s=PAUSE_S))
            found.scans_s.append(asyncio.get_running_loop().time() - started_s)
            assert scan.result().answered == 1, "the long prompt was refused"
            # The last slice may have outlasted the scan; of a short one it is all there is.
            if len(kind.scanning) > len(kind.idle) + 1:
                kind.scanning.pop()
            for _ in kind.scanning[len(kind.idle) :]:
                kind.idle.append(await run(port, requests, calls=20, connections=CONNECTIONS, pause_s=PAUSE_S))
    return found


_numbers = count()


def short_requests(port: int, key: str) -> Iterator[bytes]:
    """Each another text, so that none is known from before."""
    return (request_bytes(port, key, chat(f"What is the weather like on day {number}?")) for number in _numbers)


def chat(prompt: str) -> bytes:
    body = {"model": "sim-model", "messages": [{"role": "user", "content": prompt + " [[tokens: 20]]"}]}
    return json.dumps(body).encode()


def long_text(draw: random.Random, tokens: int) -> str:
    """Another one each time."""
    return " ".join(draw.choice(WORDS) for _ in range(tokens))


def print_table(found: Found, tokens: int) -> None:
    print(f"{os.cpu_count()} cores. A scan of {tokens} tokens takes {statistics.median(found.scans_s):.1f} s.\n")
    print(f"{'calls':>10}{'p50 idle':>12}{'scanning':>12}{'p99 idle':>12}{'scanning':>12}{'ratio':>8}")
    for name, kind in (("unrelated", found.unrelated), ("guarded", found.guarded)):
        one = kind.as_json()
        print(
            f"{name:>10}{one['idle_p50_ms']:>9.2f} ms{one['scanning_p50_ms']:>9.2f} ms{one['idle_p99_ms']:>9.2f} ms"
            f"{one['scanning_p99_ms']:>9.2f} ms{one['p99_ratio']:>8.2f}"
        )
    is_within = found.unrelated.as_json()["p99_ratio"] <= GOAL
    print(f"\nThe goal for unrelated calls is a ratio of {GOAL}: {'met' if is_within else 'NOT met'}.")


def _pooled(parts: list[Measured]) -> Measured:
    return Measured(latencies_s=[latency_s for one in parts for latency_s in one.latencies_s])


if __name__ == "__main__":
    main()
