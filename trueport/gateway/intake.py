"""Taking a client's request off the wire: headers that mean one thing, and a body within size and time."""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from trueport.kit.errors import InvalidRequest, TrueportError

Headers = Iterable[tuple[bytes, bytes]]
# ASGI messages are mappings whose values depend on their type.
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

GZIP_MOST_RATIO: Final = 20
GRACE_S: Final = 5.0


class BodyTooLarge(TrueportError):
    """The request's body is larger than this path takes."""

    code = "body_too_large"
    status = 413

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__("The request body is too large.", limit_bytes=limit_bytes)


class RequestTimeout(TrueportError):
    """The request's body arrives too slowly."""

    code = "request_timeout"
    status = 408

    def __init__(self) -> None:
        super().__init__("The request body did not arrive in time.")


class UnsupportedEncoding(TrueportError):
    """The body is compressed in a way, or so far, that is not taken."""

    code = "unsupported_encoding"
    status = 415


class ClientGone(TrueportError):
    """The client closed the connection before its request was complete; nobody reads the answer."""

    code = "client_closed"
    status = 499

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class InvalidHost(InvalidRequest):
    """The request does not say, or says twice or unclearly, which host it is for."""

    code = "invalid_host"


_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9_-](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-])){0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_NAMES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++\n)*+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def check_host(headers: Headers) -> str:
    """The one Host of the request, lower case, with its port if it has one. Raises InvalidHost."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        raise InvalidHost("The request must have exactly one Host header.")
    if _HOST.fullmatch(hosts[0]) is None:
        raise InvalidHost("The Host header is not a host name with an optional port.")
    return hosts[0].decode("ascii").lower()


def check_headers(headers: Headers) -> None:
    """Refuse headers on which two servers in a row might disagree, as far as this one gets to see them.

    Raises InvalidRequest for control characters, names that are no token, two lengths, or a length beside a
    transfer coding.
    """
    names = [name for name, _ in headers]
    if _CONTROL.search(b" ".join([value for _, value in headers])) is not None:
        raise InvalidRequest("A header holds a control character.")
    listed = b"\n".join([*names, b""])
    if _NAMES.fullmatch(listed) is None or listed.count(b"\n") != len(names):
        raise InvalidRequest("A header's name is not a token.")
    lengths = names.count(b"content-length")
    codings = names.count(b"transfer-encoding")
    if lengths > 1 or codings > 1 or (lengths and codings):
        raise InvalidRequest("The request states the length of its body more than once.")


async def read_body(
    receive: Receive,
    headers: Headers,
    *,
    limit_bytes: int,
    deadline_s: float = 30.0,
    least_bytes_per_s: int = 1_000,
    grace_s: float = GRACE_S,
) -> bytes:
    """The request's body, inflated if it came as gzip, never more than `limit_bytes` of it in memory.

    A body may take `deadline_s` in all, and after `grace_s` at no time have come slower than `least_bytes_per_s`.

    Raises BodyTooLarge (before reading, where the length is stated), RequestTimeout, UnsupportedEncoding,
    ClientGone, and InvalidRequest for a stated length or gzip data that does not hold.
    """
    length, inflate = _framing(headers, limit_bytes)
    if length == 0:
        return b""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    parts: list[bytes] = []
    received = size = 0
    more = True
    try:
        async with asyncio.timeout_at(started_s + min(deadline_s, grace_s)) as pace:
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                chunk: bytes = message.get("body", b"")
                received += len(chunk)
                # Asking again only to hear that nothing follows would be a round trip to the server's own thread.
                more = message.get("more_body", False) and received != length
                if inflate is not None:
                    chunk = inflate.feed(chunk)
                size += len(chunk)
                if size > limit_bytes:
                    raise BodyTooLarge(limit_bytes=limit_bytes)
                if chunk:
                    parts.append(chunk)
                if more:
                    pace.reschedule(started_s + min(deadline_s, grace_s + received / least_bytes_per_s))
    except TimeoutError as error:
        raise RequestTimeout from error
    if length is not None and received != length:
        raise InvalidRequest("The body is not as long as its Content-Length says.")
    if inflate is not None:
        inflate.check_complete()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _framing(headers: Headers, limit_bytes: int) -> tuple[int | None, "_Inflate | None"]:
    length: int | None = None
    coding = b""
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 19:
                raise InvalidRequest("The Content-Length is not a number.")
            length = int(value)
        elif name == b"content-encoding":
            coding = coding + b"," + value if coding else value
    if length is not None and length > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    coding = coding.strip().lower()
    if coding in {b"", b"identity"}:
        return length, None
    if coding not in {b"gzip", b"x-gzip"}:
        raise UnsupportedEncoding("The body may be sent as it is or as gzip.")
    return length, _Inflate(limit_bytes)


class _Inflate:
    """Undoes gzip as it comes, stopping one byte past what is allowed."""

    __slots__ = ("_limit", "_read", "_written", "_zlib")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._read = 0
        self._written = 0

    def feed(self, data: bytes) -> bytes:
        self._read += len(data)
        allowed = min(self._limit, GZIP_MOST_RATIO * self._read) - self._written
        try:
            out = self._zlib.decompress(data, max(0, allowed) + 1)
        except zlib.error as error:
            raise InvalidRequest("The body is not valid gzip.") from error
        self._written += len(out)
        if self._written > self._limit:
            raise BodyTooLarge(limit_bytes=self._limit)
        if len(out) > allowed:
            raise UnsupportedEncoding("The body is compressed further than allowed.")
        return out

    def check_complete(self) -> None:
        if not self._zlib.eof or self._zlib.unused_data:
            raise InvalidRequest("The body is not one whole gzip member.")
