"""What both operations share: texts within bounds, read by the engine, and what nobody could read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from trueport.detection.engine import unread
from trueport.detection.types import CATEGORIES, Category, Passage, Reading
from trueport.kit.errors import TrueportError, Unavailable

if TYPE_CHECKING:
    from trueport.detection.engine import Engine

MOST_BODY_BYTES: Final = 1 << 20
MOST_TEXTS: Final = 256
READ_S: Final = 20.0
READABLE: Final[frozenset[Category]] = frozenset(CATEGORIES) - {"custom"}
"""What detectors look for; `custom` is a tenant's own expressions."""


class InvalidInput(TrueportError):
    """The body does not have the form of this operation. `errors` names what is wrong, never what a text says."""

    code = "validation_failed"
    status = 422

    def __init__(self, message: str, field: str = "input") -> None:
        super().__init__(message, param=field, errors=[{"field": field, "message": message}])


class NothingRead(Unavailable):
    """Not one detector gave an answer about any of the texts."""

    code = "detector_unavailable"

    def __init__(self) -> None:
        super().__init__("The detectors cannot be asked right now, or read nothing of what is asked for.")


def check_count(count: int) -> None:
    """Raises InvalidInput."""
    if not 1 <= count <= MOST_TEXTS:
        raise InvalidInput(f"input holds 1 to {MOST_TEXTS} texts.")


async def read(engine: "Engine | None", passages: Sequence[Passage], wanted: frozenset[Category]) -> list[Reading]:
    """One reading for each passage. Raises NothingRead when not one wanted category of any text was read."""
    if engine is None:
        raise NothingRead
    readings = await engine.read(passages, wanted, timeout_s=READ_S)
    if wanted and all(unread(reading, wanted) == wanted for reading in readings):
        raise NothingRead
    return readings
