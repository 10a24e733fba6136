"""The rule pack as a detector: every rule over every reading of a text, findings told in places of the original."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from trueport.detection.normalise import View, unfolded
from trueport.detection.patterns import exfiltration, injection, phi, phones, pii, secrets
from trueport.detection.patterns.rules import LONGEST_MATCH, Match, Rule, RuleBook
from trueport.detection.types import Category, Finding, Passage, Reading

RULES: Final[tuple[Rule, ...]] = (*pii.RULES, *phi.RULES, *secrets.RULES, *exfiltration.RULES)

_BY_RULES: Final[frozenset[Category]] = frozenset(rule.category for rule in RULES)
# The other readings guess at what a word was meant to be: good for phrases, noise for numbers and keys.
_EXACT_KINDS: Final = frozenset({"raw", "folded", "decoded"})
# Read on the event loop, this much takes a quarter of a millisecond, a few if it is nothing but numbers; more of it
# goes to a thread.
_INLINE_CODE_POINTS: Final = 4_096


class PatternDetector:
    """Reads with rules alone: no model, no network, no state between calls.

    A caller that sees a text grow can rely on two things about its raw reading. A finding that ends at least
    `longest_match` code points before the text's end stays as it is. And whatever will begin before that point has
    been reported, from its beginning, though it may still grow.
    """

    name: Final = "patterns"
    categories: Final[frozenset[Category]] = _BY_RULES | injection.CATEGORIES
    longest_match: Final = LONGEST_MATCH

    def __init__(self) -> None:
        self.book: Final = RuleBook(RULES)
        self.version: Final = f"patterns-{self.book.version[:8]}{injection.VERSION[:8]}"
        phones.prepare()

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        mine = wanted & self.categories
        if sum(len(passage.text) for passage in passages) <= _INLINE_CODE_POINTS:
            return [self._read(passage, mine) for passage in passages]
        return await asyncio.to_thread(lambda: [self._read(passage, mine) for passage in passages])

    async def close(self) -> None:
        """Nothing to free."""

    def _read(self, passage: Passage, wanted: frozenset[Category]) -> Reading:
        findings: list[Finding] = []
        for view in unfolded(passage.text):
            if view.kind in _EXACT_KINDS:
                findings += self._told(view, self.book.find(view.text, wanted))
            if wanted & injection.CATEGORIES:
                findings += self._told(view, injection.find(view.text, passage.role, wanted))
        kept = strongest(findings)
        scores: dict[Category, float] = dict.fromkeys(wanted, 0.0)
        for finding in kept:
            scores[finding.category] = max(scores[finding.category], finding.score)
        return Reading(scores, kept)

    def _told(self, view: View, matches: Iterable[Match]) -> Iterator[Finding]:
        for match in matches:
            start, end = view.original(match.start, match.end)
            rule = match.rule
            yield Finding(rule.category, rule.type, start, end, match.score, self.name, self.version, rule.reason)


def strongest(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings of which none of the same category, in or around the same place, is better; by place.

    Better is the higher score, then the longer span. Two that overlap without one holding the other both stay, so
    that everything they cover is still covered. One that is itself not kept drives others out all the same: whether
    a finding stays then depends only on those that overlap it, which a text that grows behind them does not change.
    """
    ordered = sorted(set(findings), key=lambda f: (f.start, -f.end, f.category, -f.score, f.type, f.reason))
    dropped: set[Finding] = set()
    open_before: list[Finding] = []
    for finding in ordered:
        open_before = [other for other in open_before if other.end > finding.start]
        for other in open_before:
            if other.category == finding.category and (other.end >= finding.end or other.start == finding.start):
                dropped.add(min(finding, other, key=_rank))
        open_before.append(finding)
    return tuple(finding for finding in ordered if finding not in dropped)


def _rank(finding: Finding) -> tuple[float, int, str, str]:
    return finding.score, finding.end - finding.start, finding.type, finding.reason
