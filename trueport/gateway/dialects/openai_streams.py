"""What the gateway reads in OpenAI's streams as they pass: numbers, the model, the end mark, errors."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from trueport.gateway.dialects.meter import UNREADABLE, Meter
from trueport.gateway.streaming import event_data
from trueport.gateway.usage import Reading, openai_usage

_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')


class Answer(msgspec.Struct):
    """The few members of an answer or chunk that metering reads; the decoder skips everything else."""

    model: object = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    choices: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    service_tier: object = None
    duration: object = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _Event(msgspec.Struct):
    type: object = None
    response: Answer | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


answers: Final = msgspec.json.Decoder(Answer)
_events: Final = msgspec.json.Decoder(_Event)
_parsed: Final = msgspec.json.Decoder()


def usage_in(raw: msgspec.Raw, tier: object = None) -> Reading:
    """The usage object of an answer; neither usage nor doubt where there is none."""
    if bytes(raw) in (b"", b"null"):
        return Reading(None, False)
    try:
        return openai_usage(_parsed.decode(raw), tier=tier)
    except UNREADABLE:
        return Reading(None, True)


class ChatStreamReader(Meter):
    """Meters a chat or completion stream, and takes out what only the gateway asked for."""

    __slots__ = ("_strips_usage",)

    def __init__(self, *, strips_usage: bool) -> None:
        super().__init__(is_complete=False)
        self._strips_usage = strips_usage

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        if len(events) == 1:
            return self._look_at(events[0])
        return b"".join(map(self._look_at, events))

    def _look_at(self, event: bytes) -> bytes:
        if b'"usage"' not in event and b'"error"' not in event and self.model is not None and b"[DONE]" not in event:
            self.output_events += 1
            return event
        data = event_data(event)
        if data == b"[DONE]":
            self.end()
            return event
        try:
            chunk = answers.decode(data)
        except UNREADABLE:
            return event
        if not self.model and isinstance(chunk.model, str):
            # Azure's first chunk, about the prompt, names an empty model.
            self.model = chunk.model
        if bytes(chunk.error) not in (b"", b"null"):
            self.failed = True
        raw_usage = bytes(chunk.usage)
        if raw_usage in (b"", b"null"):
            self.output_events += 1
            return _without_null_usage(event) if raw_usage and self._strips_usage else event
        self.count(usage_in(chunk.usage, chunk.service_tier))
        is_usage_only = bytes(chunk.choices).replace(b" ", b"") == b"[]"
        return b"" if self._strips_usage and is_usage_only else event


def _without_null_usage(event: bytes) -> bytes:
    """The chunk without the `"usage":null` that providers add to each one once usage was asked for.

    Inside a JSON string the quotes would be escaped, so these bytes can only be a member.
    """
    return _NULL_USAGE.sub(b"", event, count=1)


class ResponsesStreamReader(Meter):
    """Meters a stream of the Responses API. Its last event says how it went and repeats the whole answer."""

    __slots__ = ()

    _LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})

    def __init__(self) -> None:
        super().__init__(is_complete=False)

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        for event in events:
            self._look_at(event)
        return events[0] if len(events) == 1 else b"".join(events)

    def _look_at(self, event: bytes) -> None:
        if b".delta" in event[:80]:
            self.output_events += 1
            return
        if self.model is not None and not any(mark in event for mark in _RESPONSES_MARKS):
            return
        data = event_data(event)
        if data == b"[DONE]":
            return
        try:
            said = _events.decode(data)
        except UNREADABLE:
            return
        if said.type == "error":
            self.failed = True
            self.end()
        response = said.response
        if response is None:
            return
        if self.model is None and isinstance(response.model, str):
            self.model = response.model
        self.count(usage_in(response.usage, response.service_tier))
        if said.type in self._LAST:
            self.failed = said.type == "response.failed"
            self.end()


_RESPONSES_MARKS: Final = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"')


class MediaStreamReader(Meter):
    """Meters a stream of pictures, sounds or transcripts: the last event carries the numbers."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(is_complete=False)

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        for event in events:
            self._look_at(event)
        return b"".join(events)

    def _look_at(self, event: bytes) -> None:
        try:
            said = _events.decode(event_data(event))
        except UNREADABLE:
            return
        self.output_events += 1
        if said.type == "error" or bytes(said.error) not in (b"", b"null"):
            self.failed = True
            self.end()
        if isinstance(said.type, str) and said.type.endswith((".completed", ".done")):
            self.count(usage_in(said.usage))
            self.end()
