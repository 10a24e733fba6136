"""Streams cut into events, whether they are server-sent events or elements of an array that grows."""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from trueport.gateway.streaming import SseSplitter, event_data, event_name
from trueport.gateway.texts import NotEditable

LONGEST_HELD_BYTES: Final = 64 << 20
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_ELEMENT: Final = re.compile(rb"[{\]]")
_MARK: Final = re.compile(rb'["\\{}\[\]]')


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: all of its bytes, its data, its name, and what it says beside both (comments, ids)."""

    raw: bytes
    data: bytes
    name: str = ""
    beside: tuple[bytes, ...] = ()


class Frames(Protocol):
    """Takes a client form's bytes apart."""

    def feed(self, piece: bytes) -> list[Frame]:
        """The events that are whole now."""

    def finish(self) -> list[Frame]:
        """What is left when the stream is over."""

    def with_data(self, frame: Frame, data: bytes) -> bytes:
        """The event's bytes with other data, which has no line ends."""

    def in_place(self, written: bytes) -> bytes:
        """The bytes of the event that leaves next. Events may leave in another order than they came."""


class SseFrames:
    """Implements Frames for server-sent events."""

    def __init__(self) -> None:
        self._splitter = SseSplitter(event_limit_bytes=LONGEST_HELD_BYTES, buffer_limit_bytes=LONGEST_HELD_BYTES)

    def feed(self, piece: bytes) -> list[Frame]:
        return [_frame(event) for event in self._splitter.feed(piece)]

    def finish(self) -> list[Frame]:
        rest = self._splitter.finish()
        return [_frame(rest)] if rest else []

    def with_data(self, frame: Frame, data: bytes) -> bytes:
        written, is_told = [], False
        for found in _LINE.finditer(frame.raw):
            line = found[0]
            content = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
            if content.partition(b":")[0] != b"data":
                # Google writes errors in a stream without `data:`.
                written.append(b"" if content.lstrip()[:1] == b"{" else line)
            elif not is_told:
                is_told = True
                written.append(b"data: " + data + line[len(line.rstrip(b"\r\n")) :])
        if not is_told:
            raise NotEditable
        return b"".join(written)

    def in_place(self, written: bytes) -> bytes:
        return written


def _frame(event: bytes) -> Frame:
    if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return Frame(event, event_data(event))
    beside = []
    for line in re.split(rb"\r\n|\r|\n", event.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        if line and name != b"data" and not (name in (b"event", b"retry", b"id") and _is_plain(value.strip())):
            beside.append(line)
    data = event_data(event)
    if not data and event.lstrip()[:1] == b"{":
        return Frame(event, event.strip(), "", ())
    return Frame(event, data, event_name(event), tuple(beside))


def _is_plain(value: bytes) -> bool:
    return len(value) <= 64 and re.fullmatch(rb"[A-Za-z0-9_.-]*", value) is not None


class ArrayFrames:
    """Implements Frames for a JSON array: each element is an event, with the mark that stands before it."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen = 0
        self._depth = 0
        self._is_in_string = False
        self._has_begun = False

    def feed(self, piece: bytes) -> list[Frame]:
        self._held += piece
        if len(self._held) > LONGEST_HELD_BYTES:
            raise NotEditable
        found = []
        while (end := self._element_end()) is not None:
            raw = bytes(self._held[:end])
            del self._held[:end]
            self._seen = 0
            start = raw.find(b"{")
            found.append(Frame(raw, raw[start:]) if start >= 0 else Frame(raw, b""))
        return found

    def finish(self) -> list[Frame]:
        rest = bytes(self._held)
        self._held.clear()
        # Brackets and commas between the elements say nothing; anything else was never ended.
        return [Frame(rest, b"" if not rest.strip(b"[], \r\n\t") else rest)] if rest else []

    def with_data(self, frame: Frame, data: bytes) -> bytes:
        return frame.raw[: len(frame.raw) - len(frame.data)] + data

    def in_place(self, written: bytes) -> bytes:
        if (found := _ELEMENT.search(written)) is None:
            return written
        lead = written[: found.start()]
        if (b"[" in lead) == self._has_begun:
            is_first, self._has_begun = not self._has_begun, True
            mark = b"[" if is_first else b"" if found[0] == b"]" else b",\r\n"
            return mark + written[found.start() :]
        self._has_begun = True
        return written

    def _element_end(self) -> int | None:
        """Where the first element ends, or the array itself; None while it is unfinished."""
        while (mark := _MARK.search(self._held, self._seen)) is not None:
            self._seen = mark.end()
            kind = mark[0]
            if self._is_in_string:
                if kind == b"\\":
                    if self._seen == len(self._held):
                        self._seen -= 1  # what is escaped has not come yet
                        return None
                    self._seen += 1
                elif kind == b'"':
                    self._is_in_string = False
            elif kind == b'"':
                self._is_in_string = True
            elif kind == b"{":
                self._depth += 1
            elif kind == b"}":
                self._depth -= 1
                if self._depth == 0:
                    return self._seen
            elif kind == b"]" and self._depth == 0:
                return self._seen
        self._seen = len(self._held)
        return None
