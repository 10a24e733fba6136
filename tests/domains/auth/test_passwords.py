"""Which passwords are accepted, and how hard guessing is made."""

import asyncio

import pytest

from trueport.domains.auth.passwords import PasswordHasher, WeakPassword, check_password
from trueport.domains.auth.throttle import SignInThrottle, Throttle, TooManyAttempts
from trueport.kit.clock import ManualClock
from trueport.kit.errors import Unavailable

CONTEXT = ("ada", "lovelace", "example", "ada@lovelace.example", "Ada", "Lovelace")


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "Sup3r-Secret-Passw0rd!", "x7Kq2mVb9LtR", "пароль для входа", "a b c d e f g h"],
)
def test_long_and_uncommon_passwords_are_accepted(password: str) -> None:
    check_password(password, context=CONTEXT)


@pytest.mark.parametrize(
    "password",
    ["", "x7Kq2mVb9Lt", "password1234", "qwerty123456", "aaaaaaaaaaaaaaaa", "abababababababab", "LOVELACE-2026",
     "ada@lovelace.example", "Trueport2026!", "x" * 257, "welcome-12345"],
)  # fmt: skip
def test_short_common_and_personal_passwords_are_not(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_password(password, context=CONTEXT)


async def test_a_hash_fits_its_password_only_and_each_is_salted() -> None:
    hasher = PasswordHasher()
    first, second = await hasher.hash("correct horse"), await hasher.hash("correct horse")

    assert first != second
    assert await hasher.verify("correct horse", first)
    assert not await hasher.verify("correct horsf", first)
    assert not await hasher.verify("correct horse", None)
    assert not hasher.is_outdated(first)
    hasher.close()


async def test_beyond_a_short_queue_hashing_is_refused_and_recovers() -> None:
    hasher = PasswordHasher()
    outcomes = await asyncio.gather(*(hasher.verify("x", None) for _ in range(25)), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert len(refused) == 25 - 22
    assert await hasher.verify("x", None) is False
    hasher.close()


def waits(throttle: Throttle, subject: str) -> int:
    try:
        throttle.check(subject)
    except TooManyAttempts as refusal:
        return refusal.retry_after_s or 0
    return 0


def test_each_failure_doubles_the_wait_up_to_a_ceiling() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, free=2)
    seen = []
    for _ in range(14):
        throttle.failed("a")
        seen.append(waits(throttle, "a"))
        clock.advance(seen[-1])

    assert seen == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    assert waits(throttle, "b") == 0


def test_success_and_a_quiet_hour_forget() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, free=1)
    throttle.failed("a")
    assert waits(throttle, "a") == 1
    throttle.succeeded("a")
    assert waits(throttle, "a") == 0

    throttle.failed("a")
    clock.advance(3_601)
    throttle.failed("a")
    assert waits(throttle, "a") == 1


def test_memory_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueport.domains.auth.throttle._MOST_SUBJECTS", 3)
    throttle = Throttle(ManualClock(), free=1)
    for subject in "abcd":
        throttle.failed(subject)

    assert [waits(throttle, subject) for subject in "abcd"] == [0, 1, 1, 1]


def test_a_stranger_elsewhere_does_not_lock_the_owner_of_an_account_out() -> None:
    throttle = SignInThrottle(ManualClock())
    for _ in range(20):
        throttle.failed("ada", "203.0.113.9")

    throttle.check("ada", "198.51.100.7")
    with pytest.raises(TooManyAttempts):
        throttle.check("ada", "203.0.113.9")


def test_one_address_cannot_try_every_account() -> None:
    throttle = SignInThrottle(ManualClock())
    for number in range(50):
        throttle.failed(f"user-{number}", "203.0.113.9")

    with pytest.raises(TooManyAttempts):
        throttle.check("somebody-else", "203.0.113.9")


def test_many_addresses_cannot_try_one_account_for_ever() -> None:
    throttle = SignInThrottle(ManualClock())
    for number in range(100):
        throttle.failed("ada", f"10.0.0.{number}")

    with pytest.raises(TooManyAttempts):
        throttle.check("ada", "198.51.100.7")


def test_signing_in_often_from_one_address_is_no_failure() -> None:
    throttle = SignInThrottle(ManualClock())
    for number in range(200):
        throttle.check(f"user-{number}", "198.51.100.7")
        throttle.failed(f"user-{number}", "198.51.100.7")
        throttle.succeeded(f"user-{number}", "198.51.100.7")
