"""The policies of a tenant as judge of one stream."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, Protocol

from trueport.detection.policy import ActivePolicies, Hit, Judged, Policy, Span, Unscannable, Verdict
from trueport.detection.policy.decision import SEVERITY
from trueport.detection.redact import Placeholders
from trueport.detection.types import Category, Failure, Finding, Passage, Reading, Role
from trueport.gateway.call import Decision, Judgement, Scored
from trueport.gateway.guard.base import Cut, Extract, Rhythm, Ruling
from trueport.gateway.guard.widths import longest_match as longest_match_of
from trueport.gateway.screening import ContentBlocked, DetectorUnavailable
from trueport.kit.errors import TrueportError

# Code points. An expression without a limit of its own is taken to match no more than the first, any other than the
# second.
_UNLIMITED_EXPRESSION: Final = 512
_LONGEST_EXPRESSION: Final = 4_096
_WORD_BORDER: Final = 2
_SHORTEST_STEP: Final = 16
_BY_PATTERNS: Final[frozenset[Category]] = frozenset(
    {"pii", "phi", "secrets", "data_exfiltration", "prompt_injection", "jailbreak", "indirect_injection"}
)
# What models say about a text as such.
_OF_WHOLE_TEXTS: Final[frozenset[Category]] = frozenset(
    {"bias", "toxicity", "prompt_injection", "jailbreak", "indirect_injection"}
)
_SHORTEST_SENTENCES: Final = 160
_LONGEST_SENTENCES: Final = 400
_MODEL_WINDOW: Final = 1_000
_MOST_HITS: Final = 1_000
_MOST_SCORES: Final = 200


class Reads(Protocol):
    """The detection engine, as far as it is needed here."""

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        """One reading for each passage, in order; what was not read is in its failures."""


def acting(active: ActivePolicies) -> ActivePolicies | None:
    """The policies that can change or end a stream, with those that except something; None without any."""
    policies = tuple(one for one in active.policies if one.is_enforced and one.document.action != "flag")
    return ActivePolicies(active.side, policies) if any(map(_acts, policies)) else None


def watching(active: ActivePolicies) -> ActivePolicies | None:
    """The policies that only tell, with those that except something; None without any."""
    policies = tuple(one for one in active.policies if not _acts(one))
    told = [one for one in policies if one.document.action != "allow"]
    return ActivePolicies(active.side, policies) if told else None


def _acts(policy: Policy) -> bool:
    return policy.is_enforced and policy.document.action in ("redact", "block")


def rhythm_of(active: ActivePolicies, longest_match: int, served_by_models: frozenset[Category]) -> Rhythm | None:
    """How these policies have to be asked; None when texts mean nothing to them.

    longest_match: of the patterns. A category that models serve is read in sentences, and in a window of theirs.
    """
    looking = [one for one in active.policies if one.document.action != "allow" and not one.document.when.unscannable]
    if not looking:
        return None
    hold = max(_hold(one, longest_match) for one in looking)
    # What has neither categories nor expressions is about what a text as such says.
    if active.wanted & served_by_models or not all(one.categories or one.expressions for one in looking):
        return Rhythm(hold, _SHORTEST_SENTENCES, _LONGEST_SENTENCES, _MODEL_WINDOW)
    step = max(_SHORTEST_STEP, hold // 4)
    return Rhythm(hold, step, step)


def _hold(policy: Policy, longest_match: int) -> int:
    hold = longest_match if policy.categories & _BY_PATTERNS else 0
    if policy.document.when.regex is not None:
        longest = longest_match_of(policy.document.when.regex)
        most = _UNLIMITED_EXPRESSION if longest is None else min(longest, _LONGEST_EXPRESSION)
        hold = max(hold, _WORD_BORDER + most)
    if policy.document.when.keywords:
        hold = max(hold, _WORD_BORDER + max(map(len, policy.document.when.keywords)))
    return hold


class PolicyJudge:
    """Implements Judge. For one stream."""

    def __init__(
        self,
        engine: Reads,
        active: ActivePolicies,
        rhythm: Rhythm | None,
        now_s: Callable[[], float],
        placeholders: Placeholders | None = None,
    ) -> None:
        self.rhythm = rhythm
        self._engine = engine
        self._active = active
        self._now_s = now_s
        self._placeholders = placeholders or Placeholders()
        self._found: dict[tuple[str, Role], dict[Finding, None]] = {}
        self._contents: list[Unscannable] = []
        self._hits: dict[tuple[object, ...], Hit] = {}
        self._scores: dict[tuple[str, Role], dict[Category, float]] = {}
        self._failures: dict[Failure, None] = {}
        self._took_s = 0.0
        self._decision: Decision = "allow"

    @property
    def judgement(self) -> Judgement:
        return Judgement(
            side=self._active.side,
            decision=self._decision,
            hits=tuple(self._hits.values()),
            scores=tuple(Scored(path, role, dict(scores)) for (path, role), scores in self._scores.items()),
            failures=tuple(self._failures),
            policies=tuple(policy.id for policy in self._active.policies) if self._failures else (),
            took_us=int(self._took_s * 1e6),
        )

    @property
    def entries(self) -> tuple[Judged | Unscannable, ...]:
        """What was found, in places of whole texts, acted on or not. Without the texts."""
        read = (Judged(path, Passage("", role), Reading(findings=tuple(found)))
                for (path, role), found in self._found.items())  # fmt: skip
        return (*read, *self._contents)

    async def read(self, extracts: Sequence[Extract]) -> list[Ruling]:
        started_s = self._now_s()
        passages = [one.passage for one in extracts]
        wanted = self._active.wanted
        readings = [Reading()] * len(passages)
        if wanted:
            readings = await self._engine.read(passages, wanted, timeout_s=self._active.timeout_s)
        rulings = [self._rule(one, reading) for one, reading in zip(extracts, readings, strict=True)]
        self._took_s += self._now_s() - started_s
        return rulings

    def content(self, content: Unscannable) -> Ruling:
        verdict = self._active.decide([content])
        self._note(verdict, 0)
        if len(self._contents) < _MOST_HITS:
            self._contents.append(content)
        return Ruling(refusal=self._refusal(verdict))

    def placeholder(self, span: Span, value: str) -> str:
        return self._placeholders.redact(value, (replace(span, start=0, end=len(value)),))

    def _rule(self, given: Extract, reading: Reading) -> Ruling:
        self._remember(given, reading)
        found = (*reading.findings, *self._active.custom(given.passage))
        # What ends where everything has been decided is known; a model's word on the whole passage never is.
        found = tuple(one for one in found if one.end > given.fresh)
        length = len(given.passage.text)
        settled = tuple(one for one in found if one.end <= given.firm or _is_whole(one, length))
        verdict = self._decide(given, replace(reading, findings=settled))
        self._note(verdict, given.at)
        if settled:
            places = self._found.setdefault((given.path, given.passage.role), {})
            told = (replace(one, start=one.start + given.at, end=one.end + given.at) for one in settled)
            places.update(dict.fromkeys(islice(told, max(0, _MOST_HITS - len(places)))))
        refusal = self._refusal(verdict)
        if refusal is not None:
            return Ruling(refusal=refusal)
        unsettled = tuple(one for one in found if one.start < given.firm < one.end and not _is_whole(one, length))
        open_at = self._first_acted_on(given, unsettled, found) if unsettled else None
        wholes = [one for one in settled if _is_whole(one, length)]
        cuts = tuple(
            Cut(span.start, span.end, span, bool(wholes) and span.start == 0 and span.end == length)
            for span in verdict.redactions(0)
        )
        return Ruling(cuts, open_at)

    def _decide(self, given: Extract, reading: Reading) -> Verdict:
        return self._active.decide([Judged(given.path, given.passage, reading)])

    def _first_acted_on(self, given: Extract, unsettled: Sequence[Finding], found: Sequence[Finding]) -> int | None:
        """Where the first of the findings begins that would be a cut or a block."""
        told = {(one.start, one.end) for one in unsettled}
        verdict = self._decide(given, Reading(findings=tuple(found)))
        starts = [
            hit.start
            for hit in verdict.hits
            if hit.mode == "enforce" and hit.action in ("redact", "block") and (hit.start, hit.end) in told
        ]
        return min(starts, default=None)

    def _note(self, verdict: Verdict, at: int) -> None:
        for found in verdict.hits:
            hit = replace(found, start=found.start + at, end=found.end + at)
            # A span that was seen before it had ended is the same one; the last word on it counts.
            key = (hit.policy_id, hit.path, hit.category, hit.type, hit.detector, hit.start)
            if key in self._hits or len(self._hits) < _MOST_HITS:
                self._hits[key] = hit
        self._decision = max(self._decision, verdict.action, key=SEVERITY.__getitem__)

    def _remember(self, given: Extract, reading: Reading) -> None:
        self._failures.update(dict.fromkeys(one for one in reading.failures if one.categories))
        key = (given.path, given.passage.role)
        if key not in self._scores and len(self._scores) >= _MOST_SCORES:
            return
        highest = self._scores.setdefault(key, {}) if reading.scores else {}
        for category, score in reading.scores.items():
            highest[category] = max(score, highest.get(category, 0.0))

    def _refusal(self, verdict: Verdict) -> TrueportError | None:
        if verdict.action != "block":
            return None
        return DetectorUnavailable() if verdict.code == DetectorUnavailable.code else ContentBlocked("output")


def _is_whole(finding: Finding, length: int) -> bool:
    """Whether a model said it about the passage as such, and not about a place in it."""
    return finding.category in _OF_WHOLE_TEXTS and finding.start == 0 and finding.end == length


class NoJudge:
    """Implements Judge where no policy can act: texts are only restored, or watched."""

    rhythm: Rhythm | None = None
    entries: tuple[Judged | Unscannable, ...] = ()

    @property
    def judgement(self) -> Judgement:
        return Judgement(side="output", decision="allow")

    async def read(self, extracts: Sequence[Extract]) -> list[Ruling]:
        return [Ruling()] * len(extracts)

    def content(self, content: Unscannable) -> Ruling:  # noqa: ARG002 - the Protocol's argument
        return Ruling()

    def placeholder(self, span: Span, value: str) -> str:  # noqa: ARG002 - the Protocol's arguments
        return value
