"""The provider's books: one entry for every call received, what it was billed and how it ended.

Tests compare them with what the gateway metered, so they say what was really sent, whatever the reply claimed.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec

from trueport.kit.clock import from_epoch_us, rfc3339

DEFAULT_CAPACITY: Final = 200_000


class Entry(msgspec.Struct, gc=False):
    """One call. It exists from the moment the request was received; `ended_us` is None until it is over.

    Times are microseconds since 1970. Tokens are those billed so far: the prompt from the first byte of a
    successful reply, a plain answer with the first half of its body, a stream event by event. `prompt_tokens` is
    all input and holds the cached and the cache-write tokens; `completion_tokens` is all output and holds the
    reasoning, whatever the dialect calls them and counts apart.
    """

    seq: int
    at_us: int
    method: str
    path: str
    model: str | None
    interaction: str | None
    key_hint: str | None
    stream: bool
    status: int | None
    fault: str | None
    body_sha256: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_ms: int = 0
    images: int = 0
    web_searches: int = 0
    dialect: str = "openai"
    events_sent: int = 0
    bytes_sent: int = 0
    completed: bool = False
    client_gone: bool = False
    closed_after_ms: float | None = None
    ended_us: int | None = None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def as_json(self) -> dict[str, object]:
        """The entry as it leaves the process, times in RFC 3339."""
        shown: dict[str, object] = {
            name: getattr(self, name) for name in self.__struct_fields__ if name not in ("at_us", "ended_us")
        }
        shown["total_tokens"] = self.total_tokens
        shown["at"] = rfc3339(from_epoch_us(self.at_us))
        shown["ended"] = None if self.ended_us is None else rfc3339(from_epoch_us(self.ended_us))
        return shown


class Totals(msgspec.Struct):
    """Sums over every call since the last reset, forgotten entries included; tokens count once a call is over."""

    requests: int = 0
    completed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class LineFile(Protocol):
    """Where finished entries are written, a line each."""

    def write(self, data: bytes, /) -> object: ...


class Ledger:
    """Entries in the order received; the oldest go when there are more than `capacity`."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY, file: LineFile | None = None) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._file = file
        self._next_seq = 1
        self._cleared_below = 1
        self.totals = Totals()

    @property
    def entries(self) -> list[Entry]:
        """A copy of what is kept, oldest first."""
        return list(self._entries)

    def only_entry(self) -> Entry:
        """The one entry there is. Raises LookupError when there is none or more than one."""
        if len(self._entries) != 1:
            raise LookupError(f"{len(self._entries)} entries")
        return self._entries[0]

    def take_seq(self) -> int:
        """The number of the next entry; numbers go on after a reset."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def open(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.totals.requests += 1

    def close(self, entry: Entry) -> None:
        """Count a call whose end is filled in, and write it down."""
        totals = self.totals if entry.seq >= self._cleared_below else Totals()
        totals.completed += entry.completed
        totals.prompt_tokens += entry.prompt_tokens
        totals.completion_tokens += entry.completion_tokens
        totals.total_tokens += entry.total_tokens
        if self._file is not None:
            self._file.write(msgspec.json.encode(entry.as_json()) + b"\n")

    def after(self, seq: int, limit: int) -> Iterator[Entry]:
        """Up to `limit` kept entries with a number above `seq`, oldest first."""
        return islice((entry for entry in self._entries if entry.seq > seq), limit)

    def clear(self) -> None:
        """Forget everything. A call in flight does not show up in the new books when it ends."""
        self._cleared_below = self._next_seq
        self._entries.clear()
        self.totals = Totals()
