"""Replaying policies over the trail of a tenant, straight from the store."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.analytics import Trail
from trueport.audit.shipper import ShippedRecord
from trueport.detection.policy import Context, Judged, PolicySet, compile_policy, read_policy
from trueport.detection.policy.replay import reading_fields
from trueport.detection.types import Finding, Passage, Reading
from trueport.domains.analytics.api import replay_policies
from trueport.domains.analytics.models import AuditRecord
from trueport.domains.analytics.projection import audit_document
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.embedded import EmbeddedMongo, find_program
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database, connect, database_of

START = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD = (START, START + timedelta(days=20))


def blocking_from(threshold: float) -> PolicySet:
    document = read_policy({"name": "pii", "when": {"category": "pii", "min_score": threshold}, "action": "block"})
    return PolicySet((compile_policy("pol_new", 1, document),))


def found_on(score: float) -> Judged:
    """A text in which one name was found."""
    return Judged(
        "messages.0.content", Passage(""), Reading(findings=(Finding("pii", "PERSON", 4, 9, score, "words", "1"),))
    )


def reading(score: float) -> dict[str, Any]:
    """One side on which one name was found, in the form the gateway records it."""
    context = Context("prod", "key_a", "gpt-4o", "openai", None)
    active = blocking_from(0.5).for_call("input", context)
    return {**reading_fields([found_on(score)], active, context, is_user_kept=True), "took_us": 900}


def ended(trail: Trail, tenant: str, at: datetime, score: float, decision: str) -> ShippedRecord:
    sides = {"input": reading(score), "output": reading(0)}
    return trail.outcome(trail.intent(tenant, at), decision=decision, end="completed", readings=sides)


async def stored(database: Database, records: list[ShippedRecord]) -> None:
    await ensure_indexes(database, [AuditRecord])
    for first in range(0, len(records), 500):
        await database[+AuditRecord].insert_many(
            [audit_document(record, None) for record in records[first : first + 500]]
        )


async def replayed(database: Database, tenant: str, threshold: float) -> tuple[Any, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    diff = await replay_policies(
        database, TenantScope(TenantId(tenant)), blocking_from(threshold), period=PERIOD,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    return diff, told


async def test_only_the_calls_of_the_period_and_of_the_tenant_are_replayed(database: Database, trail: Trail) -> None:
    own = ended(trail, "ten_a", START, 0.9, "allow")
    before = ended(trail, "ten_a", START - timedelta(days=1), 0.9, "allow")
    after = ended(trail, "ten_a", PERIOD[1], 0.9, "allow")
    foreign = ended(trail, "ten_b", START, 0.9, "allow")
    await stored(database, [own, before, after, foreign])

    diff, _ = await replayed(database, "ten_a", 0.5)
    nobodys, _ = await replayed(database, "ten_c", 0.5)

    assert [one.interaction for one in diff.changed] == [own.record["rid"]]
    assert diff.decisions == {("allow", "block"): 1}
    assert nobodys.interactions == 0


@pytest.fixture
async def large_database(tmp_path: Path) -> AsyncIterator[Database]:
    """On a server of its own, which goes with its folder: the embedded one takes a minute to drop 10,000 records."""
    if find_program() is None:
        pytest.skip("no secantusdb installed")
    embedded = EmbeddedMongo(tmp_path / "mongo")
    client = connect(embedded.start())
    yield database_of(client, "replays")
    await client.close()
    embedded.stop()


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_recorded_calls_with_another_threshold_come_to_what_brute_force_decides(
    large_database: Database, trail: Trail, count: int
) -> None:
    rng = random.Random(count)
    old, threshold = blocking_from(0.5), 0.75
    new = blocking_from(threshold)
    context = Context("prod", "key_a", "gpt-4o", "openai", None)
    records, expected = [], {}
    for number in range(count):
        entries = [found_on(rng.random())]
        before, after = (each.for_call("input", context).decide(entries).action for each in (old, new))
        at = START + timedelta(seconds=number)
        record = ended(trail, "ten_a", at, entries[0].reading.findings[0].score, before)
        records.append(record)
        expected[record.record["rid"]] = (before, after)
    await stored(large_database, records)

    diff, told = await replayed(large_database, "ten_a", threshold)

    changed = {rid: pair for rid, pair in expected.items() if pair[0] != pair[1]}
    assert diff.decisions == Counter(expected.values())
    assert set(expected.values()) == {("allow", "allow"), ("block", "allow"), ("block", "block")}
    listed = {one.interaction: (one.before, one.after) for one in diff.changed}
    assert listed.items() <= changed.items()
    assert len(listed) == min(len(changed), 1_000)
    assert len(listed) + diff.changed_left_out == len(changed)
    assert told[-1] == (count, count)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
