"""Errors as Google words them, and what else is particular to its dialect."""

from typing import Final
from urllib.parse import parse_qs

import msgspec

from trueport.simulator.dialect import Dialect, Marks, bearer_key
from trueport.simulator.http import Request
from trueport.simulator.reply import Letterhead, Reply

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES: Final = {
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential.",
    403: "The caller does not have permission",
    404: "Requested entity was not found.",
    429: "You exceeded your current quota, please check your plan and billing details.",
    500: "An internal error has occurred. Please retry or report the issue.",
    503: "The model is overloaded. Please try again later.",
    504: "The request timed out. Please try again.",
}
_RETRY_S: Final = "7"

_LETTERHEAD: Final = Letterhead(
    "x-request-id",
    "server: trueport-simulator\r\n"
    "vary: Origin, X-Origin, Referer\r\n"
    "x-xss-protection: 0\r\n"
    "x-frame-options: SAMEORIGIN\r\n"
    "x-content-type-options: nosniff\r\n"
    "server-timing: gfet4t7; dur=1\r\n",
)


def error_body(status: int, message: str, details: list[dict[str, object]] | None = None) -> bytes:
    """`{"error": {code, message, status, details?}}`."""
    name = _STATUSES.get(status, "INTERNAL" if status >= 500 else "FAILED_PRECONDITION")
    error: dict[str, object] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return msgspec.json.encode({"error": error})


def error_reply(
    status: int,
    message: str | None = None,
    *,
    param: str | None = None,
    code: str | None = None,
    retry_after: str | None = None,
) -> Reply:
    """The reply Google gives with this status: a `param` is a field violation, a `code` a reason; 429 says how long
    to wait."""
    details: list[dict[str, object]] = []
    if code is not None:
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "googleapis.com"}
        details.append({**reason, "metadata": {"service": "generativelanguage.googleapis.com"}})
    if param is not None:
        violation = {"field": param, "description": message}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    if status == 429:
        wait = retry_after if retry_after is not None and retry_after.isdigit() else _RETRY_S
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"})
    text = message or _MESSAGES.get(status, "The simulated provider refuses this request.")
    return Reply(status=status, body=error_body(status, text, details), content_type="application/json; charset=UTF-8")


def _is_vertex(request: Request) -> bool:
    return "/projects/" in request.path


def _key(request: Request) -> str | None:
    if _is_vertex(request):
        return bearer_key(request)
    named = request.headers.get("x-goog-api-key") or parse_qs(request.query).get("key", [None])[-1]
    return named or bearer_key(request)


def _unauthorised(request: Request, key: str | None) -> Reply:
    if _is_vertex(request) or (key is not None and key == bearer_key(request)):
        return error_reply(401, code="CREDENTIALS_MISSING" if key is None else "ACCESS_TOKEN_EXPIRED")
    if key is None:
        message = (
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
            "other form of API consumer identity to call this API."
        )
        return error_reply(403, message)
    return error_reply(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def _stream_error(request_id: str, number: int) -> bytes:  # noqa: ARG001 - Google's events tell neither
    return b"data: %b\r\n\r\n" % error_body(503, _MESSAGES[503])


GOOGLE: Final = Dialect(
    "google",
    _LETTERHEAD,
    _key,
    _unauthorised,
    error_reply,
    _stream_error,
    Marks(
        is_end=lambda data: b'"finishReason":"' in data,
        finish=b'"finishReason":"',
        index=(b'"index":0', b'"index":7'),
        id=(b'"responseId":"', b'"responseId":"other-'),
        text=b'"text":"',
    ),
)
