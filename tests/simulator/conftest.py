from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

from trueport.simulator import Simulator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator.running() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="sk-test-abcd", max_retries=0) as opened:
        yield opened
