"""No answer that breaks the contract passes for "nothing found"."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # the package ships no types
import numpy as np
import pytest

from tests.support.triton_stub import Lie, Refused, Response, Stub, add, serving, slow, usual
from trueport.detection.base import DetectorFailed
from trueport.detection.triton import TritonDetector
from trueport.detection.types import Category, FailureCode, Passage
from trueport.kit.clock import ManualClock

_BENIGN: Final = (Passage("good morning"), Passage("how do you do"))


def changed(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], name: str = "SCORES") -> Lie:
    """The answer with the values of one output changed, and its shape made to fit."""

    def lie(answer: Response) -> None:
        at = [output.name for output in answer.outputs].index(name)
        values = np.frombuffer(answer.raw_output_contents[at], np.float32).reshape(answer.outputs[at].shape)
        new = change(values.copy())
        del answer.outputs[at].shape[:]
        answer.outputs[at].shape.extend(new.shape)
        answer.raw_output_contents[at] = new.astype(np.float32).tobytes()

    return lie


def value(number: float, name: str = "SCORES") -> Lie:
    def put(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values.flat[-1] = number
        return values

    return changed(put, name)


def as_doubles(answer: Response) -> None:
    values = np.frombuffer(answer.raw_output_contents[0], np.float32).astype(np.float64)
    answer.outputs[0].datatype = "FP64"
    answer.raw_output_contents[0] = values.tobytes()


def as_whole_numbers(answer: Response) -> None:
    answer.outputs[0].datatype = "INT32"


def nothing(answer: Response) -> None:
    del answer.outputs[:]
    del answer.raw_output_contents[:]


def renamed(answer: Response) -> None:
    answer.outputs[0].name = "SCORE"


def twice(answer: Response) -> None:
    add(answer, answer.outputs[0].name, "FP32", np.zeros((2, 2), np.float32))


def cut_short(answer: Response) -> None:
    answer.raw_output_contents[0] = answer.raw_output_contents[0][:-3]


def too_many_bytes(answer: Response) -> None:
    answer.raw_output_contents[0] += bytes(4)


def without_contents(answer: Response) -> None:
    del answer.raw_output_contents[:]


def of_another_model(answer: Response) -> None:
    answer.model_name = "toxicity_old"


def of_another_version(answer: Response) -> None:
    answer.model_version = "7"


def flat(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.reshape(-1)


def one_label_less(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values[:, :1]


def one_label_more(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.hstack([values, values[:, :1]])


def one_row_more(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.vstack([values, values[:1]])


def one_row_less(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values[:1]


def refused(status: grpc.StatusCode) -> Lie:
    async def lie(answer: Response) -> None:
        raise Refused(status)

    return lie


SCORES: Final[dict[str, tuple[Lie, FailureCode]]] = {
    "wrong shape": (changed(flat), "contract"),
    "wrong type": (as_doubles, "contract"),
    "wrong type of the same size": (as_whole_numbers, "contract"),
    "nan": (value(float("nan")), "contract"),
    "infinite": (value(float("inf")), "contract"),
    "minus infinite": (value(float("-inf")), "contract"),
    "output missing": (nothing, "contract"),
    "output under another name": (renamed, "contract"),
    "output twice": (twice, "contract"),
    "a label less": (changed(one_label_less), "contract"),
    "a label more": (changed(one_label_more), "contract"),
    "no rows": (changed(lambda values: values[:0]), "contract"),
    "a row less": (changed(one_row_less), "contract"),
    "a row more": (changed(one_row_more), "contract"),
    "above one": (value(1.5), "contract"),
    "below zero": (value(-0.1), "contract"),
    "contents cut short": (cut_short, "contract"),
    "contents too long": (too_many_bytes, "contract"),
    "no contents": (without_contents, "contract"),
    "another model": (of_another_model, "contract"),
    "another version": (of_another_version, "contract"),
    "internal error": (refused(grpc.StatusCode.INTERNAL), "unavailable"),
    "no resources": (refused(grpc.StatusCode.RESOURCE_EXHAUSTED), "overloaded"),
    "invalid argument": (refused(grpc.StatusCode.INVALID_ARGUMENT), "contract"),
}


@pytest.mark.parametrize("kind", SCORES)
async def test_a_malformed_score_is_a_failure(stub: Stub, detector: TritonDetector, kind: str) -> None:
    lie, code = SCORES[kind]
    await detector.read(_BENIGN, frozenset({"toxicity"}))
    stub.lies["toxicity"] = lie

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"toxicity"}))

    assert failed.value.code == code


def offset(row: int, token: int, start: int, end: int) -> Lie:
    def lie(answer: Response) -> None:
        values = np.frombuffer(answer.raw_output_contents[1], np.int32).reshape(answer.outputs[1].shape).copy()
        values[row, token] = start, end
        answer.raw_output_contents[1] = values.tobytes()

    return lie


def without_offsets(answer: Response) -> None:
    del answer.outputs[1:]
    del answer.raw_output_contents[1:]


TOKENS: Final[dict[str, Lie]] = {
    "nan": value(float("nan"), "LOGITS"),
    "infinite": value(float("inf"), "LOGITS"),
    "a label less": changed(lambda values: values[:, :, :2], "LOGITS"),
    "a token less": changed(lambda values: values[:, :-1], "LOGITS"),
    "a row less": changed(lambda values: values[:1], "LOGITS"),
    "flat": changed(flat, "LOGITS"),
    "no offsets": without_offsets,
    "an offset behind the text": offset(0, 1, 0, 1_000),
    "an offset before the text": offset(0, 1, -1, 3),
    "an offset that ends before it starts": offset(1, 2, 3, 2),
}


@pytest.mark.parametrize("kind", TOKENS)
async def test_malformed_tokens_are_a_failure(stub: Stub, detector: TritonDetector, kind: str) -> None:
    await detector.read(_BENIGN, frozenset({"pii"}))
    stub.lies["pii"] = TOKENS[kind]

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"pii"}))

    assert failed.value.code == "contract"


@pytest.mark.parametrize("read", [0, -1, 1_000])
async def test_a_model_that_read_nothing_or_too_much_breaks_its_contract(
    stub: Stub, detector: TritonDetector, read: int
) -> None:
    def lie(answer: Response) -> None:
        answer.raw_output_contents[1] = np.array([[5], [read]], np.int32).tobytes()

    stub.change("toxicity", reads=500)
    stub.lies["toxicity"] = lie

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"toxicity"}))

    assert failed.value.code == "contract"


def with_input(shape: list[int], datatype: str = "BYTES") -> Lie:
    def lie(answer: Response) -> None:
        del answer.inputs[0].shape[:]
        answer.inputs[0].shape.extend(shape)
        answer.inputs[0].datatype = datatype

    return lie


def with_output(shape: list[int], datatype: str = "FP32") -> Lie:
    def lie(answer: Response) -> None:
        del answer.outputs[0].shape[:]
        answer.outputs[0].shape.extend(shape)
        answer.outputs[0].datatype = datatype

    return lie


def no_versions(answer: Response) -> None:
    del answer.versions[:]


def no_outputs(answer: Response) -> None:
    del answer.outputs[:]


@pytest.mark.parametrize(
    "lie",
    [
        with_input([-1]),
        with_input([-1, 1], "INT64"),
        with_output([-1, 3]),
        with_output([-1]),
        with_output([-1, 2], "FP16"),
        no_outputs,
        no_versions,
    ],
)
async def test_no_text_goes_to_a_model_of_another_form(stub: Stub, detector: TritonDetector, lie: Lie) -> None:
    stub.lies["toxicity:metadata"] = lie

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"toxicity"}))

    assert failed.value.code == "contract"
    assert stub.requests == []


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("toxicity", {"model_sha256": ""}),
        ("toxicity", {"model_sha256": "XYZ"}),
        ("toxicity", {"labels": ""}),
        ("toxicity", {"labels": "toxicity,toxicity"}),
        ("toxicity", {"labels": "cats,dogs"}),
        ("toxicity", {"activation": "relu"}),
        ("toxicity", {"temperature": "0"}),
        ("toxicity", {"temperature": "nan"}),
        ("toxicity", {"max_tokens": "many"}),
        ("pii", {"activation": "none"}),
        ("pii", {"labels": "O,O"}),
    ],
)
async def test_no_text_goes_to_a_model_that_does_not_say_what_it_is(
    stub: Stub, detector: TritonDetector, model: str, parameters: dict[str, str]
) -> None:
    stub.change(model, parameters=parameters)

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"pii" if model == "pii" else "toxicity"}))

    assert failed.value.code == "contract"
    assert stub.requests == []


async def test_a_version_that_looks_like_a_hash_has_to_be_that_of_the_model(
    stub: Stub, detector: TritonDetector
) -> None:
    stub.change("toxicity", version="123456789012345678")

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"toxicity"}))

    assert failed.value.code == "contract"


async def test_a_slow_answer_is_a_timeout(stub: Stub, clock: ManualClock) -> None:
    detector = TritonDetector(stub.address, clock, timeout_ms=50, connect_timeout_ms=5_000)
    stub.lies["toxicity"] = slow(60)

    with pytest.raises(DetectorFailed) as failed:
        await detector.read(_BENIGN, frozenset({"toxicity"}))
    await detector.close()

    assert failed.value.code == "timeout"


async def test_a_connection_cut_during_the_answer_is_a_failure(clock: ManualClock) -> None:
    stub = Stub(usual())
    arrived = asyncio.Event()

    async def never(answer: Response) -> None:
        arrived.set()
        await asyncio.sleep(60)

    stub.lies["toxicity"] = never
    async with serving(stub) as server:
        detector = TritonDetector(stub.address, clock, timeout_ms=10_000, connect_timeout_ms=5_000)
        reading = asyncio.create_task(_code_of(detector, "toxicity"))
        await arrived.wait()
        await server.stop(None)
        code = await reading
    await detector.close()

    assert code == "unavailable"


async def test_a_closed_detector_fails_those_who_wait(stub: Stub, detector: TritonDetector) -> None:
    arrived = asyncio.Event()

    async def never(answer: Response) -> None:
        arrived.set()
        await asyncio.sleep(60)

    stub.lies["toxicity"] = never
    reading = asyncio.create_task(_code_of(detector, "toxicity"))
    await arrived.wait()
    await detector.close()

    assert await reading == "unavailable"


async def test_whoever_leaves_is_not_told_of_a_failure(stub: Stub, detector: TritonDetector) -> None:
    stub.lies["toxicity"] = slow(60)
    reading = asyncio.create_task(_code_of(detector, "toxicity"))
    await asyncio.sleep(0.05)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_neither_failures_nor_logs_hold_the_text(
    stub: Stub, detector: TritonDetector, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, (lie, _) in SCORES.items():
        stub.lies["toxicity"] = lie
        with pytest.raises(DetectorFailed) as failed:
            await detector.read([Passage("sesame-open"), Passage("sesame-shut")], frozenset({"toxicity"}))
        assert "sesame" not in f"{failed.value!r} {failed.value.__cause__!r}", kind
        stub.lies.clear()
        await detector.read(_BENIGN, frozenset({"toxicity"}))

    assert "sesame" not in "".join(capsys.readouterr())


async def _code_of(detector: TritonDetector, category: Category) -> FailureCode | None:
    try:
        await detector.read(_BENIGN, frozenset({category}))
    except DetectorFailed as failed:
        return failed.code
    return None
