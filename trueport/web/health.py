"""Whether the process lives, whether it can serve, and its numbers."""

import asyncio
import os
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from trueport.web.domain import ReadinessCheck, Resources
from trueport.web.guards import may_operate, operations, public

_PROBE_DEADLINE_S: Final = 1.0

State = Literal["ok", "degraded", "down"]


class Health(msgspec.Struct, omit_defaults=True):
    """`checks` is shown to operators only."""

    status: State
    checks: dict[str, State] | None = None


@get("/healthz", access=public(), tags=["operations"])
async def healthz() -> Health:
    """Whether the process answers at all."""
    return Health("ok")


@get("/readyz", access=public(), tags=["operations"])
async def readyz(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Response[Health]:
    """Whether the process can serve: 200 `ok`, 200 `degraded`, or 503 `down`."""
    checks = dict(
        zip(resources.readiness, await asyncio.gather(*map(_probe, resources.readiness.values())), strict=True)
    )
    status = overall(list(checks.values()))
    shown = Health(status, checks if may_operate(request, resources.settings) else None)
    down = {"retry-after": "1"} if status == "down" else {}
    return Response(shown, status_code=503 if status == "down" else 200, headers=down)


@get("/metrics", access=operations(), media_type=CONTENT_TYPE_LATEST, sync_to_thread=True, tags=["operations"])
def metrics() -> Response[bytes]:
    """Prometheus metrics, of all workers where PROMETHEUS_MULTIPROC_DIR is set."""
    registry: CollectorRegistry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the library
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def overall(states: list[State]) -> State:
    """The worst of them; `ok` of none."""
    if "down" in states:
        return "down"
    return "degraded" if "degraded" in states else "ok"


async def _probe(check: ReadinessCheck) -> State:
    try:
        async with asyncio.timeout(_PROBE_DEADLINE_S):
            await check.probe()
    except Exception:  # noqa: BLE001 - whatever a probe raises means that its part is away
        return "down" if check.is_critical else "degraded"
    return "ok"


handlers: tuple[ControllerRouterHandler, ...] = (healthz, readyz, metrics)
