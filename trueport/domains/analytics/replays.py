"""What other policies would have decided about the calls of a period, from the tenant's trail."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from trueport.detection.policy import PolicySet, compile_policy, problems_of, read_policy, unfold
from trueport.detection.policy.replay import Diff, Place, Replay
from trueport.domains.analytics.repository import AuditRecords, Violations
from trueport.kit.errors import InvalidRequest
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database

Progress = Callable[[int, int], None]
"""Told how many calls have been replayed, of how many."""

MOST_GROUPS: Final = 500
"""Of keys, models and policies; clients choose the names of models, so there may be any number."""

_TOLD_EVERY: Final = 50
_LABELS: Final = {"confirmed": True, "false_positive": False}


class ContentReader(Protocol):
    """Reads recorded content with the detectors of today. Lent as a part of the Resources by whoever has them."""

    async def read_again(self, scope: TenantScope, outcome: Mapping[str, Any], policies: PolicySet) -> dict[str, Any]:
        """The outcome with what these policies look for in its content, instead of what was found during the call.

        Raises a kit Unavailable. What cannot be read is said in its place.
        """
        ...


class PoliciesRefused(InvalidRequest):
    """A proposed set cannot be applied. `problems` has a sentence for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        errors = [{"field": "policies", "message": problem} for problem in problems]
        super().__init__("The proposed policies cannot be applied.", errors=errors)
        self.problems = problems


def proposed_set(policies: Sequence[Mapping[str, Any]]) -> PolicySet:
    """The set that a list of policies and presets stands for. Raises PoliciesRefused."""
    problems = problems_of(policies)
    if problems:
        raise PoliciesRefused(problems)
    found = unfold(policies)
    return PolicySet(
        tuple(compile_policy(f"proposed_{number}", 1, read_policy(one)) for number, one in enumerate(found))
    )


async def replay_policies(
    database: Database,
    scope: TenantScope,
    policies: PolicySet,
    *,
    period: tuple[datetime, datetime],
    progress: Progress,
) -> Diff:
    """The difference to what was decided for calls that ended in the period, its end excluded."""
    replay = await replay_of(database, scope, policies)
    async for done, total in replay_period(database, scope, replay, period):
        progress(done, total)
    return replay.diff


async def replay_of(database: Database, scope: TenantScope, policies: PolicySet) -> Replay:
    """A replay that has seen no call yet, and knows what the tenant's people made of findings."""
    return Replay(policies, await _labels(database, scope))


async def replay_period(
    database: Database,
    scope: TenantScope,
    replay: Replay,
    period: tuple[datetime, datetime],
    reader: ContentReader | None = None,
) -> AsyncIterator[tuple[int, int]]:
    """Add the calls that ended in the period page by page; tells after each how many are done, of how many.

    reader: reads the content of each call again, one after the other, instead of trusting what was found then.
    """
    records = AuditRecords(database, scope)
    total, done = await records.count_outcomes(*period), 0
    async for page in records.outcomes(*period):
        if reader is not None:
            for canonical in page:
                replay.add(await reader.read_again(scope, msgspec.json.decode(canonical), replay.policies))
                done += 1
                if done % _TOLD_EVERY == 0:
                    yield done, max(done, total)
            yield done, max(done, total)
            continue
        # Beside the event loop, which others may need.
        await asyncio.to_thread(_add_page, replay, page)
        done += len(page)
        yield done, max(done, total)


def diff_members(diff: Diff) -> dict[str, Any]:
    """The difference as JSON, the same wherever it is asked for.

    `decisions`, `keys`, `models` and so on are lists of `{"of": [...], "count": n}`, of which MOST_GROUPS are kept;
    `left_out` says of how many groups there is no line.
    """
    groups: dict[str, Counter[Any]] = {
        "decisions": diff.decisions, "reasons": diff.reasons, "keys": diff.keys, "models": diff.models,
        "categories": diff.categories, "policies": diff.policies,
    }  # fmt: skip
    return {
        "interactions": diff.interactions,
        "changed_total": len(diff.changed) + diff.changed_left_out,
        **{name: _counted(counter) for name, counter in groups.items()},
        "left_out": {name: max(0, len(counter) - MOST_GROUPS) for name, counter in groups.items()},
        "changed": [asdict(one) for one in diff.changed],
        "changed_left_out": diff.changed_left_out,
        "samples": [{"interaction": one.interaction, **asdict(one.hit)} for one in diff.samples],
        "answers_not_seen": diff.answers_not_seen,
        "took_us": {"p50": diff.took_percentile_us(50), "p95": diff.took_percentile_us(95)},
        "precision": diff.precision,
        "recall": diff.recall,
    }


def _counted(counter: Counter[Any]) -> list[dict[str, Any]]:
    """The groups that count most, in the order of their names."""
    lines = (([of] if isinstance(of, str) else list(of), count) for of, count in counter.most_common(MOST_GROUPS))
    return [{"of": of, "count": count} for of, count in sorted(lines)]


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
