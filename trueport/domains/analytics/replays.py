"""What other policies would have decided about the calls of a period, from the tenant's trail."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec

from trueport.detection.policy import PolicySet
from trueport.detection.policy.replay import Diff, Place, Replay
from trueport.domains.analytics.repository import AuditRecords, Violations
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database

Progress = Callable[[int, int], None]
"""Told how many calls have been replayed, of how many."""

_LABELS = {"confirmed": True, "false_positive": False}


async def replay_policies(
    database: Database,
    scope: TenantScope,
    policies: PolicySet,
    *,
    period: tuple[datetime, datetime],
    progress: Progress,
) -> Diff:
    """The difference to what was decided for calls that ended in the period, its end excluded."""
    records = AuditRecords(database, scope)
    total = await records.count_outcomes(*period)
    replay, done = Replay(policies, await _labels(database, scope)), 0
    async for page in records.outcomes(*period):
        # Beside the event loop, which others may need.
        await asyncio.to_thread(_add_page, replay, page)
        done += len(page)
        progress(done, max(done, total))
    return replay.diff


def _add_page(replay: Replay, page: list[bytes]) -> None:
    replay.add_all(msgspec.json.decode(canonical) for canonical in page)


async def _labels(database: Database, scope: TenantScope) -> dict[Place, bool]:
    """Findings that people looked at, and whether they were real."""
    found: dict[Place, bool] = {}
    for status, is_real in _LABELS.items():
        async for one in Violations(database, scope).each({"status": status}):
            place = (one.interaction_id, one.side, one.path, one.category, one.type, one.start, one.end)
            found[place] = is_real
    return found
