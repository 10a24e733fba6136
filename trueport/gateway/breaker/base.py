"""What the engine asks of a circuit breaker, and what it gets back.

A circuit is closed, and calls pass; open, and they don't, because the provider failed too often; or half open: one call
at a time probes whether the provider is back, and after two good ones the circuit closes.

What counts as a failure: no connection, TLS or DNS failure, no answer's head in time, a stall, a truncated answer, and
the statuses 500, 502, 503, 504 and 529. What does not: a refusal of our own, a client that left, 429 (the account has a
pause of its own for that) and every other status.

A breaker acts on failures it knows of. Where a dead provider takes a minute to fail, every call that came in that
minute is already under way when the first failure is known, and no breaker can call those back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

import msgspec

from trueport.kit.errors import Unavailable

State = Literal["closed", "open", "half_open"]

Verdict = Literal["ok", "fail", "alive", "void"]
"""What an attempt says about the provider: it serves; it fails; it answers, though not in a way that shows that it
serves; nothing. As the outcome of a probe `alive` is good, because somebody is there; elsewhere it counts as nothing,
or a client that sends bad requests could keep the circuit of a failing provider closed."""

Outcome = Literal["ok", "fail", "void"]
"""What a verdict comes to, once it is known on which kind of attempt."""

Pin = Literal["forced_open", "forced_closed"]
"""An operator's word, which stands above what was counted."""

Mode = Literal["redis", "memory", "local"]
"""Who decides: Redis; this process, by configuration; this process, because Redis is away."""

_FAILURES: Final = frozenset({500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a circuit opens, for how long, and when it closes.

    It opens after `consecutive` failures in a row, or when at least `failure_percent` of at least `volume` attempts of
    the last `window_s` failed; the window moves on in `buckets` steps. The first cool-down is `base_cooldown_s`, each
    further one without a recovery in between twice as long, up to `longest_cooldown_s`, varied by `jitter` either way.
    It closes after `successes_to_close` good probes.
    """

    consecutive: int = 5
    volume: int = 20
    failure_percent: int = 50
    window_s: float = 60.0
    buckets: int = 12
    base_cooldown_s: float = 10.0
    longest_cooldown_s: float = 300.0
    jitter: float = 0.1
    successes_to_close: int = 2

    @property
    def bucket_ms(self) -> int:
        return max(1, int(self.window_s * 1_000 / self.buckets))

    @property
    def base_cooldown_ms(self) -> int:
        return int(self.base_cooldown_s * 1_000)

    @property
    def longest_cooldown_ms(self) -> int:
        return int(self.longest_cooldown_s * 1_000)


RULES: Final = BreakerRules()


class Permit(msgspec.Struct, eq=False):
    """Leave to make one attempt. Opaque to callers but for `kind`, and it changes: reporting closes it.

    kind: an ordinary attempt; the only one that may be made while the circuit is half open; one whose outcome counts
    for nothing, because an operator forced the circuit closed.
    epoch: which stretch between two transitions it belongs to; an outcome from an earlier one is ignored.
    held_by: whose epochs are meant.
    """

    scope: str
    kind: Literal["pass", "probe", "unguarded"]
    epoch: str = ""
    probe_id: str = ""
    held_by: Literal["redis", "memory"] = "memory"
    is_open: bool = True

    def outcome(self, verdict: Verdict) -> Outcome:
        """What `verdict` on this attempt comes to."""
        if verdict == "alive":
            return "ok" if self.kind == "probe" else "void"
        return verdict


@dataclass(frozen=True, slots=True)
class Denied:
    """No attempt now; one may be possible after `retry_after_ms` (1 or more). `pinned`: an operator said so."""

    scope: str
    retry_after_ms: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a circuit stands, without its pin, and the pin. `retry_after_ms`: until a probe may pass, 0 if now."""

    scope: str
    state: State
    pinned: Pin | None
    retry_after_ms: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Health:
    """For the readiness page and the metrics; the counts only grow.

    resting: the scopes this process knows to be open, the first hundred by name.
    denied: attempts not allowed. probes: probes handed to this process. opened: times this process's report opened a
    circuit. local_decisions: decided here although Redis is configured.
    redis_failures, redis_losses: commands that failed; times this process stopped asking.
    """

    mode: Mode
    resting: tuple[str, ...] = ()
    denied: int = 0
    probes: int = 0
    opened: int = 0
    local_decisions: int = 0
    redis_failures: int = 0
    redis_losses: int = 0


class BreakerStoreUnavailable(Unavailable):
    """A pin is for every process, and the store they share does not take it."""

    code: ClassVar[str] = "breaker_store_unavailable"

    def __init__(self) -> None:
        super().__init__("Circuits cannot be pinned right now: Redis does not answer.")


class Breakers(Protocol):
    """Decides which attempts are worth making."""

    async def acquire(self, scope: str, lease_s: float) -> Permit | Denied:
        """Whether an attempt at `scope` may be made now.

        Every permit has to be reported. lease_s: how long the attempt may take and a few seconds; a probe that was not
        reported by then no longer stands in the way of the next (its process died).
        """

    def report(self, permit: Permit, verdict: Verdict) -> None:
        """Say how the attempt went.

        Never waits and never raises, so a `finally` can call it during cancellation; a second time does nothing.
        """

    def is_resting(self, scope: str) -> bool:
        """Whether the circuit is open and its time not up, as far as this process knows without asking."""

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        """How the circuits stand, in the order of `scopes`."""

    async def pin(self, scope: str, pin: Pin | None) -> None:
        """Force the circuit open or closed, or let it go again where it was, with a clean count.

        Processes follow within a second or so. A pin is kept no safer than the counts: in Redis, until that loses its
        memory. Raises BreakerStoreUnavailable when the processes cannot be told.
        """

    def health(self) -> Health:
        """The present state, without waiting."""

    async def ping(self) -> bool:
        """Whether the store of the circuits answers."""

    async def close(self) -> None:
        """Tell what is still to tell and let go of every resource."""


def verdict_of(status: int | None, failure_counts: bool) -> Verdict:
    """What an attempt says about the provider.

    status: of its answer, None if none came. failure_counts: whether an attempt that failed for another reason than its
    status (no connection, too slow, stalled, truncated) is to be held against the provider.

    4xx shows that somebody is there and no more; 429 does not even show that this account would be served. A redirect
    or a status nobody documents shows nothing.
    """
    if status is not None and status >= 400:
        if status in _FAILURES:
            return "fail"
        return "alive" if status < 500 and status != 429 else "void"
    if failure_counts and (status is None or status < 300):
        return "fail"
    return "ok" if status is not None and 200 <= status < 300 else "void"
