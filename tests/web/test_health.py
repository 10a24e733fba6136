"""What operators and load balancers ask."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.web import OUTSIDE, House, problem
from trueport.storage.mongo import ping
from trueport.web import health
from trueport.web.domain import ReadinessCheck


async def fine() -> None:
    """Find nothing amiss."""


async def broken() -> None:
    raise OSError("no route to host 10.1.2.3")


def ready_with(house: House, **checks: ReadinessCheck) -> None:
    house.resources.readiness.update(checks)


async def test_the_process_says_that_it_lives(house: House) -> None:
    assert (await house.client.get("/healthz")).json() == {"status": "ok"}


async def test_a_process_with_everything_is_ready(house: House) -> None:
    async def database() -> None:
        assert await ping(house.resources.database)

    ready_with(house, database=ReadinessCheck(database, is_critical=True))

    answer = await house.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"database": "ok"}}


@pytest.mark.parametrize(
    ("is_critical", "status", "state"), [(True, 503, "down"), (False, 200, "degraded")], ids=["critical", "other"]
)
async def test_what_is_missing_decides_readiness(house: House, is_critical: bool, status: int, state: str) -> None:
    ready_with(house, redis=ReadinessCheck(broken, is_critical), clock=ReadinessCheck(fine, True))

    answer = await house.client.get("/readyz")

    assert answer.status_code == status
    assert answer.json() == {"status": state, "checks": {"redis": state, "clock": "ok"}}
    assert ("retry-after" in answer.headers) is is_critical


async def test_a_check_that_hangs_counts_as_missing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PROBE_DEADLINE_S", 0.01)
    hang: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(60)  # noqa: E731 - one wait needs no name
    ready_with(house, store=ReadinessCheck(hang, is_critical=True))

    assert (await house.client.get("/readyz")).json()["checks"] == {"store": "down"}


async def test_strangers_learn_the_state_and_no_details(house: House) -> None:
    ready_with(house, redis=ReadinessCheck(broken, is_critical=False))

    async with house.client_from(OUTSIDE) as client:
        assert (await client.get("/readyz")).json() == {"status": "degraded"}


async def test_metrics_are_for_operators(house: House) -> None:
    answer = await house.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "python_info" in answer.text

    async with house.client_from(OUTSIDE) as client:
        problem(await client.get("/metrics"), 403, "forbidden")


async def test_metrics_of_all_workers_come_from_their_folder(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))

    answer = await house.client.get("/metrics")

    assert answer.status_code == 200
    assert "python_info" not in answer.text


async def test_the_description_of_the_api_is_complete_and_fetches_nothing_from_elsewhere(house: House) -> None:
    described = await house.client.get("/schema")
    as_yaml = await house.client.get("/schema/openapi.yaml")

    paths = described.json()["paths"]
    operation = paths["/trueportai-services/api/v1/keys"]["post"]
    assert operation["summary"] == "Create an API key; it is shown this once"
    assert operation["security"] == [{"scopedToken": []}]
    assert set(operation["responses"]) == {"201", "400", "401", "403"}
    assert "application/problem+json" in operation["responses"]["400"]["content"]
    assert "security" not in paths["/platform/api/global/auth/login"]["post"]
    assert as_yaml.status_code == 200
    assert "cdn" not in described.text + as_yaml.text
