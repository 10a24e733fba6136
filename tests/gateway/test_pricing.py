"""Usage times price book is a cost, in integers."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import Usage
from trueport.gateway.pricing import Price, cost_nano_usd, load_price_book

counts = st.integers(0, 10**9)
prices = st.integers(0, 10**14)

BOOK = """
dated = "2026-01-01"
[[price]]
provider = "openai"
model = "gpt-4o-mini*"
input = "0.15"
cached = "0.075"
output = "0.60"
[[price]]
provider = "openai"
model = "gpt-*"
input = "2.50"
output = "10"
[[price]]
provider = "*"
model = "embed-?"
input = "0.02"
"""


@pytest.fixture
def book_file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(BOOK)
    return path


usages = st.builds(lambda fresh, cached, output: Usage(fresh + cached, output, cached), counts, counts, counts)


@given(usages, st.builds(Price, prices, prices, prices))
def test_a_cost_is_the_exact_sum_rounded_once_half_up(usage: Usage, price: Price) -> None:
    cost = cost_nano_usd(usage, price)

    fresh = usage.input_tokens - usage.cached_tokens
    exact = Fraction(fresh * price.input_nano_usd, 10**6)
    exact += Fraction(usage.cached_tokens * price.cached_nano_usd + usage.output_tokens * price.output_nano_usd, 10**6)
    assert cost - Fraction(1, 2) <= exact < cost + Fraction(1, 2)


@pytest.mark.parametrize(("price", "cost"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_half_a_nano_dollar_counts_as_one(price: int, cost: int) -> None:
    assert cost_nano_usd(Usage(1, 0), Price(price, price, 0)) == cost


def test_reasoning_is_output_and_not_paid_twice() -> None:
    price = Price(0, 0, 4_000_000_000)

    assert cost_nano_usd(Usage(0, 10, reasoning_tokens=9), price) == cost_nano_usd(Usage(0, 10), price) == 40_000


def test_the_first_entry_that_matches_counts(book_file: Path) -> None:
    book = load_price_book(book_file)

    assert book.price_of("openai", "gpt-4o-mini-2024") == Price(150_000_000, 75_000_000, 600_000_000)
    assert book.price_of("openai", "gpt-4o") == Price(2_500_000_000, 2_500_000_000, 10_000_000_000)


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "GPT-4o"), ("azure", "gpt-4o"), ("openai", "xgpt-4o"), ("openai", "embed-10")]
)
def test_what_the_book_does_not_know_has_no_price(book_file: Path, provider: str, model: str) -> None:
    assert load_price_book(book_file).price_of(provider, model) is None


def test_an_entry_for_every_provider_fits_any(book_file: Path) -> None:
    assert load_price_book(book_file).price_of("whoever", "embed-1") == Price(20_000_000, 20_000_000, 0)


def test_a_version_names_date_and_content(book_file: Path) -> None:
    first = load_price_book(book_file).version
    same = load_price_book(book_file).version
    book_file.write_text(BOOK.replace("2.50", "2.51"))

    assert first.startswith("2026-01-01+")
    assert same == first
    assert load_price_book(book_file).version != first


def test_the_book_of_the_package_can_be_read_and_prices_the_simulator() -> None:
    assert load_price_book().price_of("openai_compatible", "sim-model") is not None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[price", "not TOML"),
        (BOOK.replace('"10"', '"ten"'), "price 2"),
        (BOOK.replace('"10"', '"nan"'), "price 2"),
        (BOOK.replace('"0.02"', '"0.0000000001"'), "price 3"),
        (BOOK.replace('"0.02"', '"-1"'), "price 3"),
        (BOOK.replace('"0.02"', "0.02"), "price 3"),
        (BOOK.replace('model = "embed-?"', ""), "price 3"),
        ("price = 3", "price"),
        ("price = [3]", "price 1"),
    ],
)
def test_a_book_that_is_none_is_refused_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=complaint):
        load_price_book(path)
