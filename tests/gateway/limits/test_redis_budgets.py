"""What is particular to budgets in Redis: what lies in the store, what is told once, and what happens without it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.limits import (
    FakeLedger,
    StoppedTime,
    ask,
    budget,
    fresh_pepper,
    purse_keys,
    redis_limits,
    until,
)
from tests.support.redis_server import inspector, private_redis
from trueport.gateway.limits.base import Budget, BudgetAlert, BudgetSpent, Limit, LimiterUnavailable
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.redis import OnLoss, Pace, RedisLimits
from trueport.kit.clock import ManualClock, SystemClock

NEVER = Pace(first_cooldown_s=30)
SOON = Pace(flush_s=0.005, first_cooldown_s=0.05)
BY_HAND = Pace(flush_s=60, first_cooldown_s=30)
KEY = Limit("key", "key_1", requests_per_minute=1000, tokens_per_minute=10_000, concurrency=100)
NOW = SystemClock().now()
MONTH = budget(1_000, at=NOW, alert_at=(0.5,))


async def settle(limits: RedisLimits, cost: int, *bounds: Budget | Limit, held: int | None = None) -> None:
    granted = await limits.reserve(ask(*bounds, cost=cost if held is None else held))
    limits.settle(granted.reservation, 0, cost)


async def admitted(limits: RedisLimits, count: int, cost: int, *budgets: Budget) -> int:
    """How many of `count` calls pass; none is settled."""
    passed = 0
    for _ in range(count):
        try:
            await limits.reserve(ask(*budgets, cost=cost))
        except BudgetSpent:
            continue
        passed += 1
    return passed


async def lose(limits: RedisLimits) -> None:
    for n in range(5):
        await limits.reserve(ask(Limit("test", f"lost_{n}", requests_per_minute=1000)))
    assert limits.mode == "local"


# What lies in Redis


async def test_what_is_spent_and_held_lies_under_the_documented_names(redis_url: str) -> None:
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    ledger = FakeLedger()
    ledger.has(40, MONTH)
    async with redis_limits(redis_url, pepper=pepper, source=ledger) as (limits, _):
        await limits.reserve(ask(MONTH, cost=70, call_id="call_x"))
        await settle(limits, 5, MONTH, held=20)
        await limits.flush()

        with inspector(redis_url) as looking:
            assert looking.hmget(purse, "spent", "held") == [b"45", b"70"]
            assert looking.zrange(holding, 0, -1) == [b"70:call_x"]


@pytest.mark.parametrize("cluster", [False, True])
async def test_no_purse_lives_for_ever_and_none_names_a_subject_or_a_budget(cluster: bool) -> None:
    bounds = (
        budget(1_000, name="canary", scope="user", subject="canary", at=NOW, alert_at=(0.1,)),
        budget(1_000, name="canary", blocks=False, at=NOW),
    )
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, cluster=cluster) as (limits, _):
            await limits.reserve(ask(*bounds, cost=10))
            await settle(limits, 200, *bounds)
            await limits.flush()
            keys = [key.decode() for key in looking.scan_iter("budget:*")]

            assert len(keys) == 3
            assert all(0 < looking.ttl(key) <= 33 * 86_400 for key in keys)
            assert not [key for key in keys if "canary" in key]
            shape = r"budget:\{kh_\w{26}\}(:kh_\w{26})?:\d{4}-\d{2}(:calls)?"
            assert all(re.fullmatch(shape, key) for key in keys)


async def test_a_purse_outlives_its_period_by_a_day_and_gets_a_lost_time_to_live_back(redis_url: str) -> None:
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    left_s = MONTH.ends_us // 1_000_000 - NOW.timestamp()
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        await limits.reserve(ask(MONTH, cost=10))
        with inspector(redis_url) as looking:
            assert left_s + 85_000 < looking.ttl(purse) < left_s + 86_500
            assert looking.persist(purse)
            assert looking.persist(holding)

            await limits.reserve(ask(MONTH, cost=10))

            assert left_s + 85_000 < looking.ttl(purse) < left_s + 86_500
            assert 600 <= looking.ttl(holding) <= 660


async def test_a_call_without_budgets_still_takes_one_command_and_one_with_them_no_more(redis_url: str) -> None:
    async with redis_limits(redis_url, pace=BY_HAND) as (limits, client):
        await limits.reserve(ask(KEY, MONTH, cost=1))
        for bounds in ((KEY,), (MONTH,), (KEY, MONTH, budget(10, name="other", blocks=False, at=NOW))):
            await limits.reserve(ask(*bounds, cost=1))
            before = client.sent
            await limits.reserve(ask(*bounds, cost=1))
            assert client.sent - before == 1


async def test_holds_that_lost_their_sum_or_their_calls_do_not_stay_for_ever(redis_url: str) -> None:
    """As after an eviction of one key of the two."""
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        with inspector(redis_url) as looking:
            await limits.reserve(ask(MONTH, cost=300))
            looking.delete(purse)
            granted = await limits.reserve(ask(MONTH, cost=100))
            assert granted.standing.budget_left_nano_usd == 600

            looking.delete(holding)
            granted = await limits.reserve(ask(MONTH, cost=100))
            assert granted.standing.budget_left_nano_usd == 900


async def test_only_the_first_process_says_where_counting_begins(redis_url: str) -> None:
    pepper = fresh_pepper()
    early, late = FakeLedger(), FakeLedger()
    early.has(100, MONTH)
    late.has(700, MONTH)
    late.gate.clear()
    async with (
        redis_limits(redis_url, pepper=pepper, source=early) as (first, _),
        redis_limits(redis_url, pepper=pepper, source=late) as (second, _),
    ):
        waiting = asyncio.create_task(second.reserve(ask(MONTH, cost=10)))
        await until(lambda: late.asked > 0)
        await settle(first, 50, MONTH)
        await first.flush()
        late.gate.set()

        assert (await waiting).standing.budget_left_nano_usd == 840


async def test_scripts_that_were_flushed_are_loaded_again() -> None:
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pace=BY_HAND) as (limits, _):
            await limits.reserve(ask(MONTH, cost=0))
            looking.script_flush()
            await settle(limits, 30, KEY, MONTH)
            looking.script_flush()
            await limits.flush()

            assert (await limits.reserve(ask(MONTH, cost=0))).standing.budget_left_nano_usd == 970
            assert limits.health().redis_failures == 0


# Settlements


async def test_settlements_of_many_calls_are_told_together(redis_url: str) -> None:
    async with redis_limits(redis_url, pace=BY_HAND) as (limits, client):
        granted = [await limits.reserve(ask(MONTH, cost=8)) for _ in range(100)]
        for one in granted:
            limits.settle(one.reservation, 0, 5)
        before = client.sent

        await limits.flush()

        assert client.sent - before <= 5
        assert limits.health().backlog == 0
        assert (await limits.reserve(ask(MONTH, cost=0))).standing.budget_left_nano_usd == 500


@asynccontextmanager
async def deaf_door(server_port: int) -> AsyncIterator[tuple[str, Callable[[bool], None]]]:
    """An address in front of a server, and a switch: while it is on, commands arrive and their answers get lost."""
    is_deaf = False
    pumps: set[asyncio.Task[None]] = set()

    def switch(on: bool) -> None:
        nonlocal is_deaf
        is_deaf = on

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        try:
            while data := await reader.read(65536):
                if not (back and is_deaf):
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server_port)
        pumps.add(asyncio.create_task(pump(reader, inner_writer, back=False)))
        pumps.add(asyncio.create_task(pump(inner_reader, writer, back=True)))

    door = await asyncio.start_server(lead, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{door.sockets[0].getsockname()[1]}", switch
    finally:
        door.close()
        await door.wait_closed()
        if pumps:
            await asyncio.wait(pumps, timeout=5)


async def test_a_charge_whose_answer_was_lost_is_sent_again_counted_once_and_alerts_once() -> None:
    pepper = fresh_pepper()
    purse, _ = purse_keys(KeyNames(pepper), MONTH)
    alerts: list[BudgetAlert] = []
    with private_redis() as server, inspector(server.url) as looking:
        async with (
            deaf_door(server.port) as (url, deaf),
            redis_limits(url, pepper=pepper, pace=BY_HAND, timeout_s=0.3, on_alert=alerts.append) as (limits, _),
        ):
            await settle(limits, 1, budget(10, name="so that the script is there", at=NOW))
            await limits.flush()
            granted = [await limits.reserve(ask(MONTH, cost=300)) for _ in range(2)]
            limits.settle(granted[0].reservation, 0, 600)
            deaf(True)
            await limits.flush()
            assert looking.hmget(purse, "spent", "held") == [b"600", b"300"]
            assert alerts == []

            limits.settle(granted[1].reservation, 0, 10)  # waits for a charge of its own
            deaf(False)
            await limits.flush()
            assert [(alert.share, alert.spent_nano_usd) for alert in alerts] == [(0.5, 600)]
            await limits.flush()

            assert looking.hmget(purse, "spent", "held") == [b"610", b"0"]
            assert len(alerts) == 1
            assert limits.health().backlog == 0


async def test_settlements_told_twice_at_the_same_time_alert_once(redis_url: str) -> None:
    alerts: list[BudgetAlert] = []
    async with redis_limits(redis_url, pace=BY_HAND, on_alert=alerts.append) as (limits, _):
        await settle(limits, 600, MONTH)

        await asyncio.gather(limits.flush(), limits.flush(), limits.flush())

        assert len(alerts) == 1
        assert (await limits.reserve(ask(MONTH, cost=0))).standing.budget_left_nano_usd == 400


async def test_a_threshold_is_told_by_one_process_alone(redis_url: str) -> None:
    pepper, alerts = fresh_pepper(), list[BudgetAlert]()
    async with (
        redis_limits(redis_url, pepper=pepper, on_alert=alerts.append) as (first, _),
        redis_limits(redis_url, pepper=pepper, on_alert=alerts.append) as (second, _),
    ):
        for _ in range(10):
            for limits in (first, second):
                await settle(limits, 30, MONTH)
        await asyncio.gather(first.flush(), second.flush())

    assert len(alerts) == 1


async def test_more_calls_than_fit_into_one_charge_are_all_let_go(redis_url: str) -> None:
    month = budget(1_000_000, at=NOW)
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), month)
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        granted = await asyncio.gather(*(limits.reserve(ask(month, cost=10)) for _ in range(1_200)))
        for one in granted:
            limits.settle(one.reservation, 0, 3)

        await until(lambda: limits.health().backlog == 0)

        with inspector(redis_url) as looking:
            assert looking.hmget(purse, "spent", "held") == [b"3600", b"0"]
            assert looking.exists(holding) == 0


async def test_a_charge_that_redis_can_never_count_is_given_up_and_others_are_not(redis_url: str) -> None:
    pepper = fresh_pepper()
    broken, sound = MONTH, budget(1_000, name="sound", at=NOW)
    async with redis_limits(redis_url, pepper=pepper, pace=Pace(flush_s=60, first_cooldown_s=0.001)) as (limits, _):
        await settle(limits, 10, broken)
        await settle(limits, 10, sound)
        with inspector(redis_url) as looking:
            purse, holding = purse_keys(KeyNames(pepper), broken)
            looking.delete(purse, holding)
            looking.set(purse, "not a purse", ex=60)

            async with asyncio.timeout(20):
                while limits.health().backlog:
                    await limits.flush()
                    await asyncio.sleep(0.001)

            assert limits.health().settlements_dropped == 1
            assert looking.hget(purse_keys(KeyNames(pepper), sound)[0], "spent") == b"10"


async def test_a_sum_that_can_hardly_grow_any_more_harms_nobody(redis_url: str) -> None:
    pepper = fresh_pepper()
    watched = budget(1_000, blocks=False, at=NOW)
    purse, _ = purse_keys(KeyNames(pepper), watched)
    async with redis_limits(redis_url, pepper=pepper, pace=BY_HAND) as (limits, _):
        await limits.reserve(ask(watched, cost=1))
        with inspector(redis_url) as looking:
            looking.hset(purse, "spent", 2**63 - 10)
            await settle(limits, 100, watched)
            await limits.flush()

            assert looking.hget(purse, "spent") == b"%d" % (2**63 - 10)
            assert (limits.health().redis_failures, limits.health().backlog) == (0, 0)


async def test_closing_tells_what_was_spent(redis_url: str) -> None:
    pepper = fresh_pepper()
    purse, _ = purse_keys(KeyNames(pepper), MONTH)
    async with redis_limits(redis_url, pepper=pepper, pace=BY_HAND) as (limits, _):
        await settle(limits, 30, MONTH, held=70)

    with inspector(redis_url) as looking:
        assert looking.hmget(purse, "spent", "held") == [b"30", b"0"]


async def test_closing_tells_it_even_of_more_calls_than_fit_into_one_charge(redis_url: str) -> None:
    month = budget(1_000_000, at=NOW)
    pepper = fresh_pepper()
    purse, _ = purse_keys(KeyNames(pepper), month)
    async with redis_limits(redis_url, pepper=pepper, pace=BY_HAND) as (limits, _):
        granted = await asyncio.gather(*(limits.reserve(ask(month, cost=10)) for _ in range(1_200)))
        for one in granted:
            limits.settle(one.reservation, 0, 3)

    with inspector(redis_url) as looking:
        assert looking.hmget(purse, "spent", "held") == [b"3600", b"0"]


async def test_calls_cancelled_on_their_way_hold_nothing(redis_url: str) -> None:
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    async with redis_limits(redis_url, pepper=pepper) as (limits, _):
        await limits.reserve(ask(MONTH, cost=0))
        cancelled = 0
        for n in range(300):
            task = asyncio.create_task(limits.reserve(ask(MONTH, cost=10)))
            for _ in range(1 + n % 4):
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, asyncio.CancelledError):
                cancelled += 1
            else:
                assert not isinstance(outcome, BaseException)
                limits.settle(outcome.reservation, 0, 0)
        await until(lambda: limits.health().backlog == 0)

        assert cancelled > 100
        with inspector(redis_url) as looking:
            assert looking.hmget(purse, "spent", "held") == [b"0", b"0"]
            assert looking.exists(holding) == 0


# Redis is away


async def test_a_process_spends_its_share_of_what_was_left_when_redis_was_lost() -> None:
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, workers=4, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as (
            limits,
            _,
        ):
            await settle(limits, 200, MONTH)
            await limits.flush()
            await limits.reserve(ask(MONTH, cost=0))
            server.kill()

            # 800 left for four: 200 each, in calls of 50.
            assert await admitted(limits, 20, 50, MONTH) == 4
            with pytest.raises(BudgetSpent):
                await limits.reserve(ask(MONTH, cost=1))


async def test_a_share_is_freed_by_settlements_and_spent_by_costs() -> None:
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, workers=2, clock=time_.clock, scripts=time_.scripts, pace=NEVER) as (
            limits,
            _,
        ):
            await limits.reserve(ask(MONTH, cost=0))
            server.kill()

            granted = await limits.reserve(ask(MONTH, cost=400))
            assert granted.standing.budget_left_nano_usd == 100
            limits.settle(granted.reservation, 0, 150)
            assert (await limits.reserve(ask(MONTH, cost=0))).standing.budget_left_nano_usd == 350


async def test_without_news_from_redis_the_ledger_says_what_is_left() -> None:
    ledger = FakeLedger()
    ledger.has(600, MONTH)
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, workers=4, clock=ManualClock(), pace=NEVER, source=ledger) as (limits, _):
            assert await admitted(limits, 20, 10, MONTH) == 10
            assert ledger.asked == 1


async def test_old_news_is_not_believed_while_the_ledger_answers() -> None:
    ledger = FakeLedger()
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, clock=time_.clock, scripts=time_.scripts, pace=NEVER, source=ledger) as (
            limits,
            _,
        ):
            await limits.reserve(ask(MONTH, cost=0))
            server.kill()
            time_.clock.advance(61)
            ledger.has(990, MONTH)

            assert await admitted(limits, 20, 10, MONTH) == 1


async def test_old_news_is_better_than_none() -> None:
    ledger = FakeLedger()
    ledger.has(980, MONTH)
    with private_redis() as server:
        time_ = StoppedTime(server.url)
        async with redis_limits(server.url, clock=time_.clock, scripts=time_.scripts, pace=NEVER, source=ledger) as (
            limits,
            _,
        ):
            await limits.reserve(ask(MONTH, cost=0))
            server.kill()
            ledger.is_away = True
            time_.clock.advance(61)

            assert await admitted(limits, 20, 10, MONTH) == 2


async def test_without_redis_and_ledger_only_a_blocking_budget_refuses() -> None:
    ledger = FakeLedger()
    ledger.is_away = True
    with private_redis() as server:
        server.kill()
        async with redis_limits(server.url, pace=NEVER, source=ledger) as (limits, _):
            with pytest.raises(LimiterUnavailable):
                await limits.reserve(ask(MONTH, cost=1))
            await limits.reserve(ask(budget(1_000, name="watched", blocks=False, at=NOW), cost=1))


async def test_what_was_spent_here_is_told_once_when_redis_is_back() -> None:
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    alerts: list[BudgetAlert] = []
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pepper=pepper, pace=SOON, timeout_s=0.15, on_alert=alerts.append) as (
            limits,
            _,
        ):
            before = await limits.reserve(ask(MONTH, cost=100))
            server.pause()
            await lose(limits)
            for _ in range(3):
                await settle(limits, 200, MONTH)
            limits.settle(before.reservation, 0, 40)
            running = await limits.reserve(ask(MONTH, cost=100))
            assert running.reservation.held_by == "memory"
            server.resume()

            await until(lambda: looking.hmget(purse, "spent", "held") == [b"640", b"0"])
            limits.settle(running.reservation, 0, 7)
            await until(lambda: looking.hget(purse, "spent") == b"647")
            await limits.flush()

            assert looking.hget(purse, "spent") == b"647"
            assert looking.exists(holding) == 0
            assert [alert.share for alert in alerts] == [0.5]


async def test_the_share_is_one_of_what_is_left_each_time_redis_is_lost() -> None:
    pepper = fresh_pepper()
    purse, _ = purse_keys(KeyNames(pepper), MONTH)
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pepper=pepper, workers=2, pace=SOON, timeout_s=0.15) as (limits, _):
            await limits.reserve(ask(MONTH, cost=0))
            server.pause()
            await lose(limits)
            await settle(limits, 500, MONTH)
            with pytest.raises(BudgetSpent):
                await limits.reserve(ask(MONTH, cost=1))
            server.resume()
            await until(lambda: limits.mode == "redis" and looking.hget(purse, "spent") == b"500")
            await limits.reserve(ask(MONTH, cost=0))

            server.pause()
            await lose(limits)
            assert await admitted(limits, 20, 50, MONTH) == 5
            server.resume()


async def test_a_redis_that_comes_back_empty_begins_with_the_ledger() -> None:
    ledger = FakeLedger()
    with private_redis() as server:
        async with redis_limits(server.url, pace=SOON, source=ledger) as (limits, _):
            await settle(limits, 300, MONTH)
            await limits.flush()
            in_flight = await limits.reserve(ask(MONTH, cost=50))
            server.kill()
            await lose(limits)
            ledger.has(300, MONTH)
            server.start()
            await until(lambda: limits.mode == "redis")

            limits.settle(in_flight.reservation, 0, 50)  # nobody counts yet, so the ledger has to bring it
            await until(lambda: limits.health().backlog == 0)
            ledger.has(350, MONTH)

            assert (await limits.reserve(ask(MONTH, cost=0))).standing.budget_left_nano_usd == 650


async def test_what_a_call_holds_whose_answer_came_too_late_is_given_back() -> None:
    pepper = fresh_pepper()
    purse, holding = purse_keys(KeyNames(pepper), MONTH)
    with private_redis() as server, inspector(server.url) as looking:
        async with redis_limits(server.url, pepper=pepper, pace=SOON, timeout_s=0.15) as (limits, _):
            await limits.reserve(ask(MONTH, cost=0))
            server.pause()
            assert (await limits.reserve(ask(MONTH, cost=100))).standing.mode == "local"
            server.resume()

            await until(lambda: limits.health().backlog == 0 and limits.mode == "redis")
            await until(lambda: looking.exists(holding) == 0)
            assert looking.hmget(purse, "spent", "held") in ([b"0", b"0"], [b"0", None])


@pytest.mark.parametrize("on_loss", ["closed", "open"])
async def test_the_operator_decides_what_becomes_of_calls_without_redis(on_loss: OnLoss) -> None:
    pepper = fresh_pepper()
    purse, _ = purse_keys(KeyNames(pepper), MONTH)
    with private_redis() as server:
        async with redis_limits(server.url, pepper=pepper, on_loss=on_loss, pace=SOON) as (limits, _):
            await limits.reserve(ask(MONTH, cost=0))
            server.kill()
            for _ in range(10):
                if on_loss == "closed":
                    with pytest.raises(LimiterUnavailable):
                        await limits.reserve(ask(MONTH, cost=400))
                else:
                    granted = await limits.reserve(ask(MONTH, cost=400))
                    limits.settle(granted.reservation, 0, 400)
            assert limits.mode == on_loss

            # What was let through uncounted is charged all the same, to a budget that is counted again by then.
            server.start()
            with inspector(server.url) as looking:
                looking.hset(purse, mapping={"spent": 1, "held": 0})
                spent = b"4001" if on_loss == "open" else b"1"
                await until(lambda: limits.mode == "redis" and limits.health().backlog == 0)
                assert looking.hget(purse, "spent") == spent


async def test_calls_let_through_on_loss_pass_without_a_ledger_too(redis_url: str) -> None:
    ledger = FakeLedger()
    ledger.is_away = True
    async with redis_limits(redis_url, on_loss="open", source=ledger) as (limits, _):
        granted = await limits.reserve(ask(KEY, MONTH, cost=10**9))

        assert granted.standing.budget_left_nano_usd is None
        assert granted.standing.limit_requests == 1000
