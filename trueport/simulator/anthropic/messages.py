"""Messages: whole and streamed."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from trueport.simulator.answers import EXTRA_FIELDS, Meter
from trueport.simulator.anthropic.content import DELTA_FORM, WHOLE_FORM, Content, compose, counted
from trueport.simulator.anthropic.requests import MessageRequest
from trueport.simulator.reply import Event, Reply
from trueport.simulator.script import Script, ToolCall
from trueport.simulator.signing import signature_of
from trueport.simulator.streams import dressed
from trueport.simulator.usage import Usage, pieces, reported

_encode: Final = msgspec.json.encode


def answer(
    request: MessageRequest, script: Script, body_digest: str, has_seen: Callable[[str], bool] = lambda _: False
) -> Reply:
    """The reply to a checked request; `body_digest` is hexadecimal and decides the ids.

    `has_seen` tells whether a cache prefix was there before, and notes it.
    """
    content = compose(request, script)
    usage = counted(request, content, script, has_seen)
    opened = {
        "id": f"msg_{body_digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
    }
    shape = script.usage_shape
    if request.stream:
        return _streamed(opened, content, usage, script, body_digest)
    body = _encode({**opened, "content": _blocks(content, body_digest), **content.ending()})
    return Reply(body=_closed(body, reported(usage, shape, WHOLE_FORM), script), usage=usage)


def _closed(body: bytes, told: tuple[bytes, ...], script: Script) -> bytes:
    """The JSON object `body` with its usage values, and the extra members the script wants."""
    more = EXTRA_FIELDS if "fields" in script.extra else b""
    return b"%b%b%b}" % (body[:-1], b"".join(b',"usage":%b' % one for one in told), more)


def _blocks(content: Content, body_digest: str) -> list[dict[str, object]]:
    blocks: list[dict[str, object]] = []
    if content.thoughts:
        thinking = "".join(content.thoughts)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature_of(thinking)})
    if content.tokens:
        blocks.append({"type": "text", "text": "".join(content.tokens)})
    blocks.extend(
        {"type": "tool_use", "id": _call_id(body_digest, number), "name": tool.name, "input": _input(tool)}
        for number, tool in enumerate(content.tools)
    )
    return blocks


def _call_id(body_digest: str, number: int) -> str:
    return f"toolu_{body_digest[:22]}{number:02d}"


def _input(tool: ToolCall) -> object:
    """The arguments as an object; those that are none cannot be told in a plain answer."""
    try:
        value = msgspec.json.decode(tool.arguments)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


# --- streams -----------------------------------------------------------------------------------------------


def _event(name: str, members: Mapping[str, object], more: bytes = b"", tokens: int = 0) -> Event:
    body = _encode({"type": name, **members})
    return Event(b"event: %b\ndata: %b%b}\n\n" % (name.encode(), body[:-1], more), tokens)


def _streamed(opened: Mapping[str, object], content: Content, usage: Usage, script: Script, body_digest: str) -> Reply:
    shape = script.usage_shape
    more = EXTRA_FIELDS if "fields" in script.extra else b""
    meter = Meter(usage)
    events: Iterator[Event] = chain(
        (_start(opened, usage, script),),
        _inside(content, meter, body_digest, more),
        _end(content, reported(usage, shape, DELTA_FORM), meter),
    )
    if shape == "growing":
        events = _with_growing_usage(events, usage)
    return Reply(events=dressed(events, script.extra), content_type="text/event-stream; charset=utf-8", usage=usage)


def _start(opened: Mapping[str, object], usage: Usage, script: Script) -> Event:
    told = reported(usage._replace(completion=min(usage.completion, 1), reasoning=0), script.usage_shape, WHOLE_FORM)
    message = _encode({**opened, "content": [], "stop_reason": None, "stop_sequence": None})
    return Event(
        b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % _closed(message, told[:1], script)
    )


def _inside(content: Content, meter: Meter, body_digest: str, more: bytes) -> Iterator[Event]:
    """The blocks one after the other, with a ping after the first has begun."""
    for index, (block, deltas) in enumerate(_block_streams(content, body_digest)):
        yield _event("content_block_start", {"index": index, "content_block": block}, more)
        if index == 0:
            yield _event("ping", {})
        for delta in deltas:
            is_thought = delta["type"] == "thinking_delta"
            tokens = meter.take_reasoning() if is_thought else meter.take(delta["type"] != "signature_delta")
            yield _event("content_block_delta", {"index": index, "delta": delta}, more, tokens)
        yield _event("content_block_stop", {"index": index}, more)


def _block_streams(content: Content, body_digest: str) -> Iterator[tuple[dict[str, object], Iterator[dict[str, str]]]]:
    """Each block as it begins, and the deltas that fill it."""
    if content.thoughts:
        yield {"type": "thinking", "thinking": "", "signature": ""}, _thinking_deltas(content.thoughts)
    if content.tokens:
        yield {"type": "text", "text": ""}, ({"type": "text_delta", "text": token} for token in content.tokens)
    for number, tool in enumerate(content.tools):
        block: dict[str, object] = {
            "type": "tool_use",
            "id": _call_id(body_digest, number),
            "name": tool.name,
            "input": {},
        }
        yield block, _input_deltas(tool.arguments)


def _thinking_deltas(thoughts: list[str]) -> Iterator[dict[str, str]]:
    for thought in thoughts:
        yield {"type": "thinking_delta", "thinking": thought}
    yield {"type": "signature_delta", "signature": signature_of("".join(thoughts))}


def _input_deltas(arguments: str) -> Iterator[dict[str, str]]:
    for fragment in ["", *pieces(arguments)]:
        yield {"type": "input_json_delta", "partial_json": fragment}


def _end(content: Content, usages: tuple[bytes, ...], meter: Meter) -> Iterator[Event]:
    """One `message_delta` for each usage value (without one when there is none), which bills the rest, and the stop."""
    for told in usages or (b"",):
        owed = meter.take_reasoning() + meter.take_rest()
        yield _event("message_delta", {"delta": content.ending()}, told and b',"usage":%b' % told, owed)
    yield _event("message_stop", {})


def _with_growing_usage(events: Iterator[Event], usage: Usage) -> Iterator[Event]:
    """After every delta of a block, a `message_delta` that tells what has been billed so far."""
    out = 0
    for event in events:
        yield event
        out += event.tokens
        if event.data.startswith(b"event: content_block_delta"):
            sofar = DELTA_FORM.json(usage._replace(completion=out))
            delta = {"stop_reason": None, "stop_sequence": None}
            yield _event("message_delta", {"delta": delta}, b',"usage":%b' % sofar)
