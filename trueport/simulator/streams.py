"""What chat and text streams have in common: how chunks become events, usage at the end, `[DONE]`; and what any
stream of server-sent events can be dressed up with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from trueport.simulator.answers import EXTRA_FIELDS, Meter
from trueport.simulator.reply import Event, Reply
from trueport.simulator.script import Script
from trueport.simulator.usage import Usage, reported, usage_json

DONE: Final = Event(b"data: [DONE]\n\n")
_COMMENT: Final = Event(b": simulator comment\n\n")
_CUSTOM: Final = Event(b'event: custom\nid: 7\nretry: 1500\ndata: {"x_simulator": true}\n\n')
_LINE_ENDS: Final = {"crlf": (b"\r\n",), "cr": (b"\r",), "mixed": (b"\n", b"\r\n", b"\r")}


@dataclass(frozen=True, slots=True)
class ChunkStart:
    """The members every chunk of one stream begins with, up to and without `"choices"`."""

    json: bytes
    with_usage: bool
    with_fields: bool

    def event(self, choices: bytes, usage: bytes | None, tokens: int = 0) -> Event:
        """A chunk with these `choices`; `usage` None means the member is left out unless usage was asked for."""
        told = b"" if usage is None and not self.with_usage else b',"usage":%b' % (usage or b"null")
        more = EXTRA_FIELDS if self.with_fields else b""
        return Event(b'data: %b"choices":[%b]%b%b}\n\n' % (self.json, choices, told, more), tokens)


Chunks = Callable[[ChunkStart, Meter], Iterator[Event]]


def stream_reply(start: ChunkStart, chunks: Chunks, usage: Usage, script: Script) -> Reply:
    """A stream of `chunks`, then usage if asked for, then `[DONE]`, dressed as the script's extras say."""
    shape = script.usage_shape
    events: Iterator[Event] = chain(chunks(start, Meter(usage)), _usage_events(start, usage, shape), (DONE,))
    if start.with_usage and shape == "growing":
        events = _with_growing_usage(events, usage)
    return Reply(events=dressed(events, script.extra), content_type="text/event-stream; charset=utf-8", usage=usage)


def _usage_events(start: ChunkStart, usage: Usage, shape: str | None) -> Iterator[Event]:
    if start.with_usage:
        for told in reported(usage, shape):
            yield start.event(b"", told)


def _with_growing_usage(events: Iterator[Event], usage: Usage) -> Iterator[Event]:
    out = 0
    for event in events:
        out += event.tokens
        sofar = b'"usage":' + usage_json(usage._replace(completion=out))
        yield event._replace(data=event.data.replace(b'"usage":null', sofar, 1))


def dressed(events: Iterator[Event], extra: frozenset[str]) -> Iterator[Event]:
    """`events` with what the script's extras add to every stream of server-sent events."""
    if "comment" in extra:
        events = chain((_COMMENT,), events)
    if "event" in extra:
        events = _with_custom_event(events)
    return with_line_ends(events, extra)


def _with_custom_event(events: Iterator[Event]) -> Iterator[Event]:
    for number, event in enumerate(events):
        if number == 2:
            yield _CUSTOM
        yield event


def with_line_ends(events: Iterator[Event], extra: frozenset[str]) -> Iterator[Event]:
    """`events` with the line ends that the extras name; unchanged when they name none."""
    ends = next((ends for name, ends in _LINE_ENDS.items() if name in extra), None)
    return events if ends is None else _ending_in(events, ends)


def _ending_in(events: Iterator[Event], ends: tuple[bytes, ...]) -> Iterator[Event]:
    for number, event in enumerate(events):
        plain = event.data.replace(b"\r\n", b"\n")
        yield event._replace(data=plain.replace(b"\n", ends[number % len(ends)]))
