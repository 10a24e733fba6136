"""A response as JSON: whole, and event by event."""

from collections.abc import Iterator
from typing import Final

import msgspec

from trueport.simulator.answers import CREATED, EXTRA_FIELDS, Meter
from trueport.simulator.reply import Event, Reply
from trueport.simulator.responses.output import FORM, INCOMPLETE, Output, text_part
from trueport.simulator.script import Script
from trueport.simulator.streams import dressed
from trueport.simulator.usage import Usage, pieces, reported

_encode: Final = msgspec.json.encode


class Response:
    """A response as JSON text, as far as it has come."""

    def __init__(self, output: Output, model: str, members: dict[str, object], usage: Usage, script: Script) -> None:
        self.output = output
        self.usage = usage
        self.script = script
        self._members = members
        self._model = model

    def body(self, status: str, items: list[dict[str, object]]) -> dict[str, object]:
        """The response without its usage."""
        reason = INCOMPLETE.get(self.output.finish)
        failure = {"code": "server_error", "message": "The model failed to answer."}
        return {
            "id": f"resp_{self.output.digest[:48]}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": failure if status == "failed" else None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "model": self._model,
            "output": items,
            **self._members,
        }

    def opened(self, status: str) -> bytes:
        """The response before it says anything."""
        sofar = b"null"
        if self.script.usage_shape == "growing":
            sofar = FORM.json(self.usage._replace(completion=0, reasoning=0))
        return b'%b,"usage":%b}' % (_encode(self.body(status, []))[:-1], sofar)

    def closed(self) -> list[bytes]:
        """The whole response: once, or once for each usage value that is to be told."""
        body = _encode(self.body(self.output.status, self.output.items()))[:-1]
        told = reported(self.usage, self.script.usage_shape, FORM)
        return [b'%b,"usage":%b%b}' % (body, one, self._extra()) for one in told] or [body + self._extra() + b"}"]

    def whole(self) -> Reply:
        """The plain reply; more than one usage value repeats the key."""
        body = _encode(self.body(self.output.status, self.output.items()))[:-1]
        told = b"".join(b',"usage":%b' % one for one in reported(self.usage, self.script.usage_shape, FORM))
        return Reply(body=b"%b%b%b}" % (body, told, self._extra()), usage=self.usage)

    def streamed(self) -> Reply:
        """The reply as events."""
        events = dressed(self._numbered(), self.script.extra)
        return Reply(events=events, content_type="text/event-stream; charset=utf-8", usage=self.usage)

    def _extra(self) -> bytes:
        return EXTRA_FIELDS if "fields" in self.script.extra else b""

    def _numbered(self) -> Iterator[Event]:
        extra = self._extra()
        for number, (kind, members, tokens) in enumerate(self._events()):
            name = kind.encode()
            yield Event(
                b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b%b}\n\n' % (name, name, number, members, extra),
                tokens,
            )

    def _events(self) -> Iterator[tuple[str, bytes, int]]:
        """Type, members as JSON text without braces, and billed tokens of each event."""
        meter = Meter(self.usage)
        for kind in ("created", "in_progress"):
            yield f"response.{kind}", b'"response":' + self.opened("in_progress"), 0
        for index, item in enumerate(self.output.items()):
            if item["type"] == "reasoning":
                yield from self._reasoning_events(index, item, meter)
            elif item["type"] == "message":
                yield from self._message_events(index, item, meter)
            else:
                yield from self._call_events(index, item, meter)
        owed = meter.take_reasoning() + meter.take_rest()
        for response in self.closed():
            yield f"response.{self.output.status}", b'"response":' + response, owed
            owed = 0

    def _reasoning_events(self, index: int, item: dict[str, object], meter: Meter) -> Iterator[tuple[str, bytes, int]]:
        place = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        text = "".join(self.output.summary)
        opened = {**item, "summary": []}
        yield "response.output_item.added", _members({"output_index": index, "item": opened}), 0
        part = {"type": "summary_text", "text": ""}
        yield "response.reasoning_summary_part.added", _members({**place, "part": part}), 0
        for token in self.output.summary:
            told = _members({**place, "delta": token})
            yield "response.reasoning_summary_text.delta", told, meter.take_reasoning()
        yield "response.reasoning_summary_text.done", _members({**place, "text": text}), 0
        yield "response.reasoning_summary_part.done", _members({**place, "part": {**part, "text": text}}), 0
        yield "response.output_item.done", _members({"output_index": index, "item": item}), 0

    def _message_events(self, index: int, item: dict[str, object], meter: Meter) -> Iterator[tuple[str, bytes, int]]:
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        text = "".join(self.output.tokens)
        opened = self.output.message_item("in_progress")
        yield "response.output_item.added", _members({"output_index": index, "item": opened}), 0
        yield "response.content_part.added", _members({**place, "part": text_part("")}), 0
        start = _members(place)
        for token in self.output.tokens:
            yield "response.output_text.delta", b'%b,"delta":%b,"logprobs":[]' % (start, _encode(token)), meter.take(1)
        yield "response.output_text.done", _members({**place, "text": text, "logprobs": []}), 0
        yield "response.content_part.done", _members({**place, "part": text_part(text)}), 0
        yield "response.output_item.done", _members({"output_index": index, "item": item}), 0

    def _call_events(self, index: int, item: dict[str, object], meter: Meter) -> Iterator[tuple[str, bytes, int]]:
        place = {"item_id": item["id"], "output_index": index}
        arguments = str(item["arguments"])
        opened = {**item, "status": "in_progress", "arguments": ""}
        yield "response.output_item.added", _members({"output_index": index, "item": opened}), 0
        for fragment in pieces(arguments):
            told = _members({**place, "delta": fragment})
            yield "response.function_call_arguments.delta", told, meter.take(1)
        done = {**place, "name": item["name"], "arguments": arguments}
        yield "response.function_call_arguments.done", _members(done), 0
        yield "response.output_item.done", _members({"output_index": index, "item": item}), 0


def _members(value: dict[str, object]) -> bytes:
    """A JSON object without its braces."""
    return _encode(value)[1:-1]
