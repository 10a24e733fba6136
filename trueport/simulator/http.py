"""Just enough HTTP/1.1 to receive requests quickly: heads, bodies by length or in chunks, keep-alive."""

from collections.abc import Mapping
from typing import Final, NamedTuple

LARGEST_HEAD: Final = 256 * 1024
LARGEST_BODY: Final = 128 * 1024 * 1024
_LARGEST_CHUNK_LINE: Final = 1024


class BadRequest(Exception):
    """Bytes that are not a request; the connection cannot be used any further."""


class Request(NamedTuple):
    """A request that arrived whole. Header names are in lower case, the last of a repeated name wins;
    `head` is the request line and headers exactly as received, without the blank line."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    head: bytes
    body: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class RequestReader:
    """Turns received bytes into requests, one at a time and in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Request | None = None
        self._chunks: list[bytes] = []
        self._chunked_size = 0

    @property
    def waiting(self) -> int:
        """How many received bytes are not yet part of a request."""
        return len(self._buffer)

    @property
    def wants_continue(self) -> bool:
        """Whether the client holds its body back until it is told to go on."""
        return self._head is not None and not self._buffer and "expect" in self._head.headers

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next whole request, or None while it is still incomplete.

        Raises BadRequest when what came is no HTTP/1 request or exceeds LARGEST_HEAD or LARGEST_BODY.
        """
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
        head = self._head
        body = self._take_body(head.headers)
        if body is None:
            return None
        self._head = None
        return Request(head.method, head.path, head.query, head.headers, head.head, body) if body else head

    def _take_head(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end > LARGEST_HEAD or (end < 0 and len(self._buffer) > LARGEST_HEAD):
            raise BadRequest("head too large")
        if end < 0:
            return None
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return parse_head(raw)

    def _take_body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._take_chunks()
        length = _whole_number(headers.get("content-length", "0"), base=10)
        if length > LARGEST_BODY:
            raise BadRequest("body too large")
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _take_chunks(self) -> bytes | None:
        while True:
            line_end = self._buffer.find(b"\r\n")
            if line_end < 0:
                if len(self._buffer) > _LARGEST_CHUNK_LINE:
                    raise BadRequest("chunk size line too long")
                return None
            size = _whole_number(self._buffer[:line_end].split(b";")[0].strip().decode("latin-1"), base=16)
            if self._chunked_size + size > LARGEST_BODY:
                raise BadRequest("body too large")
            start, end = line_end + 2, line_end + 2 + size
            if len(self._buffer) < end + 2:
                return None
            self._chunks.append(bytes(self._buffer[start:end]))
            self._chunked_size += size
            del self._buffer[: end + 2]
            if size == 0:
                body = b"".join(self._chunks)
                self._chunks, self._chunked_size = [], 0
                return body


def parse_head(raw: bytes) -> Request:
    """The request line and headers in `raw`, as a request without a body. Raises BadRequest."""
    line, *fields = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = line.split(" ")
    except ValueError as error:
        raise BadRequest("not a request line") from error
    if not version.startswith("HTTP/1."):
        raise BadRequest("not HTTP/1")
    headers = {}
    for one in fields:
        name, colon, value = one.partition(":")
        if not colon:
            raise BadRequest("a header without a colon")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, raw, b"")


def header_pairs(head: bytes) -> list[tuple[str, str]]:
    """Every header of a received `head` in order, names as the client wrote them."""
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return [(name, value.strip()) for name, _, value in pairs]


def _whole_number(text: str, *, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError as error:
        raise BadRequest("not a length") from error
    if number < 0:
        raise BadRequest("a negative length")
    return number
