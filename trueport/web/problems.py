"""Every error as problem details (RFC 9457), with one vocabulary of codes."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException

from trueport.kit.clock import rfc3339
from trueport.kit.errors import TrueportError
from trueport.kit.logging import get_logger

log = get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "https://docs.trueportai.com/errors/"

_CODES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    503: "unavailable",
}
_MISSING: Final = re.compile(r"Missing required \w+ parameter '(\w+)'")
_STANDARD: Final = frozenset({"type", "title", "status", "detail", "code", "request_id", "instance"})


def problem(
    status: int, code: str, detail: str, request_id: str, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The members of one problem; members of `extra` never replace the standard ones."""
    return {
        "type": TYPE_BASE + code,
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **{name: value for name, value in (extra or {}).items() if name not in _STANDARD},
    }


def encode(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, ensure_ascii=False, default=_plain).encode()


def describe(error: Exception, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that tell the caller about `error`, and nothing the caller should not know."""
    if isinstance(error, TrueportError) and error.status != 500:
        if error.status > 500:
            log.warning("request_refused", code=error.code, status=error.status, request_id=request_id)
        members = problem(error.status, error.code, error.message, request_id, error.fields)
        return _finish(error.status, members, error.retry_after_s)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _of_framework(error, request_id)
    log.error("request_failed", error_type=type(error).__name__, status=500, request_id=request_id)
    detail = "Something went wrong on our side. The request id helps to find out what."
    return _finish(500, problem(500, "internal_error", detail, request_id), None)


def render(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The reply to a request that ended in `error`; Litestar's handler for every exception."""
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    status, headers, body = describe(error, request_id)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _of_framework(error: HTTPException, request_id: str) -> tuple[int, dict[str, str], bytes]:
    status = error.status_code
    code = _CODES.get(status, "invalid_request")
    extra: dict[str, object] = {}
    detail = HTTPStatus(status).phrase
    if status == 400:
        detail = "The request does not have the expected form."
        missing = _MISSING.match(error.detail)
        if isinstance(error.extra, list) or missing:
            code = "validation_failed"
            entries = error.extra if isinstance(error.extra, list) else []
            extra["errors"] = [_field_error(entry) for entry in entries]
            if missing:
                extra["errors"] = [{"field": missing[1], "message": "is required"}]
    headers = {name.lower(): value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    status, more, body = _finish(status, problem(status, code, detail, request_id, extra), None)
    return status, {**headers, **more}, body


def _field_error(entry: object) -> dict[str, str]:
    members = entry if isinstance(entry, dict) else {}
    field = str(members.get("key", ""))
    if field == "data":
        return {"field": "", "message": "a JSON body is required"}
    return {"field": field, "message": str(members.get("message", "is not valid")).partition(" - at ")[0]}


def _finish(status: int, members: Mapping[str, object], retry_after_s: int | None) -> tuple[int, dict[str, str], bytes]:
    headers = {}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="trueport"'
    if status in (429, 503):
        headers["retry-after"] = str(max(1, retry_after_s or 1))
    return status, headers, encode(members)


def _plain(value: object) -> object:
    return rfc3339(value) if isinstance(value, datetime) else str(value)
