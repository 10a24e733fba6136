"""What the engine asks of a limiter, and what it gets back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

import msgspec

from trueport.kit.clock import from_epoch_us, rfc3339
from trueport.kit.errors import TrueportError, Unavailable
from trueport.kit.ids import TenantId
from trueport.kit.money import NANO_PER_USD, usd

Window = Literal["sliding", "fixed"]
"""`fixed` counts calendar minutes; `sliding` also weighs the previous minute, so no burst of twice the limit fits
around a minute's edge."""

Mode = Literal["redis", "memory", "local", "open", "closed"]
"""Who decides: Redis; this process, by configuration; this process with its share because Redis is away; nobody,
because Redis is away and the operator chose to let calls through, or to refuse them."""

LONGEST_RETRY_AFTER_S: Final = 120
"""Two windows: after that long without a call, nothing in a sliding window weighs any more."""

MOST_BUDGET_NANO_USD: Final = 9_000_000 * NANO_PER_USD
"""The largest limit of a budget, nine million dollars. Redis compares amounts as doubles, which are exact up to 2^53
nano-dollars, and that is a little more."""


class Limit(msgspec.Struct, frozen=True):
    """One set of bounds and whom it binds, such as scope "key" and that key's id. 0 switches a bound off.

    Within one tenant a (scope, subject) pair names one set of counters, whichever other limits come along.
    """

    scope: str
    subject: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget in its present period, and whom it binds, such as scope "user" and that user's tag.

    period: names the period in the counter's key, such as "2026-11" or "2026-11-23".
    ends_us: when the period ends, in microseconds since 1970; the counter is kept for a day longer.
    blocks: whether calls are refused once it is spent. One that does not block only alerts, and holds nothing back for
    calls in flight.
    alert_at: shares of the limit; passing one is told once.

    Within one tenant (name, scope, subject, period) names one counter. Raises ValueError for a limit below 0 or above
    MOST_BUDGET_NANO_USD.
    """

    name: str
    scope: str
    subject: str
    period: str
    ends_us: int
    limit_nano_usd: int
    blocks: bool
    alert_at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.limit_nano_usd <= MOST_BUDGET_NANO_USD:
            raise ValueError(f"a budget is at most {usd(MOST_BUDGET_NANO_USD, places=0)} dollars and not negative")


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A budget's spending has reached `share` of its limit. `spent_nano_usd` is what was spent when that was seen."""

    tenant_id: TenantId
    budget: str
    scope: str
    subject: str
    period: str
    share: float
    spent_nano_usd: int
    limit_nano_usd: int


OnAlert = Callable[[BudgetAlert], None]
"""Called on the event loop, in between settlements: it hands the alert on and does not wait."""


class Ask(msgspec.Struct, frozen=True):
    """One call that wants to pass all of `limits` and `budgets`, each (scope, subject) of a kind at most once.

    tokens: upper estimate of prompt and completion, reserved until settlement.
    call_id: unique to the call; its place among the concurrent ones.
    longest_s: after this long the place is free again even if nobody settled (the process died).
    cost_nano_usd: the most the call can cost, held back in every blocking budget until settlement.
    """

    tenant_id: TenantId
    limits: tuple[Limit, ...]
    tokens: int
    call_id: str
    longest_s: float
    budgets: tuple[Budget, ...] = ()
    cost_nano_usd: int = 0


class Room(msgspec.Struct, frozen=True):
    """What is left of one limit in the present window; None where the bound is off."""

    requests: int | None
    tokens: int | None

    def less(self, requests: int, tokens: int) -> "Room":
        """What is left after so many more; may go below zero."""
        return Room(
            None if self.requests is None else self.requests - requests,
            None if self.tokens is None else self.tokens - tokens,
        )


class Standing(msgspec.Struct, frozen=True):
    """Where the caller stands: the request and the token bound with the least room. A limit of 0 is off.

    `reset_…_s`: seconds until nothing of what has been counted so far weighs any more.
    budget_left_nano_usd: what the blocking budget with the least room has left, calls in flight taken off; None
    without one.
    """

    limit_requests: int
    remaining_requests: int
    reset_requests_s: int
    limit_tokens: int
    remaining_tokens: int
    reset_tokens_s: int
    mode: Mode
    budget_left_nano_usd: int | None = None


class Reservation(msgspec.Struct, eq=False):
    """What to settle. Opaque to callers, and the one value here that changes: settling closes it.

    minute: the minute (Unix time // 60 s) whose counters hold the tokens.
    held_by: whose counters; "nobody" when nothing was counted.
    """

    ask: Ask
    minute: int
    held_by: Literal["redis", "memory", "nobody"]
    is_open: bool = True


class Granted(msgspec.Struct, frozen=True):
    reservation: Reservation
    standing: Standing


@dataclass(frozen=True, slots=True)
class Health:
    """For the readiness page and the metrics; the counts only grow.

    workers: live processes that share the limits, as last seen.
    local_decisions: calls decided without Redis although it is configured.
    redis_failures, redis_losses: commands that failed; times this process stopped asking.
    backlog: settlements not yet told to Redis. settlements_dropped: given up; the reserved estimate then stands
    until its window ends, a place and what a budget held back until they expire.
    """

    mode: Mode
    workers: int = 1
    local_decisions: int = 0
    redis_failures: int = 0
    redis_losses: int = 0
    backlog: int = 0
    settlements_dropped: int = 0


class RateLimited(TrueportError):
    """More calls than the limit of `scope` allows; a call after `retry_after_s` (1 to 120) can pass."""

    code: ClassVar[str] = "rate_limited"
    status: ClassVar[int] = 429
    sentence: ClassVar[str] = "Too many requests: the limit of requests per minute is reached."

    def __init__(self, *, scope: str, retry_after_s: int, standing: Standing) -> None:
        super().__init__(self.sentence, scope=scope)
        self.scope = scope
        self.retry_after_s = min(max(retry_after_s, 1), LONGEST_RETRY_AFTER_S)
        self.standing = standing


class TokensRateLimited(RateLimited):
    """More tokens than the limit of `scope` allows."""

    code = "tokens_rate_limited"
    sentence = "Too many tokens: the limit of tokens per minute is reached."


class ConcurrencyLimited(RateLimited):
    """More calls at the same time than the limit of `scope` allows."""

    code = "concurrency_limited"
    sentence = "Too many requests at the same time."


class TooLargeForLimit(TrueportError):
    """The call reserves more tokens than a whole minute allows: waiting would never help."""

    code = "request_too_large_for_limit"
    status = 400
    should_retry = False

    def __init__(self, *, scope: str, tokens: int, tokens_per_minute: int) -> None:
        super().__init__(
            "This request needs more tokens than the limit per minute ever allows.",
            scope=scope,
            tokens=tokens,
            tokens_per_minute=tokens_per_minute,
        )
        self.scope = scope


class BudgetSpent(TrueportError):
    """A blocking budget has no room for the call before its period ends; trying again sooner does not help."""

    code = "budget_exceeded"
    status = 402
    should_retry = False

    def __init__(self, *, budget: Budget, standing: Standing) -> None:
        resets_at = from_epoch_us(budget.ends_us)
        super().__init__(
            "The budget for this period is used up.",
            scope=budget.scope,
            name=budget.name,
            resets_at=rfc3339(resets_at),
        )
        self.scope = budget.scope
        self.name = budget.name
        self.resets_at = resets_at
        self.standing = standing


class LimiterUnavailable(Unavailable):
    """Limits cannot be counted and the operator chose to refuse rather than to guess."""

    code = "limiter_unavailable"

    def __init__(self) -> None:
        super().__init__("Rate limits cannot be checked right now.")


class SpentSource(Protocol):
    """The durable ledger, asked when nobody counts a budget's period yet, or no longer."""

    async def spent(self, tenant_id: TenantId, budget: Budget) -> int:
        """Nano-dollars spent under `budget` in its period so far.

        Raises Unavailable when the ledger cannot be read.
        """


class NothingSpent:
    """A ledger without entries."""

    async def spent(self, _tenant_id: TenantId, _budget: Budget) -> int:
        return 0


class Limits(Protocol):
    """Admits calls under limits and budgets."""

    @property
    def mode(self) -> Mode:
        """Who decides at this moment."""

    def health(self) -> Health:
        """The present state, without waiting."""

    async def reserve(self, ask: Ask) -> Granted:
        """Count the call against every limit and budget it names, or against none of them.

        A blocking budget admits a call while `spent + held < limit` and, unless no other call holds anything of it,
        `spent + held + cost <= limit`, where `held` adds up the most that each call in flight can cost. So the last
        call of a budget may go over its limit, since otherwise what is left and less than one worst case could never
        be spent; but it is then alone, and all together overspend by no more than that one call.

        Raises BudgetSpent of the budget that renews last, before RateLimited (or its kin) with the longest wait of all
        limits in the way; TooLargeForLimit; and LimiterUnavailable, also when nobody can say what is left of a
        blocking budget. A reservation has to be settled; one that is not frees its place and what it holds of budgets
        after `longest_s`, and its tokens leave with their window.
        """

    def settle(self, reservation: Reservation, tokens: int, cost_nano_usd: int | None = None) -> None:
        """Replace what was reserved by the `tokens` used and their cost, and free the place.

        cost_nano_usd: None if it is not known; what was reserved is then spent. It counts in the period that the call
        was admitted in, even when that has ended, or the call took longer than `longest_s`.

        Never waits and never raises, so a `finally` can call it during cancellation; a second time does nothing.
        """

    async def ping(self) -> bool:
        """Whether the store of the counters answers."""

    async def close(self) -> None:
        """Tell what is still to tell and let go of every resource."""


def refuse_what_never_fits(ask: Ask) -> None:
    """Raise TooLargeForLimit if no empty window has room for the tokens of `ask`."""
    for limit in ask.limits:
        if 0 < limit.tokens_per_minute < ask.tokens:
            raise TooLargeForLimit(scope=limit.scope, tokens=ask.tokens, tokens_per_minute=limit.tokens_per_minute)


def standing_of(
    limits: Sequence[Limit], rooms: Sequence[Room], reset_s: int, mode: Mode, budget_left_nano_usd: int | None = None
) -> Standing:
    """The standing for the bounds with the least room; `rooms` in the order of `limits`."""
    limit_requests = remaining_requests = limit_tokens = remaining_tokens = 0
    for limit, room in zip(limits, rooms, strict=True):
        if room.requests is not None and (not limit_requests or room.requests < remaining_requests):
            limit_requests, remaining_requests = limit.requests_per_minute, room.requests
        if room.tokens is not None and (not limit_tokens or room.tokens < remaining_tokens):
            limit_tokens, remaining_tokens = limit.tokens_per_minute, room.tokens
    return Standing(
        limit_requests,
        remaining_requests,
        reset_s if limit_requests else 0,
        limit_tokens,
        remaining_tokens,
        reset_s if limit_tokens else 0,
        mode,
        budget_left_nano_usd,
    )


def unlimited(mode: Mode) -> Standing:
    """The standing of a caller whom nothing bounds."""
    return Standing(0, 0, 0, 0, 0, 0, mode)


def headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """The `x-ratelimit-…` headers of an answer, in OpenAI's names, resets in whole seconds.

    Bounds that are off have none. `x-ratelimit-mode: local` says that this process counts its share of the limit
    because Redis is away. `x-trueport-budget-remaining-usd` is what the tightest blocking budget has left, or this
    process's share of it, in decimal dollars.
    """
    named: list[tuple[bytes, bytes]] = []
    if standing.limit_requests:
        limit, remaining, reset = (
            b"%d" % value for value in (standing.limit_requests, standing.remaining_requests, standing.reset_requests_s)
        )
        named += [
            (b"x-ratelimit-limit-requests", limit),
            (b"x-ratelimit-remaining-requests", remaining),
            (b"x-ratelimit-reset-requests", reset),
            (b"x-ratelimit-limit", limit),
            (b"x-ratelimit-remaining", remaining),
            (b"x-ratelimit-reset", reset),
        ]
    if standing.limit_tokens:
        named += [
            (b"x-ratelimit-limit-tokens", b"%d" % standing.limit_tokens),
            (b"x-ratelimit-remaining-tokens", b"%d" % standing.remaining_tokens),
            (b"x-ratelimit-reset-tokens", b"%d" % standing.reset_tokens_s),
        ]
    if standing.budget_left_nano_usd is not None:
        named.append((b"x-trueport-budget-remaining-usd", usd(standing.budget_left_nano_usd).encode()))
    if standing.mode == "local":
        named.append((b"x-ratelimit-mode", b"local"))
    return named
