"""Random histories in the scripts inside Redis and in the plain machine: every answer has to be the same."""

import itertools
import os
from dataclasses import dataclass
from typing import Any, cast

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.breaker import scripts_reading
from tests.support.redis_server import inspector
from trueport.gateway.breaker.base import BreakerRules, Outcome, Pin
from trueport.gateway.breaker.machine import ANY_EPOCH, Answer, Machine
from trueport.gateway.breaker.redis import _read
from trueport.gateway.breaker.scopes import ScopeKeys
from trueport.gateway.breaker.scripts import rule_arguments

# Small, so that short histories get everywhere; a bucket of 250 ms.
RULES = BreakerRules(
    consecutive=3,
    volume=5,
    failure_percent=50,
    window_s=1.0,
    buckets=4,
    base_cooldown_s=0.4,
    longest_cooldown_s=1.5,
    jitter=0.25,
    successes_to_close=2,
)
START_MS = 1_767_225_600_123
_names = itertools.count()

outcomes = st.sampled_from(["ok", "fail", "fail", "void"])
steps = st.one_of(
    st.tuples(st.just("acquire"), st.integers(1, 600), st.none()),
    st.tuples(st.just("attempt"), outcomes, st.floats(0, 1)),
    st.tuples(st.just("report"), st.integers(0, 7), outcomes),
    st.tuples(st.just("stray"), st.integers(1, 6), outcomes),
    st.tuples(st.just("advance"), st.sampled_from([1, 40, 249, 250, 251, 399, 500, 1_000, 1_500]), st.none()),
    st.tuples(st.just("pin"), st.sampled_from([None, None, "forced_open", "forced_closed"]), st.none()),
)
histories = st.lists(steps, max_size=60)


@dataclass
class Held:
    """A permit: where it belongs, and the probe's id or nothing."""

    epoch: str
    probe_id: str


class InRedis:
    """The scripts, asked directly, with the time and every name of their own."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._time_key = f"test_clock_{os.urandom(8).hex()}"
        self._scripts = scripts_reading(self._time_key)
        self._keys = ScopeKeys.of("model")

    def begin(self) -> None:
        self._keys = ScopeKeys.of(f"model:{self._time_key}{next(_names)}")

    def set_time(self, now_ms: int) -> None:
        self._client.hset(self._time_key, mapping={"s": now_ms // 1_000, "us": now_ms % 1_000 * 1_000 + 999})
        self._client.expire(self._time_key, 300)

    def acquire(self, probe_id: str, lease_ms: int) -> Answer:
        return self._run(self._scripts.acquire.source, probe_id, lease_ms)

    def report(self, epoch: str, probe_id: str, outcome: Outcome, weight: int, jitter: float) -> Answer:
        return self._run(
            self._scripts.report.source, epoch, probe_id, outcome, weight, repr(jitter), *rule_arguments(RULES)
        )

    def look(self) -> Answer:
        return self._run(self._scripts.look.source)

    def pin(self, pin: Pin | None) -> Answer:
        return self._run(self._scripts.pin.source, pin or "")

    def end(self) -> None:
        """Every key that is left has a time to live, unless it holds a pin."""
        pinned = self._client.hget(self._keys.meta, "pin")
        for key in (self._keys.state, self._keys.meta, self._keys.window):
            ttl_s = self._client.ttl(key)
            assert ttl_s != -1 or (key == self._keys.meta and pinned)
            assert ttl_s <= 86_400
        # Good and failed in each bucket, and in one that is about to leave.
        assert self._client.hlen(self._keys.window) <= 2 * (RULES.buckets + 1)

    def _run(self, source: str, *arguments: object) -> Answer:
        keys = (self._keys.state, self._keys.meta, self._keys.window)
        return _read(self._client.eval(source, 3, *keys, *cast("tuple[str, ...]", arguments)))


def replay(there: InRedis, history: list[tuple[str, Any, Any]]) -> None:
    there.begin()
    here = Machine(RULES)
    now = START_MS
    there.set_time(now)
    held: list[Held] = []
    for number, (deed, first, second) in enumerate(history):
        name = f"probe-{number}"
        match deed:
            case "advance":
                now += first
                there.set_time(now)
            case "acquire" | "attempt":
                lease_ms = first if deed == "acquire" else 100
                answer = there.acquire(name, lease_ms)
                assert answer == here.acquire(now, name, lease_ms)
                if answer.what not in ("pass", "probe"):
                    continue
                permit = Held(answer.epoch, name if answer.what == "probe" else "")
                if deed == "acquire":
                    held.append(permit)
                    continue
                reported = (permit.epoch, permit.probe_id, first, 1, second)
                assert there.report(*reported) == here.report(now, *reported)
            case "report" if held:
                permit = held[first % len(held)]
                reported = (permit.epoch, permit.probe_id, second, 1, 0.5)
                assert there.report(*reported) == here.report(now, *reported)
            case "stray":
                reported = (ANY_EPOCH, "", second, first, 0.5)
                assert there.report(*reported) == here.report(now, *reported)
            case "pin":
                assert there.pin(first) == here.set_pin(now, first)
        assert there.look() == here.look(now)
    there.end()


@pytest.mark.parametrize("examples", [200, pytest.param(5_000, marks=pytest.mark.slow)])
def test_the_scripts_are_the_machine(redis_url: str, examples: int) -> None:
    with inspector(redis_url) as client:
        there = InRedis(client)

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(histories)
        def holds(history: list[tuple[str, Any, Any]]) -> None:
            replay(there, history)

        holds()
