"""The gateway's own small ASGI application: bytes in, a Call to the relay, bytes out.

Gateway paths never reach the web framework; `owns` tells which they are. The server's `send` neither raises nor yields
once the client has gone, so a watcher waits for the disconnect and cancels the call's task.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from trueport.gateway.call import Call, HeaderList, Reply, Wire
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.azure import AzureDialect
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.dialects.google import GoogleDialect
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.intake import ClientGone, Receive, check_headers, check_host, read_body
from trueport.gateway.own import detect
from trueport.gateway.own.detect import DetectDialect
from trueport.gateway.ports import Tools
from trueport.gateway.relay import CLIENT_GONE, refusal, relay
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError, Unavailable
from trueport.kit.ids import InteractionId, new_id
from trueport.kit.logging import get_logger

log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Place = tuple[Dialect, str]
"""A dialect and the operation below its root."""

MOST_BODY_BYTES: Final = 20 << 20
STALLED_CLIENT_S: Final = 30.0
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "HEAD", "PUT", "PATCH"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# Segments of letters, digits and a few marks; no empty one, none of dots only.
_OPERATION: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._:@,=-]+(?:/[A-Za-z0-9._:@,=-]+)*")

_OPENAI: Final = OpenAIDialect()
_ANTHROPIC: Final = AnthropicDialect()
_GOOGLE: Final = GoogleDialect()
_AZURE: Final = AzureDialect()
DETECT: Final = DetectDialect()

WIRES: Final[Mapping[Wire, Dialect]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "google": _GOOGLE}
"""For each wire the dialect that reads what its providers answer."""

_SERVICES: Final = "/trueportai-services"
_VERSIONED: Final[tuple[tuple[str, Dialect], ...]] = (
    ("/v1/messages", _ANTHROPIC),
    ("/v1/", _OPENAI),
    ("/openai/v1/", _OPENAI),
    ("/anthropic/", _ANTHROPIC),
)
# What stands below these keeps its version, or has none: the dialect knows its own paths.
_WHOLE: Final[tuple[tuple[str, Dialect], ...]] = (
    ("/v1beta/", _GOOGLE),
    ("/google/", _GOOGLE),
    ("/azure/", _AZURE),
    ("/openai/", _AZURE),
)


class UnknownOperation(NotFound):
    """The path names nothing a provider offers."""

    code = "unknown_path"

    def __init__(self) -> None:
        super().__init__("This path is not part of the API.")


class Draining(Unavailable):
    """The process is about to stop and takes no new calls."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("The server is shutting down.")


def dialect_of(path: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Place | None:
    """The dialect that owns `path` and the operation below its root; None when it is not a gateway path.

    An SDK that adds `/v1` to a base URL which already ends in it arrives as `/v1/v1/…` and means the same. On the
    unified paths, `/v1/models` is Anthropic's for clients that name its API's version.
    """
    if path == detect.PATH:
        return (DETECT, detect.OPERATION) if detect.is_for_key(headers) else None
    path = path.removeprefix(_SERVICES)
    while path.startswith("/v1/v1/"):
        path = path[3:]
    for root, dialect in _VERSIONED:
        if path.startswith(root):
            operation = path[4:] if root.startswith("/v1/") else path[len(root) :]
            while operation.startswith("v1/"):
                operation = operation[3:]
            if root == "/v1/" and operation.partition("/")[0] == "models" and _names_anthropic(headers):
                return _ANTHROPIC, operation
            return dialect, operation
    for root, dialect in _WHOLE:
        if path.startswith(root):
            return dialect, path[1:] if root == "/v1beta/" else path[len(root) :]
    return None


def _names_anthropic(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name == b"anthropic-version" for name, _ in headers)


class _ClientWatch:
    """Cancels the call's task once its client has left, or has not taken a byte for `STALLED_CLIENT_S`."""

    __slots__ = ("_loop", "_sending_since_s", "_start", "_task", "_timer", "_watcher", "has_left")

    def __init__(self, receive: Receive) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        # Made once the call waits for its provider: until then nobody could take notice of a client that has left.
        self._start = self._loop.call_soon(self._begin, receive)
        self._sending_since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.has_left = False

    def stop(self) -> None:
        self._start.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def send_begins(self) -> None:
        self._sending_since_s = self._loop.time()
        if self._timer is None:
            self._look_later()

    def send_ended(self) -> None:
        self._sending_since_s = None

    def _begin(self, receive: Receive) -> None:
        self._watcher = self._loop.create_task(self._watch(receive))
        # While the provider is at work, and not once its first event is there to be sent.
        self._look_later()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._give_up()

    def _look(self) -> None:
        since = self._sending_since_s
        if since is not None and self._loop.time() - since > STALLED_CLIENT_S:
            self._give_up()
            return
        self._look_later()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(STALLED_CLIENT_S / 6, self._look)

    def _give_up(self) -> None:
        self.has_left = True
        if self._task is not None:
            self._task.cancel(CLIENT_GONE)


class GatewayApp:
    """An ASGI callable for the gateway's paths. `tools` is set when the process has opened its resources."""

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self.tools: Tools | None = None
        self.is_draining = False
        self.in_flight = 0
        self._idle: asyncio.Event | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send, place: Place | None = None) -> None:
        """Answer one request. `place` is what `dialect_of` says of its path, for whoever has asked already."""
        tools = self.tools
        headers: HeaderList = scope["headers"]
        dialect, operation = place or dialect_of(scope["path"], headers) or (_OPENAI, "")
        interaction_id = InteractionId(new_id("int"))
        call = partial(
            Call,
            interaction_id=interaction_id,
            request_id=request_id_of(headers, interaction_id),
            dialect=dialect,
            method=scope["method"],
            path=operation,
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            peer=self._peer(scope, headers),
            started_us=tools.clock.epoch_us() if tools else 0,
            started_s=tools.clock.monotonic() if tools else 0.0,
        )
        self.in_flight += 1
        task = asyncio.current_task()
        if task is not None:
            self._under_way.add(task)
        try:
            if tools is None or self.is_draining:
                raise Draining
            check_host(headers)
            check_headers(headers)
            if scope["method"] not in _METHODS or _OPERATION.fullmatch(operation) is None:
                raise UnknownOperation
            body = await read_body(receive, headers, limit_bytes=MOST_BODY_BYTES)
            await self._carry(call(body=body), tools, receive, send)
        except ClientGone:
            # The server below says the same of a client that has left, which reads nothing, and of a body whose
            # chunks are not framed as HTTP has it, which it would otherwise answer with a 500.
            await _send_whole(refusal(call(body=b""), InvalidRequest("The request's body is not complete.")), send)
        except TrueportError as error:
            await _send_whole(refusal(call(body=b""), error), send)
        finally:
            self.in_flight -= 1
            if task is not None:
                self._under_way.discard(task)
            if self._idle is not None and not self.in_flight:
                self._idle.set()

    async def until_idle(self) -> None:
        """Wait until no call is under way. New ones are not kept out: set `is_draining` before."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def end_calls(self) -> int:
        """Cancel the calls under way, which then settle as cut short; how many there were."""
        for task in self._under_way:
            task.cancel()
        return len(self._under_way)

    async def _carry(self, call: Call, tools: Tools, receive: Receive, send: Send) -> None:
        watch = _ClientWatch(receive)
        tools.metrics.in_flight.inc()
        has_begun = False
        try:
            reply = await _settled(await relay(call, tools), call, tools)
            has_begun = True
            if reply.stream is None:
                watch.send_begins()
                await _send_whole(reply, send)
            else:
                await _send_stream(reply, watch, send, tools)
        except asyncio.CancelledError:
            if not watch.has_left:
                raise
            with suppress(Unavailable):
                await tools.recorder.settled()
        except Exception as error:  # noqa: BLE001 - the last edge: logged without its text, answered without detail
            log.error("call_failed", interaction=call.interaction_id, error_type=type(error).__name__)
            if not has_begun:
                await _send_whole(refusal(call, TrueportError("Something went wrong on our side.")), send)
        finally:
            watch.stop()
            tools.metrics.in_flight.dec()

    def _peer(self, scope: Scope, headers: HeaderList) -> str:
        """The client's address; a forwarded one only from a proxy that is trusted, its last hop first."""
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        if not self._trusted or not self._trusts(peer):
            return peer
        hops = [part.strip() for name, value in headers if name == b"x-forwarded-for"
                for part in value.decode("latin-1").split(",")]  # fmt: skip
        for hop in reversed(hops):
            peer = hop
            if not self._trusts(hop):
                break
        return peer

    def _trusts(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


async def _settled(reply: Reply, call: Call, tools: Tools) -> Reply:
    """A whole answer whose records are safe, or a refusal in its place; a stream has yet to make its own."""
    if reply.stream is not None:
        return reply
    try:
        await tools.recorder.settled()
    except Unavailable as error:
        return refusal(call, error)
    return reply


async def _send_whole(reply: Reply, send: Send) -> None:
    head = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": head})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_stream(reply: Reply, watch: _ClientWatch, send: Send, tools: Tools) -> None:
    stream = reply.stream
    assert stream is not None  # noqa: S101 - the caller looked
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        async for piece in stream:
            watch.send_begins()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            watch.send_ended()
    finally:
        await stream.aclose()
    # Where they are not safe, the stream has no end.
    await tools.recorder.settled()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def request_id_of(headers: Sequence[tuple[bytes, bytes]], interaction_id: InteractionId) -> str:
    """The client's own id of its request where it has the form of one, else the interaction's under another prefix."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value) is not None:
            return value.decode()
    return f"req_{interaction_id.removeprefix('int_')}"
