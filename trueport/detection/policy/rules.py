"""Policies compiled, chosen for a call, and what they decide.

For one finding, the policies that concern it are asked from the highest priority down. One that allows it ends that:
those below, and those of the same priority, have nothing to say about the finding any more. What a policy with an
expression allows is every finding that lies wholly within a match of its expression.

Of everything the policies in mode `enforce` say, the most severe action happens. Policies in mode `shadow` are told
of beside it and change nothing, nor do they allow.
"""

import fnmatch
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import re2

from trueport.detection.countries import country_of
from trueport.detection.policy.decision import (
    CONTENT_POLICY_VIOLATION,
    DETECTOR_UNAVAILABLE,
    SEVERITY,
    Action,
    Hit,
    Judged,
    Span,
    Unscannable,
    Verdict,
    merged,
)
from trueport.detection.policy.documents import Band, PolicyDocument, Topic, compile_expression
from trueport.detection.types import Category, Failure, Finding, Passage, Side

if TYPE_CHECKING:
    from trueport.detection.policy.topics import CompiledTopic

CUSTOM: Final = "policies"
"""The name under which a tenant's own expressions appear as a detector."""
TOPICS: Final = "topics"
"""The name under which a tenant's topics do."""
RULES: Final = "patterns"
"""The name of the detector that reads with rules alone, which has no bands of its own."""
_MOST_MATCHES: Final = 1_000
_UNTOLD: Final = Failure(frozenset({"custom"}), TOPICS, "unavailable")
_BANDS: Final[Mapping[Band, float]] = {"flag": 0.5, "block": 0.8}
"""Of a detector that has none of its own for a category."""

Vector = tuple[float, ...]
"""An embedding, of length 1."""

Bands = Mapping[str, Mapping[Category, Mapping[str, float]]]
"""The number that each detector, by name, has for a band of a category."""


@dataclass(frozen=True, slots=True)
class Context:
    """What of a call decides which policies hold. None is "not known", which no narrowing may be built on."""

    environment: str
    key_id: str
    model: str | None = None
    provider: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, ready to be asked. `expressions` are those of its condition, `digest` tells them and its topics
    from others'.

    `topics` are None where it has some and nobody could say yet what they are: it then cannot tell what it looks for,
    which counts as a detector's failure. `bands` are of the detectors at work.
    """

    id: str
    version: int
    document: PolicyDocument
    categories: frozenset[Category]
    types: frozenset[str]
    expressions: tuple["re2._Regexp[str]", ...] = ()
    digest: str = ""
    topics: "tuple[CompiledTopic, ...] | None" = ()
    countries: frozenset[str] = frozenset()
    bands: Bands = field(default_factory=dict)

    @property
    def is_enforced(self) -> bool:
        return self.document.mode == "enforce"

    @property
    def reads_after(self) -> bool:
        """Whether it has nothing to do with the call itself, and reads what was recorded of it."""
        return self.document.scan == "after"

    def holds_for(self, side: Side, context: Context) -> bool:
        """Whether the call is one that it was written for; where that is not known, it is."""
        document = self.document
        return (
            side in document.on
            and _is_among(context.environment, document.environments)
            and _is_among(context.key_id, document.keys)
            and _is_like(context.model, document.models)
            and (context.provider is None or self.is_for_provider(context.provider))
            and (not document.users or (context.user is not None and _is_like(context.user, document.users)))
        )

    def is_for_provider(self, provider: str) -> bool:
        return _is_among(provider, self.document.providers)

    def concerns(self, finding: Finding) -> bool:
        """Whether the finding is one that it looks for."""
        if finding.category == "custom":
            return finding.reason == self.id
        return (
            finding.category in self.categories
            and (not self.types or finding.type in self.types)
            and (not self.countries or country_of(finding) in (None, *self.countries))
            and finding.score >= self.threshold(finding.detector, finding.category)
        )

    def threshold(self, detector: str, category: Category) -> float:
        """How certain a finding has to be: the number in the document, or the detector's own for the band."""
        band = self.document.when.band
        if band is None:
            return self.document.when.min_score
        return self.bands.get(detector, {}).get(category, _BANDS).get(band, _BANDS[band])

    def concerns_content(self, content: Unscannable) -> bool:
        kinds = self.document.when.unscannable
        return kinds is True or (isinstance(kinds, list) and content.kind in kinds)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of a tenant. `version` grows with each change of one of them."""

    policies: tuple[Policy, ...] = ()
    version: int = 0

    def for_call(self, side: Side, context: Context) -> "ActivePolicies":
        """Those that hold for one side of a call, the highest priority first, and those that allow before others."""
        return _in_order(side, [one for one in self._holding(side, context) if not one.reads_after])

    def for_scan(self, side: Side, context: Context) -> "ActivePolicies":
        """Those that read one side after the call, with the exceptions that hold for it; empty where none does."""
        holding = self._holding(side, context)
        if not any(policy.reads_after for policy in holding):
            return ActivePolicies(side, ())
        return _in_order(side, [one for one in holding if one.reads_after or one.document.action == "allow"])

    def _holding(self, side: Side, context: Context) -> list[Policy]:
        return [policy for policy in self.policies if policy.holds_for(side, context)]


@dataclass(frozen=True, slots=True)
class ActivePolicies:
    """The policies that hold for one side of a call, in the order they are asked."""

    side: Side
    policies: tuple[Policy, ...]

    @property
    def is_empty(self) -> bool:
        return not self.policies

    @property
    def wanted(self) -> frozenset[Category]:
        """What the detectors have to look for."""
        return frozenset[Category]().union(*(policy.categories for policy in self.policies))

    @property
    def timeout_s(self) -> float:
        """How long the detectors may take: as long as the most patient of the policies that may act on it waits."""
        waits = [policy.document.timeout_ms for policy in self.policies if policy.is_enforced and policy.categories]
        return max(waits or [policy.document.timeout_ms for policy in self.policies], default=0) / 1_000

    def custom(self, passage: Passage) -> tuple[Finding, ...]:
        """Where the tenant's own expressions match."""
        return tuple(finding for policy in self.policies for finding in _matches(policy, passage.text))

    def decide(self, entries: Sequence[Judged | Unscannable]) -> Verdict:
        """What happens with these texts and contents together."""
        hits: list[Hit] = []
        spans: dict[int, list[Span]] = {}
        for index, entry in enumerate(entries):
            if isinstance(entry, Unscannable):
                hits += self._on_content(entry)
                continue
            entry = self._with_topics(entry)  # noqa: PLW2901 - the same entry, with all that was found
            for finding in entry.reading.findings:
                for policy in self._asked_about(finding, entry):
                    hits.append(_hit(policy, self.side, entry.path, finding))
                    if policy.is_enforced and policy.document.action == "redact":
                        spans.setdefault(index, []).append(_span(policy, finding))
        action = _severest(hit.action for hit in hits if hit.mode == "enforce")
        code = CONTENT_POLICY_VIOLATION if action == "block" else None
        if action != "block" and any(self._stops_at(failure) for failure in self._failures(entries)):
            action, code = "block", DETECTOR_UNAVAILABLE
        redactions = {index: merged(found) for index, found in spans.items()}
        return Verdict(action, tuple(hits), code, redactions)

    def _with_topics(self, entry: Judged) -> Judged:
        """The entry with a finding for each topic that its text is about."""
        embedding = entry.reading.embedding
        if embedding is None:
            return entry
        length = len(entry.passage.text)
        found = tuple(
            Finding("custom", topic.type, 0, length, score, TOPICS, str(policy.version), policy.id)
            for policy in self.policies
            for topic in policy.topics or ()
            if (score := topic.score(embedding)) >= topic.threshold
        )
        if not found:
            return entry
        return replace(entry, reading=replace(entry.reading, findings=entry.reading.findings + found))

    def _failures(self, entries: Sequence[Judged | Unscannable]) -> Iterator[Failure]:
        judged = [entry for entry in entries if isinstance(entry, Judged)]
        for entry in judged:
            yield from entry.reading.failures
        if judged and any(policy.topics is None for policy in self.policies):
            yield _UNTOLD

    def _asked_about(self, finding: Finding, entry: Judged) -> Iterator[Policy]:
        """The policies that have something to say about the finding."""
        for policy in self.policies:
            if policy.document.action != "allow":
                if policy.concerns(finding):
                    yield policy
            elif policy.is_enforced and (policy.concerns(finding) or _covers(policy, finding, entry)):
                return

    def _on_content(self, content: Unscannable) -> Iterator[Hit]:
        for policy in self.policies:
            if not policy.concerns_content(content):
                continue
            if policy.document.action == "allow":
                if policy.is_enforced:
                    return
                continue
            kind = Finding("custom", f"UNSCANNABLE_{content.kind.upper()}", 0, 0, 1.0, CUSTOM, "", policy.id)
            yield _hit(policy, self.side, content.path, kind)

    def _stops_at(self, failure: Failure) -> bool:
        """Whether a policy that could have acted does not let the call pass without this detector's answer."""
        for policy in self.policies:
            document = policy.document
            if not policy.is_enforced or document.action not in ("redact", "block"):
                continue
            if not policy.categories & failure.categories:
                continue
            if document.on_failure == "block" or (document.on_failure == "rules_only" and failure.detector == RULES):
                return True
        return False


def _in_order(side: Side, policies: list[Policy]) -> ActivePolicies:
    policies.sort(key=lambda one: (-one.document.priority, one.document.action != "allow"))
    return ActivePolicies(side, tuple(policies))


def compile_policy(
    policy_id: str,
    version: int,
    document: PolicyDocument,
    *,
    bands: Bands | None = None,
    vectors: Mapping[str, Vector] | None = None,
) -> Policy:
    """The policy ready to be asked. Raises ValueError for an expression that is none.

    vectors: the embeddings of texts, among them every example of its topics; without them it cannot tell its topics.
    """
    when = document.when
    expressions = []
    if when.regex is not None:
        expressions.append(compile_expression(when.regex))
    if when.keywords:
        expressions.append(compile_expression(_any_of(when.keywords)))
    return Policy(
        policy_id,
        version,
        document,
        when.categories,
        frozenset(when.types),
        tuple(expressions),
        _digest(expressions, when.topics),
        _topics(when.topics, vectors),
        frozenset(country.upper() for country in when.countries),
        bands or {},
    )


def _digest(expressions: Sequence["re2._Regexp[str]"], topics: Sequence[Topic]) -> str:
    if not expressions and not topics:
        return ""
    parts = [one.pattern for one in expressions] + [repr((one.name, one.examples, one.threshold)) for one in topics]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _topics(topics: Sequence[Topic], vectors: Mapping[str, Vector] | None) -> "tuple[CompiledTopic, ...] | None":
    if not topics:
        return ()
    if vectors is None:
        return None
    from trueport.detection.policy.topics import compile_topic  # noqa: PLC0415 - needs numpy, which is optional

    return tuple(
        compile_topic(topic.type, [vectors[example] for example in topic.examples], topic.threshold) for topic in topics
    )


def _any_of(keywords: Sequence[str]) -> str:
    """Whole words in any case; a keyword that begins or ends with a mark needs no border there."""
    words = (
        f"{_border(word[0])}{re2.escape(word)}{_border(word[-1])}" for word in sorted(keywords, key=len, reverse=True)
    )
    return f"(?i)(?:{'|'.join(words)})"


def _border(letter: str) -> str:
    # RE2 knows the borders of words in ASCII letters only.
    return r"\b" if letter.isascii() and letter.isalnum() else ""


def _matches(policy: Policy, text: str) -> Iterator[Finding]:
    for expression in policy.expressions:
        for number, match in enumerate(expression.finditer(text)):
            if number == _MOST_MATCHES:
                # Whoever fills a text with matches has the rest of it treated as one.
                yield _custom_finding(policy, match.start(), len(text))
                break
            if match.end() > match.start():
                yield _custom_finding(policy, match.start(), match.end())


def _custom_finding(policy: Policy, start: int, end: int) -> Finding:
    return Finding("custom", "CUSTOM", start, end, 1.0, CUSTOM, str(policy.version), policy.id)


def _covers(policy: Policy, finding: Finding, entry: Judged) -> bool:
    """Whether an expression that allows has a match around the finding."""
    return any(
        one.category == "custom" and one.reason == policy.id and one.start <= finding.start and finding.end <= one.end
        for one in entry.reading.findings
    )


def _hit(policy: Policy, side: Side, path: str, finding: Finding) -> Hit:
    score, threshold = _certainty(policy, finding)
    return Hit(
        policy_id=policy.id,
        policy=policy.document.name,
        policy_version=policy.version,
        action=policy.document.action,
        mode=policy.document.mode,
        side=side,
        path=path,
        category=finding.category,
        type=finding.type,
        start=finding.start,
        end=finding.end,
        score=score,
        threshold=threshold,
        detector=finding.detector,
        model=finding.version,
    )


def _certainty(policy: Policy, finding: Finding) -> tuple[float | None, float | None]:
    """The score and what it had to reach; neither for an expression, which matches or does not."""
    if finding.detector == TOPICS:
        return finding.score, next(
            (topic.threshold for topic in policy.topics or () if topic.type == finding.type), None
        )
    if finding.category == "custom":
        return None, None
    return finding.score, policy.threshold(finding.detector, finding.category)


def _span(policy: Policy, finding: Finding) -> Span:
    return Span(finding.start, finding.end, finding.type, policy.document.placeholder == "reversible")


def _severest(actions: Iterator[Action]) -> Action:
    return max(actions, key=SEVERITY.__getitem__, default="allow")


def _is_among(value: str, names: Sequence[str]) -> bool:
    return not names or value in names


def _is_like(value: str | None, patterns: Sequence[str]) -> bool:
    return not patterns or value is None or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
