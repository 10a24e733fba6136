"""What is particular to circuits in Redis: what lies in the store, what is asked of it, and what happens without it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.breaker import (
    LEASE_S,
    PACE,
    RedisTime,
    RedisWorld,
    denied,
    fail,
    fresh_scope,
    permitted,
    redis_breakers,
)
from tests.support.limits import until
from tests.support.redis_server import inspector, private_redis
from trueport.gateway.breaker.base import BreakerStoreUnavailable, Denied, Permit
from trueport.gateway.breaker.redis import Pace, RedisBreakers
from trueport.gateway.breaker.scopes import ScopeKeys
from trueport.gateway.limits.resp import Address, RespClient
from trueport.kit.clock import Clock, ManualClock, SystemClock

NEVER = Pace(first_cooldown_s=30)
SOON = Pace(first_cooldown_s=0.02)
PATIENT = Pace(trial_s=60)  # a trial is waited for however busy the machine
BUSY_MACHINE_S = 0.1  # what a wait of 50 ms may take longer where two cores serve many


@asynccontextmanager
async def watched(url: str, clock: Clock, pace: Pace = PACE) -> AsyncIterator[tuple[RedisBreakers, RespClient]]:
    """Breakers, and their client to count what is asked. Nothing runs in the background."""
    client = RespClient(Address.parse(url), timeout_s=5, connect_timeout_s=5)
    breakers = RedisBreakers(client, clock, pace=pace)
    await permitted(breakers, "warm:up")  # the scripts are loaded
    try:
        yield breakers, client
    finally:
        await breakers.close()


async def settled() -> None:
    """Let tasks run until each is done or waits for something that does not come by itself, most likely."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def state_of(breakers: RedisBreakers, scope: str) -> str:
    (standing,) = await breakers.standings([scope])
    return standing.state


# What lies in Redis


@pytest.mark.parametrize("cluster", [False, True])
async def test_a_circuit_lies_under_the_documented_names_and_can_be_read(redis_url: str, cluster: bool) -> None:
    scope = fresh_scope()
    keys = ScopeKeys.of(scope, cluster=cluster)
    async with redis_breakers(redis_url, cluster=cluster) as breakers:
        with inspector(redis_url) as looking:
            await fail(breakers, scope, 4)
            await breakers.flush()
            assert looking.hget(keys.meta, "consec") == b"4"
            assert sum(int(count) for count in looking.hvals(keys.window)) == 4

            await fail(breakers, scope, 1)
            await breakers.flush()

            assert looking.get(keys.state) == b"open"
            assert looking.hget(keys.meta, "trips") == b"1"
            assert set(looking.keys(f"*{scope[-16:]}*")) == {keys.state.encode(), keys.meta.encode()}


async def test_no_key_lives_for_ever_except_under_a_pin() -> None:
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_breakers(server.url) as breakers:
            await fail(breakers, "openai:crd_a", 3)
            await fail(breakers, "openai:crd_a", 1, "ok")
            await fail(breakers, "openai:crd_b", 5)
            await fail(breakers, "openai:crd_c", 5)
            await breakers.flush()
            await breakers.pin("openai:crd_c", "forced_open")

            forever = [key for key in looking.scan_iter() if looking.ttl(key) == -1]
            assert forever == [b"circuit_breaker:openai:crd_c:meta"]
            await breakers.pin("openai:crd_c", None)
            assert all(0 < looking.ttl(key) <= 86_400 for key in looking.scan_iter())


async def test_the_window_of_a_healthy_provider_does_not_grow(redis_url: str) -> None:
    scope, there = fresh_scope(), RedisWorld(redis_url)
    for _ in range(40):
        await fail(there.breakers, scope, 1, "ok")
        await there.flush()
        await there.advance(5)

    with inspector(redis_url) as looking:
        assert looking.hlen(ScopeKeys.of(scope).window) <= 12
    await there.breakers.close()


async def test_a_state_that_makes_no_sense_counts_as_closed(redis_url: str) -> None:
    scope = fresh_scope()
    with inspector(redis_url) as looking:
        looking.set(ScopeKeys.of(scope).state, "ajar", ex=60)
    async with redis_breakers(redis_url) as breakers:
        assert (await permitted(breakers, scope)).kind == "pass"


# What is asked of Redis


async def test_a_closed_circuit_is_believed_for_200_ms(redis_url: str) -> None:
    clock = ManualClock()
    async with watched(redis_url, clock) as (breakers, client):
        scope, before = fresh_scope(), client.sent
        for _ in range(100):
            await permitted(breakers, scope)
        assert client.sent - before == 1

        clock.advance(0.2)
        await permitted(breakers, scope)

        assert client.sent - before == 2


async def test_callers_that_come_at_once_share_one_question(redis_url: str) -> None:
    async with watched(redis_url, ManualClock(), Pace(closed_s=0)) as (breakers, client):
        scope, before = fresh_scope(), client.sent

        await asyncio.gather(*(permitted(breakers, scope) for _ in range(50)))

        assert client.sent - before == 1


async def test_those_who_wait_go_on_when_the_one_who_asks_leaves(redis_url: str) -> None:
    async with watched(redis_url, ManualClock()) as (breakers, _):
        scope = fresh_scope()
        tasks = [asyncio.create_task(permitted(breakers, scope)) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()

        permits = await asyncio.gather(*tasks, return_exceptions=True)

        assert isinstance(permits[0], asyncio.CancelledError)
        assert all(isinstance(permit, Permit) for permit in permits[1:])


async def test_a_probe_that_was_granted_to_somebody_who_had_left_is_given_back(redis_url: str) -> None:
    scope, time_ = fresh_scope(), RedisTime(redis_url)
    async with redis_breakers(redis_url, clock=time_.clock, scripts=time_.scripts) as breakers:
        await fail(breakers, scope, 5)
        await breakers.flush()
        time_.advance(10)
        asking = asyncio.create_task(permitted(breakers, scope))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await breakers.flush()
        time_.advance(1)

        assert (await permitted(breakers, scope)).kind == "probe"


async def test_good_outcomes_are_told_together(redis_url: str) -> None:
    async with watched(redis_url, ManualClock()) as (breakers, client):
        scope = fresh_scope()
        permits = [await permitted(breakers, scope) for _ in range(500)]
        before = client.sent
        for permit in permits:
            breakers.report(permit, "ok")

        await breakers.flush()

        assert client.sent - before <= 3  # one report, and where the script is missing its repetition after the loads
        with inspector(redis_url) as looking:
            assert [int(count) for count in looking.hvals(ScopeKeys.of(scope).window)] == [500]


async def test_good_outcomes_are_told_without_anybody_waiting_for_it(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(tell_s=0.01)) as breakers:
        await fail(breakers, scope, 3, "ok")

        with inspector(redis_url) as looking:
            await until(lambda: looking.hvals(ScopeKeys.of(scope).window) == [b"3"])


async def test_closing_tells_what_is_still_to_tell(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(tell_s=60)) as breakers:
        await fail(breakers, scope, 3, "ok")
        await fail(breakers, scope, 1)
        await fail(breakers, scope, 2, "ok")

    with inspector(redis_url) as looking:
        assert sum(int(count) for count in looking.hvals(ScopeKeys.of(scope).window)) == 6


async def test_a_good_outcome_before_a_failure_is_told_before_it(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(tell_s=60)) as breakers:
        permits = [await permitted(breakers, scope) for _ in range(9)]
        for permit, verdict in zip(permits, ["ok"] * 4 + ["fail"] * 4 + ["ok"], strict=True):
            breakers.report(permit, verdict)  # type: ignore[arg-type]  # a list of literals is a list of strings
        await breakers.flush()
        assert await state_of(breakers, scope) == "closed"

        with inspector(redis_url) as looking:
            assert looking.hget(ScopeKeys.of(scope).meta, "consec") == b"0"


async def test_an_open_circuit_is_asked_for_once_a_second(redis_url: str) -> None:
    clock = ManualClock()
    async with watched(redis_url, clock) as (breakers, client):
        scope = fresh_scope()
        await fail(breakers, scope, 5)
        await breakers.flush()
        before = client.sent
        for _ in range(100):
            await denied(breakers, scope)
        assert client.sent == before

        clock.advance(1)
        await denied(breakers, scope)

        assert client.sent == before + 1


# Few calls to a dead provider


async def test_after_its_own_failure_a_process_believes_nothing_without_asking(redis_url: str) -> None:
    async with watched(redis_url, ManualClock(), Pace(trial_s=0)) as (breakers, client):
        scope = fresh_scope()
        await fail(breakers, scope, 1)
        await breakers.flush()
        before = client.sent

        for _ in range(4):
            await permitted(breakers, scope)

        assert client.sent - before == 4


async def test_a_process_learns_of_the_failures_of_others_with_its_next_question(redis_url: str) -> None:
    clock = ManualClock()
    async with watched(redis_url, clock) as (mine, client), redis_breakers(redis_url) as theirs:
        scope = fresh_scope()
        await permitted(mine, scope)
        await fail(theirs, scope, 2)
        await theirs.flush()
        assert (await permitted(mine, scope)).kind == "pass"  # believed for 200 ms

        clock.advance(0.2)
        trial = await permitted(mine, scope)
        before = client.sent
        mine.report(trial, "void")
        mine.report(await permitted(mine, scope), "void")

        assert client.sent - before == 1


async def test_a_question_leaves_after_the_failures_reported_before_it(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url) as breakers:
        permits = [await permitted(breakers, scope) for _ in range(5)]

        for permit in permits:
            breakers.report(permit, "fail")

        assert isinstance(await breakers.acquire(scope, LEASE_S), Denied)


async def test_an_answer_older_than_a_failure_is_not_shared(redis_url: str) -> None:
    scope = fresh_scope()
    async with watched(redis_url, ManualClock(), Pace(closed_s=0)) as (breakers, _):
        permits = [await permitted(breakers, scope) for _ in range(5)]
        asking, waiting = (asyncio.create_task(breakers.acquire(scope, LEASE_S)) for _ in range(2))
        await asyncio.sleep(0)

        for permit in permits:
            breakers.report(permit, "fail")

        assert isinstance(await asking, Permit)
        assert isinstance(await waiting, Denied)


async def many_wait(breakers: RedisBreakers, scope: str) -> list["asyncio.Task[Permit | Denied]"]:
    """Thirty attempts that come at once after one failure."""
    await fail(breakers, scope, 1)
    await breakers.flush()
    return [asyncio.create_task(breakers.acquire(scope, LEASE_S)) for _ in range(30)]


async def test_after_a_failure_one_attempt_at_a_time_is_made_until_the_circuit_opens(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=PATIENT) as breakers:
        tasks = await many_wait(breakers, scope)
        waiting = list(tasks)
        for _ in range(4):
            await until(lambda: any(task.done() for task in waiting))
            await settled()
            (made,) = [task for task in waiting if task.done()]
            waiting.remove(made)
            permit = made.result()
            assert isinstance(permit, Permit)
            breakers.report(permit, "fail")

        outcomes = await asyncio.gather(*tasks)

        assert sum(isinstance(outcome, Permit) for outcome in outcomes) == 4
        assert await state_of(breakers, scope) == "open"


async def test_a_good_trial_lets_all_who_wait_pass(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=PATIENT) as breakers:
        tasks = await many_wait(breakers, scope)
        await until(lambda: any(task.done() for task in tasks))
        trial = next(task.result() for task in tasks if task.done())
        assert isinstance(trial, Permit)

        breakers.report(trial, "ok")

        assert all(isinstance(outcome, Permit) for outcome in await asyncio.gather(*tasks))


async def test_a_slow_trial_holds_nobody_up_for_long(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(trial_s=0.3)) as breakers:
        async with asyncio.timeout(5):  # for each of the thirty it would be nine seconds
            outcomes = await asyncio.gather(*await many_wait(breakers, scope))

        assert all(isinstance(outcome, Permit) for outcome in outcomes)


async def test_after_a_slow_trial_the_next_failure_makes_attempts_wait_again(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(trial_s=0.02)) as slow, redis_breakers(redis_url) as other:
        outcomes = await asyncio.gather(*await many_wait(slow, scope))
        slow._pace = PATIENT  # from now on only the outcome of a trial ends the waiting
        assert isinstance(outcomes[0], Permit)
        slow.report(outcomes[0], "fail")
        await slow.flush()

        tasks = [asyncio.create_task(slow.acquire(scope, LEASE_S)) for _ in range(10)]
        await until(lambda: any(task.done() for task in tasks))
        await settled()

        assert sum(task.done() for task in tasks) == 1
        await fail(other, scope, 3)
        await other.flush()
        trial = next(task.result() for task in tasks if task.done())
        assert isinstance(trial, Permit)
        slow.report(trial, "void")
        assert sum(isinstance(outcome, Denied) for outcome in await asyncio.gather(*tasks)) == 9


async def test_whoever_stops_waiting_for_a_trial_leaves_no_trace(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=PATIENT) as breakers:
        tasks = await many_wait(breakers, scope)
        await until(lambda: any(task.done() for task in tasks))
        waiting = [task for task in tasks if not task.done()]
        for task in waiting[:-1]:
            task.cancel()
        await asyncio.wait(waiting[:-1])
        (trial,) = [task.result() for task in tasks if task.done() and not task.cancelled()]
        assert isinstance(trial, Permit)

        breakers.report(trial, "void")

        assert isinstance(await waiting[-1], Permit)


# What an operator does


async def test_a_pin_reaches_the_other_processes_within_a_second(redis_url: str) -> None:
    clock = ManualClock()
    async with watched(redis_url, clock) as (mine, _), redis_breakers(redis_url) as theirs:
        scope = fresh_scope()
        await permitted(mine, scope)

        await theirs.pin(scope, "forced_open")
        clock.advance(0.2)
        assert (await denied(mine, scope)).pinned

        await theirs.pin(scope, "forced_closed")
        clock.advance(1)
        assert (await permitted(mine, scope)).kind == "unguarded"

        await theirs.pin(scope, None)
        clock.advance(1)
        assert (await permitted(mine, scope)).kind == "pass"


async def test_that_a_circuit_closed_elsewhere_is_noticed_although_no_call_asks_for_it(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, pace=Pace(look_s=0.01)) as mine, redis_breakers(redis_url) as theirs:
        await fail(mine, scope, 5)
        await mine.flush()
        assert mine.is_resting(scope)

        await theirs.pin(scope, "forced_closed")

        await until(lambda: not mine.is_resting(scope))


# Redis answers, but not as hoped


async def test_scripts_that_were_flushed_are_loaded_again() -> None:
    scope, clock = fresh_scope(), ManualClock()
    with private_redis() as server, inspector(server.url) as looking:
        async with watched(server.url, clock) as (breakers, _):
            deeds: list[Callable[[], Awaitable[object]]] = [
                lambda: permitted(breakers, scope),
                lambda: fail(breakers, scope, 4),
                breakers.flush,
                lambda: breakers.standings([scope]),
                lambda: breakers.pin(scope, "forced_open"),
            ]
            for deed in deeds:
                looking.script_flush()
                clock.advance(1)
                await deed()

            assert breakers.health().redis_failures == 0
            (standing,) = await breakers.standings([scope])
            assert (standing.pinned, standing.mode) == ("forced_open", "redis")


@pytest.mark.parametrize("trouble", ["replica", "full"])
async def test_a_redis_that_takes_no_writes_is_as_good_as_none(trouble: str) -> None:
    scope = fresh_scope()
    with private_redis("--maxmemory-policy", "noeviction") as server, inspector(server.url) as looking:
        async with redis_breakers(server.url, pace=NEVER) as breakers:
            await permitted(breakers, scope)
            if trouble == "replica":
                looking.replicaof("127.0.0.1", "1")
            else:
                looking.config_set("maxmemory", "1")

            made = 0
            while isinstance(permit := await breakers.acquire(scope, LEASE_S), Permit):
                made += 1
                assert made <= 9
                breakers.report(permit, "fail")

            assert breakers.health().mode == "local"
            assert breakers.health().redis_losses == 1


async def test_a_redis_that_starts_anew_holds_every_circuit_closed_until_there_is_evidence() -> None:
    scope, clock = fresh_scope(), ManualClock()
    with private_redis() as server:
        async with watched(server.url, clock) as (breakers, _):
            await fail(breakers, scope, 5)
            await breakers.flush()
            server.kill()
            server.start()
            clock.advance(1)
            # The first question finds out that its connection is gone, and is decided here.
            await breakers.acquire(scope, LEASE_S)
            clock.advance(1)

            assert (await permitted(breakers, scope)).kind == "pass"
            await fail(breakers, scope, 5)
            await denied(breakers, scope)


# Redis is away


async def lose(breakers: RedisBreakers) -> None:
    """Ask until nobody asks Redis any more."""
    for _ in range(10):
        await breakers.acquire(fresh_scope("lost"), LEASE_S)
    assert breakers.health().mode == "local"


async def test_a_redis_that_hangs_costs_no_call_more_than_its_deadlines_and_soon_none_at_all() -> None:
    with private_redis() as server:
        async with redis_breakers(server.url, pace=NEVER, timeout_s=0.05) as breakers:
            await permitted(breakers, fresh_scope())
            server.pause()

            waits = []
            for _ in range(8):
                began = time.monotonic()
                assert (await permitted(breakers, fresh_scope())).kind == "pass"
                waits.append(time.monotonic() - began)

            assert max(waits) < 0.05 + BUSY_MACHINE_S
            assert breakers.health().mode == "local"
            assert breakers.health().local_decisions == 8
            server.resume()


async def test_without_redis_the_same_rules_hold_in_each_process() -> None:
    scope, clock = fresh_scope(), ManualClock()
    with private_redis() as server:
        async with redis_breakers(server.url, clock=clock, pace=NEVER) as breakers:
            server.kill()
            await lose(breakers)

            await fail(breakers, scope, 5)
            assert (await denied(breakers, scope)).retry_after_ms == 10_000
            assert breakers.is_resting(scope)
            (standing,) = await breakers.standings([scope])
            assert (standing.state, standing.mode) == ("open", "local")
            clock.advance(10)
            outcomes = await asyncio.gather(*(breakers.acquire(scope, LEASE_S) for _ in range(20)))
            assert [outcome.kind for outcome in outcomes if isinstance(outcome, Permit)] == ["probe"]


async def test_without_redis_a_process_goes_on_from_what_it_last_knew() -> None:
    resting, failing, pinned, clock = fresh_scope(), fresh_scope(), fresh_scope(), ManualClock()
    with private_redis() as server:
        async with redis_breakers(server.url, clock=clock, pace=NEVER) as breakers:
            await fail(breakers, resting, 5)
            await fail(breakers, failing, 4)
            await breakers.flush()
            await breakers.pin(pinned, "forced_open")
            clock.advance(4)
            server.kill()
            await lose(breakers)

            assert 5_900 <= (await denied(breakers, resting)).retry_after_ms <= 6_000
            await fail(breakers, failing, 1)
            await denied(breakers, failing)
            assert (await denied(breakers, pinned)).pinned


async def test_the_outcome_of_an_attempt_that_began_with_redis_counts_without_it() -> None:
    ordinary, probed = fresh_scope(), fresh_scope()
    with private_redis() as server:
        time_ = RedisTime(server.url)
        async with redis_breakers(server.url, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as breakers:
            await fail(breakers, probed, 5)
            await breakers.flush()
            time_.advance(10)
            probe = await permitted(breakers, probed)
            permits = [await permitted(breakers, ordinary) for _ in range(5)]
            server.kill()
            await lose(breakers)

            for permit in permits:
                breakers.report(permit, "fail")
            breakers.report(probe, "fail")

            await denied(breakers, ordinary)
            assert (await denied(breakers, probed)).retry_after_ms == 20_000


async def test_when_redis_is_back_it_is_told_of_the_failures_seen_here_once() -> None:
    opened, failing, fine = fresh_scope(), fresh_scope(), fresh_scope()
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_breakers(server.url, pace=SOON) as breakers:
            server.kill()
            await lose(breakers)
            await fail(breakers, opened, 5)
            await fail(breakers, failing, 3)
            await fail(breakers, fine, 3)
            await fail(breakers, fine, 1, "ok")
            begun = await permitted(breakers, failing)

            server.start()
            await until(lambda: breakers.health().mode == "redis")
            await breakers.flush()

            assert looking.get(ScopeKeys.of(opened).state) == b"open"
            assert looking.hget(ScopeKeys.of(failing).meta, "consec") == b"3"
            assert not looking.exists(ScopeKeys.of(fine).meta)
            breakers.report(begun, "fail")
            await breakers.flush()
            assert looking.hget(ScopeKeys.of(failing).meta, "consec") == b"4"


async def test_a_pin_that_cannot_be_told_to_everybody_is_refused() -> None:
    with private_redis() as server:
        async with redis_breakers(server.url, pace=NEVER) as breakers:
            server.kill()

            for _ in range(8):  # before and after nobody asks Redis any more
                with pytest.raises(BreakerStoreUnavailable):
                    await breakers.pin("openai:crd_a", "forced_open")

            assert breakers.health().mode == "local"
            assert (await permitted(breakers, "openai:crd_a")).kind == "pass"
            assert not await breakers.ping()


async def test_a_report_after_the_end_does_nothing(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url) as breakers:
        permits = [await permitted(breakers, scope) for _ in range(2)]

    breakers.report(permits[0], "fail")
    breakers.report(permits[1], "ok")

    await settled()
    assert breakers.health().redis_failures == 0
    with inspector(redis_url) as looking:
        assert not looking.exists(ScopeKeys.of(scope).window)


async def test_reporting_works_while_the_task_is_being_cancelled(redis_url: str) -> None:
    scope = fresh_scope()
    async with redis_breakers(redis_url, clock=SystemClock()) as breakers:

        async def call() -> None:
            permit = await permitted(breakers, scope)
            try:
                await asyncio.Event().wait()
            finally:
                breakers.report(permit, "fail")

        calls = [asyncio.create_task(call()) for _ in range(5)]
        await settled()
        for task in calls:
            task.cancel()
        await asyncio.wait(calls)

        await denied(breakers, scope)
