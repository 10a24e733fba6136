"""Errors as Anthropic words them, and what else is particular to its dialect."""

from dataclasses import replace
from typing import Final

import msgspec

from trueport.simulator.dialect import Dialect, Marks, bearer_key
from trueport.simulator.http import Request
from trueport.simulator.reply import Letterhead, Reply

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MESSAGES: Final = {
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the Anthropic API.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "Not found",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit. Please try again later.",
    500: "Internal server error",
    503: "Service unavailable",
    504: "Request timed out",
    529: "Overloaded",
}
_UNSIGNED: Final = b'"request_id":null}'

_LETTERHEAD: Final = Letterhead(
    "request-id",
    "server: trueport-simulator\r\n"
    "anthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\n"
    "anthropic-ratelimit-requests-limit: 10000\r\n"
    "anthropic-ratelimit-requests-remaining: 9999\r\n"
    "anthropic-ratelimit-requests-reset: 2026-01-01T00:00:01Z\r\n"
    "anthropic-ratelimit-tokens-limit: 2000000\r\n"
    "anthropic-ratelimit-tokens-remaining: 1999000\r\n"
    "anthropic-ratelimit-tokens-reset: 2026-01-01T00:00:01Z\r\n"
    "anthropic-ratelimit-input-tokens-limit: 1000000\r\n"
    "anthropic-ratelimit-input-tokens-remaining: 999000\r\n"
    "anthropic-ratelimit-input-tokens-reset: 2026-01-01T00:00:01Z\r\n"
    "anthropic-ratelimit-output-tokens-limit: 1000000\r\n"
    "anthropic-ratelimit-output-tokens-remaining: 999000\r\n"
    "anthropic-ratelimit-output-tokens-reset: 2026-01-01T00:00:01Z\r\n",
)


def error_body(kind: str, message: str) -> bytes:
    """The error object, without the request's id yet."""
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": None})


def error_reply(
    status: int,
    message: str | None = None,
    *,
    param: str | None = None,  # noqa: ARG001 - Anthropic's errors have neither this nor the next two
    code: str | None = None,  # noqa: ARG001
    retry_after: str | None = None,  # noqa: ARG001
) -> Reply:
    """The reply Anthropic gives with this status; `message` defaults to its usual one."""
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = error_body(kind, message or _MESSAGES.get(status, "The simulated provider refuses this request."))
    return Reply(status=status, body=body)


def _key(request: Request) -> str | None:
    return request.headers.get("x-api-key") or bearer_key(request)


def _unauthorised(request: Request, key: str | None) -> Reply:
    if key is None:
        return error_reply(401, "x-api-key header is required")
    return error_reply(401, "invalid x-api-key" if "x-api-key" in request.headers else "Invalid bearer token")


def _signed(reply: Reply, request_id: str) -> Reply:
    if reply.status < 400 or not reply.body.endswith(_UNSIGNED):
        return reply
    return replace(reply, body=_with_id(reply.body, request_id))


def _with_id(body: bytes, request_id: str) -> bytes:
    return b'%b"request_id":"%b"}' % (body.removesuffix(_UNSIGNED), request_id.encode())


def _stream_error(request_id: str, number: int) -> bytes:  # noqa: ARG001 - Anthropic's events have no numbers
    body = _with_id(error_body("overloaded_error", "Overloaded"), request_id)
    return b"event: error\ndata: %b\n\n" % body


ANTHROPIC: Final = Dialect(
    "anthropic",
    _LETTERHEAD,
    _key,
    _unauthorised,
    error_reply,
    _stream_error,
    Marks(
        is_end=lambda data: data.startswith(b"event: message_stop"),
        finish=b'"stop_reason":"',
        index=(b'"index":0', b'"index":7'),
        id=(b'"id":"msg_', b'"id":"other_'),
        text=b'"text":"',
    ),
    _signed,
)
