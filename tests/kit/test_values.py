"""The toolbox: ids, money, secrets, encryption, events."""

import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.kit.clock import ManualClock, from_epoch_us, rfc3339, to_epoch_us
from trueport.kit.crypto import DataKey, SealBroken, Sealed, derive
from trueport.kit.events import Event, EventBus
from trueport.kit.ids import is_id, new_id
from trueport.kit.money import nano_usd, usd
from trueport.kit.randomness import random_bytes
from trueport.kit.secret import Secret

CANARY = "canary-7f3a9c"


def test_an_id_says_what_it_is_and_has_its_form() -> None:
    made = new_id("pol")

    assert is_id(made, "pol")
    assert not is_id(made, "key")
    assert not is_id(made[:-1], "pol")


def test_ids_sort_by_the_moment_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, 4_000_000_000_000])
    monkeypatch.setattr("trueport.kit.ids._newest", 0)
    monkeypatch.setattr("trueport.kit.ids.time.time_ns", lambda: next(moments) * 1_000_000)
    made = [new_id("int") for _ in range(4)]

    assert made == sorted(made)


def test_ids_of_one_moment_sort_in_the_order_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueport.kit.ids._newest", 0)
    monkeypatch.setattr("trueport.kit.ids.time.time_ns", lambda: 1_700_000_000_000_000_000)
    made = [new_id("int") for _ in range(1_000)]

    assert made == sorted(made)
    assert len(set(made)) == 1_000


def test_ids_do_not_repeat() -> None:
    assert len({new_id("int") for _ in range(20_000)}) == 20_000


def test_random_bytes_are_handed_out_once() -> None:
    pieces = [random_bytes(12) for _ in range(5_000)]

    assert len(set(pieces)) == 5_000
    assert len(random_bytes(10_000)) == 10_000


@given(st.integers(-(10**18), 10**18))
def test_money_survives_printing_and_reading(amount: int) -> None:
    assert nano_usd(usd(amount)) == amount


@pytest.mark.parametrize("text", ["", "1e-10", "0.0000000001", "NaN", "Infinity", "ten"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        nano_usd(text)


def test_money_rounds_half_up_when_fewer_places_are_shown() -> None:
    assert usd(1_842_500_000, places=3) == "1.843"
    assert nano_usd(Decimal("2.50")) == 2_500_000_000


def test_a_secret_shows_itself_only_when_asked_by_name() -> None:
    secret = Secret(CANARY)

    assert secret.reveal() == CANARY
    for shown in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        repr([secret]),
        format(secret, ">40"),
    ):
        assert CANARY not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_sealed_value_opens_only_where_it_was_sealed_for_and_with_its_key() -> None:
    keys = [DataKey.generate(f"dek_{n}") for n in range(3)]
    places = ["ten_a|credential|crd_1", "ten_b|credential|crd_1", "ten_a|content|crd_1"]
    sealed = {(key.kid, place): key.seal(b"plain", place) for key in keys for place in places}

    assert all(key.open(sealed[key.kid, place], place) == b"plain" for key in keys for place in places)
    for key, other in permutations(keys, 2):
        with pytest.raises(SealBroken):
            other.open(sealed[key.kid, places[0]], places[0])
    for place, other_place in permutations(places, 2):
        with pytest.raises(SealBroken):
            keys[0].open(sealed[keys[0].kid, place], other_place)


@given(st.data())
def test_a_changed_ciphertext_does_not_open(data: st.DataObject) -> None:
    key = DataKey.generate("dek")
    blob = bytearray(key.seal(b"some text", "here").to_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SealBroken):
        key.open(Sealed.from_bytes(bytes(blob)), "here")


def test_a_wrapped_key_is_the_same_key_again() -> None:
    outer, inner = DataKey.generate("kek"), DataKey.generate("dek_1")
    opened = outer.unwrap("dek_1", outer.wrap(inner, "place"), "place")

    assert opened.commitment == inner.commitment
    assert opened.open(inner.seal(b"x", "y"), "y") == b"x"
    with pytest.raises(SealBroken):
        outer.unwrap("dek_1", outer.wrap(inner, "place"), "elsewhere")


def test_keys_for_different_purposes_differ() -> None:
    assert derive(b"master" * 8, "a") != derive(b"master" * 8, "b")
    assert len(derive(b"master" * 8, "a")) == 32


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis takes the bounds without a zone
def test_a_moment_survives_as_microseconds_to_the_millisecond(moment: datetime) -> None:
    back = from_epoch_us(to_epoch_us(moment))

    assert back == moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)
    assert rfc3339(back).endswith("Z")


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock()
    before = clock.now(), clock.monotonic()
    clock.advance(1.5)

    assert (clock.now() - before[0]).total_seconds() == 1.5
    assert clock.monotonic() - before[1] == 1.5


class Happened(Event):
    """Something."""


async def test_a_listener_that_fails_silences_no_other() -> None:
    bus = EventBus()
    heard: list[Event] = []

    async def fails(_: Happened) -> None:
        raise RuntimeError(CANARY)

    async def hears(event: Happened) -> None:
        heard.append(event)

    bus.listen(Happened, fails)
    bus.listen(Happened, hears)
    event = Happened()
    await bus.tell(event)

    assert heard == [event]
