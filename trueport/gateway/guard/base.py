"""What the guard asks of whoever judges texts, and what it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trueport.detection.policy import Judged, Span, Unscannable
from trueport.detection.types import Passage, Role
from trueport.gateway.call import Judgement
from trueport.kit.errors import TrueportError


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Where a growing text is judged, and how much of its end waits. All in code points.

    A text is judged again `shortest_step` to `longest_step` after it was, at the first end of a sentence between the
    two, so at the longest without one; both 0 mean whenever something comes. What is nearer than `hold` to the end of
    what was judged may still become part of a span. `window` is how far back a judge wants to see beside that.
    """

    hold: int
    shortest_step: int
    longest_step: int
    window: int = 0


@dataclass(frozen=True, slots=True)
class Extract:
    """Part of a channel's text, from its code point `at` on.

    What was decided up to `fresh` stays as it is. Only what ends by `firm` is settled: behind it the text may change
    what it means. Both count from the beginning of the passage.
    """

    path: str
    passage: Passage
    at: int
    fresh: int
    firm: int


@dataclass(frozen=True, slots=True)
class Cut:
    """What has to go, in code points of the passage. `is_whole` when it is about the passage as such."""

    start: int
    end: int
    span: Span
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to happen to an extract: `cuts` are in order and do not overlap.

    `open_at` is where something begins that will be a cut or a block unless its end says otherwise. `refusal` ends
    the stream.
    """

    cuts: tuple[Cut, ...] = ()
    open_at: int | None = None
    refusal: TrueportError | None = None


class Judge(Protocol):
    """Applies the policies to the texts of one stream, and remembers what came of it."""

    @property
    def rhythm(self) -> Rhythm | None:
        """How it wants texts; None when nothing in a text can make it act."""

    @property
    def judgement(self) -> Judgement:
        """What has been decided so far. Never holds a text."""

    @property
    def entries(self) -> tuple[Judged | Unscannable, ...]:
        """Everything that was found so far, whether acted on or not, without the texts."""

    async def read(self, extracts: Sequence[Extract]) -> list[Ruling]:
        """A ruling for each extract. Never raises for a detector: its failure is a refusal where policy says so."""

    def content(self, content: Unscannable) -> Ruling:
        """What is to happen when nobody can read a content. No cuts."""

    def placeholder(self, span: Span, value: str) -> str:
        """What takes the place of a value. Asked once for each cut, in the order in which they are settled."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Code points [start, end) of a channel's text become `new`."""

    start: int
    end: int
    new: str


def extract(path: str, text: str, role: Role, fresh: int = 0) -> Extract:
    """A text that is judged as it stands, with nothing behind it."""
    return Extract(path, Passage(text, role), 0, fresh, len(text))
