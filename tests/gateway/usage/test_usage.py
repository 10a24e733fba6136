"""What providers say a call used: one meaning for every provider, and nothing believed that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from trueport.gateway.call import Usage
from trueport.gateway.usage import (
    Reading,
    anthropic_usage,
    as_anthropic,
    as_google,
    as_openai_chat,
    as_openai_responses,
    asked_tier,
    google_usage,
    later,
    openai_usage,
)

GOLDEN = Path(__file__).parent / "golden"
JsonObject = dict[str, Any]


def golden(provider: str) -> list[Any]:
    cases = json.loads((GOLDEN / f"{provider}.json").read_text())
    assert len({case["name"] for case in cases}) == len(cases)
    return [pytest.param(case, id=case["name"]) for case in cases]


def expected(case: JsonObject) -> Reading:
    return Reading(Usage(**case["expected"]) if case["expected"] else None, case["doubtful"])


@pytest.mark.parametrize("case", golden("openai"))
def test_openai_and_its_copies(case: JsonObject) -> None:
    assert openai_usage(case["usage"], tier=case.get("tier")) == expected(case)


@pytest.mark.parametrize("case", golden("anthropic"))
def test_anthropic(case: JsonObject) -> None:
    assert anthropic_usage(case["usage"], case.get("start"), tier=case.get("tier")) == expected(case)


@pytest.mark.parametrize("case", golden("google"))
def test_google(case: JsonObject) -> None:
    assert google_usage(case["usage"], tier=case.get("tier")) == expected(case)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_number_for_is_not_believed(number: float) -> None:
    assert openai_usage({"prompt_tokens": 1, "completion_tokens": number}) == Reading(None, True)
    assert openai_usage({"type": "duration", "seconds": number}) == Reading(None, True)
    assert anthropic_usage({"input_tokens": number, "output_tokens": 1}) == Reading(None, True)
    assert google_usage({"promptTokenCount": number}) == Reading(None, True)


# --- anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 50) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def members_of(value: object) -> set[str]:
    """Every member name inside a JSON value."""
    if isinstance(value, list):
        return set().union(*map(members_of, value))
    return set(value).union(*map(members_of, value.values())) if isinstance(value, dict) else set()


MEMBERS = sorted(set().union(*(members_of(json.loads(file.read_text())) for file in GOLDEN.glob("*.json"))))
anything = st.dictionaries(
    st.sampled_from(MEMBERS),
    json_values | st.integers(0, 50) | st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=4),
    max_size=8,
)


@given(anything | json_values, anything | st.none())
def test_no_usage_object_makes_a_reader_fail_or_believe_the_impossible(value: object, start: object) -> None:
    for reading in (openai_usage(value, value), anthropic_usage(value, start, value), google_usage(value, start)):
        usage = reading.usage
        if usage is None:
            continue
        numbers = [number for number in asdict(usage).values() if not isinstance(number, str | None)]
        assert all(type(number) is int and 0 <= number <= 10**9 for number in numbers)
        assert usage.cached_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens <= usage.input_tokens
        assert usage.audio_input_tokens + usage.image_input_tokens <= usage.input_tokens
        written = usage.reasoning_tokens + usage.audio_output_tokens + usage.image_output_tokens
        assert written <= usage.output_tokens


# --- written back

counts = st.integers(0, 10**7)
tiers = st.sampled_from([None, "default", "standard", "priority", "flex", "batch", "fast"])


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, write, write_1h, audio, image, text = (draw(counts) for _ in range(6))
    reasoning, audio_out, image_out, text_out = (draw(counts) for _ in range(4))
    read = max(cached + write + write_1h, audio + image) + text
    written = reasoning + audio_out + image_out + text_out
    return Usage(
        read, written, cached, write, write_1h, audio, image, reasoning, audio_out, image_out,
        web_searches=draw(st.integers(0, 99)), service_tier=draw(tiers),
    )  # fmt: skip


def without_pieces(usage: Usage) -> Usage:
    """OpenAI and Google tell searches outside of the usage object."""
    return replace(usage, web_searches=0, service_tier=None)


@given(usages())
def test_what_openai_s_objects_can_say_survives_them(usage: Usage) -> None:
    for write in (as_openai_chat, as_openai_responses):
        assert openai_usage(write(usage), tier=usage.service_tier) == Reading(replace(usage, web_searches=0), False)


@given(usages())
def test_what_anthropic_s_object_can_say_survives_it(usage: Usage) -> None:
    sayable = replace(usage, audio_input_tokens=0, image_input_tokens=0, audio_output_tokens=0, image_output_tokens=0)
    tier = {"default": "standard", "flex": None}.get(usage.service_tier or "", usage.service_tier)

    assert anthropic_usage(as_anthropic(usage)) == Reading(replace(sayable, service_tier=tier), False)


@given(usages())
def test_what_google_s_object_can_say_survives_it(usage: Usage) -> None:
    read = google_usage(as_google(usage))

    sayable = replace(without_pieces(usage), cache_write_tokens=0, cache_write_1h_tokens=0)
    assert read.usage is not None
    assert (replace(read.usage, service_tier=None), read.is_doubtful) == (sayable, False)


def said(written: JsonObject) -> JsonObject:
    """Without what says nothing: members that are null, zero or empty."""
    members = {name: said(value) if isinstance(value, dict) else value for name, value in written.items()}
    return {name: value for name, value in members.items() if value not in (None, 0, {}, [])}


@st.composite
def openai_objects(draw: st.DrawFn) -> JsonObject:
    usage = without_pieces(draw(usages()))
    into = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.audio_input_tokens}
    into |= {"image_tokens": usage.image_input_tokens}
    if draw(st.booleans()):
        into["cache_write_tokens"] = usage.cache_write_tokens
    out = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.audio_output_tokens}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": into,
        "completion_tokens_details": out,
    }


@st.composite
def responses_objects(draw: st.DrawFn) -> JsonObject:
    chat = draw(openai_objects())
    into, out = chat["prompt_tokens_details"], chat["completion_tokens_details"]
    return {
        "input_tokens": chat["prompt_tokens"],
        "input_tokens_details": {name: n for name, n in into.items() if name.startswith("cache")},
        "output_tokens": chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": out["reasoning_tokens"]},
        "total_tokens": chat["total_tokens"],
    }


@st.composite
def anthropic_objects(draw: st.DrawFn) -> JsonObject:
    short, long = draw(counts), draw(counts)
    thinking = draw(counts)
    return {
        "input_tokens": draw(counts),
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": draw(counts),
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": draw(counts) + thinking,
        "output_tokens_details": {"thinking_tokens": thinking},
        "server_tool_use": {"web_search_requests": draw(counts), "web_fetch_requests": 0},
        "service_tier": draw(st.sampled_from(["standard", "priority", "batch"])),
    }


def modalities(**numbers: int) -> list[JsonObject]:
    return [{"modality": name, "tokenCount": number} for name, number in numbers.items() if number]


@st.composite
def google_objects(draw: st.DrawFn) -> JsonObject:
    into, out = ({name: draw(counts) for name in ("TEXT", "AUDIO", "IMAGE")} for _ in range(2))
    prompt, candidates, thoughts = sum(into.values()), sum(out.values()), draw(counts)
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": prompt + candidates + thoughts,
        "cachedContentTokenCount": draw(st.integers(0, prompt)),
        "thoughtsTokenCount": thoughts,
        "promptTokensDetails": modalities(**into),
        "candidatesTokensDetails": modalities(**out),
        "trafficType": draw(st.sampled_from(["ON_DEMAND", "ON_DEMAND_FLEX", "PROVISIONED_THROUGHPUT"])),
    }


ROUND_TRIPS = [
    (openai_objects(), openai_usage, as_openai_chat),
    (responses_objects(), openai_usage, as_openai_responses),
    (anthropic_objects(), anthropic_usage, as_anthropic),
    (google_objects(), google_usage, as_google),
]


@given(st.data())
@pytest.mark.parametrize(("objects", "read", "write"), ROUND_TRIPS, ids=["chat", "responses", "anthropic", "google"])
def test_a_provider_s_object_comes_back_with_every_number(
    objects: st.SearchStrategy[JsonObject],
    read: Callable[[object], Reading],
    write: Callable[[Usage], JsonObject],
    data: st.DataObject,
) -> None:
    value = data.draw(objects)

    reading = read(value)

    assert reading.usage is not None
    assert not reading.is_doubtful
    assert said(write(reading.usage)) == said(value)


def test_each_provider_s_own_rules_of_inclusion() -> None:
    usage = Usage(1_000, 500, 300, 100, 50, reasoning_tokens=200)

    assert as_openai_chat(usage)["prompt_tokens"] == as_openai_responses(usage)["input_tokens"] == 1_000
    assert as_openai_chat(usage)["completion_tokens"] == as_openai_responses(usage)["output_tokens"] == 500
    assert (as_anthropic(usage)["input_tokens"], as_anthropic(usage)["output_tokens"]) == (550, 500)
    assert as_anthropic(usage)["cache_creation_input_tokens"] == 150
    assert (as_google(usage)["promptTokenCount"], as_google(usage)["candidatesTokenCount"]) == (1_000, 300)
    assert as_google(usage)["thoughtsTokenCount"] == 200


# --- numbers that grow


def test_of_cumulative_numbers_the_last_count() -> None:
    assert later(None, Usage(3, 1)) == Usage(3, 1)
    assert later(Usage(3, 1), Usage(3, 9)) == Usage(3, 9)
    assert later(Usage(3, 1), Usage(3, 1, 2)) == Usage(3, 1, 2)


def test_a_smaller_total_never_replaces_a_larger() -> None:
    assert later(Usage(3, 9), Usage(3, 2)) == Usage(3, 9)


def test_a_tier_that_was_told_once_stays() -> None:
    assert later(Usage(3, 1, service_tier="flex"), Usage(3, 2)) == Usage(3, 2, service_tier="flex")
    assert later(Usage(3, 1, service_tier="flex"), Usage(3, 2, service_tier="default")).service_tier == "default"


@given(st.lists(usages(), min_size=1, max_size=6))
def test_the_largest_total_wins_in_any_order(seen: list[Usage]) -> None:
    known = None
    for usage in seen:
        known = later(known, usage)

    assert known is not None
    assert known.total_tokens == max(usage.total_tokens for usage in seen)


# --- what was asked for


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ({}, None),
        ({"service_tier": "auto"}, None),
        ({"service_tier": "standard_only"}, None),
        ({"service_tier": None}, None),
        ({"service_tier": 3}, None),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
        ({"serviceTier": "flex"}, "flex"),
        ({"speed": "fast"}, "fast"),
        ({"speed": "standard"}, None),
    ],
)
def test_the_tier_a_request_asks_for(members: JsonObject, tier: str | None) -> None:
    assert asked_tier(members) == tier
