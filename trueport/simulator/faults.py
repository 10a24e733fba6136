"""Every way in which the simulator can misbehave, in one table: `FAULTS`.

A fault bends the reply (what is said), its steps (how it gets to the socket), or both. The documentation, the
command's help and the parser all read this table. Faults without a function here are obeyed where answers are
made: they change what an answer says about itself.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from itertools import chain, repeat
from typing import Final, NamedTuple

from trueport.simulator.dialect import Dialect
from trueport.simulator.http import Request
from trueport.simulator.reply import End, Event, Pause, Reply, Step, Write, first, framed
from trueport.simulator.script import DirectiveError, FaultCall, Option, count
from trueport.simulator.usage import SHAPES

OnReply = Callable[[Reply, FaultCall, "Asked"], Reply]
OnSteps = Callable[[Iterator[Step], FaultCall], Iterator[Step]]


class Asked(NamedTuple):
    """What is being answered, and in whose words."""

    request: Request
    dialect: Dialect
    request_id: str


# A reset overtakes bytes still on their way, so what was sent before it gets a moment to arrive.
_BEFORE_RESET_S: Final = 0.05
_GZIP_BLOCK: Final = 1024 * 1024
_LARGEST_PIECE: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table. The option that bears the fault's own name is its value: `status=500`."""

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    on_reply: OnReply | None = None
    on_steps: OnSteps | None = None


def parse_fault(text: str) -> FaultCall:
    """Read `NAME[=VALUE] [OPTION=VALUE ...]`. Raises DirectiveError for an unknown name, option or bad value."""
    words = text.split()
    if not words:
        raise DirectiveError(f"a fault needs a name: {', '.join(FAULTS)}")
    name, _, value = words[0].partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        raise DirectiveError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}")
    given = dict(_option(word) for word in words[1:])
    if value:
        given[name] = value
    known = {option.name: option for option in (*fault.options, TIMES)}
    for key, one in given.items():
        if key not in known:
            raise DirectiveError(f"fault {name} has no option {key!r}; it has {', '.join(known)}")
        known[key].check(one)
    if given.get("retry-after", "").startswith("date"):
        _retry_after(given["retry-after"])
    return FaultCall(name, {option.name: given.get(option.name, option.default) for option in known.values()}, text)


def _option(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not value:
        raise DirectiveError(f"{word!r} is not an option such as after=3")
    return key, value


# --- instead of the answer ---------------------------------------------------------------------------------


def _status(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001 - one signature for all
    status = call.count("status")
    if not call.has("retry-after"):
        return asked.dialect.error(status)
    wait = _retry_after(call.word("retry-after"))
    error = asked.dialect.error(status, retry_after=wait)
    return replace(error, headers=(*error.headers, ("retry-after", wait)))


def _retry_after(text: str) -> str:
    """`text` as given, but `date` and `date:SECONDS` become the HTTP date that many seconds from now."""
    word, _, ahead = text.partition(":")
    if word != "date":
        return text
    moment = datetime.now(UTC) + timedelta(seconds=count(ahead or "2"))
    return format_datetime(moment, usegmt=True)


def _echo_key(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    key = asked.dialect.key(asked.request)
    message = f"Incorrect API key provided: {key}. You can find your API key in your account."
    return asked.dialect.error(401, message)


def _redirect(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    moved = asked.dialect.error(call.count("redirect"), "Moved.")
    return replace(moved, headers=(("location", call.word("location")),))


# --- headers -----------------------------------------------------------------------------------------------


def _with_headers(reply: Reply, *more: tuple[str, str]) -> Reply:
    return replace(reply, headers=(*reply.headers, *more))


def _many_headers(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return _with_headers(reply, *((f"x-simulator-{n}", "x") for n in range(call.count("headers"))))


def _big_header(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return _with_headers(reply, ("x-simulator-big", "x" * call.count("big-header")))


def _set_cookie(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return _with_headers(reply, ("set-cookie", "__cf_bm=simulator; path=/; HttpOnly"), ("set-cookie", "sid=1; path=/"))


def _hop_by_hop(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return _with_headers(
        reply, ("connection", "x-hop"), ("x-hop", "1"), ("proxy-authenticate", "Basic"), ("upgrade", "h2c")
    )


def _content_type(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return replace(reply, content_type=call.word("content-type"))


# --- what the body says ------------------------------------------------------------------------------------


def _in_body(reply: Reply, after: int, change: Callable[[bytes], bytes]) -> Reply:
    """`reply` with `change` applied to its body, or to the events from number `after` on (0 is the first)."""
    if reply.events is None:
        return replace(reply, body=change(reply.body))
    return replace(
        reply,
        events=(
            event if number < after else event._replace(data=change(event.data))
            for number, event in enumerate(reply.events)
        ),
    )


def _inserted(reply: Reply, after: int, data: bytes) -> Reply:
    """A stream with the event `data` put in once `after` events are out; a plain body is left alone."""
    if reply.events is None:
        return reply
    return replace(reply, events=_insert(reply.events, after, Event(data)))


def _insert(events: Iterable[Event], after: int, more: Event) -> Iterator[Event]:
    number = -1
    for number, event in enumerate(events):
        if number == after:
            yield more
        yield event
    if number < after:
        yield more


def _stream_error(reply: Reply, call: FaultCall, asked: Asked) -> Reply:
    if reply.events is None:
        return asked.dialect.error(500)
    after = call.count("after")
    event = asked.dialect.stream_error(asked.request_id, after)
    if not _is_sse(reply):
        event = b",\r\n%b\r\n]" % event.partition(b"data: ")[2].strip()
    return replace(reply, events=_cut_short(reply.events, after, Event(event)))


def _is_sse(reply: Reply) -> bool:
    """Google also streams the elements of a JSON array."""
    return reply.content_type.startswith("text/event-stream")


def _as_event(reply: Reply, json: bytes) -> bytes:
    return b"data: %b\n\n" % json if _is_sse(reply) else b",\r\n" + json


def _cut_short(events: Iterable[Event], after: int, last: Event | None) -> Iterator[Event]:
    for number, event in enumerate(events):
        if number == after:
            break
        yield event
    if last is not None:
        yield last


def _no_done(reply: Reply, call: FaultCall, asked: Asked) -> Reply:
    if reply.events is None:
        return reply
    events = reply.events
    if call.has("after"):
        return replace(reply, events=_cut_short(events, call.count("after"), None))
    is_end = asked.dialect.marks.is_end
    return replace(reply, events=(event for event in events if not is_end(event.data)))


def _not_json(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    if reply.events is None:
        return replace(reply, body=b"<html><body>upstream connect error</body></html>")
    return _inserted(reply, call.count("after"), _as_event(reply, b'{"choices": [{"index": 0, "delta'))


def _long_line(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    padding = b'{"x_simulator_padding":"%b"' % (b"x" * call.count("long-line"))
    if reply.events is None:
        return replace(reply, body=padding + b"," + reply.body[1:])
    return _inserted(reply, call.count("after"), _as_event(reply, padding + b"}"))


def _giant_event(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    line = (b"data: " if _is_sse(reply) else b"") + b" " * 1000 + b"\n"
    lines = line * (call.count("giant-event") // len(line) + 1)
    return _inserted(reply, call.count("after"), lines + _as_event(reply, b'{"x_simulator_padding":true}'))


def _invalid_utf8(reply: Reply, call: FaultCall, asked: Asked) -> Reply:
    text = asked.dialect.marks.text
    return _in_body(reply, call.count("after"), lambda data: _corrupted(data, text))


def _corrupted(data: bytes, text: bytes) -> bytes:
    """`data` with two bytes that never occur in UTF-8 at the start of its text, or of its first string."""
    mark = text if text in data else b':"'
    return data.replace(mark, mark + b"\xff\xfe", 1)


def _bom(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    if reply.events is None:
        return replace(reply, body=b"\xef\xbb\xbf" + reply.body)
    events = reply.events
    marked = (event if n else event._replace(data=b"\xef\xbb\xbf" + event.data) for n, event in enumerate(events))
    return replace(reply, events=marked)


def _finish_twice(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    if reply.events is None:
        return reply
    return replace(reply, events=_repeat_finish(reply.events, asked.dialect.marks.finish))


def _repeat_finish(events: Iterable[Event], mark: bytes) -> Iterator[Event]:
    for event in events:
        yield event
        if mark in event.data:
            yield event._replace(tokens=0)


def _wrong_index(reply: Reply, call: FaultCall, asked: Asked) -> Reply:
    right, wrong = asked.dialect.marks.index
    return _in_body(reply, call.count("after"), lambda data: data.replace(right, wrong, 1))


def _wrong_id(reply: Reply, call: FaultCall, asked: Asked) -> Reply:
    right, wrong = asked.dialect.marks.id
    return _in_body(reply, call.count("after"), lambda data: data.replace(right, wrong, 1))


def _gzip(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    compressed = _with_headers(reply, ("content-encoding", "gzip"))
    if call.word("gzip") == "bomb":
        return replace(compressed, events=None, body=_gzip_bomb(call.count("size")))
    whole = reply.body if reply.events is None else b"".join(event.data for event in reply.events)
    # The stream is gone into one body, billed as a whole.
    return replace(compressed, events=None, body=_gzipped(whole))


def _gzipped(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=31)
    return squeeze.compress(data) + squeeze.flush()


@cache
def _gzip_bomb(size: int) -> bytes:
    """About a thousandth of `size` bytes of gzip that unpack to `size` blanks (rounded up to whole MiB).

    One MiB is compressed and then repeated: blocks that end in a full flush do not refer to each other.
    """
    blocks = -(-size // _GZIP_BLOCK)
    blanks = b" " * _GZIP_BLOCK
    squeeze = zlib.compressobj(level=9, wbits=-15)
    block = squeeze.compress(blanks) + squeeze.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for one in repeat(blanks, blocks):
        checksum = zlib.crc32(one, checksum)
    start = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    end = squeeze.flush() + checksum.to_bytes(4, "little") + (blocks * _GZIP_BLOCK % 2**32).to_bytes(4, "little")
    return start + block * blocks + end


# --- how it gets to the socket -----------------------------------------------------------------------------


def _delay(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    yield Pause(call.seconds("delay"))
    yield from steps


def _slow_headers(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Write) and not step.pieces and step.wire.startswith(b"HTTP/"):
            for position in range(len(step.wire)):
                yield Write(step.wire[position : position + 1])
                yield Pause(call.seconds("slow-headers"))
        else:
            yield step


def _hang(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:  # noqa: ARG001
    yield Pause(float("inf"))


def _rst(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    if call.has("after"):
        held = yield from first(steps, call.count("after"))
        if held is None:
            return
        yield Pause(_BEFORE_RESET_S)
    yield End.RESET


def _by_close(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return replace(reply, framing="close")


def _eof(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    held = yield from first(steps, call.count("after"))
    if held is not None:
        yield End.CLOSE


def _truncate_framing(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    return replace(reply, framing="length" if call.word("truncate") == "length" else "chunked")


def _truncate(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    held = yield from first(steps, call.count("after"))
    if held is None:
        return
    if call.word("truncate") == "chunk":
        yield Write(held.wire[: len(held.wire) // 2])
    yield End.CLOSE


def _silence(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    held = yield from first(steps, call.count("after"))
    if held is not None:
        yield Pause(float("inf"))


def _drip_framing(reply: Reply, call: FaultCall, asked: Asked) -> Reply:  # noqa: ARG001
    """Comments need no known length; anything else keeps its framing."""
    return replace(reply, framing="chunked") if call.word("drip") == "comments" else reply


def _drip(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    every = call.seconds("every")
    if call.word("drip") == "bytes":
        yield from _byte_by_byte(steps, call.count("after"), every)
        return
    held = yield from first(steps, call.count("after"))
    if held is None:
        return
    comment = b": still working\n\n"
    while True:
        yield Pause(every)
        yield Write(framed(comment, "chunked"), comment)


def _byte_by_byte(steps: Iterator[Step], after: int, every: float) -> Iterator[Step]:
    held = yield from first(steps, after)
    if held is None:
        return
    for step in chain((held,), steps):
        if isinstance(step, Write):
            for part in _sliced(step, 1):
                yield part
                yield Pause(every)
        else:
            yield step


def _split(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:
    size = call.count("split")
    for step in steps:
        if isinstance(step, Write) and step.pieces:
            for part in _sliced(step, size):
                yield part
                # The next loop iteration: otherwise the writes would be joined on their way to the socket.
                yield Pause(0)
        else:
            yield step


def _sliced(step: Write, size: int) -> Iterator[Write]:
    """The wire bytes of `step` in slices; what they mean goes with the last."""
    end = len(step.wire)
    for start in range(0, end - size, size):
        yield Write(step.wire[start : start + size])
    last = (end - 1) // size * size
    yield step._replace(wire=step.wire[last:])


def _not_http(steps: Iterator[Step], call: FaultCall) -> Iterator[Step]:  # noqa: ARG001
    yield Write(b"\x15\x03\x01\x00\x02\x02\x46 this is not HTTP\r\n\r\n")
    yield End.CLOSE


# --- the table ---------------------------------------------------------------------------------------------

TIMES: Final = Option("times", "count")

_AFTER_0: Final = Option("after", "count", "0")
_AFTER_1: Final = Option("after", "count", "1")

_ROWS: Final = (
    Fault(
        "status",
        "Answers with this status (200 to 599) in the provider's words. `retry-after` is sent as given; `date` or "
        "`date:SECONDS` becomes an HTTP date.",
        (Option("status", "count", "500", least=200, most=599), Option("retry-after", "word")),
        on_reply=_status,
    ),
    Fault("echo-key", "401 whose message repeats the whole API key.", on_reply=_echo_key),
    Fault(
        "redirect",
        "A 3xx status with this Location.",
        (
            Option("redirect", "count", "307", least=300, most=399),
            Option("location", "word", "http://169.254.169.254/latest/meta-data/"),
        ),
        on_reply=_redirect,
    ),
    Fault("delay", "Waits before the first byte.", (Option("delay", "duration", "1s"),), on_steps=_delay),
    Fault(
        "slow-headers",
        "Sends the headers one byte at a time, this far apart.",
        (Option("slow-headers", "duration", "50ms"),),
        on_steps=_slow_headers,
    ),
    Fault("hang", "Never answers and keeps the connection open.", on_steps=_hang),
    Fault(
        "rst",
        "Resets the connection (TCP RST): before the headers, or once `after` pieces are out.",
        (Option("after", "count"),),
        on_steps=_rst,
    ),
    Fault(
        "eof",
        "Sends the body without a length and closes the connection cleanly once `after` pieces are out.",
        (_AFTER_1,),
        on_reply=_by_close,
        on_steps=_eof,
    ),
    Fault(
        "truncate",
        "Closes inside a chunk (`chunk`), or before the announced Content-Length is reached (`length`).",
        (Option("truncate", "word", "chunk", ("chunk", "length")), _AFTER_1),
        on_reply=_truncate_framing,
        on_steps=_truncate,
    ),
    Fault("silence", "Falls silent once `after` pieces are out; the connection stays.", (_AFTER_1,), on_steps=_silence),
    Fault(
        "drip",
        "Once `after` pieces are out: the rest byte by byte (`bytes`), or nothing but SSE comments without end "
        "(`comments`).",
        (
            Option("drip", "word", "bytes", ("bytes", "comments")),
            Option("every", "duration", "50ms"),
            _AFTER_0,
        ),
        on_reply=_drip_framing,
        on_steps=_drip,
    ),
    Fault(
        "split",
        "Cuts every piece of the body into writes of this many bytes, through code points and line ends alike.",
        (Option("split", "count", "1", least=1),),
        on_steps=_split,
    ),
    Fault(
        "no-done",
        "A well-formed reply without the end mark of its dialect (`[DONE]`, `message_stop`, `response.completed`, the "
        "chunk with the finish reason); with `after`, the stream ends there.",
        (Option("after", "count"),),
        on_reply=_no_done,
    ),
    Fault(
        "stream-error",
        "Once `after` events are out, an `error` event ends the stream; a plain call gets a 500.",
        (_AFTER_1,),
        on_reply=_stream_error,
    ),
    Fault("not-json", "A body, or once `after` events are out an event, that is not JSON.", (_AFTER_1,), _not_json),
    Fault("not-http", "Bytes that are not HTTP, then a close.", on_steps=_not_http),
    Fault(
        "long-line",
        "One line of this many bytes: an event once `after` events are out, or a member of the plain body.",
        (Option("long-line", "count", "5000000", most=_LARGEST_PIECE), _AFTER_1),
        on_reply=_long_line,
    ),
    Fault(
        "giant-event",
        "One event of many lines, this many bytes in all, once `after` events are out.",
        (Option("giant-event", "count", "5000000", most=_LARGEST_PIECE), _AFTER_1),
        on_reply=_giant_event,
    ),
    Fault(
        "gzip",
        "Compresses the body although nobody asked (`plain`), or sends about 200 kB that unpack to `size` bytes "
        "(`bomb`).",
        (Option("gzip", "word", "plain", ("plain", "bomb")), Option("size", "count", "200000000")),
        on_reply=_gzip,
    ),
    Fault("invalid-utf8", "Bytes that are not UTF-8 in the text, from event `after` on.", (_AFTER_0,), _invalid_utf8),
    Fault("bom", "A byte order mark before the body.", on_reply=_bom),
    Fault(
        "usage",
        "Misreports the usage; the ledger keeps the true figures.",
        (Option("usage", "word", "missing", SHAPES),),
    ),
    Fault("finish-twice", "Sends the event with the finish reason twice.", on_reply=_finish_twice),
    Fault(
        "wrong-index", "Numbers the first choice, block or item 7, from event `after` on.", (_AFTER_1,), _wrong_index
    ),
    Fault("wrong-id", "Changes the id of the answer, from event `after` on.", (_AFTER_1,), _wrong_id),
    Fault("headers", "Adds this many headers.", (Option("headers", "count", "20000", most=100_000),), _many_headers),
    Fault(
        "big-header",
        "Adds one header of this many bytes.",
        (Option("big-header", "count", "70000", most=_LARGEST_PIECE),),
        _big_header,
    ),
    Fault("set-cookie", "Adds two Set-Cookie headers.", on_reply=_set_cookie),
    Fault("hop-by-hop", "Adds hop-by-hop headers, one of them named by Connection.", on_reply=_hop_by_hop),
    Fault(
        "content-type",
        "Announces another content type.",
        (Option("content-type", "word", "text/html"),),
        on_reply=_content_type,
    ),
)

FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in _ROWS}


def bent_reply(reply: Reply, calls: Iterable[FaultCall], asked: Asked) -> Reply:
    """`reply` as the faults want it said, each applied to what the one before left."""
    for call in calls:
        on_reply = FAULTS[call.name].on_reply
        if on_reply is not None:
            reply = on_reply(reply, call, asked)
    return reply


def bent_steps(steps: Iterator[Step], calls: Iterable[FaultCall]) -> Iterator[Step]:
    """`steps` as the faults want them taken."""
    for call in calls:
        on_steps = FAULTS[call.name].on_steps
        if on_steps is not None:
            steps = on_steps(steps, call)
    return steps
