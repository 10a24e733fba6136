from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.support.analytics import Trail, rows_of
from tests.support.web import House, problem
from trueport.audit.shipper import ShippedRecord
from trueport.domains.analytics import repository, service
from trueport.domains.analytics.sink import MongoSink
from trueport.kit.clock import rfc3339
from trueport.storage.mongo import Document

STATS = "/trueportai-services/api/v1/analytics/stats"
ENDS = ["completed", "refused", "client_closed", "upstream_failed", "key_revoked", "gateway_failed"]

Key = Callable[[Document], str | None]
KEYS: dict[str, Key] = {
    "hour": lambda row: rfc3339(row["created_at"].replace(minute=0, second=0, microsecond=0)),
    "day": lambda row: rfc3339(row["created_at"].replace(hour=0, minute=0, second=0, microsecond=0)),
    "model": lambda row: row["model"],
    "provider": lambda row: row["provider"],
    "key": lambda row: row["key_id"],
    "env": lambda row: row["env"],
    "end": lambda row: row["end"],
}


def sums_of(rows: list[Document]) -> dict[str, Any]:
    """The same sums, worked out here and exactly."""

    def average(name: str) -> int | None:
        measured = [row[name] for row in rows if row[name] is not None]
        return round(sum(measured) / len(measured)) if measured else None

    tokens = ["input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "total_tokens"]
    cost = sum(row["cost_nano_usd"] or 0 for row in rows)
    return {
        "requests": len(rows),
        **{end: sum(row["end"] == end for row in rows) for end in [*ENDS, "abandoned", "in_progress"]},
        **{name: sum(row[name] for row in rows) for name in tokens},
        "estimated_requests": sum(row["usage_source"] == "estimated" for row in rows),
        "unpriced_requests": sum(row["usage_source"] != "none" and row["cost_nano_usd"] is None for row in rows),
        "cost_nano_usd": cost,
        "cost_usd": f"{Decimal(cost) / 10**9:.9f}",
        "latency_ms_avg": average("latency_ms"),
        "first_byte_ms_avg": average("first_byte_ms"),
    }


def some_calls(draw: Random, trail: Trail, tenant: str, until: datetime, count: int) -> list[ShippedRecord]:
    """Calls of every sort in the three days before `until`."""
    batch: list[ShippedRecord] = []
    for _ in range(count):
        started = until - timedelta(milliseconds=draw.randrange(1, 3 * 86_400_000))
        match draw.randrange(6):
            case 0:
                batch.append(trail.intent(tenant, started))
            case 1:
                intent = trail.intent(tenant, started, key_id="key_c")
                batch += [intent, trail.abandoned(intent)]
            case 2:
                batch.append(trail.refused(tenant, started, env=draw.choice(["prod", "dev"])))
            case _:
                source = draw.choice(["provider", "estimated", "none"])
                batch += trail.call(
                    tenant,
                    started,
                    env=draw.choice(["prod", "staging", "dev"]),
                    key_id=draw.choice(["key_a", "key_b"]),
                    model=draw.choice(["gpt-4o", "claude", "gemini"]),
                    provider=draw.choice(["openai", "anthropic"]),
                    end=draw.choice(ENDS),
                    took_ms=draw.randrange(1, 90_000),
                    first_byte_us=draw.choice([None, draw.randrange(1, 10**7)]),
                    usage_source=source,
                    usage=None
                    if source == "none"
                    else {
                        "input_tokens": draw.randrange(2**31),
                        "output_tokens": draw.randrange(2**31),
                        "cached_tokens": draw.randrange(100),
                        "reasoning_tokens": draw.randrange(100),
                    },
                    # Far beyond what a float holds exactly: 2**53 nano-dollars are nine million dollars.
                    cost_nano_usd=draw.choice([None, 1, draw.randrange(2**47)]),
                )
    return batch


async def viewer_of(house: House) -> tuple[str, dict[str, str]]:
    tenant = await house.tenant(await house.person())
    return tenant.id, await house.as_member(await house.join(tenant, "viewer"), tenant)


@pytest.mark.parametrize("seed", [1, 2])
async def test_sums_and_every_grouping_equal_what_the_rows_add_up_to(
    house: House, sink: MongoSink, trail: Trail, seed: int
) -> None:
    tenant, headers = await viewer_of(house)
    now = house.clock.now()
    await sink.store(some_calls(Random(seed), trail, tenant, now, 150))
    since, until = now - timedelta(hours=55), now - timedelta(hours=3)
    rows = [row for row in await rows_of(house.resources.database, tenant) if since <= row["created_at"] < until]
    period = {"from": rfc3339(since), "to": rfc3339(until)}

    for group_by, key in KEYS.items():
        shown = (await house.client.get(STATS, params={**period, "group_by": group_by}, headers=headers)).json()
        names = {key(row) for row in rows}
        expected = {name: {"key": name, **sums_of([row for row in rows if key(row) == name])} for name in names}
        assert {group["key"]: group for group in shown["groups"]} == expected, group_by
        assert len(shown["groups"]) == len(names)
        assert shown["totals"] == sums_of(rows)
        assert (shown["from"], shown["to"], shown["has_more"]) == (period["from"], period["to"], False)
        if group_by in ("hour", "day"):
            assert [group["key"] for group in shown["groups"]] == sorted(filter(None, names))
        else:
            counts = [group["requests"] for group in shown["groups"]]
            assert counts == sorted(counts, reverse=True)

    alone = (await house.client.get(STATS, params=period, headers=headers)).json()
    assert (alone["totals"], alone["groups"]) == (sums_of(rows), [])


async def test_money_is_exact_where_floats_are_not(house: House, sink: MongoSink, trail: Trail) -> None:
    tenant, headers = await viewer_of(house)
    started = house.clock.now() - timedelta(minutes=1)
    costs = [2**48, 2**48 - 1, 1, 3] * 12
    for cost in costs:
        await sink.store(trail.call(tenant, started, cost_nano_usd=cost))

    totals = (await house.client.get(STATS, headers=headers)).json()["totals"]

    assert totals["cost_nano_usd"] == sum(costs)
    assert totals["cost_usd"] == "6755399.441055780"
    assert Decimal(totals["cost_usd"]) * 10**9 == sum(costs)


async def test_nothing_adds_up_to_zero(house: House) -> None:
    _, headers = await viewer_of(house)

    shown = (await house.client.get(STATS, params={"group_by": "model"}, headers=headers)).json()

    assert shown["totals"] == sums_of([])
    assert shown["totals"]["cost_usd"] == "0.000000000"
    assert shown["groups"] == []


async def test_without_a_period_the_last_24_hours_count(house: House, sink: MongoSink, trail: Trail) -> None:
    tenant, headers = await viewer_of(house)
    now = house.clock.now()
    ages = [timedelta(0), timedelta(milliseconds=1), timedelta(hours=24), timedelta(hours=24, milliseconds=1)]
    for age in ages:
        await sink.store(trail.call(tenant, now - age))

    shown = (await house.client.get(STATS, headers=headers)).json()

    assert shown["totals"]["requests"] == 2
    assert (shown["from"], shown["to"]) == (rfc3339(now - timedelta(days=1)), rfc3339(now))


async def test_more_groups_than_are_shown_still_count_in_the_totals(
    house: House, sink: MongoSink, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, headers = await viewer_of(house)
    started = house.clock.now() - timedelta(minutes=1)
    for name, count in {"a": 1, "b": 3, "c": 2, "d": 1}.items():
        for _ in range(count):
            await sink.store(trail.call(tenant, started, model=name))
    for module in (service, repository):
        monkeypatch.setattr(module, "MOST_GROUPS", 2)

    shown = (await house.client.get(STATS, params={"group_by": "model"}, headers=headers)).json()

    assert [(group["key"], group["requests"]) for group in shown["groups"]] == [("b", 3), ("c", 2)]
    assert (shown["has_more"], shown["totals"]["requests"]) == (True, 7)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": "2026-03-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": "2024-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": "2999-01-01T00:00:00Z"},
        {"to": "0001-01-01T00:00:00Z"},
        {"group_by": "tenant_id"},
        {"group_by": "$model"},
    ],
    ids=str,
)
async def test_a_period_or_grouping_without_sense_is_refused(house: House, query: dict[str, str]) -> None:
    _, headers = await viewer_of(house)

    response = await house.client.get(STATS, params=query, headers=headers)

    assert response.status_code == 400, response.text
    problem(response, 400, response.json()["code"])


async def test_400_days_are_a_period(house: House, sink: MongoSink, trail: Trail) -> None:
    tenant, headers = await viewer_of(house)
    until = datetime(2026, 3, 1, tzinfo=UTC)
    await sink.store(trail.call(tenant, until - timedelta(days=1)))
    query = {"from": rfc3339(until - timedelta(days=400)), "to": rfc3339(until), "group_by": "hour"}

    shown = (await house.client.get(STATS, params=query, headers=headers)).json()

    assert [group["key"] for group in shown["groups"]] == ["2026-02-28T00:00:00.000Z"]
