"""Searching the interaction log: by person, by cost, and over an index however many rows there are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.analytics import Trail
from tests.support.web import House, problem
from trueport.domains.analytics.models import InteractionRow
from trueport.domains.analytics.repository import LogFilter
from trueport.domains.analytics.sink import MongoSink
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database
from trueport.storage.shape import declared_indexes

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
LOGS = "/trueportai-services/api/v1/analytics/logs"


async def search(house: House, headers: dict[str, str], **query: Any) -> Any:
    answer = await house.client.get(LOGS, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_calls_are_found_by_person_and_by_cost_page_by_page(house: House, sink: MongoSink, trail: Trail) -> None:
    owner = await house.person()
    tenant = await house.tenant(owner)
    headers = await house.as_member(owner, tenant)
    started = house.clock.now() - timedelta(minutes=5)
    ids = []
    for number in range(6):
        user = "alice" if number % 2 else "bob"
        intent = trail.intent(tenant.id, started + timedelta(seconds=number), user=user)
        ids.append(intent.record["rid"])
        await sink.store([intent, trail.outcome(intent, cost_nano_usd=number * 1_000)])

    first = await search(house, headers, user="alice", limit=2)
    second = await search(house, headers, user="alice", limit=2, after=first["next"])
    costly = await search(house, headers, min_cost_nano_usd=1_000, max_cost_nano_usd=3_000)
    both = await search(house, headers, user="bob", min_cost_nano_usd=1_000)

    assert [each["id"] for each in (*first["data"], *second["data"])] == [ids[5], ids[3], ids[1]]
    assert not second["has_more"]
    assert [each["id"] for each in costly["data"]] == [ids[3], ids[2], ids[1]]
    assert [each["id"] for each in both["data"]] == [ids[4], ids[2]]


@pytest.mark.parametrize("amount", ["-1", "much", "1.5", str(2**60)])
async def test_a_cost_that_is_none_is_refused(house: House, amount: str) -> None:
    owner = await house.person()
    headers = await house.as_member(owner, await house.tenant(owner))

    problem(
        await house.client.get(LOGS, params={"min_cost_nano_usd": amount}, headers=headers), 400, "validation_failed"
    )


@pytest.mark.parametrize(
    ("wanted", "second"),
    [
        (LogFilter(since=SINCE), "created_at"),
        (LogFilter(user="alice"), "user"),
        (LogFilter(key_id="key_a"), "key_id"),
        (LogFilter(model="gpt-5"), "model"),
    ],
)
async def test_each_search_is_answered_from_the_index_made_for_it(
    database: Database, wanted: LogFilter, second: str
) -> None:
    await ensure_indexes(database, [InteractionRow])
    query = {"tenant_id": "ten_1", **wanted.as_query()}

    plan = await database[+InteractionRow].find(query).sort([("created_at", -1), ("_id", -1)]).limit(10).explain()

    stage = plan["queryPlanner"]["winningPlan"]
    stages = []
    while stage:
        stages.append(stage)
        stage = stage.get("inputStage")
    scans = [each for each in stages if each["stage"] in ("IXSCAN", "COLLSCAN")]
    assert [each["stage"] for each in scans] == ["IXSCAN"]
    assert list(scans[0]["keyPattern"])[:2] == ["tenant_id", second]


def test_every_index_for_a_search_ends_as_pages_are_ordered() -> None:
    """So that a page is read off the index, and no server has to sort all that matches."""
    fields = [list(index.document["key"]) for index in declared_indexes(InteractionRow)]

    searched = [names for names in fields if "created_at" in names]

    assert len(searched) == 5
    assert all(names[-2:] == ["created_at", "_id"] for names in searched)
