"""Money is exact: what cannot be is refused instead of rounded."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.kit.money import nano_usd, usd

AMOUNTS = st.integers(-(10**38), 10**38)


@given(AMOUNTS)
def test_amounts_of_any_size_survive_printing_and_reading(nanos: int) -> None:
    assert nano_usd(usd(nanos)) == nanos


@given(AMOUNTS, AMOUNTS)
def test_sums_of_what_was_read_are_what_was_read_from_the_sum(one: int, other: int) -> None:
    assert nano_usd(usd(one)) + nano_usd(usd(other)) == nano_usd(usd(one + other))


@given(st.integers(0, 10**30), st.integers(0, 8))
def test_printing_fewer_places_is_off_by_half_of_the_last_at_most(nanos: int, places: int) -> None:
    shown = Fraction(usd(nanos, places=places))

    assert abs(shown - Fraction(nanos, 10**9)) <= Fraction(1, 2 * 10**places)
    assert shown >= Fraction(nanos, 10**9) or abs(shown - Fraction(nanos, 10**9)) < Fraction(1, 2 * 10**places)


@pytest.mark.parametrize("amount", [2.5, 0.1, 1e9, float("nan"), True])
def test_a_float_is_refused_although_it_could_be_read(amount: Any) -> None:
    with pytest.raises(ValueError, match="not a decimal text"):
        nano_usd(amount)


@pytest.mark.parametrize(
    "text",
    [
        "0.0000000001",
        "1.00000000000000000000000000000000001",
        "123456789012345678901234567890.1234567891",
        "1e-999999999",
    ],
)  # fmt: skip
def test_a_place_too_many_is_refused_however_long_the_number(text: str) -> None:
    for amount in (text, Decimal(text)):
        with pytest.raises(ValueError, match="nine decimal places"):
            nano_usd(amount)


@pytest.mark.parametrize("text", ["Infinity", "-inf", "NaN", "sNaN", "1e999999999", "1_000", "0x10", "2,50", "$1"])
def test_what_is_no_finite_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        nano_usd(text)
