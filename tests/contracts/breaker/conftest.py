from collections.abc import AsyncIterator

import pytest

from tests.support.breaker import LocalWorld, RedisWorld, World, fresh_scope
from tests.support.redis_server import redis_url

__all__ = ["redis_url"]


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
async def world(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if kind == "memory":
        yield LocalWorld()
        return
    there = RedisWorld(request.getfixturevalue("redis_url"))
    yield there
    await there.breakers.close()


@pytest.fixture
def scope() -> str:
    return fresh_scope()
