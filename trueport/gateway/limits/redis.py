"""Limits shared by every process through Redis, with a bounded local share for the time Redis is away.

One script decides a call. When it fails (no connection within 100 ms, no answer within 50 ms, an error, a clock more
than a minute off) the call is decided here: every process then counts its share, `max(1, limit // workers)`, so that
all together stay within the limit, or within one call per worker where the limit is smaller. A process that heard from
Redis in the present minute does not hand out more than Redis had left. After a few failures the fuse blows and calls go
straight to the share, while a background task looks whether Redis is back.

Settlements are collected and told in batches, so finishing a call never waits.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

from trueport.gateway.limits.backlog import Backlog
from trueport.gateway.limits.base import (
    Ask,
    ConcurrencyLimited,
    Granted,
    Health,
    Limit,
    LimiterUnavailable,
    Mode,
    RateLimited,
    Reservation,
    Room,
    TokensRateLimited,
    Window,
    refuse_what_never_fits,
    standing_of,
    unlimited,
)
from trueport.gateway.limits.fuse import FIRST_COOLDOWN_S, Fuse
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.local import Bound, Counters, Subject, reset_s, subject_of
from trueport.gateway.limits.resp import ErrorReply, RedisAway, Reply, RespClient, pack
from trueport.gateway.limits.scripts import CANDIDATES, SCRIPTS, Script, Scripts
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
_REFUSALS: Final = {1: RateLimited, 2: TokensRateLimited, 3: ConcurrencyLimited}


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

    __slots__ = ("head", "labels", "subjects")

    def __init__(self, head: bytes, labels: list[str], subjects: list[Subject]) -> None:
        self.head = head
        self.labels = labels
        self.subjects = subjects

    def command(self, ask: Ask) -> bytes:
        tokens, call, longest = b"%d" % ask.tokens, ask.call_id.encode(), b"%.3f" % ask.longest_s
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            self.head,
            len(tokens),
            tokens,
            len(call),
            call,
            len(longest),
            longest,
        )


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
        self._backlog = Backlog(names, scripts.settle)
        self._local = Counters(clock, window)
        self._unsaid: dict[Subject, None] = {}  # subjects whose local counts Redis has not been told; ordered
        self._worker = f"{os.getpid()}-{os.urandom(8).hex()}"

        self._minute = -1
        self._plans: dict[tuple[TenantId, tuple[Limit, ...]], _Plan] = {}
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
        if not ask.limits:
            return Granted(Reservation(ask, 0, "nobody"), unlimited(self.mode))
        if not self._fuse.is_blown:
            plan = self._plan(ask)
            try:
                reply = await self._run(self._scripts.take, plan.command(ask))
            except (RedisAway, ErrorReply) as error:
                self._failed(error)
                self._abandon(plan, ask)
            except asyncio.CancelledError:
                self._abandon(plan, ask)
                raise
            else:
                numbers = cast("list[int]", reply)  # the script answers with integers alone
                if numbers[0] >= 0:
                    self._fuse.succeeded()
                    return self._decided(plan, ask, numbers)
                self._failed(None)
        return self._decide_here(ask)

    def settle(self, reservation: Reservation, tokens: int) -> None:
        if not reservation.is_open:
            return
        reservation.is_open = False
        if reservation.held_by == "redis":
            self._backlog.settle(reservation, tokens)
            self._flush_soon()
        elif reservation.held_by == "memory":
            self._local.settle(reservation, tokens)
            self._tell_later(reservation.ask)

    async def flush(self) -> None:
        """Tell Redis what has been settled, and counted locally, up to now. Failing is no error."""
        if self._fuse.is_blown:
            return
        commands, places = self._backlog.take(self._present_minute())
        commands += self._local_counts()
        try:
            # In portions, so that calls on their way to Redis get their turn in between.
            for first in range(0, len(commands), _TOLD_AT_ONCE):
                await self._tell(commands[first : first + _TOLD_AT_ONCE])
        except (RedisAway, ErrorReply) as error:
            self._backlog.put_back(places)
            self._failed(error)
            if places:
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
        # Only the limits and their tenant: the rest of an ask differs from call to call.
        which = (ask.tenant_id, ask.limits)
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
        packed = pack("EVALSHA", self._take_sha, len(keys), *keys, minute, self._window, *bounds, "", "", "")
        # The three empty arguments made the count right; `command` puts the real ones in their place.
        head = packed[: -3 * len(b"$0\r\n\r\n")]
        return _Plan(head, labels, [subject_of(ask.tenant_id, limit) for limit in ask.limits])

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
        """Read the answer of the take script; raise RateLimited if it was no."""
        granted, minute, left_s = reply[:3]
        at = 3 if granted else 6
        rooms = []
        for number, subject in enumerate(plan.subjects):
            requests, tokens = reply[at + 2 * number], reply[at + 2 * number + 1]
            room = Room(None if requests < 0 else requests, None if tokens < 0 else tokens)
            rooms.append(room)
            self._last_rooms[subject] = room
        standing = standing_of(ask.limits, rooms, reset_s(left_s, self._window), "redis")
        if granted:
            return Granted(Reservation(ask, minute, "redis"), standing)
        why, which, wait_s = reply[3:6]
        raise _REFUSALS[why](scope=ask.limits[which - 1].scope, retry_after_s=wait_s, standing=standing)

    def _abandon(self, plan: _Plan, ask: Ask) -> None:
        """Free the places of a call whose take may or may not have been carried out."""
        for label, limit in zip(plan.labels, ask.limits, strict=True):
            if limit.concurrency:
                self._backlog.free(label, ask.call_id)
        self._flush_soon()

    # Without Redis

    def _decide_here(self, ask: Ask) -> Granted:
        self._local_decisions += 1
        if self._on_loss == "closed":
            raise LimiterUnavailable
        if self._on_loss == "open":
            return Granted(Reservation(ask, 0, "nobody"), unlimited("open"))
        self._tell_later(ask)
        return self._local.take(ask, [self._share(ask.tenant_id, limit) for limit in ask.limits], "local")

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

    async def _tell(self, commands: Sequence[bytes]) -> None:
        """Send `commands` in one write, loading the scripts and repeating those that found them missing."""
        replies = await self._client.call_all(commands)
        missed = [
            command
            for command, reply in zip(commands, replies, strict=True)
            if isinstance(reply, ErrorReply) and reply.knows_no_such_script
        ]
        if missed:
            loads = [pack("SCRIPT", "LOAD", script.source) for script in (self._scripts.settle, self._scripts.add)]
            replies = await self._client.call_all([*loads, *missed])
        for reply in replies:
            if isinstance(reply, RedisAway | ErrorReply):
                raise reply

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
            self._failed(error)
            return False
        if isinstance(seen, int):
            self._workers = max(self._least_workers, seen)
        return True

    def _failed(self, error: Exception | None) -> None:
        self._failures += 1
        if self._fuse.failed():
            self._losses += 1
            self._blown.set()
            reason = "clock" if error is None else type(error).__name__
            log.warning("limiter_lost_redis", reason=reason, mode=self.mode, workers=self._workers)

    def _found_again(self) -> None:
        self._blown.clear()
        self._fuse.mend()
        self._flush_soon()
        log.info("limiter_found_redis", workers=self._workers)

    def _present_minute(self) -> int:
        return self._clock.epoch_us() // _MINUTE_US
