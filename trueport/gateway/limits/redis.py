"""Limits shared by every process through Redis, with a bounded local share for the time Redis is away.

One script decides a call. When it fails (no connection within 100 ms, no answer within 50 ms, an error, a clock more
than a minute off) the call is decided here: every process then counts its share, `max(1, limit // workers)`, so that
all together stay within the limit, or within one call per worker where the limit is smaller. A process that heard from
Redis in the present minute does not hand out more than Redis had left. After a few failures the fuse blows and calls go
straight to the share, while a background task looks whether Redis is back.

Settlements are collected and told in batches, so finishing a call never waits.

Budgets are checked and held in the same script. Where nobody counts a budget's period yet, or a Redis that lost its
memory no longer does, the durable ledger says where to begin, and the first process to say so counts. Calls that settle
while nobody counts are not added, because the ledger has them; one that the ledger takes in just then may be counted
twice, and one that it takes in later not at all, until counting begins anew. While Redis is away each process spends
at most its share of what was left when it last heard of it, or else of what the ledger says; a share, too, may be
overspent by one call.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

from msgspec.structs import replace

from trueport.gateway.limits.backlog import Backlog, Charge
from trueport.gateway.limits.base import (
    MOST_BUDGET_NANO_USD,
    Ask,
    Budget,
    BudgetSpent,
    ConcurrencyLimited,
    Granted,
    Health,
    Limit,
    LimiterUnavailable,
    Mode,
    NothingSpent,
    OnAlert,
    RateLimited,
    Reservation,
    Room,
    SpentSource,
    TokensRateLimited,
    Window,
    refuse_what_never_fits,
    standing_of,
    unlimited,
)
from trueport.gateway.limits.budgets import (
    BudgetKey,
    Ledger,
    alert,
    announce,
    charged_for,
    key_of,
    thresholds,
)
from trueport.gateway.limits.fuse import FIRST_COOLDOWN_S, Fuse
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.local import Bound, Counters, Subject, reset_s, subject_of
from trueport.gateway.limits.resp import ErrorReply, RedisAway, Reply, RespClient, pack
from trueport.gateway.limits.scripts import CANDIDATES, SCRIPTS, Script, Scripts
from trueport.gateway.limits.shares import Shares
from trueport.kit.clock import Clock
from trueport.kit.ids import TenantId
from trueport.kit.logging import get_logger

log = get_logger(__name__)

OnLoss = Literal["local_share", "closed", "open"]
"""What becomes of a call that Redis cannot decide: counted against this process's share, refused, or let through."""

_MODE_WITHOUT_REDIS: Final[dict[OnLoss, Mode]] = {"local_share": "local", "closed": "closed", "open": "open"}
_MINUTE_US: Final = 60_000_000
_MOST_REMEMBERED: Final = 50_000
_TOLD_AT_ONCE: Final = 500
_LAST_FLUSHES: Final = 100  # as many charges of the largest kind fit into a full backlog
_REFUSALS: Final = {1: RateLimited, 2: TokensRateLimited, 3: ConcurrencyLimited}
_BUDGET_SPENT: Final = 4
_NOT_COUNTED_YET: Final = -2
_MOST_TAKES: Final = 3
_PURSE_OUTLIVES_ITS_PERIOD_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the background work runs, in seconds.

    alive_s: how long one heartbeat counts; a process that died is a worker for that much longer.
    """

    flush_s: float = 0.025
    beat_s: float = 5.0
    alive_s: int = 15
    first_cooldown_s: float = FIRST_COOLDOWN_S


class _Plan:
    """The part of a take command that stays the same for one set of limits during one minute, packed once."""

    __slots__ = ("budgets", "head", "labels", "subjects")

    def __init__(self, head: bytes, labels: list[str], subjects: list[Subject], budgets: tuple[Budget, ...]) -> None:
        self.head = head
        self.labels = labels
        self.subjects = subjects
        self.budgets = budgets

    def command(self, ask: Ask) -> bytes:
        tokens, call, longest = b"%d" % ask.tokens, ask.call_id.encode(), b"%.3f" % ask.longest_s
        command = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            self.head,
            len(tokens),
            tokens,
            len(call),
            call,
            len(longest),
            longest,
        )
        if not self.budgets:
            return command
        cost = b"%d" % min(max(0, ask.cost_nano_usd), MOST_BUDGET_NANO_USD + 1)
        return b"%b$%d\r\n%b\r\n" % (command, len(cost), cost)


class RedisLimits:
    """`Limits` over Redis.

    workers: how many processes share the limits according to the configuration; more are believed when their
    heartbeats are seen, fewer never.
    """

    def __init__(
        self,
        client: RespClient,
        names: KeyNames,
        clock: Clock,
        *,
        window: Window = "sliding",
        on_loss: OnLoss = "local_share",
        workers: int = 1,
        pace: Pace = Pace(),
        scripts: Scripts = SCRIPTS,
        draw: random.Random | None = None,
        source: SpentSource | None = None,
        on_alert: OnAlert | None = None,
    ) -> None:
        self._client = client
        self._names = names
        self._clock = clock
        self._window: Window = window
        self._on_loss = on_loss
        self._least_workers = self._workers = max(1, workers)
        self._pace = pace
        self._scripts = scripts
        self._take_sha = scripts.take.sha
        # Jitter only: nothing about it has to be hard to guess.
        self._fuse = Fuse(clock, draw or random.Random(), first_cooldown_s=pace.first_cooldown_s)  # noqa: S311
        self._worker = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._backlog = Backlog(names, scripts.settle, scripts.charge, self._worker)
        self._local = Counters(clock, window)
        self._unsaid: dict[Subject, None] = {}  # subjects whose local counts Redis has not been told; ordered

        self._ledger = Ledger(source or NothingSpent())
        self._on_alert = on_alert
        self._shares = Shares(clock, self._ledger)

        self._minute = -1
        self._plans: dict[tuple[TenantId, tuple[Limit, ...], tuple[Budget, ...]], _Plan] = {}
        self._last_rooms: dict[Subject, Room] = {}  # what Redis said in this minute

        self._blown = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._local_decisions = self._failures = self._losses = 0

    async def open(self) -> None:
        """Say hello to Redis and start the background work. Redis being away is no error."""
        await self._beat()
        self._tending = asyncio.create_task(self._tend())

    @property
    def mode(self) -> Mode:
        return _MODE_WITHOUT_REDIS[self._on_loss] if self._fuse.is_blown else "redis"

    def health(self) -> Health:
        return Health(
            mode=self.mode,
            workers=self._workers,
            local_decisions=self._local_decisions,
            redis_failures=self._failures,
            redis_losses=self._losses,
            backlog=len(self._backlog),
            settlements_dropped=self._backlog.dropped,
        )

    async def reserve(self, ask: Ask) -> Granted:
        refuse_what_never_fits(ask)
        if not ask.limits and not ask.budgets:
            return Granted(Reservation(ask, 0, "nobody"), unlimited(self.mode))
        if not self._fuse.is_blown:
            granted = await self._decide_there(ask)
            if granted is not None:
                return granted
        return await self._decide_here(ask)

    def settle(self, reservation: Reservation, tokens: int, cost_nano_usd: int | None = None) -> None:
        if not reservation.is_open:
            return
        reservation.is_open = False
        ask = reservation.ask
        if reservation.held_by == "redis":
            self._backlog.settle(reservation, tokens, cost_nano_usd)
            self._flush_soon()
            return
        if reservation.held_by == "memory":
            self._local.settle(reservation, tokens)
            self._tell_later(ask)
        if ask.budgets:
            self._charge_later(ask, charged_for(ask, cost_nano_usd))

    async def flush(self) -> None:
        """Tell Redis what has been settled, and counted locally, up to now. Failing is no error."""
        if self._fuse.is_blown:
            return
        commands, places = self._backlog.take(self._present_minute())
        commands += self._local_counts()
        try:
            # In portions, so that calls on their way to Redis get their turn in between.
            for first in range(0, len(commands), _TOLD_AT_ONCE):
                _raise_first(await self._tell(commands[first : first + _TOLD_AT_ONCE]))
            places = {}
            await self._charge()
        except (RedisAway, ErrorReply) as error:
            self._backlog.put_back(places)
            self._failed(type(error).__name__)
        if len(self._backlog):
            self._flush_soon()

    async def ping(self) -> bool:
        try:
            return await self._client.call(pack("PING"), self._client.deadline()) == b"PONG"
        except (RedisAway, ErrorReply):
            return False

    async def close(self) -> None:
        self._is_closed = True
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        if self._flushing is not None:
            await asyncio.wait([self._flushing])  # as long as its commands may take
        await self._ledger.close()
        for _ in range(_LAST_FLUSHES):
            if len(self._backlog) or self._unsaid:
                await self.flush()
        if not self._fuse.is_blown:
            with suppress(RedisAway, ErrorReply):
                await self._client.call(pack("ZREM", self._names.workers(), self._worker), self._client.deadline())
        await self._client.close()

    # The script and its answer

    def _plan(self, ask: Ask) -> _Plan:
        minute = self._present_minute()
        if minute != self._minute or len(self._plans) >= _MOST_REMEMBERED:
            self._minute = minute
            self._plans.clear()
            self._last_rooms.clear()
        # Only the limits, the budgets and their tenant: the rest of an ask differs from call to call.
        which = (ask.tenant_id, ask.limits, ask.budgets)
        plan = self._plans.get(which)
        if plan is None:
            plan = self._plans[which] = self._make_plan(ask, minute)
        return plan

    def _make_plan(self, ask: Ask, minute: int) -> _Plan:
        names = self._names
        labels = [names.label(ask.tenant_id, limit.scope, limit.subject) for limit in ask.limits]
        keys: list[str] = []
        bounds: list[int] = []
        for label, limit in zip(labels, ask.limits, strict=True):
            if limit.requests_per_minute:
                keys += [names.requests(label, minute + near) for near in CANDIDATES]
            if limit.tokens_per_minute:
                keys += [names.tokens(label, minute + near) for near in CANDIDATES]
            if limit.concurrency:
                keys.append(names.calls(label))
            bounds += [limit.requests_per_minute, limit.tokens_per_minute, limit.concurrency]
        for budget in ask.budgets:
            keys += self._purse_keys(key_of(ask.tenant_id, budget))
            bounds += [budget.limit_nano_usd, int(budget.blocks), _goes_at(budget)]
        # As many empty arguments as `command` adds real ones make the count right.
        empty = [""] * (4 if ask.budgets else 3)
        fixed = (minute, self._window, len(ask.budgets), *bounds)
        packed = pack("EVALSHA", self._take_sha, len(keys), *keys, *fixed, *empty)
        head = packed[: -len(empty) * len(b"$0\r\n\r\n")]
        return _Plan(head, labels, [subject_of(ask.tenant_id, limit) for limit in ask.limits], ask.budgets)

    def _purse_keys(self, key: BudgetKey) -> tuple[str, str]:
        label = self._names.budget_label(key.tenant_id, key.name, key.scope, key.subject)
        return self._names.purse(label, key.period), self._names.holding(label, key.period)

    async def _decide_there(self, ask: Ask) -> Granted | None:
        """Redis's decision, or None if there is none. Raises RateLimited, BudgetSpent and LimiterUnavailable."""
        counted = ask
        for _ in range(_MOST_TAKES):
            plan = self._plan(counted)
            try:
                # The script answers with integers alone.
                reply = cast("list[int]", await self._run(self._scripts.take, plan.command(ask)))
                if reply[0] == _NOT_COUNTED_YET:
                    counted = await self._begin(counted, [plan.budgets[number - 1] for number in reply[1:]])
                    continue
            except (RedisAway, ErrorReply) as error:
                self._failed(type(error).__name__)
                self._abandon(plan, ask)
                return None
            except asyncio.CancelledError:
                self._abandon(plan, ask)
                raise
            if reply[0] < 0:
                self._failed("clock")
                return None
            self._fuse.succeeded()
            return self._decided(plan, ask, reply)
        self._failed("forgetful")
        return None

    async def _begin(self, ask: Ask, budgets: Sequence[Budget]) -> Ask:
        """Have Redis count `budgets` from what the ledger says; `ask` without those of which it says nothing.

        Raises LimiterUnavailable when one of these blocks, unless calls are let through uncounted anyway.
        """
        unknown = []
        for budget in budgets:
            key = key_of(ask.tenant_id, budget)
            spent = await self._ledger.spent(key, budget)
            if spent is None:
                if budget.blocks and self._on_loss != "open":
                    raise LimiterUnavailable
                unknown.append(budget)
                continue
            begun_with = (spent, _goes_at(budget), *thresholds(budget.limit_nano_usd, budget.alert_at))
            begin = self._scripts.begin
            await self._run(begin, pack("EVALSHA", begin.sha, 2, *self._purse_keys(key), *begun_with))
        return replace(ask, budgets=tuple(budget for budget in ask.budgets if budget not in unknown))

    async def _run(self, script: Script, command: bytes) -> Reply:
        """Run an EVALSHA. A server without the script is given it, and the wrong server is left, once.

        The right server may not have the script either: after a fail-over both come together.
        """
        client = self._client
        deadline = client.deadline()
        has_moved = False
        has_loaded = False
        while True:
            try:
                return await client.call(command, deadline)
            except ErrorReply as error:
                if error.knows_no_such_script and not has_loaded:
                    has_loaded = True
                    await client.call(pack("SCRIPT", "LOAD", script.source), deadline)
                elif error.comes_from_the_wrong_server and not has_moved:
                    has_moved, has_loaded = True, False
                    client.drop()
                else:
                    raise

    def _decided(self, plan: _Plan, ask: Ask, reply: list[int]) -> Granted:
        """Read the answer of the take script; raise RateLimited or BudgetSpent if it was no."""
        granted, minute, left_s = reply[:3]
        at = 3 if granted else 6
        rooms = []
        for number, subject in enumerate(plan.subjects):
            requests, tokens = reply[at + 2 * number], reply[at + 2 * number + 1]
            room = Room(None if requests < 0 else requests, None if tokens < 0 else tokens)
            rooms.append(room)
            self._last_rooms[subject] = room
        left = self._hear(ask.tenant_id, plan.budgets, reply[at + 2 * len(plan.subjects) :])
        standing = standing_of(ask.limits, rooms, reset_s(left_s, self._window), "redis", left)
        if granted:
            return Granted(Reservation(ask, minute, "redis"), standing)
        why, which, wait_s = reply[3:6]
        if why == _BUDGET_SPENT:
            raise BudgetSpent(budget=plan.budgets[which - 1], standing=standing)
        raise _REFUSALS[why](scope=ask.limits[which - 1].scope, retry_after_s=wait_s, standing=standing)

    def _hear(self, tenant_id: TenantId, budgets: Sequence[Budget], lefts: Sequence[int]) -> int | None:
        """Remember what Redis says is left of budgets; the least that a blocking one has."""
        blocking = [(budget, left) for budget, left in zip(budgets, lefts, strict=True) if budget.blocks]
        for budget, left in blocking:
            self._shares.hear(key_of(tenant_id, budget), left)
        return min((left for _, left in blocking), default=None)

    def _abandon(self, plan: _Plan, ask: Ask) -> None:
        """Free the places of a call whose take may or may not have been carried out, and what it holds of budgets."""
        for label, limit in zip(plan.labels, ask.limits, strict=True):
            if limit.concurrency:
                self._backlog.free(label, ask.call_id)
        self._backlog.charge(ask, 0, holds=True)
        self._flush_soon()

    # Without Redis

    async def _decide_here(self, ask: Ask) -> Granted:
        self._local_decisions += 1
        if self._on_loss == "closed":
            raise LimiterUnavailable
        if self._on_loss == "open":
            return Granted(Reservation(ask, 0, "nobody"), unlimited("open"))
        stakes = await self._shares.stakes(ask, self._workers) if ask.budgets else ()
        self._tell_later(ask)
        return self._local.take(ask, [self._share(ask.tenant_id, limit) for limit in ask.limits], "local", stakes)

    def _share(self, tenant_id: TenantId, limit: Limit) -> Bound:
        """What this process may hand out of `limit` in the present minute."""
        minute = self._present_minute()
        subject = subject_of(tenant_id, limit)
        bound = Bound.of(limit)
        last = self._last_rooms.get(subject) if minute == self._minute else None
        if last is None:
            last = Room(None, None)
        told = self._local.of(subject, minute)
        return Bound(
            self._share_of(bound.requests, last.requests, told.told_requests),
            self._share_of(bound.tokens, last.tokens, told.told_tokens),
            self._share_of(bound.concurrency, None, 0),
        )

    def _share_of(self, bound: int | None, last_room: int | None, told: int) -> int | None:
        if bound is None:
            return None
        share = max(1, bound // self._workers)
        # The bound is compared with all local counts of the minute, and Redis has subtracted those it was told of.
        return share if last_room is None else min(share, last_room + told)

    def _charge_later(self, ask: Ask, cost_nano_usd: int) -> None:
        """Settle with the budgets of a call that Redis has not counted."""
        self._shares.settle(ask, cost_nano_usd)
        self._backlog.charge(ask, cost_nano_usd, holds=False)
        self._flush_soon()

    def _tell_later(self, ask: Ask) -> None:
        if len(self._unsaid) < _MOST_REMEMBERED:
            self._unsaid.update((subject_of(ask.tenant_id, limit), None) for limit in ask.limits)
        self._flush_soon()

    def _local_counts(self) -> list[bytes]:
        """Commands that add to Redis what was counted here in the present minute and not told yet."""
        minute = self._present_minute()
        commands: list[bytes] = []
        for subject in self._unsaid:
            counter = self._local.of(subject, minute)
            label = self._names.label(*subject)
            requests, tokens = counter.untold()
            for name, change in ((self._names.requests, requests), (self._names.tokens, tokens)):
                if change:
                    keys = [name(label, minute + near) for near in CANDIDATES]
                    commands.append(pack("EVALSHA", self._scripts.add.sha, len(keys), *keys, minute, change))
            # Told even if the answer stays away: counting twice would refuse calls that are within their limit.
            counter.told_requests, counter.told_tokens = counter.requests, counter.tokens
            if (last := self._last_rooms.get(subject)) is not None:
                self._last_rooms[subject] = last.less(requests, tokens)
        self._unsaid.clear()
        return commands

    # In the background

    def _flush_soon(self) -> None:
        if self._flush_timer is None and not self._fuse.is_blown and not self._is_closed:
            self._flush_timer = asyncio.get_running_loop().call_later(self._pace.flush_s, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        if self._flushing is not None and not self._flushing.done():
            self._flush_soon()
            return
        self._flushing = asyncio.create_task(self.flush())

    async def _tell(self, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to `commands`, sent in one write; those that found no script once more, after loading it."""
        replies = await self._client.call_all(commands)
        missed = [
            number
            for number, reply in enumerate(replies)
            if isinstance(reply, ErrorReply) and reply.knows_no_such_script
        ]
        if missed:
            scripts = (self._scripts.settle, self._scripts.add, self._scripts.charge)
            loads = [pack("SCRIPT", "LOAD", script.source) for script in scripts]
            again = await self._client.call_all([*loads, *(commands[number] for number in missed)])
            for number, reply in zip(missed, again[len(loads) :], strict=True):
                replies[number] = reply
        return replies

    async def _charge(self) -> None:
        """Charge the budgets and tell of the thresholds that were reached; what fails is sent again another time."""
        charges = self._backlog.charges()
        for first in range(0, len(charges), _TOLD_AT_ONCE):
            portion = charges[first : first + _TOLD_AT_ONCE]
            replies = await self._tell([self._backlog.command(charge) for charge in portion])
            for charge, reply in zip(portion, replies, strict=True):
                if isinstance(reply, ErrorReply):
                    self._backlog.refused(charge)
                elif not isinstance(reply, RedisAway) and self._backlog.told(charge):
                    self._alert(charge, cast("list[int]", reply))
            _raise_first(replies)

    def _alert(self, charge: Charge, reply: list[int]) -> None:
        """Tell of the thresholds in an answer of the charge script."""
        spent, *reached = reply
        shares = [charge.budget.alert_at[number - 1] for number in reached]
        announce(self._on_alert, [alert(charge.key, charge.budget, share, spent) for share in shares])

    async def _tend(self) -> None:
        """Show that this worker lives while Redis answers; look for Redis while it does not. One probe at a time."""
        while True:
            if self._fuse.is_blown:
                await asyncio.sleep(self._fuse.cooldown_s())
                if await self._beat():
                    self._found_again()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.beat_s):
                        await self._blown.wait()
                if not self._fuse.is_blown:
                    await self._beat()

    async def _beat(self) -> bool:
        """Renew this worker's sign of life and count the workers; whether Redis took it.

        It writes, so as a probe it also tells a server that answers but is full or read-only from a healthy one.
        """
        command = pack("EVALSHA", self._scripts.beat.sha, 1, self._names.workers(), self._worker, self._pace.alive_s)
        try:
            seen = await self._run(self._scripts.beat, command)
        except (RedisAway, ErrorReply) as error:
            self._failed(type(error).__name__)
            return False
        if isinstance(seen, int):
            self._workers = max(self._least_workers, seen)
        return True

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._fuse.failed():
            self._losses += 1
            self._blown.set()
            log.warning("limiter_lost_redis", reason=reason, mode=self.mode, workers=self._workers)

    def _found_again(self) -> None:
        self._blown.clear()
        self._fuse.mend()
        self._shares.end()
        self._flush_soon()
        log.info("limiter_found_redis", workers=self._workers)

    def _present_minute(self) -> int:
        return self._clock.epoch_us() // _MINUTE_US


def _goes_at(budget: Budget) -> int:
    """When Redis may forget a budget's period, in Unix time: calls in flight at its end still settle in it."""
    return budget.ends_us // 1_000_000 + _PURSE_OUTLIVES_ITS_PERIOD_S


def _raise_first(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, RedisAway | ErrorReply):
            raise reply
