"""What the gateway reads in Google's streams as they pass, and the second form that they can have.

Source: https://ai.google.dev/api/generate-content (GenerateContentResponse). There is no end mark: a stream is whole
when every candidate in it has said why it finished, or when the prompt was blocked. Asked without `alt=sse`, Google
answers with a JSON array that grows by one element per event.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.body import MOST_CANDIDATES
from trueport.gateway.dialects.meter import UNREADABLE, Meter, WrappedReader
from trueport.gateway.streaming import SseSplitter, event_data
from trueport.gateway.usage import Reading, google_usage

_BYTES_PER_TOKEN: Final = 4
_ABSENT: Final = (b"", b"null")


class _Part(msgspec.Struct, rename="camel"):
    text: object = None
    function_call: msgspec.Raw = msgspec.Raw(b"")


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    index: object = 0
    finish_reason: object = None
    content: msgspec.Raw = msgspec.Raw(b"")


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: object = None


class Answer(msgspec.Struct, rename="camel"):
    """The few members of an answer or chunk that metering reads; the decoder skips everything else."""

    candidates: msgspec.Raw = msgspec.Raw(b"")
    usage_metadata: msgspec.Raw = msgspec.Raw(b"")
    model_version: object = None
    prompt_feedback: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


answers: Final = msgspec.json.Decoder(Answer)
_candidates: Final = msgspec.json.Decoder(list[_Candidate])
_contents: Final = msgspec.json.Decoder(_Content)
_feedbacks: Final = msgspec.json.Decoder(_Feedback)
_parsed: Final = msgspec.json.Decoder()


def usage_in(raw: msgspec.Raw) -> Reading:
    """The usage of an answer or chunk; neither usage nor doubt where there is none."""
    if bytes(raw) in _ABSENT:
        return Reading(None, False)
    try:
        return google_usage(_parsed.decode(raw))
    except UNREADABLE:
        return Reading(None, True)


class ContentStreamReader(Meter):
    """Meters a stream of `streamGenerateContent`. Every chunk repeats the numbers, the last ones count."""

    __slots__ = ("_finished", "_seen")

    def __init__(self) -> None:
        super().__init__(is_complete=False)
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        for event in events:
            self._look_at(event)
        return events[0] if len(events) == 1 else b"".join(events)

    def _look_at(self, event: bytes) -> None:
        data = payload(event)
        if not data:
            return
        try:
            chunk = answers.decode(data)
        except UNREADABLE:
            return
        if isinstance(chunk.model_version, str):
            self.model = chunk.model_version
        self.count(usage_in(chunk.usage_metadata))
        if bytes(chunk.error) not in _ABSENT:
            self.fail()
        self._follow(chunk.candidates)
        is_blocked = bytes(chunk.prompt_feedback) not in _ABSENT and _is_blocked(chunk.prompt_feedback)
        self.is_complete = self.is_complete or is_blocked

    def _follow(self, raw: msgspec.Raw) -> None:
        if bytes(raw) in _ABSENT:
            return
        try:
            listed = _candidates.decode(raw)
        except UNREADABLE:
            return
        for candidate in listed:
            index = candidate.index
            number = index if type(index) is int and 0 <= index < MOST_CANDIDATES else 0
            self._seen.add(number)
            if _is_reason(candidate.finish_reason):
                self._finished.add(number)
            self.output_events += _tokens(candidate.content)
        if self._seen:
            self.is_complete = self._seen == self._finished


class ArrayReader(WrappedReader):
    """Implements StreamReader over another one: what that gives as events, the client gets as a growing JSON array.

    The closing bracket is the form's end mark. It is written for a stream that is whole and for no other, so that a
    broken answer is neither valid JSON nor without the error that broke it.
    """

    __slots__ = ("_has_begun", "_has_closed", "_splitter")

    def __init__(self, inner: StreamReader) -> None:
        super().__init__(inner)
        self._splitter = SseSplitter()
        self._has_begun = False
        self._has_closed = False

    @property
    def has_ended(self) -> bool:
        return self._has_closed or self._inner.failed

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        return self._elements(self._splitter.feed(self._inner.pass_on(events)))

    def ending(self) -> bytes:
        rest = self._splitter.feed(self._inner.ending())
        last = self._elements([*rest, self._splitter.finish()])
        if self.failed or not self.is_complete:
            return last
        self._has_closed = True
        return last + (b"]" if self._has_begun else b"[]")

    def error(self, event: bytes) -> bytes:
        """The dialect's error event as the last element of an array that stays open."""
        return self._elements([event])

    def _elements(self, events: Sequence[bytes]) -> bytes:
        written = []
        for event in events:
            data = payload(event)
            # Whatever else an imitation sends would leave no valid array.
            if data.startswith(b"{"):
                written.append(b",\r\n" if self._has_begun else b"[")
                written.append(data)
                self._has_begun = True
        return b"".join(written)


def payload(event: bytes) -> bytes:
    """The JSON text in an event, empty when it has none. Google writes errors in a stream without `data:`."""
    data = event_data(event)
    if not data and event.lstrip()[:1] == b"{":
        return event.strip()
    return data


def _is_reason(value: object) -> bool:
    return isinstance(value, str) and value not in ("", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")


def _is_blocked(raw: msgspec.Raw) -> bool:
    try:
        return _is_reason(_feedbacks.decode(raw).block_reason)
    except UNREADABLE:
        return False


def _tokens(raw: msgspec.Raw) -> int:
    """About how many tokens a piece of content is: a chunk holds many, and pictures in it are not text."""
    if bytes(raw) in _ABSENT:
        return 0
    try:
        parts = _contents.decode(raw).parts
    except UNREADABLE:
        return 1
    sizes = (len(part.text) if isinstance(part.text, str) else len(bytes(part.function_call)) for part in parts)
    return max(1, sum(sizes) // _BYTES_PER_TOKEN) if parts else 0
