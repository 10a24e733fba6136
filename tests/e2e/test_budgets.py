"""Budgets and limits on a real server: refused before anything is sent, never overspent by more than one call, and
still known after a restart."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest

from tests.support.chaos_load import in_flight
from tests.support.installation import PATIENCE_S, Installation, eventually, installation
from tests.support.money import (
    MODELS,
    ROUTES,
    Access,
    Got,
    ask,
    billed,
    cost_nano_usd,
    credentials,
    furnish,
    prices,
    raw_request,
    row_of,
    rows_of,
    sent,
)
from tests.support.ports import free_port
from tests.support.redis_server import private_redis

NANO: Final = 1_000_000_000
PROMPT: Final = "n [[usage: prompt=1000 completion=100]]"
ONE_CALL: Final = cost_nano_usd("openai", {"prompt_tokens": 1_000, "completion_tokens": 100})
TINY: Final = "0.000001"
DIALECTS: Final = ("chat", "chat stream", "responses", "completions", "messages", "messages stream", "generate",
                   "generate stream", "generate array", "azure", "azure stream", "embeddings")  # fmt: skip


def _budget(limit_usd: str = TINY, **members: Any) -> dict[str, Any]:
    return {"period": "month", "limit_usd": limit_usd, **members}


def _tenants(place: Installation) -> dict[str, dict[str, Any]]:
    closed = {"provider": "openai", "base_url": f"http://127.0.0.1:{free_port()}/v1", "secret": {"env": "SIM_KEY"}}
    failover = {"match": {"model": "second-*"}, "targets": [{"credential": "closed"},
                                                            {"credential": "sim", "model": "sim-model"}]}  # fmt: skip
    own = {"credentials": {**credentials(place), "closed": closed}, "routes": [failover, *ROUTES]}
    members: dict[str, dict[str, Any]] = {
        "spent": {"budgets": [_budget()]},
        "by-day": {"budgets": [_budget(period="day")]},
        "by-key": {"budgets": [_budget(per="key", period="day")]},
        "by-user": {"budgets": [_budget(per="user")]},
        "by-model": {"budgets": [_budget(per="model")], "aliases": {"fast": "sim-model"}},
        "one-user": {"budgets": [_budget(user="ann")]},
        "one-model": {"budgets": [_budget(model="claude-*")]},
        "alerts": {"budgets": [_budget("0.01", action="alert", alert_at=[0.5, 1.0])]},
        "edge": {"budgets": [_budget("0.05")]},
        "restart-sigterm": {"budgets": [_budget("0.004", alert_at=[0.5])]},
        "restart-sigkill": {"budgets": [_budget("0.004")]},
        "unknown-sigterm": {"budgets": [_budget("0.004")], "prices": []},
        "unknown-sigkill": {"budgets": [_budget("0.004")], "prices": []},
        "unknown": {"budgets": [_budget("0.004")], "prices": []},
        "back": {"budgets": [_budget("1.00")]},
        "rpm-tenant": {"limits": {"requests_per_minute": 3}},
        "rpm-key": {},
        "rpm-user": {"limits": {"per_user": {"requests_per_minute": 3}}},
        "rpm-model": {"limits": {"models": {"sim-*": {"requests_per_minute": 3}}}, "aliases": {"fast": "sim-model"}},
        "rpm-failover": {"limits": {"models": {"second-*": {"requests_per_minute": 3}}}},
        "rpm-other": {"limits": {"requests_per_minute": 3}},
        "tokens-tenant": {"limits": {"tokens_per_minute": 800}},
        "tokens-user": {"limits": {"per_user": {"tokens_per_minute": 800}}},
        "tokens-model": {"limits": {"models": {"sim-*": {"tokens_per_minute": 800}}}},
        "together-tenant": {"limits": {"concurrency": 2}},
        "together-user": {"limits": {"per_user": {"concurrency": 2}}},
        "together-model": {"limits": {"models": {"sim-*": {"concurrency": 2}}}},
    }
    return {slug: {**own, "prices": prices(), **said} for slug, said in members.items()}


KEYS: Final = {
    "other": {},
    "few": {"requests_per_minute": 3},
    "short": {"tokens_per_minute": 800},
    "narrow": {"concurrency": 2},
}


class House:
    """The running installation and its tenants."""

    def __init__(self, place: Installation, tenants: Mapping[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    async def ask(self, slug: str, form: str = "chat", prompt: str = PROMPT, *, key: str = "main", **given: Any) -> Got:
        return await ask(self.place, form, prompt, self.tenants[slug].keys[key][1], **given)

    async def spend(self, slug: str, form: str = "chat", prompt: str = PROMPT, **given: Any) -> Got:
        """One call that has to be let through."""
        got = await self.ask(slug, form, prompt, **given)
        assert got.status == 200, got.body
        return got

    async def refused(self, slug: str, form: str = "chat", prompt: str = PROMPT, **given: Any) -> Got:
        """One call that has to be refused for want of money."""
        got = await self.ask(slug, form, prompt, **given)
        assert (got.status, got.headers.get("x-should-retry")) == (402, "false"), (got.status, got.body)
        return got


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("budgets") / "data") as place:
        tenants = furnish(place, _tenants(place), KEYS)
        place.serve()
        yield House(place, tenants)


# --- who is bound ------------------------------------------------------------------------------------------


async def test_a_spent_budget_refuses_in_every_dialect_and_nothing_is_sent(house: House) -> None:
    await house.spend("spent")

    refused = {form: await house.refused("spent", form) for form in DIALECTS}

    assert {form: b"budget_exceeded" in got.body.lower() for form, got in refused.items()} == dict.fromkeys(
        DIALECTS, True
    )
    upstream = billed(house.place)
    assert [form for form, got in refused.items() if got.interaction in upstream] == []
    rows = await rows_of(house.place, [got.interaction for got in refused.values()])
    assert {(row["end"], row["error"], row["usage_source"]) for row in rows.values()} == {
        ("refused", "budget_exceeded", "none")
    }


async def test_a_daily_budget_refuses_like_a_monthly_one(house: House) -> None:
    await house.spend("by-day")

    assert (await house.refused("by-day")).code == "budget_exceeded"


async def test_a_budget_per_key_leaves_other_keys_alone(house: House) -> None:
    await house.spend("by-key")

    await house.refused("by-key")
    await house.spend("by-key", key="other")
    await house.refused("by-key", key="other")


async def test_a_budget_per_user_knows_the_user_in_every_dialect(house: House) -> None:
    tagged: list[tuple[str, dict[str, Any]]] = [
        ("chat", {"user": "ann"}),
        ("responses", {"user": "ann"}),
        ("messages", {"metadata": {"user_id": "ann"}}),
        ("generate", {"headers": {"x-trueport-user": "ann"}}),
        ("azure", {"user": "ann"}),
        ("chat", {"user": "bob", "headers": {"x-trueport-user": "ann"}}),
    ]
    await house.spend("by-user", user="ann")

    for form, given in tagged:
        await house.refused("by-user", form, **given)
    await house.spend("by-user", user="bob")
    await house.spend("by-user")
    await house.spend("by-user")


async def test_a_budget_per_model_counts_the_model_behind_an_alias(house: House) -> None:
    await house.spend("by-model", model="fast")

    await house.refused("by-model", model="sim-model")
    await house.refused("by-model", model="fast")
    await house.spend("by-model", model="sim-other")


async def test_a_budget_of_one_user_binds_only_that_user(house: House) -> None:
    await house.spend("one-user", user="ann")

    await house.refused("one-user", user="ann")
    await house.spend("one-user", user="bob")


async def test_a_budget_of_some_models_binds_only_those(house: House) -> None:
    await house.spend("one-model", model=MODELS["anthropic"])

    await house.refused("one-model", model="claude-other")
    await house.spend("one-model")


# --- how much ----------------------------------------------------------------------------------------------


async def test_a_thousand_calls_at_the_edge_overspend_by_at_most_one(house: House) -> None:
    limit = NANO // 20
    calls = await asyncio.gather(*(house.ask("edge") for _ in range(1_000)))

    statuses = Counter(got.status for got in calls)
    assert set(statuses) == {200, 402}, statuses
    served = await rows_of(house.place, [got.interaction for got in calls if got.status == 200])
    spent = sum(row["cost_nano_usd"] for row in served.values())
    assert spent == statuses[200] * ONE_CALL
    assert spent < limit + ONE_CALL
    while (got := await house.ask("edge")).status == 200:
        spent += ONE_CALL
    assert got.status == 402
    assert limit <= spent < limit + ONE_CALL
    assert len([1 for each in calls if each.interaction in billed(house.place)]) == statuses[200]


async def test_a_budget_that_only_alerts_never_refuses_and_tells_each_share_once(house: House) -> None:
    for _ in range(6):
        await house.spend("alerts")

    told = [
        line for line in (house.place.data_dir / "server.log").read_text().splitlines()
        if "budget_share_reached" in line and house.tenants["alerts"].tenant_id in line
    ]  # fmt: skip
    assert len(told) == 2, told


async def test_what_failed_or_was_refused_gives_its_reservation_back(house: House) -> None:
    first = await house.spend("back")

    for fault in ("status=500", "status=400", "status=429"):
        for form in ("chat", "chat stream", "messages"):
            got = await house.ask("back", form, f"n [[fault: {fault}]]", model=MODELS["openai"])
            assert got.status >= 400, got.body
    closed = await house.ask("back", model="missing-model")
    assert closed.status == 404
    second = await house.spend("back")

    left = [_nano_usd(got.headers["x-trueport-budget-remaining-usd"]) for got in (first, second)]
    assert left[0] - left[1] == ONE_CALL


def _nano_usd(text: str) -> int:
    dollars, _, rest = text.partition(".")
    return int(dollars) * NANO + int(rest.ljust(9, "0"))


async def test_a_model_without_a_price_costs_nobody_knows_what_and_counts_at_the_ceiling(house: House) -> None:
    first = await house.spend("unknown", model="nobody-knows")

    await house.refused("unknown", model="nobody-knows")
    row = await row_of(house.place, first.interaction)
    assert (row["cost_nano_usd"], row["usage_source"], row["total_tokens"]) == (None, "provider", 1_100)
    assert row["charged_nano_usd"] > ONE_CALL


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_what_was_spent_is_known_after_a_restart(house: House, how: signal.Signals) -> None:
    for _ in range(2):
        await house.spend(f"restart-{how.name}".lower())
    await house.spend(f"unknown-{how.name}".lower(), model="nobody-knows")

    # Killed at once: the last records are still in the journal then, and have to be counted all the same.
    await asyncio.to_thread(house.place.stop, how)
    await asyncio.to_thread(house.place.serve)

    await house.refused(f"restart-{how.name}".lower())
    await house.refused(f"unknown-{how.name}".lower(), model="nobody-knows")


# --- limits ------------------------------------------------------------------------------------------------


async def _let_through(house: House, slug: str, count: int, **given: Any) -> list[Got]:
    """So many calls, of which the last one has to be the first to be refused."""
    calls = [await house.ask(slug, **given) for _ in range(count)]
    assert [got.status for got in calls] == [200] * (count - 1) + [429], [got.body[:200] for got in calls]
    assert int(calls[-1].headers["retry-after"]) >= 1
    assert calls[-1].interaction not in billed(house.place)
    return calls


@pytest.mark.parametrize(
    ("slug", "given"),
    [
        ("rpm-tenant", {}),
        ("rpm-key", {"key": "few"}),
        ("rpm-user", {"user": "ann"}),
        ("rpm-model", {}),
        ("rpm-failover", {"model": "second-choice"}),
    ],
)
async def test_requests_per_minute_hold(house: House, slug: str, given: dict[str, Any]) -> None:
    await _let_through(house, slug, 4, prompt="n", **given)

    aside = {"rpm-key": {"key": "other"}, "rpm-user": {"user": "bob"}, "rpm-model": {"model": "claude-next"}}
    if slug in aside:
        await house.spend(slug, prompt="n", **aside[slug])
    if slug == "rpm-model":
        assert (await house.ask(slug, model="fast")).status == 429


async def test_operations_that_are_passed_through_count_as_requests(house: House) -> None:
    key = house.tenants["rpm-other"].key
    calls = [
        ("/v1/audio/speech", {"model": "tts-1", "input": "n", "voice": "alloy"}),
        ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "n", "n": 1}),
        ("/v1/moderations", {"model": "omni-moderation-latest", "input": "n"}),
    ]
    for path, body in calls:
        got = await sent(house.place.port, raw_request(path, body, key))
        assert got.status == 200, (path, got.status, got.body[:200])

    assert (await house.ask("rpm-other", prompt="n")).status == 429


@pytest.mark.parametrize(
    ("slug", "given"),
    [
        ("tokens-tenant", {}),
        ("rpm-key", {"key": "short"}),
        ("tokens-user", {"user": "ann"}),
        ("tokens-model", {}),
    ],
)
async def test_tokens_per_minute_hold(house: House, slug: str, given: dict[str, Any]) -> None:
    calls = await _let_through(house, slug, 2, prompt="n [[usage: prompt=640 completion=60]]", **given)

    assert b"tokens" in calls[-1].body


@pytest.mark.parametrize(
    ("slug", "given"),
    [
        ("together-tenant", {}),
        ("rpm-key", {"key": "narrow"}),
        ("together-user", {"user": "ann"}),
        ("together-model", {}),
    ],
)
async def test_calls_at_the_same_time_are_bounded(house: House, slug: str, given: dict[str, Any]) -> None:
    slow = [asyncio.create_task(house.ask(slug, prompt="n [[fault: delay=700ms]]", **given)) for _ in range(2)]
    await eventually(lambda: in_flight(house.place) == len(slow))

    got = await house.ask(slug, prompt="n", **given)

    assert (got.status, b"concurrency_limited" in got.body) == (429, True), got.body
    assert [each.status for each in await asyncio.gather(*slow)] == [200, 200]
    await house.spend(slug, prompt="n", **given)


# --- several processes -------------------------------------------------------------------------------------


async def _spent(place: Installation, interactions: Sequence[str]) -> int:
    return sum(row["cost_nano_usd"] for row in (await rows_of(place, interactions)).values())


async def test_budgets_hold_across_workers_and_when_redis_has_lost_everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        private_redis() as redis,
        installation(
            tmp_path_factory.mktemp("budgets-redis") / "data", TRUEPORT_REDIS_URL=redis.url, TRUEPORT_WORKERS="2"
        ) as place,
    ):
        members = {"budgets": [_budget("0.05")], "prices": prices()}
        house = House(place, await asyncio.to_thread(furnish, place, {"edge": members}))
        await asyncio.to_thread(place.serve)
        calls = await asyncio.gather(*(house.ask("edge") for _ in range(200)))
        assert {got.status for got in calls} == {200, 402}
        served = [got.interaction for got in calls if got.status == 200]
        # What calls held is given back behind them.
        async with asyncio.timeout(PATIENCE_S):
            while (spent := await _spent(place, served)) < NANO // 20:
                if (got := await house.ask("edge")).status == 200:
                    served.append(got.interaction)
                await asyncio.sleep(0.1)
        assert (await house.ask("edge")).status == 402
        assert spent < NANO // 20 + ONE_CALL

        redis.kill()
        redis.start()

        async with asyncio.timeout(PATIENCE_S):
            while (got := await house.ask("edge")).headers.get("x-ratelimit-mode") or got.status != 402:
                assert got.status in (402, 503), got.body
                await asyncio.sleep(0.1)
