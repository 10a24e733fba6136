"""What holds for every HTTP exchange, whatever the router makes of it: a sound Host, a request id, safe headers."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from trueport.kit.errors import TrueportError
from trueport.settings import Settings
from trueport.web import problems
from trueport.web.request_id import request_id_of
from trueport.web.tenancy import host_of

_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


class Envelope:
    """The outermost layer of the application. A reply's own cache-control or referrer-policy stays."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        scope["state"]["request_id"] = request_id

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name.lower() != b"x-request-id"]
                present = {name.lower() for name, _ in headers}
                headers.append((b"x-request-id", request_id.encode()))
                headers += [pair for pair in _SAFE_HEADERS if pair[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        try:
            host_of(scope, self._settings)
        except TrueportError as error:
            await _reply(error, request_id, send_marked)
            return
        await self._app(scope, receive, send_marked)


async def _reply(error: TrueportError, request_id: str, send: Send) -> None:
    status, headers, body = problems.describe(error, request_id)
    head = {"content-type": problems.MEDIA_TYPE, "content-length": str(len(body)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in head.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})
