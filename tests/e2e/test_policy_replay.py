"""Replays over calls that a real server recorded come to what deciding each call naively, by itself, comes to."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.money import FORMS, MODELS, Access, Got, ask, furnish, reconfigure
from trueport.kit.clock import rfc3339

ASKED_IN: Final = ("chat", "chat stream", "responses", "messages", "messages stream", "generate", "generate stream")
PROMPTS: Final = (
    "What is the capital of France?",
    "Write to ann.smith@acme-mail.com and to bob@acme-mail.com please.",
    "My card is 4111 1111 1111 1111, and my number +44 20 7946 0958.",
    "Use the key AKIAQ3EGRTN7WUXKZ5PB for it.",
    "Tell me about project aurora.",
)
ANSWERS: Final = ("say=Nothing to see.", "say=Ask eve.jones@acme-mail.com about project aurora.")
WORD: Final = r"(?i)\bproject aurora\b"
SEES_ALL: Final[list[dict[str, Any]]] = [
    {"name": "all", "on": ["input", "output"], "when": {"category": ["pii", "secrets"]}, "action": "flag",
     "mode": "shadow"},
    {"name": "word", "on": ["input", "output"], "when": {"regex": WORD}, "action": "flag", "mode": "shadow"},
]  # fmt: skip
STRICT: Final[list[dict[str, Any]]] = [
    *SEES_ALL,
    {"name": "keys", "on": ["input"], "when": {"category": "secrets"}, "action": "block"},
    {"name": "addresses", "on": ["input", "output"], "when": {"category": "pii", "types": ["EMAIL"]},
     "action": "redact"},
]  # fmt: skip
Asked = tuple[Got, tuple[str, str]]
SEVERITY: Final = ("allow", "flag", "redact", "block")


@dataclass(frozen=True)
class Recorded:
    """A server, the one tenant's access to it, and what its trail says of the calls it ended."""

    place: Installation
    access: Access
    token: str
    asked: Mapping[str, tuple[str, str]]
    outcomes: list[Mapping[str, Any]]
    labels: Mapping[tuple[Any, ...], bool]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with installation(tmp_path_factory.mktemp("replays") / "data") as place:
        tenants = furnish(place, {"acme": {"policies": STRICT}, "rival": {"policies": SEES_ALL}}, {"other": {}})
        access = tenants["acme"]
        place.access = {"tenant_id": access.tenant_id}
        place.serve()
        asked = _ask_all(place, tenants)
        outcomes = _outcomes(place, asked)
        token = place.scoped_token("owner@money.example", "correct horse battery staple")
        yield Recorded(place, access, token, asked, outcomes, _label(place, token))


def _ask_all(place: Installation, tenants: Mapping[str, Access]) -> dict[str, tuple[str, str]]:
    """Every prompt in every form with every key, under two sets of policies; and a call of somebody else's.

    Gives the interactions that are the tenant's, with prompt and answer of each.
    """
    access = tenants["acme"]
    answers = asyncio.run(_round(place, access))
    # From here on nothing is enforced.
    reconfigure(place, "acme", {"policies": SEES_ALL})
    answers += asyncio.run(_until_changed(place, access, _version(answers[0][0])))
    answers += asyncio.run(_round(place, access))
    asyncio.run(_one(place, "chat", PROMPTS[1], ANSWERS[0], tenants["rival"].keys["main"]))
    return {got.interaction: said for got, said in answers}


async def _until_changed(place: Installation, access: Access, version: str) -> list[Asked]:
    """The answers until calls are decided by another version of the policies."""
    answers: list[Asked] = []
    for _ in range(200):
        got = await _one(place, "chat", PROMPTS[0], ANSWERS[0], access.keys["main"])
        answers.append((got, (PROMPTS[0], ANSWERS[0])))
        if _version(got) != version:
            return answers
        await asyncio.sleep(0.05)
    raise AssertionError("the change takes no effect")


async def _round(place: Installation, access: Access) -> list[Asked]:
    calls = list(product(ASKED_IN, PROMPTS, ANSWERS, access.keys.values()))
    answers: list[Got] = []
    for first in range(0, len(calls), 8):
        answers += await asyncio.gather(*(_one(place, *call) for call in calls[first : first + 8]))
    assert {got.status for got in answers} <= {200, 400}
    assert len({_version(got) for got in answers}) == 1
    return [(got, (prompt, answer)) for got, (_, prompt, answer, _) in zip(answers, calls, strict=True)]


async def _one(place: Installation, form: str, prompt: str, answer: str, key: tuple[str, str]) -> Got:
    return await ask(place, form, prompt, key[1], headers={"x-simulator": answer})


def _version(got: Got) -> str:
    return got.headers["x-trueport-policy-version"]


def _outcomes(place: Installation, asked: Collection[str]) -> list[Mapping[str, Any]]:
    """The outcomes of these interactions, once all of them have arrived."""
    for _ in range(100):
        records = [json.loads(one["canonical"]) for one in place.documents("audit_records")]
        found = [one for one in records if one["kind"] == "outcome" and one["rid"] in asked]
        if len(found) == len(asked):
            return found
        time.sleep(0.1)
    raise AssertionError(f"only {len(found)} of {len(asked)} outcomes have arrived")


def _label(place: Installation, token: str) -> dict[tuple[Any, ...], bool]:
    """What people made of a hundred findings: every third was none."""
    labels: dict[tuple[Any, ...], bool] = {}
    path = "/trueportai-services/api/v1/analytics/violations"
    status, listing = place.ask(f"{path}?limit=100", token=token)
    assert status == 200, listing
    for number, one in enumerate(sorted(listing["data"], key=lambda one: (one["interaction_id"], one["start"]))):
        spot = tuple(one[name] for name in ("interaction_id", "side", "path", "category", "type", "start", "end"))
        # Two policies may have acted on one finding; people say the same of both.
        is_real = labels.setdefault(spot, number % 3 != 0)
        body = {"status": "confirmed" if is_real else "false_positive"}
        status, answer = place.ask(f"{path}/{one['id']}", body=body, token=token, method="PATCH")
        assert status == 200, answer
    return labels


def proposed(threshold: float, other_key: str) -> list[dict[str, Any]]:
    return [
        {"name": "p", "on": ["input"], "when": {"category": "pii", "min_score": threshold}, "action": "block"},
        {"name": "q", "on": ["output"], "when": {"category": "pii", "types": ["EMAIL"], "min_score": 0.25},
         "action": "redact"},
        {"name": "r", "on": ["input", "output"], "when": {"category": "secrets", "min_score": 0.25}, "action": "flag",
         "models": ["claude-*", "gemini-*"]},
        {"name": "s", "on": ["input", "output"], "when": {"regex": WORD}, "action": "flag", "keys": [other_key]},
    ]  # fmt: skip


class BruteForce:
    """Each call decided by itself from its record, without a line of the product's decisions."""

    def __init__(self, policies: list[dict[str, Any]], recorded: Recorded) -> None:
        self.pairs: dict[str, tuple[str, str]] = {}
        self.keys: Counter[tuple[str, ...]] = Counter()
        self.models: Counter[tuple[str, ...]] = Counter()
        self.categories: Counter[tuple[str, ...]] = Counter()
        acted: set[tuple[Any, ...]] = set()
        for outcome in recorded.outcomes:
            after, hits = decided(policies, outcome)
            before = outcome["decision"]
            self.pairs[outcome["rid"]] = before, after
            self.keys[outcome["key_id"], before, after] += 1
            self.models[outcome["model"], before, after] += 1
            self.categories.update((category, action) for action, category, _ in hits)
            acted |= {(outcome["rid"], *spot) for _, _, spot in hits}
        real = [spot in acted for spot, is_real in recorded.labels.items() if is_real]
        wrong = [spot in acted for spot, is_real in recorded.labels.items() if not is_real]
        hit = sum(real) + sum(wrong)
        self.precision = sum(real) / hit if hit else None
        self.recall = sum(real) / len(real)

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        return {rid: pair for rid, pair in self.pairs.items() if pair[0] != pair[1]}


def decided(policies: list[dict[str, Any]], outcome: Mapping[str, Any]) -> tuple[str, list[tuple[str, str, Any]]]:
    worst, hits = "allow", []
    for side in ("input", "output"):
        reading = outcome["readings"].get(side)
        if reading is None:
            assert side == "output"
            assert outcome["decision"] == "block"
            break
        assert not reading["findings_capped"]
        for policy in policies:
            if not applies(policy, side, outcome, reading):
                continue
            for _, path, category, kind, start, end, score_bp, _, _, _ in reading["findings"]:
                if matches(policy["when"], category, kind, score_bp):
                    hits.append((policy["action"], category, (side, path, category, kind, start, end)))
                    worst = max(worst, policy["action"], key=SEVERITY.index)
        if worst == "block":
            break
    return worst, hits


def applies(policy: dict[str, Any], side: str, outcome: Mapping[str, Any], reading: Mapping[str, Any]) -> bool:
    is_of_model = any(fnmatchcase(reading["model"], pattern) for pattern in policy.get("models", ["*"]))
    return side in policy["on"] and is_of_model and outcome["key_id"] in policy.get("keys", [outcome["key_id"]])


def matches(when: dict[str, Any], category: str, kind: str, score_bp: int) -> bool:
    if "regex" in when:
        return category == "custom"
    is_kind = kind in when.get("types", [kind])
    return category == when["category"] and is_kind and score_bp >= round(when["min_score"] * 10_000)


def lines_of(listed: list[dict[str, Any]]) -> dict[tuple[str, ...], int]:
    return {tuple(line["of"]): line["count"] for line in listed}


def period() -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=1), now + timedelta(days=1)


def by_command(recorded: Recorded, policies: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    file = folder / "proposed.json"
    file.write_text(json.dumps({"policies": policies}))
    since, until = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in period())
    options = ("--from", since, "--to", until, "--policies", str(file), "--tenant", "acme", "--json")
    found: dict[str, Any] = json.loads(recorded.place.run("policy", "replay", *options))
    return found


async def by_http(recorded: Recorded, policies: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    path = "/trueportai-services/api/v1/policies/replays"
    since, until = (rfc3339(moment) for moment in period())
    body = {"from": since, "to": until, "policies": policies, **members}
    status, replay = recorded.place.ask(path, body=body, token=recorded.token)
    assert status == 201, replay
    async with asyncio.timeout(PATIENCE_S):
        while replay["state"] in ("waiting", "running"):
            await asyncio.sleep(0.05)
            _, replay = recorded.place.ask(f"{path}/{replay['id']}", token=recorded.token)
    assert (replay["state"], replay["done"]) == ("done", len(recorded.outcomes))
    found: dict[str, Any] = replay["result"]
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.75, 0.97, 1.0])
async def test_a_replay_of_recorded_calls_comes_to_what_brute_force_decides(
    recorded: Recorded, threshold: float
) -> None:
    policies = proposed(threshold, recorded.access.keys["other"][0])
    expected = BruteForce(policies, recorded)

    found = await by_http(recorded, policies)

    assert found["interactions"] == len(recorded.outcomes)
    assert lines_of(found["decisions"]) == Counter(expected.pairs.values())
    assert lines_of(found["keys"]) == expected.keys
    assert lines_of(found["models"]) == expected.models
    assert lines_of(found["categories"]) == expected.categories
    assert {one["interaction"]: (one["before"], one["after"]) for one in found["changed"]} == expected.changed
    assert (found["precision"], found["recall"]) == (expected.precision, expected.recall)
    assert found["took_us"]["p50"] > 0
    said = json.dumps(found)
    assert not any(text in said for text in ("acme-mail", "4111", "AKIA", "project aurora"))


def test_the_recorded_calls_are_of_every_kind(recorded: Recorded) -> None:
    expected = [BruteForce(proposed(threshold, recorded.access.keys["other"][0]), recorded) for threshold in (0.0, 1.0)]

    assert {pair[0] for pair in expected[0].pairs.values()} == {"allow", "redact", "block"}
    assert {pair[1] for pair in expected[0].pairs.values()} == set(SEVERITY)
    assert expected[0].pairs != expected[1].pairs
    assert {MODELS[FORMS[form].dialect] for form in ASKED_IN} <= {one["model"] for one in recorded.outcomes}
    assert {one["stream"] for one in recorded.outcomes} == {False, True}
    assert len({one["policy_version"] for one in recorded.outcomes}) == 2
    assert set(recorded.labels.values()) == {False, True}


async def test_the_command_line_and_the_api_tell_the_same(recorded: Recorded, tmp_path: Path) -> None:
    policies = proposed(0.75, recorded.access.keys["other"][0])

    assert by_command(recorded, policies, tmp_path) == await by_http(recorded, policies)


async def test_content_read_again_tells_what_nobody_looked_for_during_the_calls(recorded: Recorded) -> None:
    new = [{"name": "new", "on": ["input", "output"], "when": {"regex": "(?i)capital of|use the key|nothing to see"},
            "action": "block"}]  # fmt: skip

    blind = await by_http(recorded, new)
    found = await by_http(recorded, new, reread=True, reason="before we enforce it")

    assert blind["reasons"] == [{"of": ["expression_not_tried"], "count": len(recorded.outcomes)}]
    assert found["reasons"] == []
    assert lines_of(found["decisions"]) == Counter(
        (outcome["decision"], _of_what_was_said(*recorded.asked[outcome["rid"]])) for outcome in recorded.outcomes
    )
    access = await asyncio.to_thread(_access_record, recorded.place)
    assert (access["action"], access["reason"]) == ("content.reread", "before we enforce it")
    assert access["tenant"] == recorded.access.tenant_id


def _access_record(place: Installation) -> dict[str, Any]:
    for _ in range(100):
        records = (json.loads(one["canonical"]) for one in place.documents("audit_records"))
        for record in records:
            if record["kind"] == "access":
                return dict(record)
        time.sleep(0.1)
    raise AssertionError("no record of the access has arrived")


def _of_what_was_said(prompt: str, answer: str) -> str:
    is_said = "capital of" in prompt or "Use the key" in prompt or "Nothing to see" in answer
    return "block" if is_said else "allow"


@pytest.mark.parametrize("reason", [None, " "])
def test_nobody_has_content_read_again_without_a_reason(recorded: Recorded, reason: str | None) -> None:
    since, until = (rfc3339(moment) for moment in period())
    body = {"from": since, "to": until, "policies": [], "reread": True, "reason": reason}

    status, refusal = recorded.place.ask(
        "/trueportai-services/api/v1/policies/replays", body=body, token=recorded.token
    )

    assert status == 400
    assert [error["field"] for error in refusal["errors"]] == ["reason"]
