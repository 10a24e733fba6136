"""How long a replay of 10,000 recorded interactions takes: `python -m tests.bench.replays`.

The records are made by the code that records calls, lie in an embedded database of their own, and are replayed with
another threshold; the difference is compared with one that is decided call by call.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.support.analytics import Trail
from trueport.audit.shipper import ShippedRecord
from trueport.detection.policy import Context, Judged, PolicySet
from trueport.detection.policy.replay import Diff, reading_fields
from trueport.detection.types import Finding, Passage, Reading
from trueport.domains.analytics.api import AuditRecord, proposed_set, replay_policies
from trueport.domains.analytics.projection import audit_document
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.embedded import EmbeddedMongo
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database, connect, database_of

AIM_S: Final = 30.0
START: Final = datetime(2026, 11, 1, tzinfo=UTC)
TENANT: Final = "ten_bench"
FINDINGS: Final = 4
KEYS, MODELS = 20, ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash")
_AT_ONCE: Final = 500
_BAR: Final = 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replays", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedMongo(Path(folder) / "mongo")
        try:
            found = asyncio.run(measure(embedded.start(), options.calls, is_quiet=options.as_json))
        finally:
            embedded.stop()
    if options.as_json:
        print(json.dumps(found))
    else:
        within = "within" if found["took_s"] <= AIM_S else "NOT within"
        print(
            f"Replay of {found['calls']} recorded interactions with another threshold: {found['took_s']:.2f} s, "
            f"which is {within} {AIM_S:.0f} s;\n{found['changed']} decided otherwise, the same as call by call; "
            f"{found['grown_mib']:.0f} MiB of memory more at its peak."
        )
    if found["took_s"] > AIM_S:
        sys.exit("too slow")


async def measure(uri: str, calls: int, *, is_quiet: bool) -> dict[str, Any]:
    """Seconds, changed calls and memory. Raises AssertionError for a difference that is not that of call by call."""
    client = connect(uri)
    database = database_of(client, "replays")
    expected = await record(database, calls)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.perf_counter()
    diff = await replayed(database, bar if not is_quiet else lambda *_: None)
    took_s = time.perf_counter() - started_s
    assert diff.decisions == expected, "the difference is not what deciding each call comes to"
    await client.close()
    changed = sum(count for pair, count in expected.items() if pair[0] != pair[1])
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1_024
    return {"calls": calls, "took_s": took_s, "changed": changed, "grown_mib": grown_mib}


async def replayed(database: Database, progress: Callable[[int, int], None]) -> Diff:
    scope, period = TenantScope(TenantId(TENANT)), (START, START + timedelta(days=30))
    return await replay_policies(database, scope, blocking_from(0.75), period=period, progress=progress)


async def record(database: Database, calls: int) -> Counter[tuple[str, str]]:
    """Put the records there; gives how many calls there are of each pair of decisions, then and with 0.75."""
    await ensure_indexes(database, [AuditRecord])
    trail, rng, pairs = Trail(), random.Random(1), Counter[tuple[str, str]]()
    batch: list[dict[str, Any]] = []
    for number in range(calls):
        scores = [rng.random() ** 3 for _ in range(FINDINGS)]
        before, after = ("block" if max(scores) >= threshold else "allow" for threshold in (0.5, 0.75))
        pairs[before, after] += 1
        shipped = ended(trail, START + timedelta(seconds=number), scores, before, number)
        batch.append(audit_document(shipped, None))
        if len(batch) == _AT_ONCE or number == calls - 1:
            await database[+AuditRecord].insert_many(batch)
            batch = []
    return pairs


def ended(trail: Trail, at: datetime, scores: list[float], decision: str, number: int) -> ShippedRecord:
    context = Context("prod", f"key_{number % KEYS}", MODELS[number % len(MODELS)], "openai", None)
    active = blocking_from(0.5).for_call("input", context)
    findings = tuple(Finding("pii", "PERSON", 9 * n, 9 * n + 5, score, "words", "1") for n, score in enumerate(scores))
    fields = reading_fields(
        [Judged("messages[0].content", Passage(""), Reading(findings=findings))], active, context, is_user_kept=True
    )
    sides = {"input": {**fields, "took_us": 900}}
    intent = trail.intent(TENANT, at, key_id=context.key_id, model=context.model)
    return trail.outcome(intent, decision=decision, end="completed", readings=sides)


def blocking_from(threshold: float) -> PolicySet:
    condition = {"category": "pii", "min_score": threshold}
    return proposed_set([{"name": "pii", "on": ["input"], "when": condition, "action": "block"}])


def bar(done: int, total: int) -> None:
    filled = _BAR * done // max(total, 1)
    print(f"\r[{'#' * filled:<{_BAR}}] {done}/{total}", end="\n" if done >= total else "", file=sys.stderr)


if __name__ == "__main__":
    main()
