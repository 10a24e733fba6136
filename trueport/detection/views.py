"""What a model needs of a reading of a text: the characters to read, and the way back to the original's offsets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trueport.detection.normalise import unfolded


class View(Protocol):
    """One reading of a text: as it stands, or with look-alikes and invisible characters replaced."""

    @property
    def text(self) -> str:
        """What to read."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The code points of the original text that this view's [start, end) was made of, as [start, end)."""


Views = Callable[[str], Sequence[View]]
"""The readings of a text that models read, the text itself first."""


@dataclass(frozen=True, slots=True)
class AsWritten:
    """The text itself."""

    text: str = field(repr=False)

    def original(self, start: int, end: int) -> tuple[int, int]:
        return start, end


def for_models(text: str) -> Sequence[View]:
    """The text itself and, where that differs, without what only hides it from a model."""
    return [view for view in unfolded(text) if view.is_for_models]


def as_written(text: str) -> Sequence[View]:
    """The text itself and nothing else."""
    return (AsWritten(text),)
