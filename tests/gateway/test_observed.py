"""What a process remembers of providers: pauses they asked for, and how fast they are."""

from datetime import UTC, datetime

import pytest
from yarl import URL

from trueport.gateway.observed import LONGEST_PAUSE_S, Observed, asked_pause_s
from trueport.gateway.snapshot import Credential, Target
from trueport.kit.clock import ManualClock
from trueport.kit.ids import CredentialId

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def target(name: str = "main", model: str | None = None) -> Target:
    return Target(Credential(CredentialId(f"crd_{name}"), name, "openai", URL("https://example.com"), None), model)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:01:00 GMT"}, 60.0),
        ({"retry-after": "Mon, 23 Nov 2026 08:59:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_pause_is_read_in_every_form_providers_write_it(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_pause_s(headers, NOW) == seconds


def test_all_targets_of_an_account_rest_until_its_pause_is_over() -> None:
    clock = ManualClock()
    observed = Observed(clock)

    observed.asked_to_wait(target(model="a"), {"retry-after": "10"})

    assert observed.is_paused(target(model="b"))
    assert not observed.is_paused(target("other"))
    clock.advance(10.1)
    assert not observed.is_paused(target(model="b"))


def test_nobody_rests_for_longer_than_two_minutes() -> None:
    clock = ManualClock()
    observed = Observed(clock)

    observed.asked_to_wait(target(), {"retry-after": "1000000000"})

    clock.advance(LONGEST_PAUSE_S - 1)
    assert observed.is_paused(target())
    clock.advance(2)
    assert not observed.is_paused(target())


def test_latency_follows_the_newest_answers_smoothly() -> None:
    observed = Observed(ManualClock())
    assert observed.latency_ms(target()) is None

    observed.answered(target(), 100_000)
    observed.answered(target(), 200_000)

    assert observed.latency_ms(target()) == pytest.approx(120.0)
    assert observed.latency_ms(target(model="another")) is None
