"""Server-sent events out of the bytes of a provider, without changing a byte of them.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from trueport.gateway.upstream import (
    UpstreamAnswer,
    UpstreamFailure,
    UpstreamInvalid,
    UpstreamStalled,
    UpstreamTimeout,
    UpstreamTruncated,
)
from trueport.kit.deadline import Deadline

EVENT_LIMIT_BYTES: Final = 1_048_576
BUFFER_LIMIT_BYTES: Final = 4 * 1_048_576

# Atomic groups: without them CR LF alone would pass for two line ends.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"


class SseSplitter:
    """Cuts a stream into complete events, each with its terminating blank line, byte for byte as received.

    The pieces joined, with what `finish` returns, are the input again; where the reads were cut makes no
    difference to where the events are. A blank line that ends in CR is complete only when the next byte shows that
    no LF follows.
    """

    __slots__ = ("_buffer_limit", "_event_limit", "_held")

    def __init__(
        self, *, event_limit_bytes: int = EVENT_LIMIT_BYTES, buffer_limit_bytes: int = BUFFER_LIMIT_BYTES
    ) -> None:
        self._event_limit = event_limit_bytes
        self._buffer_limit = buffer_limit_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises UpstreamInvalid for a bound passed or text that is not UTF-8."""
        if self._held or b"\r" in data:
            return self._feed_slowly(data)
        size = len(data)
        if data.find(b"\n\n") == size - 2 and 2 < size <= self._event_limit and data.isascii():
            return [data]  # one whole event: how most reads of most streams look
        *pieces, rest = data.split(b"\n\n")
        self._held += rest
        events = [piece + b"\n\n" for piece in pieces]
        self._check(events, data)
        return events

    def finish(self) -> bytes:
        """What was left without a blank line when the stream ended; empty after a whole number of events."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _feed_slowly(self, data: bytes) -> list[bytes]:
        held = self._held
        # A blank line is at most four bytes long, so one that `data` completes begins at most three before it.
        search_from = max(0, len(held) - 3)
        held += data
        if len(held) > self._buffer_limit:
            raise UpstreamInvalid("The provider's stream holds more unfinished data than allowed.")
        ends = [match.end() for match in _BLANK_LINE.finditer(held, search_from)]
        if ends and ends[-1] == len(held) and held.endswith(b"\r"):
            ends.pop()
        events = []
        start = 0
        for end in ends:
            events.append(bytes(held[start:end]))
            start = end
        if start:
            del held[:start]
        self._check(events, b"".join(events))
        return events

    def _check(self, events: list[bytes], text: bytes) -> None:
        if len(self._held) > self._event_limit or (
            len(text) > self._event_limit and any(len(event) > self._event_limit for event in events)
        ):
            raise UpstreamInvalid("The provider's stream contains an event larger than allowed.")
        if not text.isascii():
            check_text(events)


def check_text(events: list[bytes]) -> None:
    """Raise UpstreamInvalid unless every event is UTF-8. Each ends in ASCII, so no code point reaches over its end."""
    for event in events:
        try:
            event.decode()
        except UnicodeDecodeError as error:
            raise UpstreamInvalid("The provider's stream is not valid UTF-8.") from error


def event_data(event: bytes) -> bytes:
    """The event's data: its `data` lines joined by LF, empty when it has none (a comment, a keep-alive)."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    return b"\n".join(_fields(event, b"data"))


def event_name(event: bytes) -> str:
    """The event's type, the last `event` line counting; empty when it names none."""
    names = _fields(event, b"event")
    return names[-1].decode() if names else ""


def has_data(event: bytes) -> bool:
    """Whether a client would notice this event; comments and bare fields only keep the line warm."""
    return event.startswith(b"data:") or bool(_fields(event, b"data"))


def _fields(event: bytes, wanted: bytes) -> list[bytes]:
    if wanted not in event:
        return []
    values = []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        name, _, value = line.partition(b":")
        if name == wanted:
            values.append(value.removeprefix(b" "))
    return values


class EventClock:
    """Fails an answer when no event has come for `event_s` seconds, or when the deadline has passed.

    One timer per stream: an event only moves the mark that the timer looks at when it goes off. While the caller
    handles events (its own client may read slowly) the provider's time stands still.
    """

    __slots__ = ("_answer", "_due_s", "_end_s", "_event_s", "_left_s", "_loop", "_timer")

    def __init__(self, answer: UpstreamAnswer, *, event_s: float, deadline: Deadline) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._event_s = event_s
        self._left_s = event_s
        now_s = self._loop.time()
        self._end_s = now_s + deadline.remaining_s()
        self._due_s: float | None = now_s + event_s
        self._timer: asyncio.TimerHandle | None = None
        self._arm(now_s)

    def pause(self, *, restart: bool) -> None:
        """What came is being handled; `restart` when it was an event, so that the next one has its full time."""
        if restart or self._due_s is None:
            self._left_s = self._event_s
        else:
            self._left_s = self._due_s - self._loop.time()
        self._due_s = None

    def resume(self) -> None:
        """The next event is waited for."""
        self._due_s = self._loop.time() + self._left_s

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now_s: float) -> None:
        due_s = now_s + self._event_s if self._due_s is None else self._due_s
        self._timer = self._loop.call_at(min(due_s, self._end_s), self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        failure: UpstreamFailure | None = None
        if now_s >= self._end_s:
            failure = UpstreamTimeout("The provider did not finish its stream in time.")
        elif self._due_s is not None and now_s >= self._due_s:
            failure = UpstreamStalled("The provider's stream has stalled.")
        if failure is None:
            self._arm(now_s)
            return
        self._timer = None
        self._answer.fail(failure)


async def events(
    answer: UpstreamAnswer, splitter: SseSplitter, *, event_s: float, deadline: Deadline
) -> AsyncIterator[list[bytes]]:
    """The complete events that each read from the provider brought, never an empty list.

    Raises UpstreamStalled when no event with data completes within `event_s` (bytes and comments do not count),
    UpstreamTruncated when the stream breaks off or ends inside an event, UpstreamTimeout at the deadline. That the
    stream ended at a place where its dialect ends is for the caller to see. The answer is closed in any case.
    """
    clock = EventClock(answer, event_s=event_s, deadline=deadline)
    try:
        while chunk := await answer.read_chunk():
            found = splitter.feed(chunk)
            if not found:
                continue
            clock.pause(restart=any(map(has_data, found)))
            yield found
            clock.resume()
        rest = splitter.finish()
        if rest.strip(b"\r\n"):
            if not rest.endswith((b"\n\r", b"\r\r")):
                raise UpstreamTruncated("The provider's stream ended inside an event.")
            check_text([rest])
            yield [rest]
    finally:
        clock.stop()
        answer.close()
