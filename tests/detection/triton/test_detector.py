"""What the detector reads from models that keep their contract."""

import asyncio
from typing import get_args

import numpy as np
import pytest

from tests.support.triton_stub import HASHES, Response, Stub, always, slow
from trueport.detection.base import DetectorFailed
from trueport.detection.merging import check_readings
from trueport.detection.sidecar.versions import version_number
from trueport.detection.triton import TritonDetector
from trueport.detection.triton.catalogue import SERVED, built_in
from trueport.detection.types import CATEGORIES, Category, Passage, Reading, Role
from trueport.kit.clock import ManualClock

ALL_SORTS = "".join(map(chr, range(0x4E00, 0x4E00 + 2_000)))


async def read(detector: TritonDetector, text: str, role: Role = "user") -> Reading:
    await detector.prepare()
    passages, wanted = [Passage(text, role)], detector.categories
    return check_readings(await detector.read(passages, wanted), passages, wanted)[0]


async def test_each_model_answers_its_categories(detector: TritonDetector) -> None:
    reading = await read(detector, "please ignore Alice you idiot http")

    assert {category for category, score in reading.scores.items() if score > 0.5} == {
        "prompt_injection",
        "toxicity",
        "pii",
        "data_exfiltration",
    }
    assert not reading.failures


async def test_a_name_is_found_where_it_stands_in_the_text(detector: TritonDetector) -> None:
    text = "ça marche 😀 pour Jörg demain"
    reading = await read(detector, text)

    names = [finding for finding in reading.findings if finding.category == "pii"]
    assert [(one.type, text[one.start : one.end]) for one in names] == [("PERSON", "Jörg")]


async def test_every_finding_names_the_model_that_made_it(detector: TritonDetector) -> None:
    reading = await read(detector, "ignore Alice, idiot")

    models = {"pii": "pii", "toxicity": "toxicity", "prompt_injection": "injection"}
    assert {one.category: one.version for one in reading.findings} == {
        category: HASHES[model][:16] for category, model in models.items()
    }


@pytest.mark.parametrize(
    ("role", "category", "is_read"),
    [
        ("user", "prompt_injection", True),
        ("system", "prompt_injection", False),
        ("system", "pii", True),
        ("tool_result", "indirect_injection", True),
        ("tool_definition", "indirect_injection", True),
        ("user", "indirect_injection", False),
        ("assistant", "toxicity", True),
        ("assistant", "prompt_injection", False),
    ],
)
async def test_a_role_decides_what_is_looked_for(
    stub: Stub, detector: TritonDetector, role: Role, category: Category, is_read: bool
) -> None:
    stub.change("injection", says=always(0.9, 0.9))
    reading = await read(detector, "Alice you idiot", role)

    assert (reading.scores[category] > 0.5) is is_read
    assert any(one.category == category for one in reading.findings) is is_read


async def test_all_passages_go_to_a_model_in_one_request(stub: Stub, detector: TritonDetector) -> None:
    await detector.read([Passage(f"text {number}") for number in range(20)], frozenset({"toxicity"}))

    assert [(name, len(texts)) for name, texts in stub.requests] == [("toxicity", 20)]


async def test_no_more_rows_than_the_model_takes_go_in_a_request(stub: Stub, detector: TritonDetector) -> None:
    stub.change("toxicity", max_rows=8)
    passages = [Passage(f"text {number}" + " idiot" * (number == 17)) for number in range(20)]

    readings = await detector.read(passages, frozenset({"toxicity"}))

    assert sorted(len(texts) for _, texts in stub.requests) == [4, 8, 8]
    assert [at for at, reading in enumerate(readings) if reading.scores["toxicity"] > 0.5] == [17]


async def test_the_same_text_is_asked_about_once(stub: Stub, detector: TritonDetector) -> None:
    readings = await detector.read([Passage("an idiot")] * 5, frozenset({"toxicity"}))

    assert stub.requests == [("toxicity", ("an idiot",))]
    assert len({reading.scores["toxicity"] for reading in readings}) == 1
    assert len(readings) == 5


async def test_only_the_models_that_are_wanted_are_asked(stub: Stub, detector: TritonDetector) -> None:
    await detector.read([Passage("hello")], frozenset({"pii", "secrets"}))

    assert [name for name, _ in stub.requests] == ["pii"]


async def test_nothing_is_asked_for_an_empty_text(stub: Stub, detector: TritonDetector) -> None:
    reading = await read(detector, "")

    assert stub.requests == []
    assert set(reading.scores.values()) == {0.0}


@pytest.mark.parametrize("place", [0, 700, 1_530, 5_000, 20_000])
async def test_every_part_of_a_long_text_is_read(detector: TritonDetector, place: int) -> None:
    filling = "lorem ipsum dolor " * 1_200
    text = f"{filling[:place]} ignore Alice {filling[place:]}"

    reading = await read(detector, text)

    assert reading.scores["prompt_injection"] > 0.5
    found = [one for one in reading.findings if one.category == "prompt_injection"]
    assert all("ignore" in text[one.start : one.end] for one in found)
    # Pieces overlap, so the name may be in two of them; it is still one name.
    assert [text[one.start : one.end] for one in reading.findings if one.category == "pii"] == ["Alice"]


@pytest.mark.parametrize("reads", [1, 7, 40, 300])
async def test_a_model_that_did_not_read_to_the_end_is_asked_for_the_rest(
    stub: Stub, detector: TritonDetector, reads: int
) -> None:
    stub.change("pii", reads=max(reads, 12))
    stub.change("injection", reads=reads, says=lambda text: [0.9 if "!" in text else 0.1, 0.0])
    text = "x" * 300 + " Alice !"

    reading = await read(detector, text)

    assert reading.scores["prompt_injection"] > 0.5
    assert [text[one.start : one.end] for one in reading.findings if one.category == "pii"] == ["Alice"]


async def test_a_model_that_never_comes_to_the_end_has_not_read_the_text(stub: Stub, detector: TritonDetector) -> None:
    def half(answer: Response) -> None:
        lengths = np.frombuffer(answer.raw_output_contents[1], np.int32)
        answer.raw_output_contents[1] = np.maximum(lengths // 2, 1).astype(np.int32).tobytes()

    stub.change("toxicity", reads=10_000)
    stub.lies["toxicity"] = half

    [reading] = await detector.read([Passage(ALL_SORTS[:1_400])], frozenset({"toxicity"}))

    assert [failure.code for failure in reading.failures] == ["too_long"]
    assert reading.scores == {}


async def test_a_model_that_does_not_tell_gets_no_more_bytes_than_it_has_tokens(
    stub: Stub, detector: TritonDetector
) -> None:
    stub.change("injection", parameters={"max_tokens": "128"})
    await detector.read([Passage(ALL_SORTS[:600])], frozenset({"prompt_injection"}))

    [(_, texts)] = stub.requests
    assert max(len(text.encode()) for text in texts) <= 126
    assert len(texts) > 10


async def test_a_text_beyond_all_measure_is_reported_as_not_read(detector: TritonDetector) -> None:
    readings = await detector.read([Passage("word " * 300_000), Passage("idiot")], frozenset({"toxicity"}))

    [failure] = readings[0].failures
    assert (failure.categories, failure.detector, failure.code) == (frozenset({"toxicity"}), "triton", "too_long")
    assert readings[1].scores["toxicity"] > 0.5


async def test_scores_may_be_logits_where_the_model_says_so(stub: Stub, detector: TritonDetector) -> None:
    stub.change("toxicity", activation="sigmoid", says=always(2.0, -2.0))
    stub.change("injection", labels=("SAFE", "INJECTION"), activation="softmax", says=always(0.0, 3.0))

    reading = await read(detector, "hello", "document")

    assert reading.scores["toxicity"] == pytest.approx(0.8808, abs=1e-4)
    assert reading.scores["bias"] == pytest.approx(0.1192, abs=1e-4)
    assert reading.scores["prompt_injection"] == pytest.approx(0.9526, abs=1e-4)
    # There is no label for what hides in documents, so the one for injections answers.
    assert reading.scores["indirect_injection"] == pytest.approx(0.9526, abs=1e-4)


async def test_the_temperature_of_the_model_is_applied(stub: Stub, detector: TritonDetector) -> None:
    stub.change("toxicity", activation="sigmoid", says=always(2.0, -2.0), parameters={"temperature": "2"})

    assert (await read(detector, "hello")).scores["toxicity"] == pytest.approx(0.7311, abs=1e-4)


async def test_an_optional_category_is_served_where_the_model_has_its_label(
    stub: Stub, detector: TritonDetector
) -> None:
    assert "jailbreak" not in detector.categories
    stub.change("injection", labels=("benign", "jailbreak"), says=always(0.1, 0.9))

    await detector.prepare()

    assert "jailbreak" in detector.categories
    assert (await read(detector, "hello")).scores["jailbreak"] > 0.5


async def test_a_model_that_is_not_on_the_server_fails_alone(stub: Stub, detector: TritonDetector) -> None:
    del stub.models["pii"]
    [reading] = await detector.read([Passage("Alice is an idiot")], detector.categories)

    assert [(set(one.categories), one.code) for one in reading.failures] == [({"pii"}, "unavailable")]
    assert "pii" not in reading.scores
    assert reading.scores["toxicity"] > 0.5


async def test_a_replaced_model_is_known_by_its_first_answer(stub: Stub, detector: TritonDetector) -> None:
    new = "c0ffee" + "0" * 58
    await read(detector, "hello")
    before = detector.version

    stub.change("injection", sha256=new, version=str(version_number(new)), labels=("safe", "injection"))
    stub.change("injection", says=always(0.0, 0.9))
    reading = await read(detector, "hello")

    assert {one.version for one in reading.findings} == {new[:16]}
    assert detector.version != before
    assert f"injection={new[:16]}" in detector.version


async def test_a_model_replaced_under_its_old_number_is_known_at_the_next_check(
    stub: Stub, detector: TritonDetector, clock: ManualClock
) -> None:
    await read(detector, "hello")
    stub.change("injection", sha256="ab" * 32)

    clock.advance(31)
    reading = await read(detector, "ignore this")

    assert {one.version for one in reading.findings} == {"ab" * 8}


async def test_many_calls_at_once_ask_for_the_contract_once(stub: Stub, detector: TritonDetector) -> None:
    await asyncio.gather(*(detector.read([Passage(f"{n}")], frozenset({"toxicity"})) for n in range(20)))

    assert stub.contracts_asked == 1


async def test_every_view_of_a_text_is_read_and_leads_back_to_the_original(stub: Stub, clock: ManualClock) -> None:
    class Folded:
        """Without the zero-width spaces."""

        def __init__(self, text: str) -> None:
            self.kept = [at for at, char in enumerate(text) if char != "\u200b"]
            self.text = "".join(text[at] for at in self.kept)

        def original(self, start: int, end: int) -> tuple[int, int]:
            return self.kept[start], self.kept[end - 1] + 1

    detector = TritonDetector(
        stub.address, clock, timeout_ms=5_000, connect_timeout_ms=5_000, views=lambda text: [Folded(text)]
    )
    text = "hi Al\u200bice, ig\u200bnore"
    reading = await read(detector, text)
    await detector.close()

    assert reading.scores["prompt_injection"] > 0.5
    found = {one.category: text[one.start : one.end] for one in reading.findings}
    assert found == {"pii": "Al\u200bice,", "prompt_injection": text}


async def test_no_more_calls_wait_for_a_model_than_it_can_bear(stub: Stub, detector: TritonDetector) -> None:
    await detector.prepare()
    may_answer = asyncio.Event()

    async def wait(answer: Response) -> None:
        await may_answer.wait()

    stub.lies["toxicity"] = wait
    calls = [asyncio.create_task(detector.read([Passage(f"{n}")], frozenset({"toxicity"}))) for n in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(DetectorFailed) as failed:
        await detector.read([Passage("one more")], frozenset({"toxicity"}))
    may_answer.set()
    answered = await asyncio.gather(*calls)

    assert failed.value.code == "overloaded"
    assert len(answered) == 64
    await detector.read([Passage("afterwards")], frozenset({"toxicity"}))


async def test_the_deadline_of_the_model_counts_where_none_is_set(stub: Stub, clock: ManualClock) -> None:
    detector = TritonDetector(stub.address, clock, connect_timeout_ms=5_000)
    stub.change("toxicity", parameters={"timeout_ms": "5000"})
    stub.lies["toxicity"] = slow(0.2)

    [reading] = await detector.read([Passage("idiot")], frozenset({"toxicity"}))
    await detector.close()

    assert reading.scores["toxicity"] > 0.5


def test_every_model_of_the_catalogue_answers_something_in_every_role_it_is_asked_for() -> None:
    catalogue = built_in()

    assert {rule.model for rule in catalogue.categories.values()} == set(SERVED)
    assert frozenset().union(*catalogue.roles.values()) == catalogue.categories.keys()
    assert catalogue.roles.keys() == set(get_args(Role))
    assert [category for category, rule in catalogue.categories.items() if not rule.labels] == ["pii"]


async def test_an_address_may_leave_out_models_the_server_lacks(stub: Stub) -> None:
    detector = TritonDetector.at(f"triton://{stub.address}?models=toxicity,pii&timeout_ms=5000", ManualClock())
    await detector.prepare()
    await detector.read([Passage("hello")], frozenset(CATEGORIES))
    await detector.close()

    assert detector.categories == {"toxicity", "bias", "pii"}
    assert {name for name, _ in stub.requests} == {"toxicity", "pii"}


@pytest.mark.parametrize(
    "url",
    [
        "triton:",
        "triton://",
        "http://h:8001",
        "triton://h:8001/v2",
        "triton://h:port",
        "triton://h?models=cats",
        "triton://h?models=",
        "triton://h?timeout_ms=soon",
        "triton://h?timeout_ms=0",
        "triton://h?speed=high",
    ],
)
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TritonDetector.at(url, ManualClock())
