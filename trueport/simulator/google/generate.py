"""Generated content: whole, as server-sent events, and as the elements of one JSON array."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

import msgspec

from trueport.simulator.answers import EXTRA_FIELDS, Meter
from trueport.simulator.google.candidates import FORM, Candidate, arguments_of, compose
from trueport.simulator.google.requests import (
    Members,
    tokens,
)
from trueport.simulator.reply import Event, Reply
from trueport.simulator.script import Script
from trueport.simulator.signing import signature_of
from trueport.simulator.streams import dressed
from trueport.simulator.usage import Usage, corrected, reported

_encode: Final = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Frame:
    """What every response of one answer ends with, as JSON text."""

    tail: bytes

    def response(self, candidates: bytes, told: bytes | None) -> bytes:
        """A response; `candidates` and `told` are left out where there are none."""
        given = [b'"candidates":[%b]' % candidates] if candidates else []
        if told is not None:
            given.append(b'"usageMetadata":%b' % told)
        return b"{%b%b}" % (b"".join(one + b"," for one in given), self.tail)


def answer(request: Members, model: str, script: Script, body_digest: str, form: str | None) -> Reply:
    """The reply to a checked request; `form` is how it is streamed: `sse`, `array`, or None for not at all."""
    more = EXTRA_FIELDS if "fields" in script.extra else b""
    frame = Frame(b'"modelVersion":%b,"responseId":"%b"%b' % (_encode(model), body_digest[:22].encode(), more))
    if script.filtered is not None:
        return _blocked(request, script, frame, form)
    candidates = compose(request, script)
    counted = Usage(
        tokens(request),
        sum(candidate.count() for candidate in candidates),
        reasoning=sum(len(candidate.thoughts) for candidate in candidates),
    )
    usage = corrected(counted, script.usage)
    shape = script.usage_shape
    if form is None:
        whole = b",".join(_whole(candidate, index) for index, candidate in enumerate(candidates))
        told = b',"usageMetadata":'.join(reported(usage, shape, FORM)) or None
        return Reply(body=frame.response(whole, told), usage=usage, content_type="application/json; charset=UTF-8")
    return _streamed(_chunks(candidates, frame, usage, shape), usage, script, form)


# --- parts and candidates as JSON --------------------------------------------------------------------------


def _text(text: str) -> bytes:
    return b'{"text":%b}' % _encode(text)


def _thought(text: str) -> bytes:
    return b'{"text":%b,"thought":true}' % _encode(text)


def _call_parts(candidate: Candidate) -> list[bytes]:
    """The function calls; the first bears the signature of the thoughts that led to them."""
    signature = {"thoughtSignature": signature_of("".join(candidate.thoughts))} if candidate.thoughts else {}
    return [
        _encode({"functionCall": {"name": call.name, "args": arguments_of(call)}, **({} if number else signature)})
        for number, call in enumerate(candidate.calls)
    ]


def _said(parts: list[bytes], index: int, finish: str | None = None) -> bytes:
    ended = b"" if finish is None else b'"finishReason":%b,' % _encode(finish)
    return b'{"content":{"parts":[%b],"role":"model"},%b"index":%d}' % (b",".join(parts), ended, index)


def _whole(candidate: Candidate, index: int) -> bytes:
    parts = [_thought("".join(candidate.thoughts))] if candidate.thoughts else []
    if candidate.tokens:
        parts.append(_text("".join(candidate.tokens)))
    return _said([*parts, *_call_parts(candidate)], index, candidate.finish)


# --- streams -----------------------------------------------------------------------------------------------


def _blocked(request: Members, script: Script, frame: Frame, form: str | None) -> Reply:
    """The prompt is refused: a success without candidates."""
    usage = corrected(Usage(tokens(request)), script.usage)
    feedback = _encode({"blockReason": "SAFETY", "safetyRatings": [_rating(script.filtered or "")]})
    told = reported(usage, script.usage_shape, FORM)
    body = b'{"promptFeedback":%b,%b' % (feedback, frame.response(b"", told[0] if told else None)[1:])
    if form is None:
        return Reply(body=body, usage=usage, content_type="application/json; charset=UTF-8")
    return _streamed(iter(((body, 0),)), usage, script, form)


def _rating(category: str) -> dict[str, object]:
    name = {"hate": "HATE_SPEECH", "sexual": "SEXUALLY_EXPLICIT"}.get(category, "DANGEROUS_CONTENT")
    return {"category": f"HARM_CATEGORY_{name}", "probability": "HIGH", "blocked": True}


def _streamed(chunks: Iterator[tuple[bytes, int]], usage: Usage, script: Script, form: str) -> Reply:
    if form == "array":
        return Reply(events=_array(chunks), content_type="application/json; charset=UTF-8", usage=usage)
    events = (Event(b"data: %b\r\n\r\n" % chunk, owed) for chunk, owed in chunks)
    return Reply(events=dressed(events, script.extra), content_type="text/event-stream", usage=usage)


def _array(chunks: Iterator[tuple[bytes, int]]) -> Iterator[Event]:
    start = b"["
    for chunk, owed in chunks:
        yield Event(start + chunk, owed)
        start = b",\r\n"
    yield Event(b"]" if start != b"[" else b"[]")


def _chunks(candidates: list[Candidate], frame: Frame, usage: Usage, shape: str | None) -> Iterator[tuple[bytes, int]]:
    """The responses of a stream, each with the usage so far and the tokens it is billed.

    The candidates take turns; then each ends; usage values that are left over come in responses of their own.
    """
    meter = Meter(usage)
    out = thought = 0
    first = usage._replace(completion=0, reasoning=0)
    for turn in zip_longest(*(_pieces(candidate) for candidate in candidates)):
        for index, piece in enumerate(turn):
            if piece is None:
                continue
            is_thought, part = piece
            owed = meter.take_reasoning() if is_thought else meter.take(1)
            out, thought = out + owed, thought + (owed if is_thought else 0)
            told = reported(first._replace(completion=out, reasoning=thought), shape, FORM)
            yield frame.response(_said([part], index), told[0] if told else None), owed
    told = reported(usage, shape, FORM)
    rest = meter.take_reasoning() + meter.take_rest()
    for index, candidate in enumerate(candidates):
        ended = _said([_text("")], index, candidate.finish)
        yield frame.response(ended, told[0] if told else None), 0 if index else rest
    for more in told[1:]:
        yield frame.response(b"", more), 0


def _pieces(candidate: Candidate) -> Iterator[tuple[bool, bytes]]:
    """The parts of a candidate as they are streamed, and whether they are thoughts."""
    return chain(
        ((True, _thought(thought)) for thought in candidate.thoughts),
        ((False, _text(token)) for token in candidate.tokens),
        ((False, part) for part in _call_parts(candidate)),
    )
