"""A process that stops lets calls end, and ends those that do not."""

import asyncio
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from trueport.domains.proxy import http, wiring
from trueport.domains.proxy.http import GatewayApp
from trueport.gateway.metrics import GatewayMetrics
from trueport.gateway.ports import Tools
from trueport.kit.clock import SystemClock


async def test_a_call_that_does_not_end_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun = asyncio.Event()
    ended = []

    async def endless(*_: object) -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    monkeypatch.setattr(http, "relay", endless)
    monkeypatch.setattr(wiring, "STREAM_GRACE_S", 0.05)
    app = GatewayApp()
    app.tools = cast(Tools, SimpleNamespace(clock=SystemClock(), metrics=GatewayMetrics(CollectorRegistry())))
    call = asyncio.create_task(app(_scope(), _Client().receive, _Client.send))
    await has_begun.wait()

    await wiring._calls_ended(app)

    assert ended == ["cancelled"]
    assert app.in_flight == 0
    await asyncio.gather(call, return_exceptions=True)


def _scope() -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "path": "/v1/models",
        "method": "GET",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
        "client": ("127.0.0.1", 1),
    }


class _Client:
    """Sends an empty request and then waits for its answer."""

    def __init__(self) -> None:
        self._has_sent = False

    async def receive(self) -> MutableMapping[str, Any]:
        if self._has_sent:
            await asyncio.Event().wait()
        self._has_sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    @staticmethod
    async def send(_: MutableMapping[str, Any]) -> None:
        """Takes everything."""
