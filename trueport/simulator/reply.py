"""A reply as a value, and the steps that put it on the socket.

An answer is first a `Reply`; `in_steps` spells it out as writes, faults bend either, and only the server's
connection performs the steps. So everything up to the socket is pure and can be read without it.
"""

import enum
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, NamedTuple

from trueport.simulator.usage import NO_USAGE, Usage

Framing = Literal["length", "chunked", "close"]

LAST_CHUNK: Final = b"0\r\n\r\n"
_LARGEST_WRITE: Final = 64 * 1024
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_BODILESS: Final = frozenset({204, 205, 304})


class Letterhead(NamedTuple):
    """What every reply of a provider says about itself: the header its request ids are in, and its other lines."""

    request_id: str
    lines: str


# Figures of a healthy account; they never move, so that the same request gets the same reply.
OPENAI_LETTERHEAD: Final = Letterhead(
    "x-request-id",
    "server: trueport-simulator\r\n"
    "openai-version: 2020-10-01\r\n"
    "openai-organization: org-simulator\r\n"
    "openai-processing-ms: 1\r\n"
    "x-ratelimit-limit-requests: 10000\r\n"
    "x-ratelimit-limit-tokens: 2000000\r\n"
    "x-ratelimit-remaining-requests: 9999\r\n"
    "x-ratelimit-remaining-tokens: 1999000\r\n"
    "x-ratelimit-reset-requests: 6ms\r\n"
    "x-ratelimit-reset-tokens: 30ms\r\n",
)


class Event(NamedTuple):
    """One event of a stream, with its blank line, and the completion tokens it is billed."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is bytes: either a whole `body` or the `events` of a stream.

    `events` may be an iterator and is then good for one sending. `framing` is what the connection needs
    to know where the body ends; unset, a body goes with its length and a stream in chunks.
    """

    status: int = 200
    body: bytes = b""
    events: Iterable[Event] | None = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    framing: Framing | None = None
    usage: Usage = NO_USAGE


class Write(NamedTuple):
    """Bytes for the socket, and what they mean: the part of the body they carry, how many pieces
    (events, or halves of a plain body) and how many completion tokens are out once they are written."""

    wire: bytes
    payload: bytes = b""
    pieces: int = 0
    tokens: int = 0


class Pause(NamedTuple):
    """Wait before the next step; infinity waits until the client leaves."""

    seconds: float


class End(enum.Enum):
    """Give the connection up before the reply is complete."""

    RESET = "reset"
    CLOSE = "close"


Step = Write | Pause | End


def framing_of(reply: Reply) -> Framing:
    """How the end of the body is told."""
    return reply.framing or ("length" if reply.events is None else "chunked")


def framed(payload: bytes, framing: Framing) -> bytes:
    """`payload` as it goes on the wire."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if framing == "chunked" else payload


class Sending(NamedTuple):
    """What goes into the head of a reply beside the reply itself."""

    request_id: str
    keep_alive: bool
    letterhead: Letterhead = OPENAI_LETTERHEAD


def head(reply: Reply, length: int, sending: Sending) -> bytes:
    """The status line and headers of `reply`; `length` counts only where the body is framed by it."""
    letterhead = sending.letterhead
    match framing_of(reply):
        case "length":
            framing = "" if reply.status in _BODILESS else f"content-length: {length}\r\n"
        case "chunked":
            framing = "transfer-encoding: chunked\r\n"
        case "close":
            framing = ""
    more = "".join(f"{name}: {value}\r\n" for name, value in reply.headers) if reply.headers else ""
    return (
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Unknown')}\r\n"
        f"content-type: {reply.content_type}\r\n{framing}"
        f"connection: {'keep-alive' if sending.keep_alive else 'close'}\r\n"
        f"{letterhead.request_id}: {sending.request_id}\r\n{letterhead.lines}{more}\r\n"
    ).encode("latin-1")


def in_bulk(reply: Reply, sending: Sending) -> Iterator[Step]:
    """The steps of `reply` in as few writes as possible, 64 KiB or so each."""
    if reply.events is None:
        body = b"" if reply.status in _BODILESS else reply.body
        start = head(reply, len(body), sending)
        yield Write(start + body, body, 1, reply.usage.completion)
        return
    wires, payloads, tokens, size = [head(reply, 0, sending)], [], 0, 0
    for event in reply.events:
        wires.append(framed(event.data, "chunked"))
        payloads.append(event.data)
        tokens += event.tokens
        size += len(event.data)
        if size >= _LARGEST_WRITE:
            yield Write(b"".join(wires), b"".join(payloads), len(payloads), tokens)
            wires, payloads, tokens, size = [], [], 0, 0
    wires.append(LAST_CHUNK)
    yield Write(b"".join(wires), b"".join(payloads), len(payloads), tokens)


def in_steps(reply: Reply, sending: Sending) -> Iterator[Step]:
    """The steps of `reply` one by one: the head, each event (or each half of a plain body), the end."""
    framing = framing_of(reply)
    parts = halves(reply) if reply.events is None else reply.events
    if framing == "length" and reply.events is not None:
        parts = list(parts)
    length = sum(len(part.data) for part in parts) if isinstance(parts, list) else 0
    yield Write(head(reply, length, sending))
    for part in parts:
        yield Write(framed(part.data, framing), part.data, 1, part.tokens)
    if framing == "chunked":
        yield Write(LAST_CHUNK)


def halves(reply: Reply) -> list[Event]:
    """A plain body in two pieces, so that it can be interrupted; it is billed with the first."""
    body = b"" if reply.status in _BODILESS else reply.body
    middle = (len(body) + 1) // 2
    return [part for part in (Event(body[:middle], reply.usage.completion), Event(body[middle:])) if part.data]


def paced(steps: Iterator[Step], seconds: float) -> Iterator[Step]:
    """The same steps with a pause before every piece but the first."""
    begun = False
    for step in steps:
        if isinstance(step, Write) and step.pieces:
            if begun:
                yield Pause(seconds)
            begun = True
        yield step


def first(steps: Iterator[Step], pieces: int) -> Generator[Step, None, Write | None]:
    """Pass steps on until `pieces` pieces are out.

    Returns the piece that would have come next, or None when the reply ended before: a fault that was to
    strike after more pieces than there are never strikes.
    """
    out = 0
    for step in steps:
        if isinstance(step, Write) and step.pieces:
            if out >= pieces:
                return step
            out += step.pieces
        yield step
    return None
