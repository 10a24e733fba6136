import random

import pytest

from trueport.gateway.breaker.retries import RetryBudget
from trueport.kit.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def without_minimum(clock: ManualClock) -> RetryBudget:
    return RetryBudget(clock, minimum_per_s=0)


def retried(budget: RetryBudget, times: int, tenant: str = "ten_a", *, is_other_target: bool = False) -> int:
    """How many of so many further attempts are allowed."""
    return sum(budget.may_retry(tenant, is_other_target=is_other_target) for _ in range(times))


def called(budget: RetryBudget, times: int, tenant: str = "ten_a") -> None:
    for _ in range(times):
        budget.note_call(tenant)


def test_ten_calls_pay_for_one_retry(without_minimum: RetryBudget) -> None:
    called(without_minimum, 9)
    assert retried(without_minimum, 1) == 0

    called(without_minimum, 1)

    assert retried(without_minimum, 5) == 1


def test_in_a_storm_a_provider_is_asked_at_most_a_tenth_more_often_than_clients_ask(
    without_minimum: RetryBudget,
) -> None:
    draw = random.Random(4)
    calls = retries = 0
    for _ in range(5_000):
        burst = draw.randrange(6)
        called(without_minimum, burst)
        calls += burst
        retries += retried(without_minimum, draw.randrange(12))
        assert retries <= 0.1 * calls + 1e-6
    assert retries >= 0.099 * calls


def test_what_quiet_hours_save_is_bounded(without_minimum: RetryBudget) -> None:
    called(without_minimum, 100_000)

    assert retried(without_minimum, 1_000) == 100


def test_failover_is_possible_from_the_first_call_on(without_minimum: RetryBudget) -> None:
    without_minimum.note_call("ten_a")

    assert retried(without_minimum, 500, is_other_target=True) == 500


def test_while_calls_need_failover_nothing_is_left_for_retries(without_minimum: RetryBudget) -> None:
    called(without_minimum, 30)
    retried(without_minimum, 2, is_other_target=True)

    assert retried(without_minimum, 5) == 1


def test_failover_leaves_no_debt(without_minimum: RetryBudget) -> None:
    retried(without_minimum, 500, is_other_target=True)
    called(without_minimum, 10)

    assert retried(without_minimum, 5) == 1


def test_one_tenants_storm_does_not_use_up_anothers_budget(without_minimum: RetryBudget) -> None:
    called(without_minimum, 50, "ten_b")
    called(without_minimum, 1_000)
    retried(without_minimum, 5_000)

    assert retried(without_minimum, 50, "ten_b") == 5


def test_a_tenant_without_savings_may_retry_once_a_second(clock: ManualClock) -> None:
    budget = RetryBudget(clock)

    allowed = []
    for _ in range(4):
        allowed.append(retried(budget, 5))
        clock.advance(0.5)

    assert allowed == [1, 0, 1, 0]


def test_all_tenants_together_get_three_retries_a_second_without_savings(clock: ManualClock) -> None:
    budget = RetryBudget(clock)

    allowed = []
    for _ in range(5):
        allowed.append(sum(retried(budget, 2, f"ten_{number}") for number in range(100)))
        clock.advance(1)

    assert allowed == [3] * 5


def test_allowed_and_refused_attempts_are_counted(without_minimum: RetryBudget) -> None:
    called(without_minimum, 10)
    retried(without_minimum, 3)
    retried(without_minimum, 2, is_other_target=True)

    assert (without_minimum.allowed, without_minimum.refused) == (3, 2)


def test_tenants_that_have_not_called_for_longest_are_forgotten(clock: ManualClock) -> None:
    budget = RetryBudget(clock, minimum_per_s=0, capacity=2)
    called(budget, 20, "ten_old")
    called(budget, 20, "ten_kept")
    called(budget, 1, "ten_kept")

    called(budget, 1, "ten_new")

    assert retried(budget, 5, "ten_kept") == 2
    assert retried(budget, 5, "ten_old") == 0
