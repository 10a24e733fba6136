"""What every detector is to the engine."""

from collections.abc import Sequence
from typing import Protocol

from trueport.detection.types import Category, FailureCode, Passage, Reading


class DetectorFailed(Exception):
    """A detector gave no answer, or one that breaks its contract. Never to be taken for "nothing found"."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__(code)
        self.code: FailureCode = code


class Detector(Protocol):
    """Reads passages. One of these serves many calls at the same time."""

    @property
    def name(self) -> str:
        """Such as `patterns`, `onnx`, `triton`."""

    @property
    def version(self) -> str:
        """Of the rule pack or model, as findings carry it."""

    @property
    def categories(self) -> frozenset[Category]:
        """What it can look for."""

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        """One reading for each passage, in order, with a score for every wanted category it serves.

        Whoever calls sets the deadline: `read` can be cancelled at any await. Long work never runs on the event loop.
        Raises DetectorFailed.
        """

    async def close(self) -> None:
        """Free what it holds. Calls under way may fail."""
