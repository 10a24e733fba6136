"""The rule pack as a detector."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from trueport.detection.patterns import exfiltration, phi, pii, secrets
from trueport.detection.patterns.rules import LONGEST_MATCH, Rule, RuleBook
from trueport.detection.types import Category, Finding, Passage, Reading

RULES: Final[tuple[Rule, ...]] = (*pii.RULES, *phi.RULES, *secrets.RULES, *exfiltration.RULES)

# Read on the event loop, this much takes well under two milliseconds; anything longer goes to a thread.
_INLINE_CODE_POINTS: Final = 16_384


class PatternDetector:
    """Reads with rules alone: no model, no network, no state between calls.

    A caller that sees a text grow can rely on two things about its reading. A finding that ends at least
    `longest_match` code points before the text's end stays as it is. And whatever will begin before that point has
    been reported, from its beginning, though it may still grow.
    """

    name: Final = "patterns"
    categories: Final[frozenset[Category]] = frozenset(rule.category for rule in RULES)
    longest_match: Final = LONGEST_MATCH

    def __init__(self) -> None:
        self._book = RuleBook(RULES)
        self.version: Final = f"patterns-{self._book.version}"

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        mine = wanted & self.categories
        if sum(len(passage.text) for passage in passages) <= _INLINE_CODE_POINTS:
            return [self._read(passage, mine) for passage in passages]
        return await asyncio.to_thread(lambda: [self._read(passage, mine) for passage in passages])

    async def close(self) -> None:
        """Nothing to free."""

    def _read(self, passage: Passage, wanted: frozenset[Category]) -> Reading:
        kept = strongest(
            Finding(m.rule.category, m.rule.type, m.start, m.end, m.score, self.name, self.version, m.rule.reason)
            for m in self._book.find(passage.text, wanted)
        )
        scores: dict[Category, float] = dict.fromkeys(wanted, 0.0)
        for finding in kept:
            scores[finding.category] = max(scores[finding.category], finding.score)
        return Reading(scores, kept)


def strongest(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings of which none of the same category, in or around the same place, is better; by place.

    Better is the higher score, then the longer span. Two that overlap without one holding the other both stay, so
    that everything they cover is still covered. One that is itself not kept drives others out all the same: whether
    a finding stays then depends only on those that overlap it, which a text that grows behind them does not change.
    """
    ordered = sorted(set(findings), key=lambda f: (f.start, -f.end))
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
