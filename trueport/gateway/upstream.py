"""One HTTP exchange with a provider, with a deadline on every wait and a name for everything that goes wrong."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from trueport.gateway.egress import Egress, EgressPolicy, EgressRefused, Pool, PoolKey, RefusedAddress, UpstreamFailure
from trueport.gateway.exchange import Exchange, HeadersLate, exchange, request_head
from trueport.kit.errors import TrueportError

__all__ = [
    "EgressRefused",
    "Timeouts",
    "Upstream",
    "UpstreamAnswer",
    "UpstreamConnect",
    "UpstreamFailure",
    "UpstreamInvalid",
    "UpstreamRedirect",
    "UpstreamRequest",
    "UpstreamStalled",
    "UpstreamTimeout",
    "UpstreamTls",
    "UpstreamTruncated",
]


class UpstreamConnect(UpstreamFailure):
    """No connection, or one that ended before the first byte of an answer (then `request_sent` is true)."""

    code = "upstream_connect"
    status = 502


class UpstreamTls(UpstreamFailure):
    """The provider did not prove who it is."""

    code = "upstream_tls"
    status = 502


class UpstreamTimeout(UpstreamFailure):
    """Connecting, the headers or the whole answer took too long."""

    code = "upstream_timeout"
    status = 504


class UpstreamStalled(UpstreamFailure):
    """A stream on which nothing happens any more."""

    code = "upstream_stalled"
    status = 504


class UpstreamTruncated(UpstreamFailure):
    """The answer broke off."""

    code = "upstream_truncated"
    status = 502


class UpstreamInvalid(UpstreamFailure):
    """The answer is not what HTTP, or the bounds set for it, allow."""

    code = "upstream_invalid"
    status = 502


class UpstreamRedirect(UpstreamFailure):
    """The provider points elsewhere. Never followed: the key was entered for this host."""

    code = "upstream_redirect"
    status = 502
    counts_as_failure = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for connecting, until the headers are complete, between stream events, and for everything."""

    connect_s: float = 10.0
    headers_s: float = 60.0
    event_s: float = 30.0
    total_s: float = 600.0


_DEFAULT_TIMEOUTS: Final = Timeouts()


class UpstreamRequest(msgspec.Struct, frozen=True):
    """What to send. `url` comes from `parse_upstream_url` with a path below it; `headers` carry the credential.

    Headers that belong to the connection or its framing are not the caller's to set: `send` raises ValueError.
    """

    method: str
    url: URL
    headers: tuple[tuple[str, str], ...]
    body: bytes
    pool: PoolKey
    timeouts: Timeouts = _DEFAULT_TIMEOUTS

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method}, {len(self.headers)} headers, {len(self.body)} bytes)"


_KEPT: Final = frozenset({b"content-type", b"retry-after", b"retry-after-ms"})
# The organisation and project behind the credential are nobody's business but its owner's.
_WITHHELD: Final = frozenset({b"openai-organization", b"openai-project"})
_REQUEST_IDS: Final = frozenset({b"x-request-id", b"request-id"})
_PLAIN_VALUE: Final = re.compile(rb"[\x20-\x7e]{0,512}")


class Upstream:
    """Sends requests through the guarded egress."""

    __slots__ = ("_client_timeouts", "_egress")

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._client_timeouts: dict[float, aiohttp.ClientTimeout] = {}

    @property
    def policy(self) -> EgressPolicy:
        """What may be reached."""
        return self._egress.policy

    async def check(self, url: URL) -> None:
        """Look whether something permitted answers to the host's name now. Raises EgressRefused, OSError."""
        await self._egress.check(url)

    async def send(self, request: UpstreamRequest) -> "UpstreamAnswer":
        """Send `request` and wait for the complete headers of the answer, whatever its status.

        The caller owns the answer and closes it. Raises a subclass of UpstreamFailure; nothing is retried but an
        idempotent request under which a kept connection ended, and no redirect followed.
        """
        timeouts, body = request.timeouts, request.body
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        pool = self._egress.lease(request.pool, request.url)
        headers_s = min(timeouts.headers_s, timeouts.total_s)
        try:
            opened = await exchange(
                pool,
                request.method,
                request_head(request.method, request.url, pool.host, request.headers, len(body)),
                body,
                connect=self._client_timeout(min(timeouts.connect_s, headers_s)),
                headers_by_s=started_s + headers_s,
            )
        except BaseException as error:
            self._egress.give_back(pool)
            failure = _failure_before_headers(error)
            if failure is None:
                raise
            raise failure from error
        answer = UpstreamAnswer(opened, self._egress, pool, loop, started_s + timeouts.total_s)
        try:
            _check_answer(opened.message)
        except UpstreamFailure:
            answer.close()
            raise
        return answer

    def _client_timeout(self, connect_s: float) -> aiohttp.ClientTimeout:
        """Building one costs more than looking it up, and there are only as many as there are settings."""
        found = self._client_timeouts.get(connect_s)
        if found is None:
            if len(self._client_timeouts) > 256:
                self._client_timeouts.clear()
            # ceil_threshold: aiohttp rounds longer timeouts up to whole seconds otherwise.
            found = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=1e9)
            self._client_timeouts[connect_s] = found
        return found


def _failure_before_headers(error: BaseException) -> UpstreamFailure | None:  # noqa: PLR0911 - a table of cases
    """The name of what went wrong, or None for what is not a failure of the exchange (cancellation, our bugs)."""
    match error:
        case UpstreamFailure():
            return None
        case aiohttp.ConnectionTimeoutError():
            return UpstreamTimeout("Connecting to the provider took too long.", request_sent=False)
        case HeadersLate():
            return UpstreamTimeout("The provider did not begin its answer in time.")
        case aiohttp.ClientSSLError():
            return UpstreamTls("No secure connection to the provider could be made.", request_sent=False)
        case aiohttp.ClientConnectorError():
            if isinstance(error.os_error, RefusedAddress):
                return EgressRefused()
            return UpstreamConnect("The provider could not be reached.", request_sent=False)
        case aiohttp.InvalidURL():
            return EgressRefused()
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            return UpstreamConnect("The provider closed the connection without an answer.")
        case aiohttp.ClientError() | HttpProcessingError():
            return UpstreamInvalid("The provider's answer is not valid HTTP.")
    return None


def _check_answer(message: RawResponseMessage) -> None:
    status = message.code
    if 300 <= status < 400:
        raise UpstreamRedirect("The provider answered with a redirect.")
    if not 200 <= status < 600:
        raise UpstreamInvalid("The provider answered with a status that ends no exchange.")
    headers = message.headers
    if headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UpstreamInvalid("The provider compressed its answer although it was asked not to.")
    if headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise UpstreamInvalid("The provider used a transfer coding other than chunked.")


class UpstreamAnswer:
    """The answer: status and headers at once, the body as a whole or as it arrives.

    `headers` are those on the allow-list, lower case. Whoever holds it calls `close`, which is immediate,
    may be called twice, and leaves the connection to the next call only if the body was complete.
    """

    __slots__ = (
        "_content",
        "_egress",
        "_error",
        "_exchange",
        "_loop",
        "_pool",
        "_taken",
        "_timer",
        "headers",
        "status",
        "upstream_request_id",
    )

    def __init__(
        self,
        opened: Exchange,
        egress: Egress,
        pool: Pool,
        loop: asyncio.AbstractEventLoop,
        end_s: float,
    ) -> None:
        self._exchange = opened
        self._content = opened.content
        self._egress = egress
        self._pool: Pool | None = pool
        self._loop = loop
        self._error: TrueportError | None = None
        self._taken = 0
        self._timer: asyncio.TimerHandle | None = loop.call_at(end_s, self._out_of_time)
        self.status = opened.message.code
        self.headers, self.upstream_request_id = _kept(opened.message.raw_headers)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body.

        Raises UpstreamInvalid beyond `limit_bytes`, UpstreamTruncated when it breaks off, UpstreamTimeout when
        the total time is up. The answer is closed afterwards in any case.
        """
        try:
            if (self._exchange.content_length or 0) > limit_bytes:
                raise UpstreamInvalid("The provider's answer is larger than allowed.")
            parts: list[bytes] = []
            size = 0
            while chunk := await self._read():
                size += len(chunk)
                if size > limit_bytes:
                    raise UpstreamInvalid("The provider's answer is larger than allowed.")
                parts.append(chunk)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What each read brought, as it came. Raises as `read` does, except that there is no limit."""
        while chunk := await self.read_chunk():
            yield chunk

    async def read_chunk(self) -> bytes:
        """The next bytes, or none at the end. Gives other tasks a turn between two, so that a loop can be cancelled."""
        if self._taken and self._content.total_bytes != self._taken:
            await asyncio.sleep(0)  # what is there already would be returned without waiting
        return await self._read()

    async def _read(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except BaseException as error:
            failure = self._failure_in_body(error)
            self.close()
            if failure is None or failure is error:
                raise
            raise failure from error
        if chunk:
            self._taken += len(chunk)
            return chunk
        self._check_end()
        self.close()
        return b""

    def fail(self, error: TrueportError) -> None:
        """Let the present or next read raise `error`: for clocks that watch the answer from outside."""
        if self._error is None:
            self._error = error
            self._content.set_exception(error)

    def close(self) -> None:
        """Free the connection at once. An incomplete answer ends it, so that the provider stops generating."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._exchange.end(may_reuse=self._error is None)
        self._egress.give_back(pool)

    def _out_of_time(self) -> None:
        self._timer = None
        self.fail(UpstreamTimeout("The provider did not finish its answer in time."))

    def _failure_in_body(self, error: BaseException) -> TrueportError | None:
        if self._error is not None and isinstance(error, Exception):
            return self._error
        match error:
            case aiohttp.ClientError() | OSError() | RuntimeError():
                # RuntimeError is how aiohttp says that the connection went away while nobody was reading.
                return UpstreamTruncated("The provider's answer broke off.")
            case HttpProcessingError():
                return UpstreamInvalid("The provider's answer is not valid HTTP.")
        return None

    def _check_end(self) -> None:
        """A body that lasts until the connection ends is complete only if it ended in peace."""
        if self._error is not None:
            self.close()
            raise self._error
        opened = self._exchange
        if opened.content_length is not None or "Transfer-Encoding" in opened.message.headers:
            return
        lost = opened.lost
        if isinstance(lost, OSError):
            self.close()
            raise UpstreamTruncated("The provider's answer broke off.") from lost


def _kept(raw_headers: tuple[tuple[bytes, bytes], ...]) -> tuple[Mapping[str, str], str | None]:
    """The headers on the allow-list, the first of each name, and the provider's own request id."""
    kept: dict[str, str] = {}
    request_id = None
    for raw_name, value in raw_headers:
        name = raw_name.lower()
        if name in _KEPT or (name.startswith(b"openai-") and name not in _WITHHELD):
            if _PLAIN_VALUE.fullmatch(value) is not None:
                kept.setdefault(name.decode("ascii", "replace"), value.decode())
        elif name in _REQUEST_IDS and request_id is None and _PLAIN_VALUE.fullmatch(value) is not None:
            request_id = value[:200].decode()
    return kept, request_id
