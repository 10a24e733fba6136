"""What detection costs, counted since the process started. Plain numbers that whoever makes metrics may read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from trueport.detection.types import FailureCode


@dataclass(slots=True)
class Work:
    """What a model did: windows it read, windows answered from memory, and the seconds of a core the former took."""

    windows_read: int = 0
    windows_remembered: int = 0
    cpu_s: float = 0.0


@dataclass(slots=True)
class DetectorStats:
    """What the engine asked of one detector. `waited_s` adds up the time of calls that overlap."""

    reads: int = 0
    passages: int = 0
    waited_s: float = 0.0
    failures: Counter[FailureCode] = field(default_factory=Counter)
    work: Work | None = None


@dataclass(slots=True)
class EngineStats:
    """`passages` that were given, `remembered` of them known from before; and each detector by its name."""

    passages: int = 0
    remembered: int = 0
    detectors: dict[str, DetectorStats] = field(default_factory=dict)


@runtime_checkable
class KeepsAccounts(Protocol):
    """A detector that tells what its model did."""

    @property
    def work(self) -> Work:
        """Counted on; the same object throughout."""
