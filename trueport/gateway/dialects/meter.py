"""What every reader of a stream keeps while the events pass."""

from collections.abc import Sequence
from typing import Final

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.dialects.base import StreamReader
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


class WrappedReader:
    """A reader that shows what another one measures; a subclass says what the client gets of its events."""

    __slots__ = ("_inner",)

    def __init__(self, inner: StreamReader) -> None:
        self._inner = inner

    @property
    def is_complete(self) -> bool:
        return self._inner.is_complete

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def usage_doubtful(self) -> bool:
        return self._inner.usage_doubtful

    @property
    def model(self) -> str | None:
        return self._inner.model

    @property
    def failed(self) -> bool:
        return self._inner.failed

    @property
    def output_events(self) -> int:
        return self._inner.output_events
