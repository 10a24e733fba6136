"""What goes into a decision and what comes out. All frozen, and never with a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trueport.detection.types import Category, Passage, Reading, Side

Action = Literal["allow", "flag", "redact", "block"]
SEVERITY: Final[Mapping[Action, int]] = {"allow": 0, "flag": 1, "redact": 2, "block": 3}
Mode = Literal["enforce", "shadow"]
UnscannableKind = Literal["image", "audio", "video", "file", "encrypted", "unknown"]

CONTENT_POLICY_VIOLATION: Final = "content_policy_violation"
DETECTOR_UNAVAILABLE: Final = "detector_unavailable"


@dataclass(frozen=True, slots=True)
class Judged:
    """A passage, where it stands, and what the detectors and the tenant's own expressions found in it."""

    path: str
    passage: Passage
    reading: Reading


@dataclass(frozen=True, slots=True)
class Unscannable:
    """Content that nobody can read for what it says."""

    path: str
    kind: UnscannableKind
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Code points [start, end) of a passage that are to be replaced, and by what kind of placeholder."""

    start: int
    end: int
    type: str
    is_reversible: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """One finding that one policy had something to say about. A shadow policy's changes nothing."""

    policy_id: str
    policy: str
    policy_version: int
    action: Action
    mode: Mode
    side: Side
    path: str
    category: Category
    type: str
    start: int
    end: int
    score: float | None
    threshold: float | None
    detector: str
    model: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to happen with one side of a call, and why.

    `code` says why it is blocked, None where it is not. `spans` are the redactions of each part, by its position
    among what was judged.
    """

    action: Action
    hits: tuple[Hit, ...] = ()
    code: str | None = None
    spans: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)

    def redactions(self, index: int) -> tuple[Span, ...]:
        """In order, without overlaps."""
        return self.spans.get(index, ())


def merged(spans: list[Span]) -> tuple[Span, ...]:
    """The same code points in order and without overlaps; what touches the same text gets the longest one's type."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        last = found[-1] if found else None
        if last is None or span.start >= last.end:
            found.append(span)
            continue
        longest = max(last, span, key=lambda one: one.end - one.start)
        found[-1] = Span(last.start, max(last.end, span.end), longest.type, last.is_reversible and span.is_reversible)
    return tuple(found)
