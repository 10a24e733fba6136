"""The queue before the model: fair, bounded, and nothing is read that nobody waits for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from trueport.detection.base import DetectorFailed
from trueport.detection.guard import Verdict
from trueport.detection.turns import Turns
from trueport.detection.windows import TokenIds

Run = Callable[[TokenIds], tuple[Verdict, float]]


class Model:
    """Reads a window by noting its only id; waits before each until it is let go."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.read: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Semaphore(0 if is_held else 1_000_000)
        self.error: Exception | None = None

    def run(self, window: TokenIds) -> tuple[Verdict, float]:
        assert self.gate.acquire(timeout=20)
        self.read.append(int(window[0]))
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        return Verdict({"injection": float(window[0])}, (), b""), 0.5

    def let_go(self, count: int = 1_000) -> None:
        self.gate.release(count)


@asynccontextmanager
async def turns(model: Model, *, threads: int = 1, most_waiting: int = 100) -> AsyncIterator[Turns]:
    kept: dict[bytes, Verdict] = {}
    one = Turns(model.run, kept.__setitem__, threads=threads, most_waiting=most_waiting)
    try:
        yield one
    finally:
        model.let_go()
        await one.close()


def windows(*numbers: int) -> dict[bytes, TokenIds]:
    return {str(number).encode(): np.array([number], np.int32) for number in numbers}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - whatever the condition
            await asyncio.sleep(0.001)


async def test_each_window_gets_its_own_verdict() -> None:
    async with turns(Model(), threads=2) as queue:
        found = await queue.read(windows(3, 1, 2))

    assert {key: verdict.probabilities["injection"] for key, verdict in found.items()} == {b"3": 3, b"1": 1, b"2": 2}
    assert (queue.work.windows_read, queue.work.cpu_s) == (3, 1.5)


async def test_the_model_never_runs_on_the_event_loop() -> None:
    model = Model()

    async with turns(model, threads=2) as queue:
        await queue.read(windows(*range(20)))

    assert threading.get_ident() not in model.threads


async def test_a_short_call_does_not_wait_for_a_long_one() -> None:
    model = Model(is_held=True)
    async with turns(model) as queue:
        long = asyncio.create_task(queue.read(windows(*range(50))))
        await until(lambda: queue.waiting == 49)
        short = asyncio.create_task(queue.read(windows(99)))
        await until(lambda: queue.waiting == 50)

        model.let_go()
        await short
        await long

    # Position 0 ran already and 1 may have the turn.
    assert model.read.index(99) <= 2
    assert sorted(model.read) == [*range(50), 99]


async def test_windows_of_a_call_are_read_in_order() -> None:
    model = Model()

    async with turns(model) as queue:
        await queue.read(windows(5, 3, 4))

    assert model.read == [5, 3, 4]


async def test_a_window_that_two_calls_want_is_read_once() -> None:
    model = Model(is_held=True)
    async with turns(model) as queue:
        calls = [asyncio.create_task(queue.read(windows(1, 2))) for _ in range(3)]
        await until(lambda: queue.waiting == 1)
        model.let_go()
        answers = await asyncio.gather(*calls)

    assert model.read == [1, 2]
    assert answers[0] == answers[1] == answers[2]


async def test_windows_of_a_call_that_was_cancelled_are_not_read() -> None:
    model = Model(is_held=True)
    async with turns(model) as queue:
        call = asyncio.create_task(queue.read(windows(*range(10))))
        await until(lambda: queue.waiting == 9)

        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert queue.waiting == 0
        model.let_go()
        await queue.read(windows(77))
    assert model.read == [0, 77]


async def test_a_window_is_still_read_for_the_one_who_stays() -> None:
    model = Model(is_held=True)
    async with turns(model) as queue:
        leaves = asyncio.create_task(queue.read(windows(1, 2, 3)))
        stays = asyncio.create_task(queue.read(windows(3)))
        await until(lambda: queue.waiting == 2)

        leaves.cancel()
        await asyncio.wait([leaves])
        model.let_go()
        await stays

    assert model.read == [1, 3]


async def test_what_the_queue_has_no_room_for_is_refused_at_once() -> None:
    model = Model(is_held=True)
    async with turns(model, most_waiting=5) as queue:
        first = asyncio.create_task(queue.read(windows(*range(5))))
        await until(lambda: queue.waiting == 4)

        with pytest.raises(DetectorFailed, match="overloaded"):
            await queue.read(windows(10, 11))
        second = asyncio.create_task(queue.read(windows(10)))
        model.let_go()

        await asyncio.gather(first, second)
    assert 11 not in model.read


async def test_a_window_that_waits_already_needs_no_room() -> None:
    model = Model(is_held=True)
    async with turns(model, most_waiting=3) as queue:
        calls = [asyncio.create_task(queue.read(windows(1, 2, 3))) for _ in range(5)]
        await until(lambda: queue.waiting == 2)
        model.let_go()

        assert len(await asyncio.gather(*calls)) == 5


@pytest.mark.parametrize(
    ("error", "code"), [(DetectorFailed("contract"), "contract"), (ValueError("canary"), "unavailable")]
)
async def test_a_run_that_fails_fails_its_call_and_no_other(
    error: Exception, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model()
    model.error = error
    async with turns(model) as queue:
        with pytest.raises(DetectorFailed, match=code):
            await queue.read(windows(1, 2))

        model.error = None
        assert len(await queue.read(windows(1, 2))) == 2
    assert "canary" not in "".join(capsys.readouterr())


async def test_nothing_waits_once_all_have_gone() -> None:
    model = Model()
    async with turns(model, threads=2) as queue:
        for _ in range(3):
            await asyncio.gather(*(queue.read(windows(*range(at, at + 5))) for at in range(10)))

        assert queue.waiting == 0


async def test_closing_lets_the_run_end_and_turns_the_others_away() -> None:
    model = Model(is_held=True)
    async with turns(model) as queue:
        calls = [asyncio.create_task(queue.read(windows(number))) for number in (1, 2)]
        await until(lambda: queue.waiting == 1)
        closing = asyncio.create_task(queue.close())
        await until(calls[1].done)

        model.let_go()
        await closing

        assert (await calls[0])[b"1"].probabilities == {"injection": 1}
        assert str(calls[1].exception()) == "unavailable"
        with pytest.raises(DetectorFailed, match="unavailable"):
            await queue.read(windows(3))
    assert model.read == [1]


async def test_verdicts_are_kept_also_when_the_call_has_left() -> None:
    model = Model(is_held=True)
    kept: dict[bytes, Verdict] = {}
    queue = Turns(model.run, kept.__setitem__, threads=1, most_waiting=10)
    call = asyncio.create_task(queue.read(windows(1, 2)))
    await until(lambda: queue.waiting == 1)

    call.cancel()
    await asyncio.wait([call])
    model.let_go()
    await queue.close()

    assert list(kept) == [b"1"]
