"""Replaying a recorded call comes to what deciding its texts anew comes to, and says where it cannot know."""

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from trueport.audit.canonical import canonical, parse
from trueport.detection.policy import (
    ActivePolicies,
    Context,
    Judged,
    PolicySet,
    Unscannable,
    Verdict,
    compile_policy,
    read_policy,
)
from trueport.detection.policy.decision import SEVERITY
from trueport.detection.policy.replay import Replay, reading_fields
from trueport.detection.types import Category, Failure, Finding, Passage, Reading, Side
from trueport.gateway.call import Decision

READ: tuple[Category, ...] = ("pii", "secrets", "toxicity", "jailbreak")
WORDS = ["hello", "codename", "lighthouse", "pii!", "secrets!", "toxicity!", "jailbreak!"]
EXPRESSIONS: list[dict[str, Any]] = [{"keywords": ["codename"]}, {"regex": r"lighthouse( \S+)*"}, {"regex": r"\S+!"}]
CALLS = 600


def policy_set(*documents: dict[str, Any], prefix: str = "pol") -> PolicySet:
    return PolicySet(
        tuple(
            compile_policy(f"{prefix}_{number}", 1, read_policy({"name": f"p{number}", **document}))
            for number, document in enumerate(documents)
        )
    )


def seeing_everything(*documents: dict[str, Any]) -> PolicySet:
    """The documents, and beside them shadows that have everything read and every expression tried."""
    shadows = [{"when": when, "action": "flag", "mode": "shadow"} for when in [{"category": list(READ)}, *EXPRESSIONS]]
    return policy_set(*documents, *shadows)


class Interaction:
    """A made-up call with texts on both sides, a share of which have scores, failures and unreadable content."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.id = f"int_{number}"
        self.context = Context(
            rng.choice(["prod", "staging"]), rng.choice(["key_a", "key_b"]), rng.choice(["gpt-x", "llama-y"]),
            rng.choice(["openai", "groq", None]), rng.choice([None, "ann", "bob"]),
        )  # fmt: skip
        self.texts = {side: [" ".join(rng.choices(WORDS, [9, 1, 1, 1, 1, 1, 1], k=8)) for _ in range(rng.randint(1, 3))]
                      for side in ("input", "output")}  # fmt: skip
        self.seed = rng.random()
        self.fails = rng.random() < 0.1
        self.has_image = rng.random() < 0.1

    def entries(self, side: Side, active: ActivePolicies) -> list[Judged | Unscannable]:
        """The texts as a detector of the categories wanted, and the policies' own expressions, read them."""
        found: list[Judged | Unscannable] = []
        for place, text in enumerate(self.texts[side]):
            findings = tuple(
                Finding(category, category.upper(), match.start(), match.end(),
                        random.Random(f"{self.seed}{side}{place}{match.start()}").random(), "words", "1")
                for category in READ
                if category in active.wanted
                for match in re.finditer(f"{category}!", text)
            )  # fmt: skip
            failed: frozenset[Category] = active.wanted & {"jailbreak"} if self.fails else frozenset()
            failures = (Failure(failed, "model", "timeout"),) if failed else ()
            passage = Passage(text)
            reading = Reading(findings=findings + active.custom(passage), failures=failures)
            found.append(Judged(f"messages.{place}", passage, reading))
        return [*found, Unscannable("messages.9", "image")] if self.has_image and side == "input" else found

    def judged(self, side: Side, policies: PolicySet) -> tuple[Verdict, list[Judged | Unscannable], ActivePolicies]:
        active = policies.for_call(side, self.context)
        entries = self.entries(side, active)
        return active.decide(entries), entries, active

    def outcome(self, policies: PolicySet) -> dict[str, Any]:
        """What the trail has of the call under these policies, through the trail's own form of bytes."""
        action: Decision = "allow"
        readings: dict[str, Any] = {}
        failures: list[Any] = []
        for side in _sides():
            verdict, entries, active = self.judged(side, policies)
            action = max(action, verdict.action, key=SEVERITY.__getitem__)
            if not active.is_empty:
                fields = reading_fields(entries, active, self.context, is_user_kept=True)
                readings[side] = {**fields, "took_us": 5}
                failures += _failure_fields(side, entries)
            if verdict.action == "block":
                break
        record = {
            "rid": self.id, "env": self.context.environment, "key_id": self.context.key_id,
            "model": self.context.model, "user": self.context.user, "decision": action, "end": "completed",
            "readings": readings, "detector_failures": failures,
        }  # fmt: skip
        return dict(parse(canonical(record)))

    def decided_anew(self, old: PolicySet, new: PolicySet) -> str:
        """By brute force: every text read again and decided by the plain policies."""
        first = self.judged("input", new)[0].action
        if first == "block" or self.judged("input", old)[0].action == "block":
            return first
        return max(first, self.judged("output", new)[0].action, key=SEVERITY.__getitem__)


def _sides() -> Sequence[Side]:
    return ("input", "output")


def _failure_fields(side: Side, entries: Sequence[Judged | Unscannable]) -> list[dict[str, Any]]:
    found = {one for entry in entries if isinstance(entry, Judged) for one in entry.reading.failures}
    return [
        {"side": side, "detector": one.detector, "code": one.code, "categories": sorted(one.categories)}
        for one in found
    ]


def some_policies(rng: random.Random) -> list[dict[str, Any]]:
    """Up to eight policies of every kind there is."""
    found = []
    for _ in range(rng.randint(1, 8)):
        when: dict[str, Any] = rng.choice([
            {"category": rng.sample(READ, rng.randint(1, 3)), "min_score": round(rng.random(), rng.choice([1, 2, 4]))},
            rng.choice(EXPRESSIONS),
            {"unscannable": rng.choice([True, ["image"], ["audio"]])},
        ])  # fmt: skip
        action = rng.choice(["allow", "flag", "block"] if "unscannable" in when else ["allow", "flag", "redact",
                                                                                    "block"])  # fmt: skip
        found.append({
            "when": when, "action": action, "priority": rng.randint(-1, 1),
            "mode": rng.choice(["enforce", "enforce", "enforce", "shadow"]),
            "on": rng.choice([["input"], ["output"], ["input", "output"]]),
            "environments": rng.choice([[], [], ["prod"]]), "keys": rng.choice([[], [], ["key_a"]]),
            "models": rng.choice([[], [], ["gpt-*"]]), "providers": rng.choice([[], [], ["groq"]]),
            "users": rng.choice([[], [], ["a*"]]), "on_failure": rng.choice(["block", "rules_only", "allow"]),
        })  # fmt: skip
    return found


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_decides_every_call_as_reading_its_texts_again_does(seed: int) -> None:
    rng = random.Random(seed)
    calls = [Interaction(rng, number) for number in range(CALLS)]
    old = seeing_everything(*some_policies(rng))
    new = policy_set(*some_policies(rng), prefix="new")
    replay = Replay(new)

    replay.add_all(call.outcome(old) for call in calls)

    before = {call.id: call.outcome(old)["decision"] for call in calls}
    after = {call.id: call.decided_anew(old, new) for call in calls}
    diff = replay.diff
    assert diff.decisions == Counter((before[call.id], after[call.id]) for call in calls)
    assert diff.keys == Counter((call.context.key_id, before[call.id], after[call.id]) for call in calls)
    assert diff.models == Counter((call.context.model, before[call.id], after[call.id]) for call in calls)
    assert {(one.interaction, one.before, one.after) for one in diff.changed} == {
        (call.id, before[call.id], after[call.id]) for call in calls if before[call.id] != after[call.id]
    }
    assert len(set(after.values())) > 1 or len(set(before.values())) > 1


def one_call(text: str, old: PolicySet) -> dict[str, Any]:
    call = Interaction(random.Random(1), 1)
    call.texts = {"input": [text], "output": ["hello"]}
    call.fails = call.has_image = False
    return call.outcome(old)


@pytest.mark.parametrize(
    ("when", "reason"),
    [({"category": "secrets"}, "category_not_read"), ({"keywords": ["hello"]}, "expression_not_tried")],
    ids=["category", "expression"],
)
def test_what_nobody_looked_for_is_unknown(when: dict[str, Any], reason: str) -> None:
    replay = Replay(policy_set({"when": when, "action": "block"}))

    replay.add(one_call("hello", policy_set({"when": {"category": "pii"}, "action": "flag"})))

    assert replay.diff.decisions == {("allow", "unknown"): 1}
    assert replay.diff.reasons == {reason: 1}


def test_a_call_that_no_policy_was_asked_about_is_unknown() -> None:
    replay = Replay(policy_set({"when": {"category": "pii"}, "action": "block"}))

    replay.add(one_call("pii!", PolicySet()))

    assert replay.diff.reasons == {"not_read": 1}


def test_a_list_of_findings_that_was_cut_is_unknown() -> None:
    old = policy_set({"when": {"category": "pii"}, "action": "flag"})
    replay = Replay(policy_set({"when": {"category": "pii", "min_score": 0.9999}, "action": "block"}))

    replay.add(one_call("pii! " * 101, old))

    assert replay.diff.reasons == {"findings_capped": 1}


def test_records_hold_no_text() -> None:
    old = policy_set({"when": {"keywords": ["codename"]}, "action": "flag"})

    assert "codename" not in json.dumps(one_call("the codename is", old))


def test_labelled_findings_give_precision_and_recall() -> None:
    old = policy_set({"when": {"category": ["pii", "secrets"], "min_score": 0}, "action": "flag"})
    outcome = one_call("pii! secrets!", old)
    labels = {
        ("int_1", "input", "messages.0", "pii", "PII", 0, 4): True,
        ("int_1", "input", "messages.0", "secrets", "SECRETS", 5, 13): True,
    }
    replay = Replay(policy_set({"when": {"category": "pii", "min_score": 0}, "action": "block"}), labels)

    replay.add(outcome)

    assert (replay.diff.precision, replay.diff.recall) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("detector", "reason"), [("words", "band_not_kept"), ("patterns", "")], ids=["of a model", "of rules"]
)
def test_a_band_is_known_of_the_rules_alone(detector: str, reason: str) -> None:
    old = policy_set({"when": {"category": "pii", "min_score": 0}, "action": "flag"})
    call = one_call("pii!", old)
    call["readings"]["input"]["findings"][0][7] = detector
    replay = Replay(policy_set({"when": {"category": "pii", "band": "block"}, "action": "block", "on": ["input"]}))

    replay.add(call)

    assert replay.diff.reasons == ({reason: 1} if reason else {})


def test_what_a_text_is_about_is_unknown() -> None:
    examples = [f"a will, number {number}" for number in range(5)]
    old = policy_set({"when": {"category": "pii"}, "action": "flag"})
    replay = Replay(policy_set({"when": {"topics": [{"name": "law", "examples": examples}]}, "action": "block"}))

    replay.add(one_call("hello", old))

    assert replay.diff.reasons == {"topics_not_kept": 1}
