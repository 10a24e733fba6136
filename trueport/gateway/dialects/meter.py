"""What every reader of a stream keeps while the events pass."""

from collections.abc import Sequence
from typing import Final

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.usage import Reading, later

# msgspec raises the last one for text that is nested too deeply, even inside members it skips.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Meter:
    """The state that StreamReader shows; a subclass adds `pass_on`."""

    __slots__ = ("failed", "has_ended", "is_complete", "model", "output_events", "usage", "usage_doubtful")

    def __init__(self, *, is_complete: bool) -> None:
        self.is_complete = is_complete
        self.has_ended = False
        self.usage: Usage | None = None
        self.usage_doubtful = False
        self.model: str | None = None
        self.failed = False
        self.output_events = 0

    def ending(self) -> bytes:
        return b""

    def count(self, reading: Reading) -> None:
        """Take in what a usage object said."""
        self.usage_doubtful = self.usage_doubtful or reading.is_doubtful
        if reading.usage is not None:
            self.usage = later(self.usage, reading.usage)

    def end(self) -> None:
        """The end mark has passed."""
        self.is_complete = self.has_ended = True

    def fail(self) -> None:
        """The provider reported an error: nothing of use follows, and nothing makes the answer whole."""
        self.failed = self.has_ended = True


class OpenEndedReader(Meter):
    """Passes on the stream of an operation whose end mark is not known; it may end anywhere."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(is_complete=True)

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        self.output_events += len(events)
        return b"".join(events)
