"""What other policies would have decided about calls that were recorded. Pure, and without a text.

A record keeps what the detectors and expressions found, whether a policy acted on it or not. Replaying asks the very
code that decides live. What a record cannot tell (categories nobody read, expressions nobody tried, a list that was
cut) comes out as `unknown`, never as allowed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trueport.detection.policy.decision import SEVERITY, Action, Hit, Judged, Unscannable
from trueport.detection.policy.rules import RULES, ActivePolicies, Context, Policy, PolicySet
from trueport.detection.types import Failure, Finding, Passage, Reading, Side

Replayed = Literal["allow", "flag", "redact", "block", "unknown"]
Place = tuple[str, str, str, str, str, int, int]
"""Interaction, side, path, category, type, start, end: what tells a finding from every other."""

_MOST_FINDINGS: Final = 100
_MOST_CHANGED: Final = 1_000
_MOST_SAMPLES: Final = 50
_SCALE: Final = 10_000
_SIDES: Final[tuple[Side, ...]] = ("input", "output")


def reading_fields(
    entries: Sequence[Judged | Unscannable], active: ActivePolicies, context: Context, *, is_user_kept: bool
) -> dict[str, Any]:
    """What was found on one side of a call, in the form of records: no text, no fractions, and an end to its length."""
    found: list[list[Any]] = []
    contents: list[list[str]] = []
    total = 0
    for number, entry in enumerate(entries):
        if isinstance(entry, Unscannable):
            total += 1
            if total <= _MOST_FINDINGS:
                contents.append([entry.path, entry.kind])
            continue
        total += len(entry.reading.findings)
        room = _MOST_FINDINGS - len(found) - len(contents)
        found += [
            [number, entry.path, one.category, one.type, one.start, one.end, _floor_bp(one.score), one.detector,
             one.version, one.reason]
            for one in entry.reading.findings[: max(0, room)]
        ]  # fmt: skip
    return {
        "model": context.model,
        "provider": context.provider,
        "user_kept": is_user_kept,
        "read": sorted(active.wanted),
        "expressions": [[policy.id, policy.digest] for policy in active.policies if policy.digest],
        "findings": found,
        "contents": contents,
        "findings_capped": total > _MOST_FINDINGS,
    }


@dataclass(frozen=True, slots=True)
class Changed:
    """A call that other policies would have decided otherwise."""

    interaction: str
    before: str
    after: Replayed


@dataclass(frozen=True, slots=True)
class Sample:
    """Where a finding lay that the other policies act on, in a call they decide otherwise. Never the text."""

    interaction: str
    hit: Hit


@dataclass(slots=True)
class Diff:
    """The sum of a replay. Each Counter counts calls by (decision then, decision now), some per group.

    `categories` and `policies` count findings that the new policies act on, by action. `changed_left_out` are changed
    calls beyond those listed. `answers_not_seen` are calls that ended before their answers and would now go on.
    """

    interactions: int = 0
    decisions: Counter[tuple[str, Replayed]] = field(default_factory=Counter)
    keys: Counter[tuple[str, str, Replayed]] = field(default_factory=Counter)
    models: Counter[tuple[str, str, Replayed]] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    policies: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    changed: list[Changed] = field(default_factory=list)
    changed_left_out: int = 0
    samples: list[Sample] = field(default_factory=list)
    answers_not_seen: int = 0
    took_us: list[int] = field(default_factory=list)
    true_positives: int = 0
    false_positives: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        """The share of the labelled findings acted on that people confirmed, None where none is labelled."""
        acted = self.true_positives + self.false_positives
        return self.true_positives / acted if acted else None

    @property
    def recall(self) -> float | None:
        """The share of the confirmed findings that are acted on, None where none was confirmed."""
        confirmed = self.true_positives + self.missed
        return self.true_positives / confirmed if confirmed else None

    def took_percentile_us(self, percent: int) -> int | None:
        ordered = sorted(self.took_us)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


class Replay:
    """Adds up what `policies` would have decided about outcomes given one after the other.

    `labels` says of findings that people looked at whether they were real.
    """

    def __init__(self, policies: PolicySet, labels: Mapping[Place, bool] | None = None) -> None:
        self.policies = policies
        self._labels: dict[str, dict[Place, bool]] = {}
        for place, is_real in (labels or {}).items():
            self._labels.setdefault(place[0], {})[place] = is_real
        self.diff = Diff()

    def add_all(self, outcomes: Iterable[Mapping[str, Any]]) -> None:
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Mapping[str, Any]) -> None:
        """One outcome of the trail. Refusals, which no policy was asked about, are passed over.

        Of a side that was to be read again and could not be, `{"unreadable": reason}` stands in for the reading.
        """
        before = str(outcome.get("decision", "allow"))
        if before == "refuse":
            return
        diff, rid = self.diff, str(outcome["rid"])
        after, hits, reason = self._decide(outcome)
        key, model = str(outcome.get("key_id") or ""), str(outcome.get("model") or "")
        diff.interactions += 1
        diff.decisions[before, after] += 1
        diff.keys[key, before, after] += 1
        diff.models[model, before, after] += 1
        diff.took_us += [one["took_us"] for one in (outcome.get("readings") or {}).values() if "took_us" in one]
        if after == "unknown":
            diff.reasons[reason] += 1
        for hit in hits:
            diff.categories[hit.category, hit.action] += 1
            diff.policies[hit.policy, hit.action] += 1
        if before != after:
            if len(diff.changed) < _MOST_CHANGED:
                diff.changed.append(Changed(rid, before, after))
            else:
                diff.changed_left_out += 1
            diff.samples += [Sample(rid, hit) for hit in hits[: _MOST_SAMPLES - len(diff.samples)]]
        if after != "unknown":
            self._compare_labels(rid, hits)

    def _decide(self, outcome: Mapping[str, Any]) -> tuple[Replayed, list[Hit], str]:
        action: Action = "allow"
        hits: list[Hit] = []
        reason = ""
        readings: Mapping[str, Any] = outcome.get("readings") or {}
        for side in _SIDES:
            reading = readings.get(side)
            if side == "output" and reading is None and was_stopped_before_its_answer(outcome):
                self.diff.answers_not_seen += action != "block"
                break
            context = context_of(outcome, reading)
            if context.user and not (reading or {}).get("user_kept") and self._narrows_users(side):
                # Only a digest of the user is known, and patterns match nothing of it.
                reason = reason or "user_not_kept"
                continue
            active = self.policies.for_call(side, context)
            if active.is_empty:
                continue
            unknown = _unknown(active, reading)
            if reading is None or unknown:
                reason = reason or unknown
                continue
            verdict = active.decide(_entries(side, outcome, reading, active))
            hits += verdict.hits
            action = max(action, verdict.action, key=SEVERITY.__getitem__)
            if verdict.action == "block" and side == "input":
                # The call would have ended there, whatever came after.
                return "block", hits, ""
        if reason and action != "block":
            return "unknown", hits, reason
        return action, hits, ""

    def _narrows_users(self, side: Side) -> bool:
        return any(policy.document.users and side in policy.document.on for policy in self.policies.policies)

    def _compare_labels(self, rid: str, hits: Sequence[Hit]) -> None:
        labels = self._labels.get(rid)
        if not labels:
            return
        acted: set[Place] = {
            (rid, hit.side, hit.path, hit.category, hit.type, hit.start, hit.end)
            for hit in hits
            if hit.mode == "enforce"
        }
        for place, is_real in labels.items():
            if place in acted:
                self.diff.true_positives += is_real
                self.diff.false_positives += not is_real
            else:
                self.diff.missed += is_real


def context_of(outcome: Mapping[str, Any], reading: Mapping[str, Any] | None) -> Context:
    """Whose call it was, as policies are asked about it; what was read of a side knows more than the call's end."""
    known = reading if reading is not None else outcome
    return Context(
        environment=str(outcome.get("env")),
        key_id=str(outcome.get("key_id")),
        model=known.get("model"),
        provider=known.get("provider"),
        user=outcome.get("user"),
    )


def _unknown(active: ActivePolicies, reading: Mapping[str, Any] | None) -> str:  # noqa: PLR0911 - a table of cases
    """Why a record does not tell what these policies would have decided, empty where it does."""
    if reading is None or "unreadable" in reading:
        return "not_read" if reading is None else str(reading["unreadable"])
    if reading["findings_capped"]:
        return "findings_capped"
    if any(policy.document.when.topics for policy in active.policies):
        return "topics_not_kept"
    if any(_depends_on_model(policy, one[2], one[7]) for policy in active.policies for one in reading["findings"]):
        return "band_not_kept"
    if active.wanted - set(reading["read"]):
        return "category_not_read"
    tried = {digest for _, digest in reading["expressions"]}
    if any(policy.digest and policy.digest not in tried for policy in active.policies):
        return "expression_not_tried"
    scores = {(one[7], one[2], one[6]) for one in reading["findings"]}
    if any(
        _is_between(score, policy.threshold(detector, category))
        for policy in active.policies
        for detector, category, score in scores
    ):
        return "threshold_too_fine"
    return ""


def _depends_on_model(policy: Policy, category: str, detector: str) -> bool:
    """Whether the finding counts by a band whose number a model has, and nobody has told it."""
    return (
        policy.document.when.band is not None
        and category in policy.categories
        and detector not in (RULES, *policy.bands)
    )


def _entries(
    side: Side, outcome: Mapping[str, Any], reading: Mapping[str, Any], active: ActivePolicies
) -> list[Judged | Unscannable]:
    """What was judged then, as the policies are to see it: an expression's matches belong to whoever has it now."""
    digests = dict(reading["expressions"])
    owners: dict[str, list[str]] = {}
    for policy in active.policies:
        if policy.digest:
            owners.setdefault(policy.digest, []).append(policy.id)
    found: dict[int, tuple[str, list[Finding]]] = {}
    for number, path, category, kind, start, end, score, detector, version, reason in reading["findings"]:
        mine = owners.get(digests.get(reason, ""), []) if category == "custom" else [reason]
        for owner in mine:
            finding = Finding(category, kind, start, end, score / _SCALE, detector, version, owner)
            found.setdefault(number, (path, []))[1].append(finding)
    entries: list[Judged | Unscannable] = [
        Judged(path, Passage(""), Reading(findings=tuple(findings))) for path, findings in found.values()
    ]
    failures = tuple(
        Failure(frozenset(one["categories"]), one["detector"], one["code"])
        for one in outcome.get("detector_failures") or ()
        if one["side"] == side
    )
    if failures:
        entries.append(Judged("", Passage(""), Reading(failures=failures)))
    return entries + [Unscannable(path, kind) for path, kind in reading["contents"]]


def was_stopped_before_its_answer(outcome: Mapping[str, Any]) -> bool:
    return outcome.get("decision") == "block" or outcome.get("end") in ("refused", "upstream_failed")


def _floor_bp(score: float) -> int:
    """The most ten thousandths that are not above the score, so that comparing with a threshold stays exact."""
    floor = int(score * _SCALE)
    if (floor + 1) / _SCALE <= score:
        return floor + 1
    return floor - 1 if floor / _SCALE > score else floor


def _is_between(score_bp: int, threshold: float) -> bool:
    return score_bp / _SCALE < threshold < (score_bp + 1) / _SCALE
