"""What every implementation of `Breakers` promises."""

import asyncio

import pytest

from tests.support.breaker import LEASE_S, World, denied, fail, fresh_scope, permitted
from trueport.gateway.breaker.base import Denied, Permit, Pin, Verdict


async def opened(world: World, scope: str) -> None:
    """Let the circuit open."""
    await fail(world.breakers, scope, 5)
    await world.flush()


async def closed_again(world: World, scope: str) -> None:
    """Let an open circuit close."""
    await world.advance(10)
    await fail(world.breakers, scope, 2, "ok")
    await world.flush()


async def state_of(world: World, scope: str) -> str:
    (standing,) = await world.breakers.standings([scope])
    return standing.state


async def test_a_circuit_nobody_used_is_closed(world: World, scope: str, kind: str) -> None:
    (standing,) = await world.breakers.standings([scope])

    assert (standing.scope, standing.state, standing.pinned, standing.retry_after_ms) == (scope, "closed", None, 0)
    assert standing.mode == kind
    assert not world.breakers.is_resting(scope)


async def test_five_failures_in_a_row_open_it(world: World, scope: str) -> None:
    await fail(world.breakers, scope, 4)
    await world.flush()
    assert await state_of(world, scope) == "closed"

    await fail(world.breakers, scope, 1)
    await world.flush()

    assert await state_of(world, scope) == "open"
    assert (await denied(world.breakers, scope)).retry_after_ms == 10_000
    assert world.breakers.is_resting(scope)
    assert world.breakers.health().resting == (scope,)


async def test_a_good_outcome_starts_the_row_anew(world: World, scope: str) -> None:
    for _ in range(3):
        await fail(world.breakers, scope, 4)
        await fail(world.breakers, scope, 1, "ok")
    await world.flush()

    assert await state_of(world, scope) == "closed"


@pytest.mark.parametrize("verdict", ["void", "alive"])
async def test_outcomes_that_say_nothing_neither_count_nor_interrupt_a_row(
    world: World, scope: str, verdict: Verdict
) -> None:
    await fail(world.breakers, scope, 30, verdict)
    await fail(world.breakers, scope, 4)
    await fail(world.breakers, scope, 3, verdict)
    await world.flush()
    assert await state_of(world, scope) == "closed"

    await fail(world.breakers, scope, 1)
    await world.flush()

    assert await state_of(world, scope) == "open"


async def test_half_of_twenty_failing_opens_it(world: World, scope: str) -> None:
    for _ in range(9):
        await fail(world.breakers, scope, 1, "ok")
        await fail(world.breakers, scope, 1)
    await fail(world.breakers, scope, 1, "ok")
    await world.flush()
    assert await state_of(world, scope) == "closed"

    await fail(world.breakers, scope, 1)
    await world.flush()

    assert await state_of(world, scope) == "open"


async def test_less_than_half_failing_does_not_open_it(world: World, scope: str) -> None:
    for _ in range(20):
        await fail(world.breakers, scope, 2)
        await fail(world.breakers, scope, 3, "ok")
    await world.flush()

    assert await state_of(world, scope) == "closed"


async def test_outcomes_leave_the_window(world: World, scope: str) -> None:
    for _ in range(9):
        await fail(world.breakers, scope, 1)
        await fail(world.breakers, scope, 1, "ok")
    await world.flush()

    await world.advance(61)
    for _ in range(9):
        await fail(world.breakers, scope, 1)
        await fail(world.breakers, scope, 1, "ok")
    await world.flush()

    assert await state_of(world, scope) == "closed"


async def test_the_wait_runs_down_and_then_one_probe_passes(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(7.5)
    assert (await denied(world.breakers, scope)).retry_after_ms == 2_500

    await world.advance(2.5)

    assert not world.breakers.is_resting(scope)
    assert (await permitted(world.breakers, scope)).kind == "probe"
    assert await state_of(world, scope) == "half_open"
    assert world.breakers.is_resting(scope)
    assert (await denied(world.breakers, scope)).retry_after_ms == LEASE_S * 1_000


async def test_of_many_that_come_at_once_one_probes(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)

    outcomes = await asyncio.gather(*(world.breakers.acquire(scope, LEASE_S) for _ in range(50)))

    assert [outcome.kind for outcome in outcomes if isinstance(outcome, Permit)] == ["probe"]


async def test_two_good_probes_close_it(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)

    await fail(world.breakers, scope, 1, "ok")
    await world.flush()
    assert await state_of(world, scope) == "half_open"
    await fail(world.breakers, scope, 1, "alive")
    await world.flush()

    assert await state_of(world, scope) == "closed"
    assert (await permitted(world.breakers, scope)).kind == "pass"


async def test_a_failed_probe_opens_it_for_twice_as_long_up_to_five_minutes(world: World, scope: str) -> None:
    await opened(world, scope)
    waits = []
    for _ in range(6):
        wait_ms = (await denied(world.breakers, scope)).retry_after_ms
        waits.append(wait_ms)
        await world.advance(wait_ms / 1_000)
        await fail(world.breakers, scope, 1)
        await world.flush()

    assert waits == [10_000, 20_000, 40_000, 80_000, 160_000, 300_000]


async def test_closing_forgets_how_long_it_was_open(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)
    await fail(world.breakers, scope, 1)
    await world.flush()
    await world.advance(20)
    await fail(world.breakers, scope, 2, "ok")
    await world.flush()

    await opened(world, scope)

    assert (await denied(world.breakers, scope)).retry_after_ms == 10_000


async def test_a_probe_that_says_nothing_frees_the_slot(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)

    for _ in range(3):
        world.breakers.report(await permitted(world.breakers, scope), "void")
        await world.flush()

    assert await state_of(world, scope) == "half_open"
    assert (await permitted(world.breakers, scope)).kind == "probe"


async def test_a_probe_never_reported_is_given_up_when_its_lease_ends(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)
    lost = await permitted(world.breakers, scope, 5)
    await world.advance(4.5)
    assert (await denied(world.breakers, scope)).retry_after_ms == 500

    await world.advance(0.5)

    assert (await permitted(world.breakers, scope)).kind == "probe"
    world.breakers.report(lost, "fail")
    await world.flush()
    assert await state_of(world, scope) == "half_open"


async def test_a_failure_that_began_before_the_circuit_opened_is_ignored_after_it_closed(
    world: World, scope: str
) -> None:
    slow = [await permitted(world.breakers, scope) for _ in range(6)]
    await opened(world, scope)
    await closed_again(world, scope)
    assert await state_of(world, scope) == "closed"

    for permit in slow:
        world.breakers.report(permit, "fail")
    await world.flush()

    assert await state_of(world, scope) == "closed"
    await fail(world.breakers, scope, 4)
    await world.flush()
    assert await state_of(world, scope) == "closed"


async def test_a_slow_success_from_before_does_not_close_an_open_circuit(world: World, scope: str) -> None:
    slow = await permitted(world.breakers, scope)
    await opened(world, scope)

    world.breakers.report(slow, "ok")
    await world.flush()

    assert await state_of(world, scope) == "open"


async def test_the_second_report_of_a_permit_does_nothing(world: World, scope: str) -> None:
    permit = await permitted(world.breakers, scope)

    for _ in range(10):
        world.breakers.report(permit, "fail")
    await world.flush()

    assert await state_of(world, scope) == "closed"
    await fail(world.breakers, scope, 4)
    await world.flush()
    assert await state_of(world, scope) == "open"


async def test_failures_of_one_scope_touch_no_other(world: World, scope: str) -> None:
    others = [fresh_scope(), fresh_scope("custom"), "custom:" + "0" * 16]
    await fail(world.breakers, others[0], 4)

    await opened(world, scope)

    assert [standing.state for standing in await world.breakers.standings([*others, scope])] == ["closed"] * 3 + [
        "open"
    ]
    assert not any(world.breakers.is_resting(other) for other in others)
    for other in others:
        assert (await permitted(world.breakers, other)).kind == "pass"


async def test_forced_open_denies_whatever_was_counted(world: World, scope: str) -> None:
    await world.breakers.pin(scope, "forced_open")

    denial = await denied(world.breakers, scope)
    assert denial.pinned
    assert denial.retry_after_ms == 10_000
    assert world.breakers.is_resting(scope)
    await world.advance(1_000)
    assert isinstance(await world.breakers.acquire(scope, LEASE_S), Denied)
    (standing,) = await world.breakers.standings([scope])
    assert (standing.state, standing.pinned) == ("closed", "forced_open")


async def test_forced_closed_lets_everything_pass_and_counts_nothing(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.breakers.pin(scope, "forced_closed")

    assert not world.breakers.is_resting(scope)
    for _ in range(30):
        permit = await permitted(world.breakers, scope)
        assert permit.kind == "unguarded"
        world.breakers.report(permit, "fail")
    await world.flush()

    (standing,) = await world.breakers.standings([scope])
    assert (standing.state, standing.pinned) == ("open", "forced_closed")


@pytest.mark.parametrize("pin", ["forced_open", "forced_closed"])
async def test_unpinned_a_circuit_is_where_it_was_with_a_clean_count(world: World, scope: str, pin: Pin) -> None:
    await fail(world.breakers, scope, 4)
    before = await permitted(world.breakers, scope)
    await world.flush()

    await world.breakers.pin(scope, pin)
    world.breakers.report(before, "fail")
    await world.breakers.pin(scope, None)
    await world.flush()

    assert (await world.breakers.standings([scope]))[0].pinned is None
    await fail(world.breakers, scope, 4)
    await world.flush()
    assert await state_of(world, scope) == "closed"


async def test_a_probe_under_way_when_the_circuit_was_pinned_stands_in_nobodys_way(world: World, scope: str) -> None:
    await opened(world, scope)
    await world.advance(10)
    before = await permitted(world.breakers, scope)

    await world.breakers.pin(scope, "forced_open")
    await world.breakers.pin(scope, None)
    world.breakers.report(before, "fail")
    await world.flush()

    assert (await permitted(world.breakers, scope)).kind == "probe"


async def test_what_happened_is_counted_for_the_metrics(world: World, scope: str, kind: str) -> None:
    await opened(world, scope)
    await denied(world.breakers, scope)
    await closed_again(world, scope)

    health = world.breakers.health()
    assert (health.mode, health.denied, health.probes, health.opened, health.resting) == (kind, 1, 2, 1, ())


async def test_the_store_answers(world: World) -> None:
    assert await world.breakers.ping()
