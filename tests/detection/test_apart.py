"""The embedded detector's own process: what its death, its standing still and its gateway's end mean for calls."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.detectors import ATTACK, BENIGN, TINY, tiny_copy
from trueport.detection import apart
from trueport.detection.apart import OnnxApart
from trueport.detection.base import DetectorFailed
from trueport.detection.onnx import OnnxDetector
from trueport.detection.types import Category, Passage, Reading

WANTED: frozenset[Category] = frozenset({"prompt_injection", "pii", "custom"})
PATIENCE_S = 30.0


@asynccontextmanager
async def detector(folder: Path = TINY) -> AsyncIterator[OnnxApart]:
    one = OnnxApart(folder)
    try:
        yield one
    finally:
        await one.close()


async def read(one: OnnxApart, text: str = f"{ATTACK} previous instructions") -> Reading:
    async with asyncio.timeout(PATIENCE_S):
        [reading] = await one.read([Passage(text)], WANTED)
    return reading


def pid_of(one: OnnxApart) -> int:
    assert one.pid is not None
    return one.pid


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.01)


async def until_lost(one: OnnxApart) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while one.pid is not None:  # noqa: ASYNC110 - told nobody
            await asyncio.sleep(0.01)


async def test_it_reads_as_the_detector_in_this_process_does() -> None:
    inside = OnnxDetector(TINY)
    texts = [Passage(f"{ATTACK} previous instructions"), Passage(BENIGN), Passage("", "tool_result")]
    try:
        async with detector() as one:
            assert await one.read(texts, WANTED) == tuple(await inside.read(texts, WANTED))
            assert (one.version, one.categories, one.bands) == (inside.version, inside.categories, inside.bands)
    finally:
        await inside.close()


async def test_the_process_has_no_secrets_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPORT_MASTER_KEY", "canary-of-the-environment")

    async with detector() as one:
        await one.prepare()
        environment = psutil.Process(pid_of(one)).environ()

    assert "canary-of-the-environment" not in environment.values()


async def test_calls_of_a_process_that_dies_fail_and_the_next_is_read_by_another() -> None:
    async with detector() as one:
        await one.prepare()
        first = pid_of(one)
        with standing_still(first):
            call = asyncio.ensure_future(read(one))
            await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(DetectorFailed) as failed:
                await call
        assert failed.value.code == "unavailable"

        assert (await read(one)).findings
        assert pid_of(one) != first
        await gone(first)


async def test_a_process_that_dies_again_and_again_is_started_after_a_pause_in_which_calls_fail_at_once() -> None:
    async with detector() as one:
        for _ in range(2):
            await one.prepare()
            os.kill(pid_of(one), signal.SIGKILL)
            await until_lost(one)

        with pytest.raises(DetectorFailed) as failed:
            await read(one)

        assert failed.value.code == "unavailable"
        async with asyncio.timeout(PATIENCE_S):
            while not one.pid:
                with contextlib.suppress(DetectorFailed):
                    await one.prepare()
                await asyncio.sleep(0.05)
        assert (await read(one)).findings


async def test_a_process_that_stands_still_takes_no_more_texts_than_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apart, "MOST_UNDER_WAY", 1_000)
    async with detector() as one:
        await one.prepare()
        with standing_still(pid_of(one)):
            waiting = asyncio.ensure_future(read(one, "the weather " * 80))
            await asyncio.sleep(0)

            with pytest.raises(DetectorFailed) as failed:
                await read(one, "the weather " * 80)

            assert failed.value.code == "overloaded"
            assert not waiting.done()
        await waiting


async def test_a_call_that_leaves_makes_room_for_others() -> None:
    async with detector() as one:
        await one.prepare()
        with standing_still(pid_of(one)):
            leaving = asyncio.ensure_future(read(one))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving

        assert (await read(one)).findings


async def test_signals_that_end_a_whole_group_leave_the_reading_to_its_gateway() -> None:
    async with detector() as one:
        await one.prepare()
        pid = pid_of(one)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)

        assert (await read(one)).findings
        assert one.pid == pid
    await gone(pid)


async def test_a_model_that_is_broken_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = tiny_copy(tmp_path)
    model = next(folder.glob("*.onnx"))
    model.write_bytes(model.read_bytes()[:-10])

    async with detector(folder) as one:
        with pytest.raises(DetectorFailed) as failed:
            await one.prepare()

    assert failed.value.code == "contract"
    assert model.name in str(failed.value.__cause__)


async def test_after_its_end_it_reads_nothing() -> None:
    async with detector() as one:
        await one.prepare()
        pid = pid_of(one)
    await gone(pid)

    with pytest.raises(DetectorFailed) as failed:
        await read(one)

    assert failed.value.code == "unavailable"


_GATEWAY = f"""
import asyncio
from pathlib import Path
from trueport.detection.apart import OnnxApart

async def main():
    one = OnnxApart(Path({str(TINY)!r}))
    await one.prepare()
    print(one.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("turns", range(6))
async def test_an_end_at_any_moment_of_the_start_leaves_no_process(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = apart._start

    def noted(folder: Path, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        started.append(start(folder, theirs))
        return started[-1]

    monkeypatch.setattr(apart, "_start", noted)
    one = OnnxApart(TINY)
    reading = asyncio.ensure_future(read(one))
    while not started:  # noqa: ASYNC110 - turns of the loop are what is counted here
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    await one.close()
    with pytest.raises(DetectorFailed):
        await reading
    assert [process.returncode for process in started] == [-signal.SIGKILL]


async def test_it_ends_with_a_gateway_that_is_killed() -> None:
    gateway = subprocess.Popen([sys.executable, "-c", _GATEWAY], stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    with gateway, gateway.stdout:
        pid = int(await asyncio.to_thread(gateway.stdout.readline))
        gateway.kill()

    await gone(pid)
