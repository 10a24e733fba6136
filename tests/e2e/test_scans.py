"""Recorded content read after the call on a real server: for policies that ask for it, and after a detector's loss."""

import asyncio
import json
import shutil
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.detectors import INSULT, TINY
from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.money import Access, ask, furnish, reconfigure, row_of

PRIVATE: Final = "write to bob@x.example soon"
LATER: Final = {"name": "later", "on": ["input", "output"], "when": {"category": "pii", "types": ["EMAIL"]},
                "action": "flag", "scan": "after"}  # fmt: skip
TOXIC: Final = {"name": "toxic", "on": ["input"], "when": {"category": "toxicity"}, "action": "flag",
                "on_failure": "allow"}  # fmt: skip
STRICT: Final = {"name": "strict", "on": ["input"], "when": {"category": "toxicity"}, "action": "block"}
WITH_MODEL: Final = {"TRUEPORT_DETECTION_URL": f"onnx:{TINY}"}


async def violations(place: Installation, interaction: str) -> list[dict[str, Any]]:
    documents = await asyncio.to_thread(place.documents, "violations")
    return [one for one in documents if one["interaction_id"] == interaction]


async def scan_of(place: Installation, interaction: str, *, ended: bool = True) -> dict[str, Any]:
    """The scan of an interaction, once it has ended; with `ended` off, once it has been tried."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for scan in await asyncio.to_thread(place.documents, "scans"):
                is_there = scan["state"] != "waiting" if ended else scan["tries"] > 0
                if scan["_id"] == interaction and is_there:
                    return scan
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("scans") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def tenants(place: Installation) -> dict[str, Access]:
    found = furnish(
        place,
        {
            "later": {"policies": [LATER]},
            "lost": {"policies": [TOXIC]},
            "strict": {"policies": [STRICT, LATER]},
            "free": {},
            "deep": {"policies": [{**TOXIC, "on": ["input", "output"], "on_failure": "block", "scan": "after"}]},
        },
    )
    place.serve()
    return found


@pytest.fixture
async def restarted(place: Installation, tenants: dict[str, Access]) -> AsyncIterator[Any]:
    """Restart with other settings; afterwards the server is as it was."""

    def restart(sig: int = signal.SIGTERM, **settings: str) -> None:
        place.stop(sig)
        place.serve(**settings)

    yield lambda sig=signal.SIGTERM, **settings: asyncio.to_thread(restart, sig, **settings)
    await asyncio.to_thread(restart)


@pytest.mark.parametrize("form", ["chat", "chat stream", "messages", "generate array"])
async def test_a_policy_that_reads_after_the_call_neither_delays_nor_hides_anything(
    place: Installation, tenants: dict[str, Access], form: str
) -> None:
    got = await ask(place, form, PRIVATE, tenants["later"].key)
    scan = await scan_of(place, got.interaction)

    found = await violations(place, got.interaction)
    assert got.status == 200
    assert got.headers["x-trueport-decision"] == "allow"
    assert (scan["state"], scan["problems"]) == ("done", [])
    assert {(one["found"], one["policy"], one["action"], one["type"]) for one in found} == {
        ("after", "later", "flag", "EMAIL")
    }
    assert "input" in {one["side"] for one in found}
    assert {one["policy_version"] for one in found} == {1}
    assert scan["violations"] == len(found)
    assert "bob@x.example" not in json.dumps([scan, *found], default=str)


async def test_the_queue_is_empty_afterwards_and_metrics_tell_of_it(
    place: Installation, tenants: dict[str, Access]
) -> None:
    got = await ask(place, "chat", PRIVATE, tenants["later"].key)
    await scan_of(place, got.interaction)

    def metrics() -> str:
        with urllib.request.urlopen(f"{place.url}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    assert got.interaction not in {task["_id"] for task in await asyncio.to_thread(place.documents, "scan_queue")}
    text = await asyncio.to_thread(metrics)
    assert "trueport_scans_waiting" in text
    assert 'trueport_scans_total{result="done"}' in text


async def test_a_tenant_without_such_policies_has_no_scans(place: Installation, tenants: dict[str, Access]) -> None:
    got = await ask(place, "chat", PRIVATE, tenants["free"].key)

    await row_of(place, got.interaction)
    assert got.interaction not in {scan["_id"] for scan in await asyncio.to_thread(place.documents, "scans")}


async def test_a_call_that_was_refused_is_not_read_again(place: Installation, tenants: dict[str, Access]) -> None:
    got = await ask(place, "chat", PRIVATE, tenants["strict"].key)

    assert (got.status, got.code) == (503, "detector_unavailable")
    await row_of(place, got.interaction)
    assert got.interaction not in {scan["_id"] for scan in await asyncio.to_thread(place.documents, "scans")}


async def test_what_a_lost_detector_would_have_seen_is_found_once_it_answers_under_the_policy_of_the_call(
    place: Installation, tenants: dict[str, Access], restarted: Any
) -> None:
    got = await ask(place, "chat", f"you {INSULT}", tenants["lost"].key)
    waiting = await scan_of(place, got.interaction, ended=False)
    await asyncio.to_thread(reconfigure, place, "lost", {"policies": []})

    await restarted(**WITH_MODEL)
    scan = await scan_of(place, got.interaction)

    [found] = await violations(place, got.interaction)
    assert got.status == 200
    assert waiting["state"] == "waiting"
    assert scan["state"] == "done"
    assert (found["found"], found["policy"], found["category"]) == ("after", "toxic", "toxicity")
    assert found["policy_version"] == 1
    await asyncio.to_thread(reconfigure, place, "lost", {"policies": [TOXIC]})


async def test_the_deep_engine_reads_what_the_one_on_the_path_of_calls_cannot(
    place: Installation, tenants: dict[str, Access], restarted: Any
) -> None:
    await restarted(TRUEPORT_DEEP_DETECTION_URL=WITH_MODEL["TRUEPORT_DETECTION_URL"])
    got = await ask(place, "chat", f"you {INSULT}", tenants["deep"].key)
    scan = await scan_of(place, got.interaction)

    found = [one for one in await violations(place, got.interaction) if one["side"] == "input"]
    assert (got.status, scan["state"]) == (200, "done")
    assert {(one["found"], one["category"], one["detector"]) for one in found} == {("after", "toxicity", "onnx")}


async def test_a_crash_loses_no_scan_and_doubles_no_violation(
    place: Installation, tenants: dict[str, Access], restarted: Any
) -> None:
    calls = [await ask(place, "chat", PRIVATE, tenants["later"].key) for _ in range(5)]

    await restarted(signal.SIGKILL)
    for got in calls:
        await scan_of(place, got.interaction)

    for got in calls:
        found = [one for one in await violations(place, got.interaction) if one["side"] == "input"]
        assert len(found) == 1


async def test_content_that_is_not_there_is_reported_and_not_passed_over(
    place: Installation, tenants: dict[str, Access], restarted: Any
) -> None:
    await restarted(TRUEPORT_SCANS_PER_MINUTE="0")
    got = await ask(place, "chat", PRIVATE, tenants["later"].key)
    await row_of(place, got.interaction)
    storage = Path(place.data_dir) / "storage" / tenants["later"].tenant_id
    aside = storage.with_name("aside")
    await asyncio.to_thread(shutil.move, storage, aside)

    await restarted()
    scan = await scan_of(place, got.interaction)

    assert scan["state"] == "not_scannable"
    assert "input: content_not_kept" in scan["problems"]
    assert await violations(place, got.interaction) == []
    await asyncio.to_thread(shutil.rmtree, aside)
