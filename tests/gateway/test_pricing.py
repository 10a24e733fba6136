"""Usage times price book is a cost, in integers."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import Usage
from trueport.gateway.pricing import Price, PriceBook, cost_nano_usd, load_price_book, worst_case_nano_usd

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
DATED = """
[[price]]
provider = "openai"
model = "gpt-5"
input = "3"
[[price]]
provider = "openai"
model = "gpt-5"
from = "2026-06-01"
input = "2"
[[price]]
provider = "*"
model = "gpt-*"
input = "9"
[[price]]
provider = "openai"
model = "gpt-5"
from = 2026-03-01
input = "2.5"
[[price]]
provider = "openai"
model = "gpt-6"
from = "2026-09-01"
input = "7"
"""


def book_of(text: str, tmp_path: Path) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    return load_price_book(path)


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    return book_of(BOOK, tmp_path)


def price(**amounts: Any) -> Price:
    return Price.of({"input": "0", **amounts})


def input_price(book: PriceBook, provider: str, model: str, at: datetime | None = None) -> int | None:
    found = book.price_of(provider, model, at)
    return found.input_nano_usd if found else None


# --- the arithmetic

counts = st.integers(0, 10**9)
nanos = st.integers(0, 10**14)
KINDS = {
    "cached_tokens": "cached_nano_usd",
    "cache_write_tokens": "cache_write_nano_usd",
    "cache_write_1h_tokens": "cache_write_1h_nano_usd",
    "audio_input_tokens": "audio_input_nano_usd",
    "image_input_tokens": "image_input_nano_usd",
    "reasoning_tokens": "reasoning_nano_usd",
    "audio_output_tokens": "audio_output_nano_usd",
    "image_output_tokens": "image_output_nano_usd",
}
READ = [kind for kind in KINDS if kind not in ("reasoning_tokens", "audio_output_tokens", "image_output_tokens")]
multipliers = st.integers(0, 10**10)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    amounts: dict[str, Any] = {name: draw(nanos) for name in ("input_nano_usd", "output_nano_usd", *KINDS.values())}
    pieces: dict[str, Any] = {
        name: draw(nanos) for name in ("web_search_nano_usd", "image_nano_usd", "audio_minute_nano_usd")
    }
    tiers = (("batch", draw(multipliers)), ("priority", draw(multipliers)))
    return replace(Price.of({"input": "0"}), **amounts, **pieces, tiers=tiers)


@st.composite
def usages(draw: st.DrawFn) -> tuple[Usage, int, int]:
    """A usage whose parts do not overlap, and the plain tokens read and written in it."""
    parts = {kind: draw(counts) for kind in KINDS}
    fresh, plain = draw(counts), draw(counts)
    read = fresh + sum(parts[kind] for kind in READ)
    written = plain + sum(number for kind, number in parts.items() if kind not in READ)
    pieces = {"web_searches": draw(counts), "images": draw(counts), "audio_ms": draw(counts)}
    tier = draw(st.sampled_from([None, "batch", "priority", "default"]))
    return Usage(read, written, **parts, **pieces, service_tier=tier), fresh, plain


@given(usages(), prices())
def test_a_cost_is_the_exact_sum_rounded_once_half_up(drawn: tuple[Usage, int, int], price: Price) -> None:
    usage, fresh, plain = drawn

    cost = cost_nano_usd(usage, price)

    tokens = fresh * price.input_nano_usd + plain * price.output_nano_usd
    tokens += sum(getattr(usage, kind) * getattr(price, amount) for kind, amount in KINDS.items())
    exact = Fraction(tokens, 10**6) * Fraction(dict(price.tiers).get(usage.service_tier or "", 10**9), 10**9)
    exact += Fraction(usage.web_searches * price.web_search_nano_usd, 1_000)
    exact += usage.images * price.image_nano_usd
    exact += Fraction(usage.audio_ms * price.audio_minute_nano_usd, 60_000)
    assert cost - Fraction(1, 2) <= exact < cost + Fraction(1, 2)


@pytest.mark.parametrize(("nano", "cost"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_half_a_nano_dollar_counts_as_one(nano: int, cost: int) -> None:
    assert cost_nano_usd(Usage(1, 0), replace(price(), input_nano_usd=nano)) == cost


def test_reasoning_is_output_and_not_paid_twice() -> None:
    plain = price(output="4")

    assert cost_nano_usd(Usage(0, 10, reasoning_tokens=9), plain) == cost_nano_usd(Usage(0, 10), plain) == 40_000


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), "1"),
        (Usage(1_000_000, 0, cached_tokens=1_000_000), "0.1"),
        (Usage(1_000_000, 0, cache_write_tokens=1_000_000), "1.25"),
        (Usage(1_000_000, 0, cache_write_1h_tokens=1_000_000), "2"),
        (Usage(1_000_000, 0, 200_000, 300_000, 400_000), "1.295"),
        (Usage(1_000_000, 0, audio_input_tokens=1_000_000), "10"),
        (Usage(1_000_000, 0, image_input_tokens=1_000_000), "3"),
        (Usage(0, 1_000_000), "5"),
        (Usage(0, 1_000_000, reasoning_tokens=1_000_000), "6"),
        (Usage(0, 1_000_000, audio_output_tokens=1_000_000), "20"),
        (Usage(0, 1_000_000, image_output_tokens=1_000_000), "30"),
        (Usage(0, 0, web_searches=3), "0.03"),
        (Usage(0, 0, images=3), "0.12"),
        (Usage(0, 0, audio_ms=90_000), "0.009"),
        (Usage(1_000_000, 0, web_searches=1, service_tier="batch"), "0.51"),
        (Usage(0, 1_000_000, service_tier="priority"), "8.75"),
        (Usage(0, 1_000_000, service_tier="unheard-of"), "5"),
    ],
)
def test_each_kind_has_its_own_price(usage: Usage, cost: str) -> None:
    every = price(
        input="1",
        cached="0.1",
        cache_write="1.25",
        cache_write_1h="2",
        audio_input="10",
        image_input="3",
        output="5",
        reasoning="6",
        audio_output="20",
        image_output="30",
        web_search="10",
        image="0.04",
        audio_minute="0.006",
        tiers={"batch": "0.5", "priority": "1.75"},
    )

    assert cost_nano_usd(usage, every) == Fraction(cost) * 10**9


@pytest.mark.parametrize(
    ("said", "amount", "fallback"),
    [
        ("input", "cached_nano_usd", 2),
        ("input", "cache_write_nano_usd", 2),
        ("input", "cache_write_1h_nano_usd", 2),
        ("cache_write", "cache_write_1h_nano_usd", 2),
        ("input", "audio_input_nano_usd", 2),
        ("input", "image_input_nano_usd", 2),
        ("output", "reasoning_nano_usd", 2),
        ("output", "audio_output_nano_usd", 2),
        ("output", "image_output_nano_usd", 2),
        ("input", "output_nano_usd", 0),
        ("input", "web_search_nano_usd", 0),
        ("input", "image_nano_usd", 0),
        ("input", "audio_minute_nano_usd", 0),
    ],
)
def test_a_price_that_is_missing_falls_back(said: str, amount: str, fallback: int) -> None:
    assert getattr(price(**{said: "2"}), amount) == fallback * 10**9


def test_sound_that_came_from_the_cache_is_paid_once() -> None:
    both = price(input="1", cached="0.1", audio_input="10", image_input="100")

    assert cost_nano_usd(Usage(100, 0, cached_tokens=50, audio_input_tokens=80), both) == 50 * 100 + 50 * 10_000
    assert cost_nano_usd(Usage(100, 0, cached_tokens=100, audio_input_tokens=100), both) == 100 * 100
    overlapping = Usage(100, 0, cached_tokens=50, audio_input_tokens=40, image_input_tokens=40)
    assert cost_nano_usd(overlapping, both) == 50 * 100 + 40 * 10_000 + 10 * 100_000


def test_parts_larger_than_their_whole_never_earn_money() -> None:
    flat = price(input="10", output="10", cached="0")

    assert cost_nano_usd(Usage(5, 5, cached_tokens=100), flat) == 5 * 10_000
    assert cost_nano_usd(Usage(5, 5, reasoning_tokens=100), price(output="10", reasoning="0")) == 0


def test_a_long_call_is_paid_at_the_long_price_from_its_first_token() -> None:
    two = price(
        input="1", cached="0.5", output="10", tiers={"batch": "0.5"}, long={"over": 1_000, "input": "2", "output": "15"}
    )

    assert cost_nano_usd(Usage(1_000, 1), two) == 1_000 * 1_000 + 10_000
    assert cost_nano_usd(Usage(1_001, 1), two) == 1_001 * 2_000 + 15_000
    assert cost_nano_usd(Usage(1_001, 0, cached_tokens=1_001), two) == 1_001 * 500
    assert cost_nano_usd(Usage(1_001, 1, service_tier="batch"), two) == (1_001 * 2_000 + 15_000) // 2


# --- reservations


def without_pieces(price: Price) -> Price:
    return replace(price, web_search_nano_usd=0, image_nano_usd=0, audio_minute_nano_usd=0)


@given(drawn=usages(), price=prices(), is_long=st.booleans())
def test_no_call_costs_more_tokens_than_its_worst_case(
    drawn: tuple[Usage, int, int], price: Price, *, is_long: bool
) -> None:
    usage, _, _ = drawn
    price = without_pieces(price)
    if is_long:
        price = replace(price, long_over=10, long=replace(price, input_nano_usd=price.input_nano_usd * 2))

    worst = worst_case_nano_usd(price, usage.input_tokens, usage.output_tokens, usage.service_tier)

    assert worst >= cost_nano_usd(usage, price)
    assert worst_case_nano_usd(price, usage.input_tokens, usage.output_tokens, "unheard-of") <= max(
        worst, worst_case_nano_usd(price, usage.input_tokens, usage.output_tokens)
    )


def test_the_worst_case_takes_the_dearest_kind_of_token() -> None:
    some = price(input="1", cache_write_1h="2", output="5", audio_output="20")

    assert worst_case_nano_usd(some, 100, 10) == 100 * 2_000 + 10 * 20_000


def test_a_cheap_tier_is_reserved_at_the_plain_price_and_a_dear_one_at_its_own() -> None:
    some = price(input="1", tiers={"flex": "0.5", "priority": "2"})

    assert [worst_case_nano_usd(some, 1, 0, tier) for tier in (None, "flex", "priority")] == [1_000, 1_000, 2_000]


def test_a_fraction_of_a_nano_dollar_is_reserved_whole() -> None:
    assert worst_case_nano_usd(replace(price(), input_nano_usd=1), 1, 0) == 1


# --- which price


def test_the_first_entry_that_matches_counts(book: PriceBook) -> None:
    assert book.price_of("openai", "gpt-4o-mini-2024") == price(input="0.15", cached="0.075", output="0.60")
    assert book.price_of("openai", "gpt-4o") == price(input="2.5", output="10")


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "GPT-4o"), ("azure", "gpt-4o"), ("openai", "xgpt-4o"), ("openai", "embed-10")]
)
def test_what_the_book_does_not_know_has_no_price(book: PriceBook, provider: str, model: str) -> None:
    assert book.price_of(provider, model) is None
    assert book.price_of(provider, model) is None


def test_an_entry_for_every_provider_fits_any(book: PriceBook) -> None:
    assert book.price_of("whoever", "embed-1") == price(input="0.02")


def test_a_table_may_stand_for_several_providers_and_models(tmp_path: Path) -> None:
    book = book_of('[[price]]\nprovider = ["a", "b"]\nmodel = ["x", "y-*"]\ninput = "3"', tmp_path)

    assert [input_price(book, "a", "x"), input_price(book, "b", "y-1")] == [3 * 10**9] * 2
    assert (input_price(book, "c", "x"), input_price(book, "a", "z")) == (None, None)


@pytest.mark.parametrize(
    ("moment", "dollars"),
    [
        (datetime(2025, 1, 1, tzinfo=UTC), "3"),
        (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), "3"),
        (datetime(2026, 3, 1, tzinfo=UTC), "2.5"),
        (datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC), "2.5"),
        (datetime(2026, 6, 1, tzinfo=UTC), "2"),
        (datetime(2026, 6, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2.5"),
        (datetime(2030, 1, 1, tzinfo=UTC), "2"),
        (None, "2"),
    ],
)
def test_the_newest_price_in_force_counts(tmp_path: Path, moment: datetime | None, dollars: str) -> None:
    book = book_of(DATED, tmp_path)

    assert input_price(book, "openai", "gpt-5", moment) == Fraction(dollars) * 10**9


def test_a_price_that_is_not_in_force_yet_leaves_the_next_pattern(tmp_path: Path) -> None:
    book = book_of(DATED, tmp_path)

    assert input_price(book, "openai", "gpt-6", datetime(2026, 9, 1, tzinfo=UTC)) == 9 * 10**9
    # Its pattern stands behind the general one: order decides, and dates only among versions of one entry.
    only = book_of(DATED[DATED.rindex("[[price]]") :], tmp_path)
    assert input_price(only, "openai", "gpt-6", datetime(2026, 8, 31, tzinfo=UTC)) is None
    assert input_price(only, "openai", "gpt-6", datetime(2026, 9, 1, tzinfo=UTC)) == 7 * 10**9


def test_names_without_end_do_not_fill_the_memory(book: PriceBook) -> None:
    for number in range(10_050):
        book.price_of("openai", f"gpt-{number}")

    assert len(book._matching) <= 10_000
    assert input_price(book, "openai", "gpt-1") == 2_500_000_000


# --- a tenant's own prices

MINE: list[Mapping[str, object]] = [
    {"provider": "openai", "model": "gpt-4o", "input": "1"},
    {"provider": "*", "model": "own-*", "input": "4", "output": "8", "from": "2026-05-01"},
]


def test_overrides_count_before_the_book(book: PriceBook) -> None:
    mine = book.with_overrides(MINE)

    assert input_price(mine, "openai", "gpt-4o") == 10**9
    assert input_price(mine, "openai", "gpt-4o-mini") == input_price(book, "openai", "gpt-4o-mini")
    assert input_price(mine, "whoever", "own-1") == 4 * 10**9
    assert input_price(mine, "whoever", "own-1", datetime(2026, 4, 30, tzinfo=UTC)) is None
    assert input_price(book, "openai", "gpt-4o") == 2_500_000_000
    assert mine.ceiling == book.ceiling


def test_an_override_from_a_later_day_leaves_the_book_s_price_until_then(book: PriceBook) -> None:
    mine = book.with_overrides([{"provider": "openai", "model": "gpt-4o", "from": "2026-05-01", "input": "1"}])

    assert input_price(mine, "openai", "gpt-4o", datetime(2026, 4, 30, tzinfo=UTC)) == 2_500_000_000
    assert input_price(mine, "openai", "gpt-4o", datetime(2026, 5, 1, tzinfo=UTC)) == 10**9


def test_the_version_tells_overrides_apart(book: PriceBook) -> None:
    first = book.with_overrides(MINE).version

    assert first.startswith(f"{book.version}+")
    assert book.with_overrides([dict(reversed(list(entry.items()))) for entry in MINE]).version == first
    assert book.with_overrides([{**MINE[0], "input": "1.1"}, MINE[1]]).version != first
    assert book.with_overrides(MINE[::-1]).version != first
    assert book.with_overrides([]) is book


def test_an_override_that_is_none_is_refused_with_its_place(book: PriceBook) -> None:
    with pytest.raises(ValueError, match=r"override 2 .*x y: input"):
        book.with_overrides([MINE[0], {"provider": "x", "model": "y", "input": 1}])


# --- the file


def test_a_version_names_date_and_content(tmp_path: Path) -> None:
    first = book_of(BOOK, tmp_path).version
    same = book_of(BOOK, tmp_path).version
    other = book_of(BOOK.replace("2.50", "2.51"), tmp_path).version

    assert first.startswith("2026-01-01+")
    assert same == first
    assert other != first


def test_the_ceiling_is_the_dearest_entry_or_what_the_file_says(tmp_path: Path) -> None:
    assert book_of(BOOK, tmp_path).ceiling == price(input="2.5", output="10")
    assert book_of(BOOK + '[ceiling]\ninput = "20"\noutput = "90"', tmp_path).ceiling == price(input="20", output="90")
    assert book_of('[ceiling]\ninput = "20"', tmp_path).ceiling.input_nano_usd == 20 * 10**9


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[price", "not TOML"),
        (BOOK.replace('"10"', '"ten"'), "price 2 .*openai gpt-.*: output"),
        (BOOK.replace('"10"', '"nan"'), "price 2"),
        (BOOK.replace('"0.02"', '"0.0000000001"'), "price 3"),
        (BOOK.replace('"0.02"', '"-1"'), "price 3"),
        (BOOK.replace('"0.02"', "0.02"), "price 3"),
        (BOOK.replace('"0.02"', "2"), "price 3"),
        (BOOK.replace('model = "embed-?"', ""), "price 3"),
        (BOOK.replace('"embed-?"', '["embed-?", 3]'), "price 3 .*model"),
        (BOOK.replace('"embed-?"', "[]"), "price 3 .*model"),
        (BOOK.replace('"*"', '""'), "price 3 .*provider"),
        (BOOK.replace('input = "0.02"', 'output = "0.02"'), "price 3 .*input"),
        (BOOK + 'ouput = "1"', "price 3 .*ouput"),
        (BOOK + 'from = "yesterday"', "price 3 .*yesterday"),
        (BOOK + "from = 2026-01-01T00:00:00Z", "price 3 .*from"),
        (BOOK + "from = 3", "price 3 .*from"),
        (BOOK + "tiers = 2", "price 3 .*tiers"),
        (BOOK + "tiers = { batch = 0.5 }", "price 3 .*tier batch"),
        (BOOK + 'tiers = { batch = "-0.5" }', "price 3 .*tier batch"),
        (BOOK + 'long = { input = "2" }', "price 3 .*over"),
        (BOOK + 'long = { over = 0, input = "2" }', "price 3 .*over"),
        (BOOK + "long = { over = 3, input = 2 }", "price 3 .*long: input"),
        (BOOK + 'long = { over = 3, tiers = { x = "1" }, inputt = "2" }', "price 3 .*long: inputt"),
        (BOOK + '[[price]]\nprovider = "*"\nmodel = "embed-?"\ninput = "1"', "price 4 .*already"),
        (BOOK + "[ceiling]", "ceiling .*input"),
        ("ceiling = 3", "ceiling"),
        ("price = 3", "price"),
        ("price = [3]", "price 1"),
        ("", "neither"),
        (BOOK.replace("[[price]]", "[[prices]]"), "prices"),
    ],
)
def test_a_book_that_is_none_is_refused_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        book_of(text, tmp_path)


# --- the book of the package

PACKAGE = load_price_book()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_simulator_is_priced_for_every_provider() -> None:
    simulated = PACKAGE.price_of("openai_compatible", "sim-model", NOW)

    assert simulated is not None
    assert simulated == PACKAGE.price_of("anthropic", "sim-model", NOW)
    assert cost_nano_usd(Usage(1_000_000, 1_000_000, 400_000), simulated) == 600_000_000 + 100_000_000 + 4_000_000_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("openai", "gpt-5"),
        ("azure", "gpt-4o-2024-08-06"),
        ("openai", "text-embedding-3-small"),
        ("openai", "whisper-1"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-haiku-4-5"),
        ("google", "gemini-2.5-pro"),
        ("google", "gemini-2.5-flash"),
    ],
)
def test_common_models_are_priced(provider: str, model: str) -> None:
    assert PACKAGE.price_of(provider, model, NOW) is not None


@pytest.mark.parametrize("model", ["gpt-5-turbo-from-the-future", "gpt-4o-huge", "gpt-7", "claude-4", "o3-maxi"])
def test_a_model_nobody_has_priced_is_not_taken_for_its_namesake(model: str) -> None:
    assert [PACKAGE.price_of(provider, model, NOW) for provider in ("openai", "anthropic", "google")] == [None] * 3


def test_azure_costs_what_openai_costs() -> None:
    for entry in PACKAGE.entries:
        if entry.provider == "openai":
            assert PACKAGE.price_of("azure", entry.model, NOW) == PACKAGE.price_of("openai", entry.model, NOW)


def test_anthropic_s_cache_costs_what_its_price_page_says() -> None:
    priced = [entry for entry in PACKAGE.entries if entry.provider == "anthropic"]
    assert len(priced) > 20

    for entry in priced:
        # Claude 3 Haiku's were rounded; newer models' reads are cheaper still.
        if "claude-3-haiku" not in entry.model:
            for amounts in filter(None, (entry.price, entry.price.long)):
                assert amounts.cache_write_nano_usd * 4 == amounts.input_nano_usd * 5, entry.model
                assert amounts.cache_write_1h_nano_usd == amounts.input_nano_usd * 2, entry.model
                assert amounts.cached_nano_usd * 10 <= amounts.input_nano_usd, entry.model


def test_every_entry_of_the_package_is_plausible() -> None:
    for entry in PACKAGE.entries:
        amounts = entry.price
        assert amounts.cached_nano_usd <= amounts.input_nano_usd, entry.model
        assert all(0 < multiplier <= 10 * 10**9 for _, multiplier in amounts.tiers), entry.model
        assert amounts.input_nano_usd or amounts.audio_minute_nano_usd or "moderation" in entry.model, entry.model
        if amounts.long is not None:
            assert amounts.long.input_nano_usd > amounts.input_nano_usd, entry.model
            assert amounts.long.output_nano_usd > amounts.output_nano_usd, entry.model


def test_no_entry_of_the_package_stands_behind_one_that_hides_it() -> None:
    for entry in PACKAGE.entries:
        name = entry.model.replace("?", "0").replace("*", "0")
        first = next(other for other in PACKAGE.entries
                     if other.provider in (entry.provider, "*") and other.pattern.matches(name))  # fmt: skip
        assert first.model == entry.model
