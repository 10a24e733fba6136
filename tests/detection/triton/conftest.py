from collections.abc import AsyncIterator

import pytest

from tests.support.triton_stub import Stub, serving, usual
from trueport.detection.triton import TritonDetector
from trueport.kit.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub(usual())
    async with serving(stub):
        yield stub


@pytest.fixture
async def detector(stub: Stub, clock: ManualClock) -> AsyncIterator[TritonDetector]:
    # Ample time: these tests are about what is answered, not about when.
    detector = TritonDetector(stub.address, clock, timeout_ms=5_000, connect_timeout_ms=5_000)
    yield detector
    await detector.close()
