"""Which policies hold for a call, and what they decide together."""

from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.detection.policy import (
    ActivePolicies,
    Context,
    Judged,
    Policy,
    PolicySet,
    Span,
    Unscannable,
    Verdict,
    compile_policy,
    problems_of,
    read_policy,
)
from trueport.detection.policy.decision import merged
from trueport.detection.types import Failure, FailureCode, Finding, Passage, Reading

CALL = Context("prod", "key_a", model="gpt-4o", provider="openai", user="ann")
PII: dict[str, Any] = {"when": {"category": "pii"}, "action": "redact"}


def policy(name: str = "rule", **members: Any) -> Policy:
    return compile_policy(f"pol_{name}", 3, read_policy({"name": name, **PII, **members}))


def active(*policies: Policy, side: Any = "input", context: Context = CALL) -> ActivePolicies:
    return PolicySet(policies, 1).for_call(side, context)


def finding(kind: str = "EMAIL", *, start: int = 0, end: int = 5, score: float = 0.9, category: Any = "pii") -> Finding:
    return Finding(category, kind, start, end, score, "patterns", "v1")


def judged(policies: ActivePolicies, text: str, *findings: Finding, failures: tuple[Failure, ...] = ()) -> Judged:
    passage = Passage(text)
    return Judged(
        "messages[0].content", passage, Reading({}, (*findings, *policies.custom(passage)), failures=failures)
    )


def decide(policies: ActivePolicies, *findings: Finding, text: str = "anybody out there", **given: Any) -> Verdict:
    return policies.decide([judged(policies, text, *findings, **given)])


def failed(*categories: Any, detector: str = "onnx", code: FailureCode = "timeout") -> Failure:
    return Failure(frozenset(categories), detector, code)


# --- what a document may say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"when": {}}, "takes one of"),
        ({"when": {"category": "pii", "regex": "x"}}, "takes one of"),
        ({"when": {"category": "gossip"}}, "policy.when.category"),
        ({"when": {"category": "custom"}}, "regex and keywords"),
        ({"when": {"regex": "(a"}}, "RE2"),
        ({"when": {"regex": r"(?=a)b"}}, "RE2"),
        ({"when": {"regex": "a*"}}, "empty text"),
        ({"when": {"regex": "x" * 1_001}}, "longer than"),
        ({"when": {"regex": "((a{100}){100}){100}"}}, "RE2"),
        ({"when": {"category": "pii", "types": ["e-mail"]}}, "written like EMAIL"),
        ({"when": {"keywords": ["x"], "types": ["EMAIL"]}}, "types narrow a category"),
        ({"when": {"category": "pii", "min_score": 2}}, "min_score"),
        ({"when": {"unscannable": True}, "action": "redact"}, "cannot be redacted"),
        ({"placeholder": "reversible", "action": "block"}, "reversible"),
        ({"placeholder": "reversible", "on": ["output"]}, "reversible"),
        ({"on": []}, "policy.on"),
        ({"action": "explode"}, "policy.action"),
        ({"timeout_ms": 1}, "timeout_ms"),
        ({"severity": "high"}, "severity"),
    ],
)
def test_a_document_that_makes_no_sense_is_told_why(members: dict[str, Any], told: str) -> None:
    [problem] = problems_of([{"name": "mine", **PII, **members}])

    assert problem.startswith("policies 1 ('mine')")
    assert told in problem


def test_every_problem_is_told_and_names_are_taken_once() -> None:
    problems = problems_of([{"name": "a", **PII}, {"name": "a", **PII}, {"name": "b"}])

    assert len(problems) == 2
    assert "policies 3 ('b')" in problems[0]
    assert "two policies are called 'a'" in problems[1]


# --- which hold ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "holds"),
    [
        ({}, True),
        ({"on": ["output"]}, False),
        ({"environments": ["prod"]}, True),
        ({"environments": ["dev"]}, False),
        ({"keys": ["key_a"]}, True),
        ({"keys": ["key_b"]}, False),
        ({"models": ["gpt-4*"]}, True),
        ({"models": ["claude-*"]}, False),
        ({"providers": ["openai"]}, True),
        ({"providers": ["anthropic"]}, False),
        ({"users": ["ann"]}, True),
        ({"users": ["bob"]}, False),
    ],
)
def test_a_policy_holds_for_the_calls_it_was_written_for(members: dict[str, Any], holds: bool) -> None:
    assert active(policy(**members)).is_empty is not holds


def test_what_is_not_known_of_a_call_is_no_way_around_a_policy() -> None:
    unknown = Context("prod", "key_a")

    assert not active(policy(models=["gpt-4*"], providers=["openai"]), context=unknown).is_empty
    # Who nobody named is nobody in particular.
    assert active(policy(users=["ann"]), context=unknown).is_empty


def test_detectors_look_for_what_the_policies_of_the_side_name_and_no_more() -> None:
    rules = (
        policy("a"),
        policy("b", when={"category": ["secrets", "jailbreak"]}),
        policy("c", when={"regex": "x"}),
        policy("d", when={"category": "toxicity"}, on=["output"]),
    )

    assert active(*rules).wanted == {"pii", "secrets", "jailbreak"}


def test_detectors_have_as_long_as_the_most_patient_policy_that_can_act() -> None:
    rules = (policy("a", timeout_ms=150), policy("b", timeout_ms=700), policy("c", timeout_ms=9_000, mode="shadow"))

    assert active(*rules).timeout_s == 0.7


# --- what they decide ----------------------------------------------------------------------------------------


def test_without_a_finding_everything_is_allowed() -> None:
    assert decide(active(policy())) == Verdict("allow")


@pytest.mark.parametrize("order", list(permutations(["flag", "redact", "block"])))
def test_the_most_severe_action_wins_and_every_policy_is_told_of(order: tuple[str, ...]) -> None:
    verdict = decide(active(*(policy(action, action=action) for action in order)), finding())

    assert (verdict.action, verdict.code) == ("block", "content_policy_violation")
    assert {hit.policy for hit in verdict.hits} == {"flag", "redact", "block"}


def test_a_hit_tells_why_and_not_what() -> None:
    [hit] = decide(active(policy()), finding(start=3, end=9)).hits

    assert (hit.policy_id, hit.policy_version, hit.action, hit.mode, hit.side) == (
        "pol_rule", 3, "redact", "enforce", "input",
    )  # fmt: skip
    assert (hit.path, hit.category, hit.type, hit.start, hit.end) == ("messages[0].content", "pii", "EMAIL", 3, 9)
    assert (hit.score, hit.threshold, hit.detector, hit.model) == (0.9, 0.5, "patterns", "v1")


@pytest.mark.parametrize(
    ("when", "is_hit"),
    [
        ({"category": "pii", "min_score": 0.9}, True),
        ({"category": "pii", "min_score": 0.91}, False),
        ({"category": "pii", "types": ["EMAIL", "IBAN"]}, True),
        ({"category": "pii", "types": ["IBAN"]}, False),
        ({"category": "secrets"}, False),
    ],
)
def test_category_type_and_score_decide_whether_a_finding_concerns_a_policy(when: dict[str, Any], is_hit: bool) -> None:
    assert bool(decide(active(policy(when=when)), finding()).hits) is is_hit


def test_a_shadow_policy_is_told_of_and_changes_nothing() -> None:
    verdict = decide(active(policy(mode="shadow", action="block")), finding(), failures=(failed("pii"),))

    assert verdict.action == "allow"
    assert [hit.mode for hit in verdict.hits] == ["shadow"]
    assert verdict.redactions(0) == ()


def test_what_a_policy_allows_no_policy_below_acts_on() -> None:
    allow = policy("known", action="allow", when={"category": "pii", "types": ["EMAIL"]}, priority=5)
    verdict = decide(active(policy("block", action="block"), allow), finding(), finding("IBAN", start=6, end=9))

    assert [(hit.policy, hit.type) for hit in verdict.hits] == [("block", "IBAN")]
    above = decide(active(policy("block", action="block", priority=6), allow), finding())
    assert above.action == "block"
    shadow = policy("known", action="allow", priority=5, mode="shadow")
    assert decide(active(policy("block", action="block"), shadow), finding()).action == "block"


def test_an_expression_allows_what_lies_within_its_matches() -> None:
    allow = policy("ours", action="allow", when={"regex": r"[a-z]+@ours\.example"})
    text = "ann@ours.example bob@theirs.example"
    rules = active(policy(action="redact"), allow)

    verdict = decide(rules, finding(start=0, end=16), finding(start=17, end=35), text=text)

    assert verdict.redactions(0) == (Span(17, 35, "EMAIL"),)


@pytest.mark.parametrize(
    ("when", "text", "matches"),
    [
        ({"regex": r"(?i)\bproject (aurora|borealis)\b"}, "Is Project Aurora late?", ["Project Aurora"]),
        ({"regex": "é+"}, "naïve 🙂 caféé", ["éé"]),
        ({"keywords": ["aurora"]}, "Aurora, auroras and AURORA", ["Aurora", "AURORA"]),
        ({"keywords": ["c++", ".net"]}, "C++ or .NET", ["C++", ".NET"]),
        ({"keywords": ["étude"]}, "une étude", ["étude"]),
        ({"keywords": ["new york", "new"]}, "a new New York", ["new", "New York"]),
        ({"keywords": ["a.b"]}, "axb", []),
    ],
)
def test_expressions_and_keywords_match_at_code_points(when: dict[str, Any], text: str, matches: list[str]) -> None:
    found = active(policy(when=when)).custom(Passage(text))

    assert [text[one.start : one.end] for one in found] == matches


def test_each_own_expression_speaks_for_its_policy_alone() -> None:
    rules = active(policy("a", when={"regex": "aa"}), policy("b", when={"regex": "bb"}, action="block"))

    verdict = decide(rules, text="x aa y")

    assert [(hit.policy, hit.action, hit.category) for hit in verdict.hits] == [("a", "redact", "custom")]
    assert verdict.redactions(0) == (Span(2, 4, "CUSTOM"),)


def test_a_text_full_of_matches_is_one_match_from_some_point_on() -> None:
    found = active(policy(when={"keywords": ["x"]})).custom(Passage("x " * 5_000))

    assert len(found) <= 1_001
    assert found[-1].end == 10_000


def test_content_that_nobody_can_read_follows_its_own_policy() -> None:
    rules = active(policy("pictures", when={"unscannable": ["image"]}, action="block"))
    any_kind = active(policy("all", when={"unscannable": True}, action="flag"))

    assert rules.decide([Unscannable("messages[0]", "image")]).action == "block"
    assert rules.decide([Unscannable("messages[0]", "audio")]).action == "allow"
    [hit] = any_kind.decide([Unscannable("messages[0]", "audio")]).hits
    assert (hit.type, hit.path, hit.score) == ("UNSCANNABLE_AUDIO", "messages[0]", None)
    allowed = active(
        policy("ours", when={"unscannable": ["audio"]}, action="allow", priority=1),
        policy("all", when={"unscannable": True}, action="block"),
    )
    assert allowed.decide([Unscannable("m", "audio")]).action == "allow"
    assert allowed.decide([Unscannable("m", "image")]).action == "block"


@pytest.mark.parametrize(
    ("members", "failure", "action"),
    [
        ({}, failed("pii"), "block"),
        ({"action": "block"}, failed("pii", "secrets"), "block"),
        ({}, failed("toxicity"), "allow"),
        ({"action": "flag"}, failed("pii"), "allow"),
        ({"mode": "shadow"}, failed("pii"), "allow"),
        ({"on_failure": "rules_only"}, failed("pii"), "allow"),
        ({"on_failure": "rules_only"}, failed("pii", detector="patterns"), "block"),
        ({"on_failure": "allow"}, failed("pii", detector="patterns"), "allow"),
        # The next detector of the chain made good for this one.
        ({}, failed(), "allow"),
    ],
)
def test_a_detector_without_an_answer_is_never_taken_for_nothing_found(
    members: dict[str, Any], failure: Failure, action: str
) -> None:
    verdict = decide(active(policy(**members)), failures=(failure,))

    assert verdict.action == action
    assert verdict.code == ("detector_unavailable" if action == "block" else None)


def test_what_was_found_blocks_even_if_something_else_could_not_be_read() -> None:
    verdict = decide(active(policy(action="block")), finding(), failures=(failed("pii"),))

    assert verdict.code == "content_policy_violation"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12))
def test_merged_spans_cover_the_same_code_points_in_order(places: list[tuple[int, int]]) -> None:
    spans = [Span(start, start + length, f"T{number}") for number, (start, length) in enumerate(places)]

    found = merged(spans)

    assert {at for span in found for at in range(span.start, span.end)} == {
        at for span in spans for at in range(span.start, span.end)
    }
    assert all(before.end <= after.start for before, after in pairwise(found))


def test_a_value_goes_back_only_if_every_policy_that_replaced_it_says_so() -> None:
    assert merged([Span(0, 5, "A", is_reversible=True), Span(3, 8, "B")]) == (Span(0, 8, "A"),)


# --- after the call ------------------------------------------------------------------------------------------

AFTER: dict[str, Any] = {"action": "flag", "scan": "after"}


def after(*policies: Policy, side: Any = "input", context: Context = CALL) -> list[str]:
    return [one.document.name for one in PolicySet(policies, 1).for_scan(side, context).policies]


@pytest.mark.parametrize("action", ["allow", "redact", "block"])
def test_what_is_read_after_the_call_can_only_be_flagged(action: str) -> None:
    with pytest.raises(ValueError, match="only be flagged"):
        read_policy({"name": "late", **PII, "scan": "after", "action": action})


def test_a_policy_that_reads_after_the_call_has_no_part_in_it() -> None:
    late = policy("late", **AFTER)

    assert active(late).is_empty
    assert active(late, policy("now")).wanted == {"pii"}
    assert [hit.policy for hit in decide(active(late, policy("now")), finding()).hits] == ["now"]


def test_after_the_call_only_the_policies_that_read_then_are_asked() -> None:
    late, now = policy("late", **AFTER), policy("now")

    assert after(late, now) == ["late"]
    assert after(now) == []


def test_exceptions_hold_after_the_call_too() -> None:
    late = policy("late", **AFTER)
    exception = policy("own address", action="allow", when={"regex": "anybody"})

    verdict = decide(PolicySet((late, exception), 1).for_scan("input", CALL), finding(end=7))

    assert after(late, exception) == ["own address", "late"]
    assert after(exception) == []
    assert verdict.hits == ()


@pytest.mark.parametrize(
    ("members", "holds"),
    [({}, True), ({"on": ["output"]}, False), ({"keys": ["key_b"]}, False), ({"models": ["gpt-*"]}, True)],
)
def test_a_policy_reads_after_the_calls_it_was_written_for(members: dict[str, Any], holds: bool) -> None:
    assert (after(policy("late", **AFTER, **members)) == ["late"]) is holds
