"""One call on a connection while it lasts: its steps, its ledger entry, and the bytes it received and sent."""

from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from typing import Final

from trueport.simulator.http import Request, header_pairs
from trueport.simulator.ledger import Entry
from trueport.simulator.reply import Step, Write
from trueport.simulator.usage import Usage

KEPT_EXCHANGES: Final = 50
_MOST_SENT_KEPT: Final = 8 * 1024 * 1024


class Exchange:
    """A request being answered. `started` is on the monotonic clock, in seconds."""

    __slots__ = ("_kept_bytes", "entry", "keep_alive", "request", "sent", "started", "steps", "usage")

    def __init__(
        self,
        request: Request,
        entry: Entry,
        steps: Iterator[Step],
        usage: Usage,
        started: float,
        *,
        keep_alive: bool,
    ) -> None:
        self.request = request
        self.entry = entry
        self.steps = steps
        self.usage = usage
        self.started = started
        self.keep_alive = keep_alive
        self.sent: list[bytes] = []
        self._kept_bytes = 0

    def record(self, write: Write) -> None:
        """Bill and remember what has just been written."""
        entry = self.entry
        entry.bytes_sent += len(write.wire)
        entry.completion_tokens += write.tokens
        if entry.stream:
            entry.events_sent += write.pieces
        if entry.bytes_sent == len(write.wire):
            self._bill_request()
        if write.tokens:
            entry.reasoning_tokens = self.usage.reasoning
        if write.payload and self._kept_bytes < _MOST_SENT_KEPT:
            self.sent.append(write.payload)
            self._kept_bytes += len(write.payload)

    def _bill_request(self) -> None:
        """What is owed as soon as an answer begins."""
        entry, usage = self.entry, self.usage
        entry.prompt_tokens, entry.cached_tokens = usage.prompt, usage.cached
        entry.cache_write_tokens, entry.cache_write_1h_tokens = usage.cache_write, usage.cache_write_1h
        entry.audio_ms, entry.images, entry.web_searches = usage.audio_ms, usage.images, usage.web_searches

    def as_json(self) -> dict[str, object]:
        """Exactly what was received and sent; `sent` is the body without HTTP's chunk framing, from its beginning."""
        return {
            "seq": self.entry.seq,
            "interaction": self.entry.interaction,
            "method": self.request.method,
            "path": self.request.path,
            "query": self.request.query,
            "headers": header_pairs(self.request.head),
            "body": b64encode(self.request.body).decode(),
            "status": self.entry.status,
            "sent": b64encode(b"".join(self.sent)).decode(),
            "sent_truncated": self._kept_bytes >= _MOST_SENT_KEPT,
        }


class Recent:
    """The last KEPT_EXCHANGES exchanges."""

    def __init__(self) -> None:
        self._kept: deque[Exchange] = deque(maxlen=KEPT_EXCHANGES)

    def add(self, exchange: Exchange) -> None:
        self._kept.append(exchange)

    def last(self, interaction: str | None = None) -> Exchange | None:
        """The latest exchange, or the latest of that interaction."""
        if interaction is None:
            return self._kept[-1] if self._kept else None
        return next((kept for kept in reversed(self._kept) if kept.entry.interaction == interaction), None)

    def clear(self) -> None:
        self._kept.clear()
