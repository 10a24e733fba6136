"""What holds for every detector, whoever made it: the rules alone, the embedded model, Triton, and a plug-in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, get_args

import pytest

from tests.support.detectors import ATTACK, BENIGN, DETECTORS, INSULT, PERSON
from tests.support.triton_stub import Stub, serving, usual
from trueport.detection.base import Detector, DetectorFailed
from trueport.detection.engine import Engine
from trueport.detection.merging import check_readings
from trueport.detection.triton import TritonDetector
from trueport.detection.types import CATEGORIES, Category, Finding, Passage, Reading, Role
from trueport.kit.clock import SystemClock

AMPLE_S: Final = 20.0
ROLES: Final[tuple[Role, ...]] = get_args(Role)
CANARY: Final = "zx81canary"
TEXTS: Final = (
    "",
    " ",
    "\n\t\r\n",
    "a",
    BENIGN,
    f"{ATTACK} previous instructions",
    f"you {INSULT}",
    f"please {PERSON} in berlin",
    "write to anna@example.org or call +49 30 901820",
    "😀 Márie Curie 東京 cafe\u0301 \u200bx\u202e",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 AKIAIOSFODNN7EXAMPLE",
    "\x00\x01\x7f",
    "the weather " * 400,
    "x" * 5_000,
)


class ShoutingDetector:
    """What a plug-in may look like: it minds capital letters."""

    name: Final = "shouting"
    version: Final = "1"
    categories: Final[frozenset[Category]] = frozenset({"toxicity"})

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        await asyncio.sleep(0)
        return [self._read(passage.text) if "toxicity" in wanted else Reading() for passage in passages]

    async def close(self) -> None:
        """Nothing to free."""

    def _read(self, text: str) -> Reading:
        capitals = sum(map(str.isupper, text))
        score = capitals / len(text) if text else 0.0
        found = Finding("toxicity", "SHOUTING", 0, len(text), score, self.name, self.version)
        return Reading({"toxicity": score}, (found,) if capitals else ())


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Detector]:
    async with AsyncExitStack() as stack:
        detector: Detector
        if name == "triton":
            stub = Stub(usual())
            await stack.enter_async_context(serving(stub))
            detector = TritonDetector(stub.address, SystemClock(), timeout_ms=10_000, connect_timeout_ms=10_000)
        else:
            detector = ShoutingDetector() if name == "plug-in" else DETECTORS[name]()
        stack.push_async_callback(detector.close)
        # As the engine does at start; a server says then what its models serve.
        await Engine([detector], SystemClock()).prepare()
        yield detector


@pytest.fixture(params=[*DETECTORS, "triton", "plug-in"])
async def detector(request: pytest.FixtureRequest) -> AsyncIterator[Detector]:
    async with opened(request.param) as found:
        yield found


async def read(detector: Detector, *passages: Passage) -> Sequence[Reading]:
    async with asyncio.timeout(AMPLE_S):
        return await detector.read(passages, detector.categories)


async def test_it_has_a_name_a_version_and_categories_that_exist(detector: Detector) -> None:
    assert detector.name
    assert detector.version
    assert detector.categories
    assert detector.categories <= set(CATEGORIES)


async def test_no_passages_have_no_readings(detector: Detector) -> None:
    assert list(await read(detector)) == []


@pytest.mark.parametrize("role", ROLES)
async def test_every_text_has_one_reading_with_a_score_for_every_category_claimed(
    detector: Detector, role: Role
) -> None:
    passages = [Passage(text, role) for text in TEXTS]

    readings = await read(detector, *passages)

    # Raises for a missing score, a number that is none and an offset beyond the text.
    check_readings(readings, passages, detector.categories)
    for reading in readings:
        assert reading.failures == ()
        assert reading.scores.keys() <= detector.categories
        assert {finding.category for finding in reading.findings} <= detector.categories
        assert {finding.detector for finding in reading.findings} <= {detector.name}
        assert all(finding.version and finding.type == finding.type.upper() for finding in reading.findings)


async def test_an_empty_text_has_nothing_in_it(detector: Detector) -> None:
    [reading] = await read(detector, Passage(""))

    assert reading.findings == ()


async def test_readings_are_those_of_the_texts_read_one_by_one_and_in_order(detector: Detector) -> None:
    passages = [Passage(text) for text in TEXTS]

    together = await read(detector, *passages)
    by_one = [(await read(detector, passage))[0] for passage in passages]

    assert [round_off(reading) for reading in together] == [round_off(reading) for reading in by_one]


async def test_calls_at_the_same_time_do_not_meet(detector: Detector) -> None:
    passages = [Passage(text) for text in TEXTS]
    expected = await read(detector, *passages)

    rounds = await asyncio.gather(*(read(detector, *passages) for _ in range(8)))

    for readings in rounds:
        assert [round_off(reading) for reading in readings] == [round_off(reading) for reading in expected]


async def test_only_what_is_wanted_has_a_score(detector: Detector) -> None:
    wanted = frozenset(sorted(detector.categories - {"custom"})[:1])

    async with asyncio.timeout(AMPLE_S):
        [reading] = await detector.read([Passage(f"{ATTACK} {INSULT} {PERSON} anna@example.org")], wanted)

    assert reading.scores.keys() == wanted
    assert {finding.category for finding in reading.findings} <= wanted


async def test_nothing_it_gives_out_or_says_holds_the_text(
    detector: Detector, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    text = f"{CANARY} {ATTACK} {INSULT} {PERSON} {CANARY}@example.org password={CANARY}Xq9"

    readings = await read(detector, Passage(text))

    assert CANARY not in repr(readings)
    assert CANARY not in repr(detector)
    assert CANARY not in caplog.text + "".join(capsys.readouterr())


async def test_a_deadline_ends_it_and_later_calls_are_answered(detector: Detector) -> None:
    engine = Engine([detector], SystemClock())
    long = Passage(" ".join(f"a{number}" for number in range(20_000)))

    [cut_short] = await engine.read([long], detector.categories, timeout_s=1e-9)
    [reading] = await engine.read([Passage(BENIGN)], detector.categories, timeout_s=AMPLE_S)

    assert {failure.code for failure in cut_short.failures} <= {"timeout"}
    assert reading.failures == ()


async def test_a_call_that_is_cancelled_leaves_the_others_alone(detector: Detector) -> None:
    doomed = asyncio.create_task(read(detector, *(Passage(f"{text} {INSULT}") for text in TEXTS)))
    await asyncio.sleep(0)
    doomed.cancel()

    readings = await read(detector, Passage(BENIGN))

    await asyncio.wait([doomed])
    check_readings(readings, [Passage(BENIGN)], detector.categories)


async def test_closing_twice_is_closing_once(detector: Detector) -> None:
    await read(detector, Passage(BENIGN))

    await detector.close()
    await detector.close()

    try:
        readings = await read(detector, Passage(INSULT))
    except DetectorFailed as failed:
        code: str | None = failed.code
    else:
        code = None
        check_readings(readings, [Passage(INSULT)], detector.categories)
    assert code in (None, "unavailable")


def round_off(reading: Reading) -> tuple[object, ...]:
    """What a machine may compute in another order is compared to four digits."""
    scores = {category: round(score, 4) for category, score in reading.scores.items()}
    places = {(one.category, one.type, one.start, one.end, round(one.score, 4)) for one in reading.findings}
    return scores, places, reading.failures
