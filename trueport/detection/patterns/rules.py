"""Rules over text, and how many of them are read in one go.

A rule is a bounded RE2 expression with cues: short expressions of which one has to occur somewhere for the rule to be
worth running. All cues of a rule book are one RE2 set, so a text without anything to find costs one linear pass; only
the rules whose cue it names read the text again. Nothing here backtracks, and no rule spans more than `LONGEST_MATCH`
code points, what it looks at before and behind the match included. What has no natural end, such as a private key, is
found by its beginning and then goes on for as long as its own characters do.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, cast

import re2

from trueport.detection.types import Category

LONGEST_MATCH: Final = 512  # code points
BEFORE_BYTES: Final = 64  # where a context word may stand
AFTER_BYTES: Final = 32
TAIL_BYTES: Final = 16_384  # as far as a match without a natural end goes on
_GATE_MEMORY_BYTES: Final = 128 << 20
# The cue of what has no mark of its own but is long. One counter in the gate: each further one multiplies its states.
LONG_RUN: Final = r"[a-z0-9_]{24}"
# Further cues for `also`: five digits with what may stand between them, and letters beside digits once and twice.
DIGITS: Final = r"\d[ ./()-]{0,2}\d[ ./()-]{0,2}\d[ ./()-]{0,2}\d[ ./()-]{0,2}\d"
MIXED: Final = r"[a-z]\d|\d[a-z]"
VERY_MIXED: Final = r"(?:[a-z]\d|\d[a-z])[a-z0-9+/_=-]*(?:[a-z]\d|\d[a-z])"

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One form that is looked for.

    `expression` is RE2; what counts as the match is its group `v`, or all of it where there is none. `score` is that
    of a match on its own, `near_score` that of one with one of the `near` words (an alternation, any case) within
    BEFORE_BYTES before or AFTER_BYTES behind it; 0.0 means no finding. `check` has the last word. `tail` is what a
    match goes on with past its expression. `retries` makes a match that `check` refuses give back
    all but its first group of characters, for numbers that stand beside other numbers. `also` is a cue that
    has to occur as well.
    """

    category: Category
    type: str
    reason: str
    expression: str
    cues: tuple[str, ...]
    score: float = 0.0
    near: str = ""
    near_score: float = 0.0
    check: Check | None = None
    tail: str = ""
    retries: bool = False
    also: str = ""

    def fingerprint(self) -> str:
        """All that decides what it finds, as text; a check is known by its name."""
        check = getattr(self.check, "__qualname__", "")
        return repr((self.category, self.type, self.reason, self.expression, self.cues, self.score, self.near,
                     self.near_score, check, self.tail, self.retries, self.also))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Match:
    """Where a rule matched, in code points of the text it was given."""

    rule: Rule
    start: int
    end: int
    score: float


class _Compiled:
    """A rule with its expressions compiled: beforehand, since a first reader on the event loop would wait for it."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.also: int | None = None  # the number of the cue that has to occur as well
        self.expression = re2.compile(rule.expression, _options())
        self.group = self.expression.groupindex.get("v", 0)
        self.near = re2.compile(rf"(?i)(?:^|[^a-z])(?:{rule.near})(?:[^a-z]|$)", _options())
        self.tail = re2.compile(rule.tail, _options())

    def matches(self, data: bytes) -> Iterator[tuple[int, int, float]]:
        """Start, end (bytes) and score of each match, from left to right."""
        position = 0
        while (match := self.expression.search(data, position)) is not None:
            start, end = match.span(self.group)
            position = max(end, match.start() + 1)  # what only guards the match may guard the next one too
            score = self._score(data, start, end)
            if score > 0.0 and (self.rule.check is None or self.rule.check(data[start:end].decode())):
                if self.rule.tail and (rest := self.tail.match(data, end, end + TAIL_BYTES)) is not None:
                    end = rest.end()
                    position = max(position, end)
                yield start, end, score
            elif self.rule.retries:
                position = _next_group(data, match.start(), position)

    def _score(self, data: bytes, start: int, end: int) -> float:
        if not self.rule.near or self.rule.near_score <= self.rule.score:
            return self.rule.score
        window = data[max(0, start - BEFORE_BYTES) : start] + b"\n" + data[end : end + AFTER_BYTES]
        return self.rule.near_score if self.near.search(window) is not None else self.rule.score


class RuleBook:
    """Rules that are read together."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: Final = tuple(rules)
        self.version: Final = sha256("\n".join(rule.fingerprint() for rule in self.rules).encode()).hexdigest()[:16]
        numbers: dict[str, int] = {}
        self._behind: list[list[_Compiled]] = []
        self._gate = re2.Set.SearchSet(_options(case_sensitive=False, max_mem=_GATE_MEMORY_BYTES))
        for compiled in map(_Compiled, self.rules):
            for cue in compiled.rule.cues:
                self._behind[self._number(numbers, cue)].append(compiled)
            if compiled.rule.also:
                compiled.also = self._number(numbers, compiled.rule.also)
        self._gate.Compile()

    def _number(self, numbers: dict[str, int], cue: str) -> int:
        if cue not in numbers:
            numbers[cue] = self._gate.Add(cue)
            self._behind.append([])
        return numbers[cue]

    def find(self, text: str, wanted: frozenset[Category]) -> list[Match]:
        """All matches of the rules for the wanted categories, overlapping ones included, in no order."""
        data = text.encode("utf-8", "replace")  # a lone surrogate becomes one question mark, so counts stay right
        found: list[tuple[Rule, int, int, float]] = []
        for compiled in self._due(data):
            if compiled.rule.category in wanted:
                found += [(compiled.rule, *match) for match in compiled.matches(data)]
        if not found:
            return []
        if len(data) == len(text):
            return [Match(*match) for match in found]
        place = _code_points(data, {offset for _, start, end, _ in found for offset in (start, end)})
        return [Match(rule, place[start], place[end], score) for rule, start, end, score in found]

    def _due(self, data: bytes) -> Iterable[_Compiled]:
        cues = set(cast("list[int] | None", self._gate.Match(data)) or ())  # the stub says it were a boolean
        due = dict.fromkeys(compiled for cue in cues for compiled in self._behind[cue])
        return [compiled for compiled in due if compiled.also is None or compiled.also in cues]


def _code_points(data: bytes, offsets: set[int]) -> dict[int, int]:
    """For each byte offset, how many code points stand before it."""
    places: dict[int, int] = {}
    last, count = 0, 0
    for offset in sorted(offsets):
        count += len(data[last:offset].decode())
        places[offset] = count
        last = offset
    return places


def _next_group(data: bytes, start: int, end: int) -> int:
    """Where the second run of letters and digits within these bytes begins, or their end."""
    position = start
    while position < end and chr(data[position]).isalnum():
        position += 1
    while position < end and not chr(data[position]).isalnum():
        position += 1
    return position if position > start else end


def _options(*, case_sensitive: bool = True, max_mem: int | None = None) -> re2.Options:
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.log_errors = False
    if max_mem is not None:
        options.max_mem = max_mem
    return options
