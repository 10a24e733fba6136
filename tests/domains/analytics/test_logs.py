from datetime import timedelta
from typing import Any

import pytest

from tests.support.analytics import Trail, flat
from tests.support.web import House, problem
from trueport.domains.analytics.sink import MongoSink
from trueport.kit.clock import rfc3339
from trueport.kit.ids import new_id

LOGS = "/trueportai-services/api/v1/analytics/logs"
ROUTES = [LOGS, f"{LOGS}/int_{'0' * 26}", "/trueportai-services/api/v1/analytics/stats"]


class Reader:
    """A member of a new tenant, at the log."""

    def __init__(self, house: House, tenant_id: str, headers: dict[str, str]) -> None:
        self.tenant_id = tenant_id
        self._house = house
        self._headers = headers

    async def get(self, path: str = LOGS, **query: Any) -> Any:
        response = await self._house.client.get(path, params=query, headers=self._headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def ids(self, **query: Any) -> list[str]:
        return [item["id"] for item in (await self.get(**query))["data"]]

    async def refused(self, status: int, code: str, path: str = LOGS, **query: Any) -> dict[str, Any]:
        return problem(await self._house.client.get(path, params=query, headers=self._headers), status, code)


async def reader_in(house: House, slug: str, role: Any = "member") -> Reader:
    tenant = await house.tenant(await house.person(), slug)
    member = await house.join(tenant, role)
    return Reader(house, tenant.id, await house.as_member(member, tenant))


@pytest.mark.parametrize("path", ROUTES)
async def test_anonymous_is_refused(house: House, path: str) -> None:
    problem(await house.client.get(path), 401, "unauthenticated")


async def test_another_tenants_interaction_is_not_found(house: House, sink: MongoSink, trail: Trail) -> None:
    reader, other = await reader_in(house, "acme"), await reader_in(house, "globex")
    intent, outcome = trail.call(other.tenant_id, house.clock.now())
    await sink.store([intent, outcome])
    path = f"{LOGS}/{intent.record['rid']}"

    refusal = await reader.refused(404, "not_found", path)
    unknown = await reader.refused(404, "not_found", f"{LOGS}/{new_id('int')}")

    assert (await other.get(path))["id"] == intent.record["rid"]
    assert {**refusal, "request_id": ""} == {**unknown, "request_id": ""}


async def test_another_tenants_log_and_sums_are_empty(house: House, sink: MongoSink, trail: Trail) -> None:
    reader, other = await reader_in(house, "acme"), await reader_in(house, "globex")
    await sink.store(trail.call(other.tenant_id, house.clock.now() - timedelta(minutes=1)))

    assert await reader.get() == {"data": [], "has_more": False, "next": None}
    assert await reader.ids(key_id="key_a") == []
    assert (await reader.get(ROUTES[2]))["totals"]["requests"] == 0
    assert (await other.get(ROUTES[2]))["totals"]["requests"] == 1


async def test_a_viewer_sees_sums_and_not_the_log(house: House) -> None:
    viewer = await reader_in(house, "acme", "viewer")

    await viewer.refused(403, "permission_missing")
    await viewer.refused(403, "permission_missing", ROUTES[1])
    assert (await viewer.get(ROUTES[2]))["totals"]["requests"] == 0


async def test_an_interaction_is_shown_whole(house: House, sink: MongoSink, trail: Trail) -> None:
    reader = await reader_in(house, "acme")
    started = house.clock.now() - timedelta(minutes=5)
    intent, outcome = trail.call(reader.tenant_id, started)
    await sink.store([intent, outcome])

    shown = await reader.get(f"{LOGS}/{intent.record['rid']}")

    assert shown == {
        "id": intent.record["rid"],
        "started_at": rfc3339(started),
        "ended_at": rfc3339(started + timedelta(milliseconds=873)),
        "request_id": "req-1",
        "receipt": intent.leaf.hex(),
        "key_id": "key_a",
        "env": "prod",
        "dialect": "openai",
        "method": "POST",
        "operation": "chat/completions",
        "model": "gpt-4o",
        "model_counted": None,
        "model_served": "gpt-4o-2024-08-06",
        "user": None,
        "repeats": None,
        "provider": "openai",
        "target": "main/gpt-4o",
        "stream": True,
        "status": 200,
        "end": "completed",
        "error": None,
        "decision": "allow",
        "policy_version": 2,
        "input_tokens": 412,
        "output_tokens": 96,
        "cached_tokens": 128,
        "reasoning_tokens": 7,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "image_input_tokens": 0,
        "image_output_tokens": 0,
        "web_searches": 0,
        "images": 0,
        "audio_ms": 0,
        "service_tier": None,
        "total_tokens": 508,
        "usage_source": "provider",
        "usage_doubtful": False,
        "cost_nano_usd": 1_842_000,
        "cost_usd": "0.001842000",
        "price_version": "2026-11",
        "latency_ms": 873,
        "first_byte_ms": 310,
        "request_bytes": 321,
        "reply_bytes": 2_048,
        "attempts": [
            {"target": "main/gpt-4o", "status": 500, "error": "upstream_error", "latency_ms": 20},
            {"target": "main/gpt-4o", "status": 200, "error": None, "latency_ms": 790},
        ],
    }
    assert (await reader.get())["data"] == [shown]


async def test_a_call_that_is_still_running_has_no_end_and_no_cost(house: House, sink: MongoSink, trail: Trail) -> None:
    reader = await reader_in(house, "acme")
    await sink.store([trail.intent(reader.tenant_id, house.clock.now())])

    (shown,) = (await reader.get())["data"]

    assert (shown["end"], shown["status"], shown["ended_at"], shown["cost_usd"]) == ("in_progress", None, None, None)


async def test_each_filter_keeps_what_it_names(house: House, sink: MongoSink, trail: Trail) -> None:
    reader = await reader_in(house, "acme")
    now = house.clock.now() - timedelta(hours=2)
    plain = trail.call(reader.tenant_id, now)
    odd = trail.call(
        reader.tenant_id,
        now - timedelta(hours=1),
        env="dev",
        key_id="key_b",
        model="claude",
        provider="anthropic",
        status=404,
        end="upstream_failed",
        decision="flag",
        request_id="req-2",
    )
    await sink.store([*plain, *odd])
    first, second = plain[0].record["rid"], odd[0].record["rid"]

    for name, value in {
        "env": "dev",
        "key_id": "key_b",
        "model": "claude",
        "provider": "anthropic",
        "status": "404",
        "end": "upstream_failed",
        "decision": "flag",
        "request_id": "req-2",
        "to": rfc3339(now),
    }.items():
        assert await reader.ids(**{name: value}) == [second], name
    assert await reader.ids(status="4xx") == [second]
    assert await reader.ids(status="2xx") == [first]
    assert await reader.ids(status="5xx") == []
    assert await reader.ids(status="403") == []
    assert await reader.ids(**{"from": rfc3339(now)}) == [first]
    assert await reader.ids(env="dev", model="gpt-4o") == []
    assert await reader.ids(env="dev", status="4xx", to=rfc3339(now)) == [second]


async def test_a_period_includes_its_beginning_and_not_its_end(house: House, sink: MongoSink, trail: Trail) -> None:
    reader = await reader_in(house, "acme")
    start = house.clock.now() - timedelta(hours=1)
    calls = [trail.call(reader.tenant_id, start + timedelta(milliseconds=n)) for n in range(4)]
    await sink.store(flat(calls))

    found = await reader.ids(**{"from": rfc3339(start + timedelta(milliseconds=1)), "to": "2999-01-01T00:00:00Z"})
    inner = await reader.ids(
        **{"from": rfc3339(start + timedelta(milliseconds=1)), "to": rfc3339(start + timedelta(milliseconds=3))}
    )

    assert found == [call[0].record["rid"] for call in reversed(calls[1:])]
    assert inner == [call[0].record["rid"] for call in reversed(calls[1:3])]
    assert inner == await reader.ids(
        key_id="key_a",
        **{"from": rfc3339(start + timedelta(milliseconds=1)), "to": rfc3339(start + timedelta(milliseconds=3))},
    )


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
async def test_pages_together_are_the_whole_log_newest_first(
    house: House, sink: MongoSink, trail: Trail, limit: int
) -> None:
    reader = await reader_in(house, "acme")
    start = house.clock.now() - timedelta(hours=1)
    # Several calls begin in the same millisecond; two ids of one are in no order that time would give.
    calls = [trail.call(reader.tenant_id, start + timedelta(milliseconds=n // 3)) for n in range(10)]
    await sink.store(flat(calls))
    wanted = sorted(((call[0].record["started_at"], call[0].record["rid"]) for call in calls), reverse=True)

    found: list[str] = []
    query: dict[str, Any] = {"limit": limit, "from": rfc3339(start)}
    for _ in range(12):
        page = await reader.get(**query)
        assert len(page["data"]) <= limit
        assert page["has_more"] is (page["next"] is not None)
        found += [item["id"] for item in page["data"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]

    assert found == [rid for _, rid in wanted]


async def test_a_cursor_from_another_tenant_shows_only_ones_own(house: House, sink: MongoSink, trail: Trail) -> None:
    reader, other = await reader_in(house, "acme"), await reader_in(house, "globex")
    now = house.clock.now() - timedelta(minutes=9)
    mine = trail.call(reader.tenant_id, now - timedelta(minutes=1))
    await sink.store([*flat(trail.call(other.tenant_id, now) for _ in range(3)), *mine])

    cursor = (await other.get(limit=1))["next"]

    assert await reader.ids(after=cursor) == [mine[0].record["rid"]]


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "2026-03-01"},
        {"to": "2026-03-01T10:00:00"},
        {"to": "0001-01-01T00:00:00+14:00"},
        {"from": "1969-12-31T23:59:59Z"},
        {"status": "6xx"},
        {"status": "4x"},
        {"status": "abc"},
        {"after": "%%%"},
        {"after": "aW50XzE"},
        {"after": "OTk5OTk5OTk5OTk5OTk5OTk5LmE"},
        {"env": "moon"},
        {"end": "exploded"},
        {"limit": 0},
        {"limit": 201},
        {"key_id[$ne]": "x"},
        {"tenant_id": "ten_other"},
        {"model": "m" * 257},
    ],
    ids=str,
)
async def test_a_parameter_that_means_nothing_is_refused(house: House, query: dict[str, Any]) -> None:
    reader = await reader_in(house, "acme")

    response = await house.client.get(LOGS, params=query, headers=reader._headers)

    assert response.status_code == 400, response.text
    assert response.json()["code"] in ("invalid_request", "validation_failed")


async def test_text_that_looks_like_an_operator_is_only_text(house: House, sink: MongoSink, trail: Trail) -> None:
    reader = await reader_in(house, "acme")
    await sink.store(trail.call(reader.tenant_id, house.clock.now()))

    assert await reader.ids(model='{"$ne": ""}') == []
    assert await reader.ids(key_id="$key_id") == []


@pytest.mark.parametrize("name", ["int_x", "key_" + "0" * 26, "$ne", "int_" + "0" * 27])
async def test_what_is_no_interaction_id_is_not_found(house: House, name: str) -> None:
    reader = await reader_in(house, "acme")

    await reader.refused(404, "not_found", f"{LOGS}/{name}")
