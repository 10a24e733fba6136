"""Several detectors as one: nothing raises, and silence is never taken for "nothing found"."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from trueport.detection.base import DetectorFailed
from trueport.detection.engine import Chain, Engine, unread
from trueport.detection.types import Category, Failure, Finding, Passage, Reading
from trueport.kit.clock import SystemClock

PII: frozenset[Category] = frozenset({"pii"})
Read = Callable[[Sequence[Passage], frozenset[Category]], Awaitable[Sequence[Reading]]]


class Scripted:
    """A detector that does what it is told, and notes what it was asked."""

    version = "v1"

    def __init__(self, name: str, *categories: Category, read: Read | None = None) -> None:
        self.name = name
        self.categories = frozenset(categories or ("pii",))
        self.asked: list[tuple[list[str], frozenset[Category]]] = []
        self.is_closed = False
        self._read: Read = read or answer

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        self.asked.append(([passage.text for passage in passages], wanted))
        return await self._read(passages, wanted)

    async def close(self) -> None:
        self.is_closed = True


async def answer(passages: Sequence[Passage], wanted: frozenset[Category], score: float = 0.2) -> Sequence[Reading]:
    return [Reading(dict.fromkeys(wanted, score)) for _ in passages]


def giving(*readings: Reading) -> Read:
    async def read(passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        return readings

    return read


def failing(error: Exception) -> Read:
    async def read(passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        raise error

    return read


async def hanging(passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
    await asyncio.Event().wait()
    raise AssertionError


def engine(*detectors: Any) -> Engine:
    return Engine(detectors, SystemClock())


async def read_one(reader: Engine, wanted: frozenset[Category] = PII, text: str = "hello") -> Reading:
    [reading] = await reader.read([Passage(text)], wanted, timeout_s=5)
    return reading


async def test_readings_come_in_the_order_of_the_passages() -> None:
    async def length(passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        return [Reading({"pii": len(passage.text) / 10}) for passage in passages]

    readings = await engine(Scripted("one", read=length)).read(
        [Passage("abc"), Passage("a"), Passage("abc")], PII, timeout_s=5
    )

    assert [reading.scores["pii"] for reading in readings] == [0.3, 0.1, 0.3]


async def test_each_detector_is_asked_for_what_it_serves_and_for_nothing_nobody_wants() -> None:
    first, second = Scripted("first", "pii", "secrets"), Scripted("second", "toxicity")

    reading = await read_one(engine(first, second), frozenset({"secrets"}))

    assert [(texts, sorted(wanted)) for texts, wanted in first.asked] == [(["hello"], ["secrets"])]
    assert second.asked == []
    assert reading.scores == {"secrets": 0.2}


async def test_detectors_add_to_each_other() -> None:
    found = Finding("pii", "EMAIL", 0, 2, 0.9, "one", "v1")
    also = Finding("pii", "PERSON", 3, 5, 0.6, "two", "v1")
    reader = engine(
        Scripted("one", read=giving(Reading({"pii": 0.9}, (found,)))),
        Scripted("two", read=giving(Reading({"pii": 0.6}, (also,)))),
    )

    reading = await read_one(reader)

    assert (reading.scores, reading.findings, reading.failures) == ({"pii": 0.9}, (found, also), ())


@pytest.mark.parametrize("code", ["timeout", "unavailable", "contract", "overloaded", "too_long"])
async def test_a_detector_that_fails_is_in_the_reading_and_the_others_still_count(code: Any) -> None:
    reader = engine(Scripted("well"), Scripted("ill", read=failing(DetectorFailed(code))))

    reading = await read_one(reader)

    assert reading.failures == (Failure(PII, "ill", code),)
    assert reading.scores == {"pii": 0.2}
    assert unread(reading, PII) == PII


async def test_a_detector_that_does_not_answer_in_time_has_failed() -> None:
    [reading] = await engine(Scripted("slow", read=hanging)).read([Passage("x")], PII, timeout_s=0.05)

    assert reading.failures == (Failure(PII, "slow", "timeout"),)


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        (Reading({"pii": 0.1}), Reading({"pii": 0.1})),
        (Reading(),),
        (Reading({"pii": float("nan")}),),
        (Reading({"pii": 1.2}),),
        (Reading({"pii": -0.1}),),
        (Reading({"pii": 0.9}, (Finding("pii", "EMAIL", 0, 99, 0.9, "x", "v"),)),),
        (Reading({"pii": 0.9}, (Finding("pii", "EMAIL", 3, 2, 0.9, "x", "v"),)),),
        (Reading({"pii": 0.9}, (Finding("pii", "", 0, 1, 0.9, "x", "v"),)),),
        (Reading({"pii": 0.9}, (Finding("pii", "EMAIL", 0, 1, float("nan"), "x", "v"),)),),
        (Reading({"pii": 0.1}, embedding=(float("inf"),)),),
    ],
    ids=["too few", "too many", "no score", "NaN", "above one", "below zero", "beyond the text", "end before start",
         "no type", "NaN finding", "infinite embedding"],
)  # fmt: skip
async def test_an_answer_that_breaks_the_contract_is_a_failure(wrong: tuple[Reading, ...]) -> None:
    reading = await read_one(engine(Scripted("broken", read=giving(*wrong))))

    assert reading.failures == (Failure(PII, "broken", "contract"),)
    assert reading.findings == ()


async def test_a_defect_in_a_detector_is_a_failure_whose_text_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    reading = await read_one(engine(Scripted("broken", read=failing(RuntimeError("canary")))))

    assert reading.failures == (Failure(PII, "broken", "contract"),)
    assert "canary" not in "".join(capsys.readouterr())


async def test_what_nobody_serves_is_not_read() -> None:
    reading = await read_one(engine(Scripted("one")), frozenset({"pii", "bias", "custom"}))

    assert reading.failures == (Failure(frozenset({"bias"}), "engine", "unavailable"),)


async def test_the_next_of_a_chain_reads_what_the_first_could_not() -> None:
    first = Scripted("first", read=failing(DetectorFailed("unavailable")))
    second = Scripted("second")

    reading = await read_one(engine(Chain((first, second))))

    assert second.asked == [(["hello"], PII)]
    assert reading.scores == {"pii": 0.2}
    # It is told of, and leaves nothing open.
    assert [(failure.detector, failure.categories) for failure in reading.failures] == [("first", frozenset())]
    assert unread(reading, PII) == frozenset()


async def test_a_chain_whose_first_answers_does_not_ask_the_next() -> None:
    first, second = Scripted("first"), Scripted("second")

    await read_one(engine(Chain((first, second))))

    assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_the_first_of_a_chain_leaves_time_for_the_next() -> None:
    reader = engine(Chain((Scripted("slow", read=hanging), Scripted("second"))))

    [reading] = await reader.read([Passage("x")], PII, timeout_s=0.2)

    assert unread(reading, PII) == frozenset()


async def test_a_text_that_was_read_is_not_read_again_for_the_same_categories() -> None:
    detector = Scripted("one", "pii", "secrets")
    reader = engine(detector)

    first = await read_one(reader)
    again = await read_one(reader)
    await read_one(reader, frozenset({"secrets"}))
    await reader.read([Passage("hello", "system")], PII, timeout_s=5)

    assert first == again
    assert [sorted(wanted) for _, wanted in detector.asked] == [["pii"], ["secrets"], ["pii"]]


async def test_a_text_that_could_not_be_read_is_tried_again() -> None:
    detector = Scripted("one", read=failing(DetectorFailed("unavailable")))
    reader = engine(detector)

    await read_one(reader)
    await read_one(reader)

    assert len(detector.asked) == 2


async def test_the_same_text_twice_in_a_call_is_read_once() -> None:
    detector = Scripted("one")

    await engine(detector).read([Passage("x"), Passage("x")], PII, timeout_s=5)

    assert detector.asked == [(["x"], PII)]


async def test_no_text_is_kept_once_it_has_been_read() -> None:
    reader = engine(Scripted("one"))
    await read_one(reader, text="canary of a text")

    assert "canary" not in repr(vars(reader))


async def test_a_lone_surrogate_is_read_as_the_replacement_character() -> None:
    detector = Scripted("one")

    await read_one(engine(detector), text="a\ud800b")

    assert detector.asked == [(["a\ufffdb"], PII)]


async def test_closing_closes_every_detector() -> None:
    first, second, third = Scripted("first"), Scripted("second"), Scripted("third")
    reader = engine(first, Chain((second, third)))

    await reader.close()

    assert [detector.is_closed for detector in (first, second, third)] == [True] * 3


async def test_a_call_that_is_cancelled_takes_its_detectors_with_it() -> None:
    stopped = asyncio.Event()

    async def read(passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return []

    call = asyncio.create_task(engine(Scripted("slow", read=read)).read([Passage("x")], PII, timeout_s=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(stopped.wait(), 5)
