"""Circuits kept in this process: for a single worker without Redis."""

import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from trueport.gateway.breaker.base import (
    RULES,
    BreakerRules,
    Denied,
    Health,
    Mode,
    Permit,
    Pin,
    Standing,
    Verdict,
)
from trueport.gateway.breaker.machine import Answer, Machine
from trueport.kit.clock import Clock

CAPACITY: Final = 10_000
MOST_NAMED: Final = 100


def now_ms(clock: Clock) -> int:
    return int(clock.monotonic() * 1_000)


def denied(scope: str, answer: Answer, rules: BreakerRules) -> Denied:
    """A pin has no end that could be told; another look after a cool-down is as good a hint as any."""
    is_pinned = answer.pin == "forced_open"
    return Denied(scope, rules.base_cooldown_ms if is_pinned else max(1, answer.wait_ms), is_pinned)


def standing(scope: str, answer: Answer, mode: Mode) -> Standing:
    return Standing(scope, answer.state, answer.pin, answer.wait_ms, mode)


def rests(answer: Answer) -> bool:
    """Whether an attempt now would be denied."""
    if answer.pin is not None:
        return answer.pin == "forced_open"
    return answer.state != "closed" and answer.wait_ms > 0


class LocalBreakers:
    """`Breakers` for exactly one process. The circuits end with it; beyond `capacity` the least recently used go."""

    def __init__(
        self,
        clock: Clock,
        *,
        rules: BreakerRules = RULES,
        draw: Callable[[], float] = random.random,
        capacity: int = CAPACITY,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._draw = draw
        self._capacity = capacity
        self._machines: OrderedDict[str, Machine] = OrderedDict()
        self._numbers = itertools.count(1)
        self._denied = self._probes = self._opened = 0

    async def acquire(self, scope: str, lease_s: float) -> Permit | Denied:
        probe_id = str(next(self._numbers))
        answer = self._machine(scope).acquire(now_ms(self._clock), probe_id, int(lease_s * 1_000))
        match answer.what:
            case "pass":
                return Permit(scope, "pass", answer.epoch)
            case "unguarded":
                return Permit(scope, "unguarded", answer.epoch)
            case "probe":
                self._probes += 1
                return Permit(scope, "probe", answer.epoch, probe_id)
            case _:
                self._denied += 1
                return denied(scope, answer, self._rules)

    def report(self, permit: Permit, verdict: Verdict) -> None:
        if not permit.is_open:
            return
        permit.is_open = False
        if permit.kind == "unguarded":
            return
        outcome = permit.outcome(verdict)
        answer = self._machine(permit.scope).report(
            now_ms(self._clock), permit.epoch, permit.probe_id, outcome, 1, self._draw()
        )
        self._opened += answer.what == "opened"

    def is_resting(self, scope: str) -> bool:
        machine = self._machines.get(scope)
        return machine is not None and rests(machine.look(now_ms(self._clock)))

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        now = now_ms(self._clock)
        return [
            standing(scope, (self._machines.get(scope) or Machine(self._rules)).look(now), "memory") for scope in scopes
        ]

    async def pin(self, scope: str, pin: Pin | None) -> None:
        self._machine(scope).set_pin(now_ms(self._clock), pin)

    def health(self) -> Health:
        resting = sorted(scope for scope in self._machines if self.is_resting(scope))
        return Health("memory", tuple(resting[:MOST_NAMED]), self._denied, self._probes, self._opened)

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is held."""

    def _machine(self, scope: str) -> Machine:
        machine = self._machines.get(scope)
        if machine is None:
            machine = self._machines[scope] = Machine(self._rules)
            if len(self._machines) > self._capacity:
                self._machines.popitem(last=False)
        else:
            self._machines.move_to_end(scope)
        return machine
