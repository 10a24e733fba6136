"""What is particular to limits in Redis: what lies in the store, and what happens while the store is away."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from tests.support.limits import TENANT, StoppedTime, ask, fresh_pepper, redis_limits, until
from tests.support.redis_server import RedisServer, inspector, private_redis
from trueport.gateway.limits.base import (
    ConcurrencyLimited,
    Limit,
    LimiterUnavailable,
    RateLimited,
    TokensRateLimited,
)
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.redis import OnLoss, Pace, RedisLimits
from trueport.gateway.limits.resp import Address, RespClient
from trueport.kit.clock import ManualClock, SystemClock

NEVER = Pace(first_cooldown_s=30)
SOON = Pace(flush_s=0.005, first_cooldown_s=0.05)
KEY = Limit("key", "key_1", requests_per_minute=20, tokens_per_minute=1000, concurrency=20)
BUSY_MACHINE_S = 0.1  # what a wait of 50 ms may take longer where two cores serve many


async def admitted(limits: RedisLimits, count: int, *bounds: Limit, tokens: int = 0) -> int:
    passed = 0
    for _ in range(count):
        try:
            await limits.reserve(ask(*bounds, tokens=tokens))
        except RateLimited:
            continue
        passed += 1
    return passed


def standing_still() -> ManualClock:
    """A clock that no minute's edge disturbs, for shares that are counted in this process."""
    return ManualClock(datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC))


# What lies in Redis


async def test_a_call_is_counted_under_the_documented_names(redis_url: str) -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    label = names.label(TENANT, KEY.scope, KEY.subject)
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        granted = await limits.reserve(ask(KEY, tokens=10, call_id="call_x"))

        minute = granted.reservation.minute
        with inspector(redis_url) as looking:
            assert looking.get(names.requests(label, minute)) == b"1"
            assert looking.get(names.tokens(label, minute)) == b"10"
            assert looking.zrange(names.calls(label), 0, -1) == [b"call_x"]


@pytest.mark.parametrize("cluster", [False, True])
async def test_no_key_lives_for_ever_and_none_names_a_subject(cluster: bool) -> None:
    secret = "sk-tp-canary"
    bounds = (Limit("key", secret, 5, 100, 5), Limit("tenant", "ten_canary", 5, 100, 5))
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, cluster=cluster) as (limits, _):
            granted = await limits.reserve(ask(*bounds, tokens=10))
            await limits.reserve(ask(*bounds, tokens=0))
            await admitted(limits, 20, *bounds, tokens=10)
            limits.settle(granted.reservation, 3)
            await limits.flush()

            keys = [key.decode() for key in looking.scan_iter()]
            assert len(keys) >= 7
            assert all(0 < looking.ttl(key) <= 660 for key in keys)
            assert not [key for key in keys if "canary" in key]
            shape = r"(rate_limit|conc):\{kh_\w{26}\}(:kh_\w{26})?(:[-\d]{16}(:tok)?|:workers)?"
            assert all(re.fullmatch(shape, key) for key in keys)


async def test_counters_that_lost_their_time_to_live_get_it_back(redis_url: str) -> None:
    pepper, time_ = fresh_pepper(), StoppedTime(redis_url)
    names = KeyNames(pepper)
    label = names.label(TENANT, KEY.scope, KEY.subject)
    mine = [names.requests(label, time_.minute), names.tokens(label, time_.minute), names.calls(label)]
    async with redis_limits(redis_url, pepper=pepper, clock=time_.clock, scripts=time_.scripts) as (limits, _):
        await limits.reserve(ask(KEY, tokens=10))
        with inspector(redis_url) as looking:
            assert all(looking.persist(key) for key in mine)

            await limits.reserve(ask(KEY, tokens=10))

            assert all(0 < looking.ttl(key) <= 660 for key in mine)


async def test_places_that_expired_are_swept_out(redis_url: str) -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    place = names.calls(names.label(TENANT, KEY.scope, KEY.subject))
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        with inspector(redis_url) as looking:
            looking.zadd(place, {"call_dead": time.time() - 1})

            await limits.reserve(ask(KEY, call_id="call_alive"))

            assert looking.zrange(place, 0, -1) == [b"call_alive"]


@pytest.mark.parametrize(("found", "left"), [(b"50", b"0"), (None, None)])
async def test_a_settlement_neither_goes_below_zero_nor_revives_a_counter(
    redis_url: str, found: bytes | None, left: bytes | None
) -> None:
    """As after a fail-over that lost writes."""
    pepper, time_ = fresh_pepper(), StoppedTime(redis_url)
    names = KeyNames(pepper)
    counter = names.tokens(names.label(TENANT, KEY.scope, KEY.subject), time_.minute)
    async with redis_limits(redis_url, pepper=pepper, clock=time_.clock, scripts=time_.scripts) as (limits, _):
        granted = await limits.reserve(ask(KEY, tokens=100))
        with inspector(redis_url) as looking:
            looking.delete(counter)
            if found is not None:
                looking.set(counter, found, ex=100)

            limits.settle(granted.reservation, 10)
            await limits.flush()

            assert looking.get(counter) == left


async def test_settlements_of_many_calls_are_told_together(redis_url: str) -> None:
    bound = Limit("key", "k", tokens_per_minute=100_000, concurrency=500)
    async with redis_limits(redis_url, pace=Pace(flush_s=60)) as (limits, client):
        granted = [await limits.reserve(ask(bound, tokens=100)) for _ in range(100)]
        for one in granted:
            limits.settle(one.reservation, 90)
        before = client.sent

        await limits.flush()

        assert client.sent - before <= 6  # per minute touched one correction and its repetition, one removal, loads
        assert limits.health().backlog == 0
        assert (await limits.reserve(ask(bound))).standing.remaining_tokens >= 100_000 - 9_000


async def test_closing_tells_what_is_still_to_tell_and_leaves_the_workers(redis_url: str) -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    async with redis_limits(redis_url, pepper=pepper, pace=Pace(flush_s=60)) as (limits, _):
        granted = await limits.reserve(ask(KEY, tokens=10))
        limits.settle(granted.reservation, 3)
        with inspector(redis_url) as looking:
            assert looking.zcard(names.workers()) == 1

    with inspector(redis_url) as looking:
        assert looking.zcard(names.calls(names.label(TENANT, KEY.scope, KEY.subject))) == 0
        assert looking.zcard(names.workers()) == 0


async def test_workers_are_counted_by_their_heartbeats_and_never_below_the_configured_number(redis_url: str) -> None:
    pepper = fresh_pepper()
    async with (
        redis_limits(redis_url, pepper=pepper, workers=2) as (first, _),
        redis_limits(redis_url, pepper=pepper, workers=2),
        redis_limits(redis_url, pepper=pepper, workers=2) as (third, _),
    ):
        assert first.health().workers == 2
        assert third.health().workers == 3


async def test_a_worker_that_died_is_no_longer_counted(redis_url: str) -> None:
    pepper = fresh_pepper()
    with inspector(redis_url) as looking:
        looking.zadd(KeyNames(pepper).workers(), {f"dead-{n}": time.time() - 1 for n in range(5)})
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        assert limits.health().workers == 1


# Redis answers, but not as hoped


async def test_scripts_that_were_flushed_are_loaded_again(redis_url: str) -> None:
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url) as (limits, _):
            granted = await limits.reserve(ask(KEY, tokens=500))
            looking.script_flush()
            assert (await limits.reserve(ask(KEY, tokens=1))).standing.mode == "redis"
            looking.script_flush()

            limits.settle(granted.reservation, 0)
            await limits.flush()

            assert (await limits.reserve(ask(KEY, tokens=0))).standing.remaining_tokens == 999
            assert limits.health().redis_failures == 0


@pytest.mark.parametrize("seconds", [-89, -61, -31, 31, 61, 89])
async def test_redis_decides_which_minute_it_is_for_gateways_a_minute_off(redis_url: str, seconds: int) -> None:
    pepper, time_ = fresh_pepper(), StoppedTime(redis_url)
    wrong = StoppedTime(redis_url)
    wrong.clock.advance(seconds)
    async with (
        redis_limits(redis_url, pepper=pepper, clock=time_.clock, scripts=time_.scripts) as (punctual, _),
        redis_limits(redis_url, pepper=pepper, clock=wrong.clock, scripts=time_.scripts) as (off, _),
    ):
        assert await admitted(punctual, 15, KEY) == 15
        assert await admitted(off, 15, KEY) == 5
        assert off.health().redis_failures == 0


@pytest.mark.parametrize("seconds", [-91, 91, 3600])
async def test_a_gateway_further_off_counts_its_share_instead_of_guessing(redis_url: str, seconds: int) -> None:
    pepper, time_ = fresh_pepper(), StoppedTime(redis_url)
    names = KeyNames(pepper)
    label = names.label(TENANT, KEY.scope, KEY.subject)
    around = range(time_.minute - 5, time_.minute + 5)
    time_.clock.advance(seconds)
    async with redis_limits(
        redis_url, pepper=pepper, clock=time_.clock, scripts=time_.scripts, workers=4, pace=NEVER
    ) as (limits, _):
        assert await admitted(limits, 20, KEY) == 5
        assert limits.mode == "local"

    with inspector(redis_url) as looking:
        assert looking.exists(*(name(label, m) for name in (names.requests, names.tokens) for m in around)) == 0


async def test_a_full_redis_is_as_good_as_none() -> None:
    with private_redis("--maxmemory-policy", "noeviction") as server, inspector(server.url) as looking:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, workers=4, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as (
            limits,
            _,
        ):
            assert limits.health().redis_failures == 0
            looking.config_set("maxmemory", "1")

            assert await admitted(limits, 40, KEY) == 5
            assert limits.mode == "local"


async def test_a_replica_is_as_good_as_none() -> None:
    with private_redis() as server, inspector(server.url) as looking:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, workers=4, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as (
            limits,
            _,
        ):
            assert limits.health().redis_failures == 0
            looking.replicaof("127.0.0.1", "1")

            assert await admitted(limits, 40, KEY) == 5
            assert limits.mode == "local"


@asynccontextmanager
async def door_to(*servers: RedisServer) -> AsyncIterator[str]:
    """An address whose n-th connection leads to the n-th server, later ones to the last: a name during a fail-over."""
    opened = 0
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        server = servers[min(opened, len(servers) - 1)]
        opened += 1
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        for way in (pump(reader, inner_writer), pump(inner_reader, writer)):
            pumps.add(asyncio.create_task(way))

    door = await asyncio.start_server(lead, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{door.sockets[0].getsockname()[1]}"
    finally:
        door.close()
        await door.wait_closed()
        await asyncio.wait(pumps, timeout=5)


async def test_after_a_fail_over_the_call_is_tried_once_more_on_the_new_primary() -> None:
    with private_redis() as old, private_redis() as new, inspector(old.url) as looking:
        async with door_to(old, new) as url, redis_limits(url) as (limits, _):
            looking.replicaof("127.0.0.1", new.port)

            granted = await limits.reserve(ask(KEY))

            assert granted.standing.mode == "redis"
            assert granted.standing.remaining_requests == 19
            assert limits.health().redis_failures == 0


# Redis is away


async def lose(limits: RedisLimits) -> None:
    """Let enough calls fail that the fuse blows."""
    for n in range(5):
        with_nobody_else = Limit("test", f"lost_{n}", requests_per_minute=1)
        await limits.reserve(ask(with_nobody_else))
    assert limits.mode == "local"


async def test_a_redis_that_hangs_costs_no_call_more_than_its_deadline_and_soon_none_at_all() -> None:
    with private_redis() as server:
        async with redis_limits(server.url, pace=NEVER, timeout_s=0.05) as (limits, client):
            await limits.reserve(ask(KEY))
            server.pause()

            waits = []
            for _ in range(8):
                began = time.monotonic()
                assert (await limits.reserve(ask(KEY))).standing.mode == "local"
                waits.append(time.monotonic() - began)
            sent = client.sent
            await admitted(limits, 200, KEY)

            assert max(waits) < 0.05 + BUSY_MACHINE_S
            assert limits.mode == "local"
            assert client.sent == sent
            server.resume()


async def test_many_calls_at_once_wait_for_a_hanging_redis_together() -> None:
    with private_redis() as server:
        async with redis_limits(server.url, pace=NEVER, timeout_s=0.05) as (limits, _):
            server.pause()
            began = time.monotonic()

            await asyncio.gather(*(limits.reserve(ask(Limit("key", f"k{n}", 10))) for n in range(300)))

            assert time.monotonic() - began < 0.05 + 3 * BUSY_MACHINE_S
            server.resume()


async def test_with_redis_dead_from_the_start_all_workers_together_stay_within_the_limit() -> None:
    with private_redis() as server:
        server.kill()
        clock = standing_still()
        passed = 0
        for _ in range(4):
            async with redis_limits(server.url, workers=4, clock=clock, pace=NEVER) as (limits, _):
                passed += await admitted(limits, 40, KEY)

    assert passed == KEY.requests_per_minute


async def test_a_share_is_never_less_than_one_call() -> None:
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, workers=50, clock=standing_still(), pace=NEVER) as (limits, _):
            assert await admitted(limits, 10, KEY) == 1


async def test_the_share_renews_with_the_minute_and_fades_like_any_window() -> None:
    clock = standing_still()
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, workers=2, clock=clock, pace=NEVER) as (limits, _):
            bound = Limit("key", "k", requests_per_minute=20)
            assert await admitted(limits, 40, bound) == 10
            clock.advance(60)
            assert await admitted(limits, 40, bound) == 5
            clock.advance(150)
            assert await admitted(limits, 40, bound) == 10


async def test_tokens_and_places_are_shared_out_too() -> None:
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, workers=4, clock=standing_still(), pace=NEVER) as (limits, _):
            await limits.reserve(ask(Limit("key", "t", tokens_per_minute=1000), tokens=250))
            with pytest.raises(TokensRateLimited):
                await limits.reserve(ask(Limit("key", "t", tokens_per_minute=1000), tokens=1))

            first = await limits.reserve(ask(Limit("key", "c", concurrency=4)))
            with pytest.raises(ConcurrencyLimited):
                await limits.reserve(ask(Limit("key", "c", concurrency=4)))
            limits.settle(first.reservation, 0)
            await limits.reserve(ask(Limit("key", "c", concurrency=4)))


async def test_a_process_hands_out_no_more_than_redis_had_left_when_it_was_lost() -> None:
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        async with (
            redis_limits(server.url, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as (limits, _),
            redis_limits(server.url, clock=time_.clock, scripts=time_.scripts, pace=NEVER, workers=10) as (other, _),
        ):
            bound = Limit("key", "k", requests_per_minute=20, tokens_per_minute=200)
            for _ in range(17):
                assert (await limits.reserve(ask(bound, tokens=10))).standing.mode == "redis"
            assert (await other.reserve(ask(bound, tokens=10))).standing.mode == "redis"
            server.kill()

            assert await admitted(limits, 40, bound, tokens=10) == 3
            assert await admitted(other, 40, bound, tokens=10) == 2


async def test_what_was_counted_here_is_added_to_redis_once_when_it_is_back() -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    label = names.label(TENANT, KEY.scope, KEY.subject)
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        counts = [names.requests(label, time_.minute), names.tokens(label, time_.minute)]
        async with redis_limits(
            server.url, pepper=pepper, clock=time_.clock, scripts=time_.scripts, workers=2, pace=SOON
        ) as (limits, _):
            server.kill()
            granted = [await limits.reserve(ask(KEY, tokens=50)) for _ in range(6)]
            assert limits.mode == "local"
            server.start()
            time_.tell_redis()
            with inspector(server.url) as looking:
                await until(lambda: looking.mget(counts) == [b"6", b"300"])
                await limits.flush()
                assert looking.mget(counts) == [b"6", b"300"]
                assert all(0 < looking.ttl(key) <= 120 for key in counts)

                limits.settle(granted[0].reservation, 0)
                await limits.flush()
                assert looking.mget(counts) == [b"6", b"250"]

                assert await admitted(limits, 40, KEY) == 14


async def test_a_redis_lost_twice_in_a_minute_is_not_spent_twice() -> None:
    bound = Limit("key", "k", requests_per_minute=20)
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    with private_redis() as server, inspector(server.url) as looking:
        time_ = StoppedTime(server.url)
        counter = names.requests(names.label(TENANT, "key", "k"), time_.minute)
        # What is told to a Redis that then refuses it counts as told: the fuse has to blow before the next flush.
        pace = Pace(flush_s=0.3, first_cooldown_s=0.05)
        async with redis_limits(server.url, pepper=pepper, clock=time_.clock, scripts=time_.scripts, pace=pace) as (
            limits,
            _,
        ):
            assert await admitted(limits, 10, bound) == 10
            looking.replicaof("127.0.0.1", "1")
            assert await admitted(limits, 6, bound) == 6
            looking.replicaof("NO", "ONE")
            await until(lambda: looking.get(counter) == b"16")

            looking.replicaof("127.0.0.1", "1")
            assert await admitted(limits, 40, bound) == 4


async def test_a_redis_that_comes_back_empty_is_used_again() -> None:
    with private_redis() as server:
        async with redis_limits(server.url, pace=SOON) as (limits, _):
            await limits.reserve(ask(KEY))
            server.kill()
            await lose(limits)
            server.start()

            await until(lambda: limits.mode == "redis")

            assert (await limits.reserve(ask(KEY))).standing.mode == "redis"
            assert limits.health().redis_losses >= 1
            assert await limits.ping()


async def test_while_redis_is_away_one_probe_at_a_time_looks_for_it() -> None:
    with private_redis() as server:
        async with redis_limits(server.url, pace=SOON, timeout_s=0.05) as (limits, client):
            server.pause()
            await lose(limits)
            sent = client.sent

            await asyncio.gather(*(limits.reserve(ask(Limit("key", f"k{n}", 10))) for n in range(200)))
            await asyncio.sleep(0.3)

            assert client.sent - sent <= 6
            server.resume()
            await until(lambda: limits.mode == "redis")


async def test_a_settlement_waits_until_redis_is_back() -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    place = names.calls(names.label(TENANT, KEY.scope, KEY.subject))
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pepper=pepper, pace=SOON, timeout_s=0.15) as (limits, _):
            granted = await limits.reserve(ask(KEY, tokens=10))
            assert looking.zcard(place) == 1
            server.pause()
            await lose(limits)
            limits.settle(granted.reservation, 5)
            assert limits.health().backlog >= 1
            server.resume()

            await until(lambda: looking.zcard(place) == 0)


async def test_the_place_of_a_call_whose_answer_came_too_late_is_given_back() -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    label = names.label(TENANT, KEY.scope, KEY.subject)
    with private_redis() as server, inspector(server.url) as looking:
        time_ = StoppedTime(server.url)
        async with redis_limits(
            server.url, pepper=pepper, clock=time_.clock, scripts=time_.scripts, pace=SOON, timeout_s=0.15
        ) as (limits, _):
            await limits.reserve(ask(Limit("key", "other", 10)))
            server.pause()
            assert (await limits.reserve(ask(KEY))).standing.mode == "local"
            server.resume()

            # Redis carries out what it finds in the abandoned connection: one call, and one counted here.
            await until(lambda: looking.get(names.requests(label, time_.minute)) == b"2")
            await until(lambda: looking.zcard(names.calls(label)) == 0)


async def test_a_place_is_freed_even_if_the_first_attempt_to_say_so_fails() -> None:
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    place = names.calls(names.label(TENANT, KEY.scope, KEY.subject))
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pepper=pepper, pace=SOON, timeout_s=0.15) as (limits, _):
            granted = await limits.reserve(ask(KEY))
            looking.config_set("min-replicas-to-write", 1)  # every write is an error from now on
            limits.settle(granted.reservation, 0)
            await limits.flush()
            assert limits.health().backlog == 1
            looking.config_set("min-replicas-to-write", 0)

            await until(lambda: looking.zcard(place) == 0)


@pytest.mark.parametrize(("on_loss", "mode"), [("closed", "closed"), ("open", "open")])
async def test_the_operator_decides_what_becomes_of_calls_without_redis(on_loss: OnLoss, mode: str) -> None:
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, on_loss=on_loss, pace=NEVER) as (limits, _):
            for _ in range(30):
                if on_loss == "closed":
                    with pytest.raises(LimiterUnavailable) as refusal:
                        await limits.reserve(ask(KEY))
                    assert (refusal.value.status, refusal.value.retry_after_s) == (503, 1)
                else:
                    granted = await limits.reserve(ask(KEY))
                    limits.settle(granted.reservation, 5)
            assert limits.mode == mode
            assert not await limits.ping()


# Callers that leave


async def test_calls_cancelled_on_their_way_leave_no_place_taken_and_mix_no_answers(redis_url: str) -> None:
    """Each caller has a limit of its own, so the answer to another's command would show in the standing."""
    pepper = fresh_pepper()
    names = KeyNames(pepper)
    wrong = cancelled = 0

    async def reserve(number: int, round_: int) -> None:
        nonlocal wrong
        bound = Limit("key", f"key_{number}_{round_}", requests_per_minute=1000 + number, concurrency=1)
        granted = await limits.reserve(ask(bound))
        standing = granted.standing
        wrong += (standing.limit_requests, standing.remaining_requests) != (1000 + number, 999 + number)
        limits.settle(granted.reservation, 0)

    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        for n in range(1000):
            tasks = [asyncio.create_task(reserve(number, n)) for number in range(3)]
            for _ in range(1 + n % 4):
                await asyncio.sleep(0)
            tasks[n % 3].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            assert not [o for o in outcomes if o is not None and not isinstance(o, asyncio.CancelledError)]
        await limits.flush()
        assert limits.health().redis_failures == 0
        with inspector(redis_url) as looking:
            places = [
                names.calls(names.label(TENANT, "key", f"key_{number}_{n}")) for number in range(3) for n in range(1000)
            ]
            assert looking.exists(*places) == 0

    assert wrong == 0
    assert cancelled > 500


async def test_a_settlement_during_cancellation_is_kept(redis_url: str) -> None:
    bound = Limit("key", "k", concurrency=1)
    async with redis_limits(redis_url) as (limits, _):
        running = asyncio.Event()

        async def call() -> None:
            granted = await limits.reserve(ask(bound))
            try:
                running.set()
                await asyncio.Event().wait()
            finally:
                limits.settle(granted.reservation, 0)

        task = asyncio.create_task(call())
        await running.wait()
        task.cancel()
        await asyncio.wait([task])
        await limits.flush()

        await limits.reserve(ask(bound))


async def test_opening_without_redis_is_no_error() -> None:
    with private_redis() as server:
        server.kill()
        limits = RedisLimits(RespClient(Address.parse(server.url)), KeyNames(fresh_pepper()), SystemClock())
        await limits.open()

        assert (await limits.reserve(ask(KEY))).standing.mode == "local"
        await limits.close()
