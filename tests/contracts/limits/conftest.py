from collections.abc import AsyncIterator

import pytest

from tests.support.limits import LocalWorld, RedisWorld, World
from tests.support.redis_server import redis_url
from trueport.gateway.limits.base import Window

__all__ = ["redis_url"]


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(params=["sliding"])
def window(request: pytest.FixtureRequest) -> Window:
    chosen: Window = request.param
    return chosen


@pytest.fixture
async def world(kind: str, window: Window, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if kind == "memory":
        yield LocalWorld(window)
        return
    there = RedisWorld(request.getfixturevalue("redis_url"), window)
    await there.open()
    yield there
    await there.limits.close()
