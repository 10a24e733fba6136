"""What the engine asks of a limiter, and what it gets back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

from trueport.kit.errors import TrueportError, Unavailable
from trueport.kit.ids import TenantId

Window = Literal["sliding", "fixed"]
"""`fixed` counts calendar minutes; `sliding` also weighs the previous minute, so no burst of twice the limit fits
around a minute's edge."""

Mode = Literal["redis", "memory", "local", "open", "closed"]
"""Who decides: Redis; this process, by configuration; this process with its share because Redis is away; nobody,
because Redis is away and the operator chose to let calls through, or to refuse them."""

LONGEST_RETRY_AFTER_S: Final = 120
"""Two windows: after that long without a call, nothing in a sliding window weighs any more."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One set of bounds and whom it binds, such as scope "key" and that key's id. 0 switches a bound off.

    Within one tenant a (scope, subject) pair names one set of counters, whichever other limits come along.
    """

    scope: str
    subject: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that wants to pass all of `limits`, each (scope, subject) at most once.

    tokens: upper estimate of prompt and completion, reserved until settlement.
    call_id: unique to the call; its place among the concurrent ones.
    longest_s: after this long the place is free again even if nobody settled (the process died).
    """

    tenant_id: TenantId
    limits: tuple[Limit, ...]
    tokens: int
    call_id: str
    longest_s: float


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of one limit in the present window; None where the bound is off."""

    requests: int | None
    tokens: int | None

    def less(self, requests: int, tokens: int) -> "Room":
        """What is left after so many more; may go below zero."""
        return Room(
            None if self.requests is None else self.requests - requests,
            None if self.tokens is None else self.tokens - tokens,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the caller stands: the request and the token bound with the least room. A limit of 0 is off.

    `reset_…_s`: seconds until nothing of what has been counted so far weighs any more.
    """

    limit_requests: int
    remaining_requests: int
    reset_requests_s: int
    limit_tokens: int
    remaining_tokens: int
    reset_tokens_s: int
    mode: Mode


@dataclass(slots=True, eq=False)
class Reservation:
    """What to settle. Opaque to callers, and the one value here that changes: settling closes it.

    minute: the minute (Unix time // 60 s) whose counters hold the tokens.
    held_by: whose counters; "nobody" when nothing was counted.
    """

    ask: Ask
    minute: int
    held_by: Literal["redis", "memory", "nobody"]
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Granted:
    reservation: Reservation
    standing: Standing


@dataclass(frozen=True, slots=True)
class Health:
    """For the readiness page and the metrics; the counts only grow.

    workers: live processes that share the limits, as last seen.
    local_decisions: calls decided without Redis although it is configured.
    redis_failures, redis_losses: commands that failed; times this process stopped asking.
    backlog: settlements not yet told to Redis. settlements_dropped: given up; the reserved estimate then stands
    until its window ends, and a place until it expires.
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


class LimiterUnavailable(Unavailable):
    """Limits cannot be counted and the operator chose to refuse rather than to guess."""

    code = "limiter_unavailable"

    def __init__(self) -> None:
        super().__init__("Rate limits cannot be checked right now.")


class Limits(Protocol):
    """Admits calls under limits."""

    @property
    def mode(self) -> Mode:
        """Who decides at this moment."""

    def health(self) -> Health:
        """The present state, without waiting."""

    async def reserve(self, ask: Ask) -> Granted:
        """Count the call against every limit it names, or against none of them.

        Raises RateLimited (or its kin) with the longest wait of all limits in the way, TooLargeForLimit, and
        LimiterUnavailable. A reservation has to be settled; one that is not frees its place after `longest_s`,
        and its tokens leave with their window.
        """

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """Replace the reserved tokens by the `tokens` used and free the place.

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


def standing_of(limits: Sequence[Limit], rooms: Sequence[Room], reset_s: int, mode: Mode) -> Standing:
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
    )


def unlimited(mode: Mode) -> Standing:
    """The standing of a caller whom nothing bounds."""
    return Standing(0, 0, 0, 0, 0, 0, mode)


def headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """The `x-ratelimit-…` headers of an answer, in OpenAI's names, resets in whole seconds.

    Bounds that are off have none. `x-ratelimit-mode: local` says that this process counts its share of the limit
    because Redis is away.
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
    if standing.mode == "local":
        named.append((b"x-ratelimit-mode", b"local"))
    return named
