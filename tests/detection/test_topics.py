"""Topics by example, and bands by name: what follows the model at work."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.detectors import SHIPPED, TINY, tiny_copy
from trueport.detection.apart import OnnxApart
from trueport.detection.base import DetectorFailed
from trueport.detection.embedding import Embeddings, gives_embeddings
from trueport.detection.engine import Engine
from trueport.detection.onnx import OnnxDetector
from trueport.detection.patterns.pack import PatternDetector
from trueport.detection.policy import (
    ActivePolicies,
    Context,
    Judged,
    Policy,
    PolicySet,
    Verdict,
    compile_policy,
    problems_of,
    read_policy,
)
from trueport.detection.policy.topics import compile_topic
from trueport.detection.types import Category, Failure, Finding, Passage, Reading
from trueport.kit.clock import SystemClock

CALL = Context("prod", "key_a")
EXAMPLES = [
    "Can my landlord throw me out without notice?",
    "What should I write into a contract with a freelancer?",
    "Am I allowed to record a phone call with my boss?",
    "My neighbour wants to sue me over the fence, what are my rights?",
    "How long do I have to file an appeal against a court's ruling?",
    "Is a verbal agreement legally binding?",
    "Do I need a lawyer to contest a will?",
    "The police want to search my flat, do they need a warrant?",
    "Who is liable if a visitor slips on my stairs?",
    "Draft a cease and desist letter to a competitor who copied our logo.",
]
ABOUT_IT = [
    "Can an employer fire me while I am on sick leave, and can I sue?",
    "My tenant stopped paying rent, how do I evict him legally?",
    "Is the non-compete clause in my employment contract enforceable?",
    "Which court do I go to with a claim against an airline?",
    "Do I have to answer questions from the police without a lawyer?",
]
ABOUT_OTHER_THINGS = [
    "Write a recipe for a lentil soup with lemon.",
    "What is the capital of Mongolia?",
    "Sort this list of numbers in Python.",
    "Which stretches help against a stiff neck?",
    "Suggest three names for a bakery by the sea.",
    "How do I prune roses in spring?",
]
TOPICS: dict[str, Any] = {"topics": [{"name": "legal advice", "examples": EXAMPLES}]}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """The engine with the model of the package."""
    opened = Engine([PatternDetector(), OnnxDetector(SHIPPED)], SystemClock())
    yield opened
    await opened.close()


async def compiled(engine: Engine, **members: Any) -> Policy:
    document = read_policy({"name": "mine", "when": TOPICS, "action": "block", **members})
    vectors = await Embeddings(engine).of(EXAMPLES)
    return compile_policy("pol_1", 2, document, vectors=vectors, bands=engine.bands)


def active(*policies: Policy) -> ActivePolicies:
    return PolicySet(policies).for_call("input", CALL)


async def decide(engine: Engine, policies: ActivePolicies, text: str) -> Verdict:
    [reading] = await engine.read([Passage(text)], policies.wanted, timeout_s=60)
    return policies.decide([Judged("text", Passage(text), reading)])


async def test_texts_about_a_topic_are_told_from_texts_about_others(engine: Engine) -> None:
    policies = active(await compiled(engine))

    told = [(await decide(engine, policies, text)).action for text in ABOUT_IT]
    others = [(await decide(engine, policies, text)).action for text in ABOUT_OTHER_THINGS]

    assert told.count("block") >= len(told) - 1
    assert set(others) == {"allow"}


async def test_a_hit_says_how_near_the_text_is_and_how_near_it_had_to_be(engine: Engine) -> None:
    policy = await compiled(engine)

    [hit] = (await decide(engine, active(policy), ABOUT_IT[1])).hits

    assert (hit.category, hit.type, hit.detector, hit.start, hit.end) == (
        "custom", "TOPIC_LEGAL_ADVICE", "topics", 0, len(ABOUT_IT[1]),
    )  # fmt: skip
    assert policy.topics is not None
    assert hit.threshold == policy.topics[0].threshold
    assert hit.score is not None
    assert hit.threshold is not None
    assert 0 < hit.threshold <= hit.score <= 1


async def test_a_threshold_of_one_s_own_comes_before_the_one_the_examples_give(engine: Engine) -> None:
    when = {"topics": [{**TOPICS["topics"][0], "threshold": 0.999}]}

    policies = active(await compiled(engine, when=when))

    assert (await decide(engine, policies, ABOUT_IT[1])).action == "allow"
    # An example is as near as anything can be.
    assert (await decide(engine, policies, EXAMPLES[0])).action == "block"


async def test_a_topic_that_is_allowed_excepts_what_its_texts_hold(engine: Engine) -> None:
    excepting = await compiled(engine, action="allow", priority=1)
    secrets = compile_policy("pol_2", 1, read_policy({"name": "pii", "when": {"category": "pii"}, "action": "block"}))
    policies = active(excepting, secrets)

    about_it = await decide(engine, policies, f"{EXAMPLES[0]} Answer to ann@example.org")
    other = await decide(engine, policies, "Which soup does ann@example.org like?")

    assert (about_it.action, other.action) == ("allow", "block")


async def test_each_example_is_read_once_and_none_is_kept(engine: Engine) -> None:
    counting = Counting(engine)
    embeddings = Embeddings(counting)

    first = await embeddings.of(EXAMPLES)
    second = await embeddings.of([*EXAMPLES[:3], "another one"])

    assert counting.read_texts == [*EXAMPLES, "another one"]
    assert second[EXAMPLES[0]] == first[EXAMPLES[0]]
    assert not any(example in repr(vars(embeddings)) for example in EXAMPLES)


async def test_an_engine_without_a_model_gives_no_vectors() -> None:
    rules = Engine([PatternDetector()], SystemClock())

    assert not Embeddings(rules).is_possible
    with pytest.raises(DetectorFailed):
        await Embeddings(rules).of(EXAMPLES)


async def test_which_engines_can_tell_topics_is_known_without_loading_them(tmp_path: Path) -> None:
    assert not await gives_embeddings("rules:", tmp_path)
    assert await gives_embeddings(f"onnx:{TINY}", tmp_path)


@pytest.mark.parametrize(
    ("members", "action", "code"),
    [
        ({}, "block", "detector_unavailable"),
        ({"on_failure": "allow"}, "allow", None),
        ({"mode": "shadow"}, "allow", None),
        ({"action": "flag"}, "allow", None),
    ],
)
def test_a_policy_whose_topics_nobody_could_tell_fails_as_it_says(members: Any, action: str, code: str | None) -> None:
    document = read_policy({"name": "mine", "when": TOPICS, "action": "block", **members})

    verdict = active(compile_policy("pol_1", 1, document)).decide([Judged("text", Passage("hello"), Reading())])

    assert (verdict.action, verdict.code) == (action, code)


def test_a_text_whose_embedding_failed_is_not_taken_for_one_about_something_else() -> None:
    document = read_policy({"name": "mine", "when": TOPICS, "action": "block"})
    vectors = dict.fromkeys(EXAMPLES, (1.0, 0.0))
    failed = Reading(failures=(Failure(frozenset({"custom"}), "onnx", "timeout"),))

    policies = active(compile_policy("pol_1", 1, document, vectors=vectors))

    assert policies.wanted == {"custom"}
    assert policies.decide([Judged("text", Passage("hello"), failed)]).code == "detector_unavailable"
    far = Reading(embedding=(0.0, 1.0))
    assert policies.decide([Judged("text", Passage("hello"), far)]).action == "allow"


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ({"name": "x", "examples": EXAMPLES[:4]}, "examples"),
        ({"name": "x", "examples": EXAMPLES * 3}, "examples"),
        ({"name": "x", "examples": EXAMPLES[:1] * 5}, "twice"),
        ({"name": "été", "examples": EXAMPLES}, "name"),
        ({"name": "x\n", "examples": EXAMPLES}, "name"),
        ({"name": "x", "examples": EXAMPLES, "threshold": 0}, "threshold"),
        ({"name": "x", "examples": ["a" * 2_001, *EXAMPLES]}, "examples"),
    ],
)
def test_a_topic_that_makes_no_sense_is_told_why(topic: dict[str, Any], told: str) -> None:
    [problem] = problems_of([{"name": "mine", "when": {"topics": [topic]}, "action": "block"}])

    assert told in problem
    # What somebody wrote as an example may be as private as any text.
    assert not any(example in problem for example in EXAMPLES)


def test_what_topics_cannot_do_is_refused() -> None:
    twice = {"topics": [*TOPICS["topics"], {"name": "Legal-Advice", "examples": EXAMPLES}]}

    [redacting] = problems_of([{"name": "a", "when": TOPICS, "action": "redact"}])
    [same] = problems_of([{"name": "b", "when": twice, "action": "flag"}])

    assert "block, flag or allow" in redacting
    assert "the same name" in same


def test_examples_with_nothing_in_common_do_not_make_a_topic_of_everything() -> None:
    apart = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]

    topic = compile_topic("TOPIC_X", apart, None)

    assert topic.threshold == pytest.approx(0.35)
    assert topic.score((-1.0, 0.0, 0.0)) == 0.0
    assert topic.score((0.6, 0.8, 0.0)) == pytest.approx(0.8)


# --- bands -----------------------------------------------------------------------------------------------------


def banded(category: Category = "toxicity", band: str = "block", **given: Any) -> Policy:
    document = read_policy({"name": "mine", "when": {"category": category, "band": band}, "action": "block"})
    return compile_policy("pol_1", 1, document, **given)


def judged(*findings: Finding) -> Sequence[Judged]:
    return [Judged("text", Passage("hello there"), Reading(findings=findings))]


def test_a_band_is_the_number_of_the_detector_that_found_something() -> None:
    policies = active(banded(bands={"onnx": {"toxicity": {"flag": 0.3, "block": 0.6}}}))
    of_model, of_rules = (Finding("toxicity", "TOXICITY", 0, 5, 0.7, name, "1") for name in ("onnx", "patterns"))

    by_model, by_rules = policies.decide(judged(of_model)), policies.decide(judged(of_rules))

    assert [(hit.score, hit.threshold) for hit in by_model.hits] == [(0.7, 0.6)]
    # A detector that has no number of its own: 0.5 to flag and 0.8 to block.
    assert by_rules.hits == ()
    assert active(banded(band="flag")).decide(judged(of_rules)).hits[0].threshold == 0.5


async def test_the_bands_are_those_of_the_model_s_description(tmp_path: Path) -> None:
    heads = {"toxicity": {"temperature": 1.0, "bias": 0.0, "bands": {"flag": 0.21, "block": 0.43}}}
    engine = Engine([PatternDetector(), OnnxApart(tiny_copy(tmp_path, heads=heads))], SystemClock())

    assert engine.bands == {"onnx": {"toxicity": {"flag": 0.21, "block": 0.43}}}
    policy = banded(bands=engine.bands)
    assert policy.threshold("onnx", "toxicity") == 0.43
    await engine.close()


def test_a_band_and_a_number_are_not_both_given() -> None:
    when = {"category": "toxicity", "band": "flag", "min_score": 0.9}

    [problem] = problems_of([{"name": "mine", "when": when, "action": "flag"}])
    [without] = problems_of([{"name": "mine", "when": {"keywords": ["x"], "band": "flag"}, "action": "flag"}])

    assert "band takes the place of min_score" in problem
    assert "for a category" in without


class Counting:
    """An engine that notes what it reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.read_texts: list[str] = []

    @property
    def categories(self) -> frozenset[Category]:
        return self._engine.categories

    @property
    def version(self) -> str:
        return self._engine.version

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        self.read_texts += [passage.text for passage in passages]
        return await self._engine.read(passages, wanted, timeout_s=timeout_s)
