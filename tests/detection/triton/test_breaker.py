"""A server that keeps failing is left alone, and found again."""

import asyncio
import random

import grpc  # type: ignore[import-untyped]  # the package ships no types
import pytest

from tests.support.triton_stub import Refused, Response, Stub, serving, slow, usual
from trueport.detection.base import DetectorFailed
from trueport.detection.triton import TritonDetector
from trueport.detection.triton.breaker import Breaker
from trueport.detection.types import Category, Passage
from trueport.kit.clock import ManualClock, SystemClock

WANTED: frozenset[Category] = frozenset({"prompt_injection", "pii"})


async def refuse(answer: Response) -> None:
    raise Refused(grpc.StatusCode.INTERNAL)


async def fails(detector: TritonDetector, times: int) -> None:
    for _ in range(times):
        with pytest.raises(DetectorFailed):
            await detector.read([Passage("hello")], frozenset({"toxicity"}))


async def test_after_five_failures_the_server_is_not_asked(stub: Stub, detector: TritonDetector) -> None:
    stub.lies["toxicity"] = refuse
    await fails(detector, 5)
    asked = len(stub.requests)

    await fails(detector, 3)

    assert asked == 5
    assert len(stub.requests) == 5


async def test_after_a_rest_one_probe_finds_the_server_well(
    stub: Stub, detector: TritonDetector, clock: ManualClock
) -> None:
    stub.lies["toxicity"] = refuse
    await fails(detector, 5)
    stub.lies.clear()

    clock.advance(2.0)
    [reading] = await detector.read([Passage("idiot")], frozenset({"toxicity"}))

    assert reading.scores["toxicity"] > 0.5


async def test_while_a_probe_is_out_others_fail_at_once(
    stub: Stub, detector: TritonDetector, clock: ManualClock
) -> None:
    stub.lies["toxicity"] = refuse
    await fails(detector, 5)
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def wait(answer: Response) -> None:
        is_asked.set()
        await may_answer.wait()

    stub.lies["toxicity"] = wait
    clock.advance(2.0)
    probe = asyncio.create_task(detector.read([Passage("hello")], frozenset({"toxicity"})))
    await is_asked.wait()
    await fails(detector, 4)
    may_answer.set()
    await probe

    assert len(stub.requests) == 6
    assert len(await detector.read([Passage("hello")], frozenset({"toxicity"}))) == 1


async def test_a_probe_that_is_abandoned_lets_the_next_call_try(
    stub: Stub, detector: TritonDetector, clock: ManualClock
) -> None:
    stub.lies["toxicity"] = refuse
    await fails(detector, 5)
    is_asked = asyncio.Event()

    async def never(answer: Response) -> None:
        is_asked.set()
        await asyncio.sleep(60)

    stub.lies["toxicity"] = never
    clock.advance(2.0)
    probe = asyncio.create_task(detector.read([Passage("hello")], frozenset({"toxicity"})))
    await is_asked.wait()
    probe.cancel()
    await asyncio.wait([probe])
    stub.lies.clear()

    [reading] = await detector.read([Passage("idiot")], frozenset({"toxicity"}))
    assert reading.scores["toxicity"] > 0.5


async def test_one_sick_model_leaves_the_others_at_work(stub: Stub, detector: TritonDetector) -> None:
    stub.lies["toxicity"] = refuse
    await fails(detector, 6)

    [reading] = await detector.read([Passage("ignore that")], frozenset({"toxicity", "prompt_injection"}))

    assert reading.scores["prompt_injection"] > 0.5
    assert [set(failure.categories) for failure in reading.failures] == [{"toxicity"}]


def test_a_failed_probe_opens_the_breaker_for_another_rest() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, failures_to_open=2, rest_s=1.0)
    for _ in range(2):
        assert breaker.lets_through()
        breaker.failed()

    clock.advance(1.0)
    assert breaker.lets_through()
    breaker.failed()

    assert not breaker.lets_through()
    clock.advance(1.0)
    assert breaker.lets_through()


def test_a_probe_whose_caller_left_lets_the_next_one_try() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, failures_to_open=1, rest_s=1.0)
    breaker.failed()
    clock.advance(1.0)

    assert breaker.lets_through()
    assert not breaker.lets_through()
    breaker.abandoned()

    assert breaker.lets_through()


def test_failures_count_only_in_a_row() -> None:
    breaker = Breaker(ManualClock(), failures_to_open=2)
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()

    assert breaker.lets_through()


async def test_a_server_that_comes_back_is_found_again(clock: ManualClock) -> None:
    stub = Stub(usual())
    async with serving(stub):
        detector = TritonDetector(stub.address, clock, timeout_ms=5_000, connect_timeout_ms=5_000)
        await detector.read([Passage("hello")], frozenset({"toxicity"}))
    await fails(detector, 5)

    async with serving(stub, port=stub.port):
        reading = None
        for _ in range(100):
            clock.advance(2.0)
            try:
                [reading] = await detector.read([Passage("idiot")], frozenset({"toxicity"}))
                break
            except DetectorFailed:
                await asyncio.sleep(0.1)
        await detector.close()

    assert reading is not None
    assert reading.scores["toxicity"] > 0.5


async def test_a_server_that_was_never_there_fails_every_read(clock: ManualClock) -> None:
    detector = TritonDetector("127.0.0.1:1", clock)
    await detector.prepare()

    with pytest.raises(DetectorFailed) as failed:
        await detector.read([Passage("hello")], detector.categories)
    await detector.close()

    assert failed.value.code == "unavailable"
    assert "toxicity" in detector.categories


async def test_a_server_that_comes_and_goes_never_passes_for_nothing_found() -> None:
    draw = random.Random(7)
    stub = Stub(usual())
    async with serving(stub):
        pass
    detector = TritonDetector(stub.address, SystemClock(), timeout_ms=500, connect_timeout_ms=500, rest_s=0.01)
    found: list[bool] = []
    failures: list[str] = []
    is_over = False

    async def call(number: int) -> None:
        while not is_over:
            try:
                [reading] = await detector.read([Passage(f"{number} ignore Alice")], WANTED)
            except DetectorFailed as failed:
                failures.append(failed.code)
                await asyncio.sleep(0.002)
                continue
            missing = {category for failure in reading.failures for category in failure.categories}
            found.append(all(reading.scores.get(one, 0.0) > 0.5 for one in WANTED - missing))

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(call(number))
        for _ in range(40):
            stub.lies["pii"] = slow(draw.choice([0.0, 0.0, 0.01, 1.0]))
            async with serving(stub, port=stub.port):
                await asyncio.sleep(draw.uniform(0.0, 0.1))
        is_over = True
    await detector.close()

    assert found
    assert all(found)
    assert failures
    assert set(failures) <= {"unavailable", "timeout"}
