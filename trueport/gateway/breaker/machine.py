"""The state machine of one circuit, in plain Python: it reads no clock, draws no number and waits for nothing.

This process runs it when there is no Redis, and the scripts in `scripts` are the same machine in Lua; the tests replay
random histories in both.

Every transition begins a new epoch, and an outcome belongs to the epoch of its permit: a failure that began before the
circuit opened and arrives after it closed again says nothing about the provider of now.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from trueport.gateway.breaker.base import BreakerRules, Outcome, Pin, State

What = Literal["pass", "probe", "deny", "unguarded", "seen", "counted", "stale", "opened", "released", "closed"]
"""What became of a question or a report. `seen` is the answer to a mere look, and to pinning."""

ANY_EPOCH: Final = "*"
"""For a report that belongs to no epoch of this machine, such as failures counted elsewhere."""

_MOST_DOUBLINGS: Final = 30


class Answer(msgspec.Struct, frozen=True):
    """What happened, and how the circuit stands after it.

    wait_ms: until an attempt may pass; in a half open circuit until the present probe is given up.
    in_a_row: failures since the last good outcome. trips: times opened since it last was closed for good.
    """

    what: What
    state: State
    epoch: str
    wait_ms: int
    in_a_row: int
    trips: int
    pin: Pin | None


@dataclass(slots=True)
class Machine:
    """One circuit. Times are whole milliseconds on whichever clock the caller keeps to.

    The fields are those of the `:meta` key. `outcomes` are [bucket, ok, failed], oldest first.
    """

    rules: BreakerRules
    state: State = "closed"
    epoch: int = 0
    open_until: int = 0
    probe: str = ""
    probe_until: int = 0
    succeeded: int = 0
    trips: int = 0
    in_a_row: int = 0
    pin: Pin | None = None
    outcomes: deque[list[int]] = field(default_factory=deque)

    def acquire(self, now_ms: int, probe_id: str, lease_ms: int) -> Answer:
        """`pass`, `deny`, `unguarded`, or `probe` for the one caller that may look whether the provider is back."""
        if self.pin is not None:
            return self._answer("deny" if self.pin == "forced_open" else "unguarded", now_ms)
        if self.state == "closed":
            return self._answer("pass", now_ms)
        if self.state == "open":
            if now_ms < self.open_until:
                return self._answer("deny", now_ms)
            self._turn("half_open")
        if self.probe and now_ms < self.probe_until:
            return self._answer("deny", now_ms)
        self.probe = probe_id
        self.probe_until = now_ms + lease_ms
        return self._answer("probe", now_ms)

    def report(self, now_ms: int, epoch: str, probe_id: str, outcome: Outcome, weight: int, jitter: float) -> Answer:
        """Take in `weight` outcomes. jitter: 0 to 1, where in its spread the cool-down lies if the circuit opens."""
        if self.pin is not None or epoch not in (str(self.epoch), ANY_EPOCH):
            return self._answer("stale", now_ms)
        if self.state == "half_open":
            return self._probed(now_ms, probe_id, outcome, jitter)
        if self.state != "closed" or probe_id or outcome == "void":
            return self._answer("stale", now_ms)
        self._count(now_ms, outcome, weight)
        if outcome == "ok":
            self.in_a_row = 0
        else:
            self.in_a_row += weight
            if self._has_failed_enough():
                return self._trip(now_ms, jitter)
        return self._answer("counted", now_ms)

    def look(self, now_ms: int) -> Answer:
        """How the circuit stands. Changes nothing."""
        return self._answer("seen", now_ms)

    def set_pin(self, now_ms: int, pin: Pin | None) -> Answer:
        """Pin, or unpin and count anew. What is under way belongs to an earlier epoch from now on."""
        self.pin = pin
        self._turn(self.state)
        self.in_a_row = 0
        self.outcomes.clear()
        return self._answer("seen", now_ms)

    def _probed(self, now_ms: int, probe_id: str, outcome: Outcome, jitter: float) -> Answer:
        if not probe_id or probe_id != self.probe:
            return self._answer("stale", now_ms)
        if outcome == "fail":
            return self._trip(now_ms, jitter)
        self.probe, self.probe_until = "", 0
        if outcome == "void":
            return self._answer("released", now_ms)
        self.succeeded += 1
        if self.succeeded < self.rules.successes_to_close:
            return self._answer("released", now_ms)
        self._turn("closed")
        self.trips = self.in_a_row = 0
        self.outcomes.clear()
        return self._answer("closed", now_ms)

    def _trip(self, now_ms: int, jitter: float) -> Answer:
        rules = self.rules
        cooldown = min(rules.base_cooldown_ms * 2 ** min(self.trips, _MOST_DOUBLINGS), rules.longest_cooldown_ms)
        self.open_until = now_ms + math.floor(cooldown * (1 - rules.jitter + 2 * rules.jitter * jitter))
        self.trips += 1
        self.in_a_row = 0
        self.outcomes.clear()
        self._turn("open")
        return self._answer("opened", now_ms)

    def _turn(self, state: State) -> None:
        self.state = state
        self.epoch += 1
        self.probe, self.probe_until, self.succeeded = "", 0, 0

    def _count(self, now_ms: int, outcome: Outcome, weight: int) -> None:
        bucket = now_ms // self.rules.bucket_ms
        while self.outcomes and self.outcomes[0][0] <= bucket - self.rules.buckets:
            self.outcomes.popleft()
        if not self.outcomes or self.outcomes[-1][0] != bucket:
            self.outcomes.append([bucket, 0, 0])
        self.outcomes[-1][1 if outcome == "ok" else 2] += weight

    def _has_failed_enough(self) -> bool:
        if self.in_a_row >= self.rules.consecutive:
            return True
        failed = sum(bucket[2] for bucket in self.outcomes)
        volume = failed + sum(bucket[1] for bucket in self.outcomes)
        return volume >= self.rules.volume and failed * 100 >= self.rules.failure_percent * volume

    def _answer(self, what: What, now_ms: int) -> Answer:
        until = {"closed": 0, "open": self.open_until, "half_open": self.probe_until}[self.state]
        wait_ms = max(0, until - now_ms)
        return Answer(what, self.state, str(self.epoch), wait_ms, self.in_a_row, self.trips, self.pin)
