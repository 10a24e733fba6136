"""Errors as OpenAI words them, and what else is particular to its dialect."""

from dataclasses import replace
from typing import Final

import msgspec

from trueport.simulator.dialect import Dialect, Marks, bearer_key
from trueport.simulator.http import Request
from trueport.simulator.reply import OPENAI_LETTERHEAD, Reply

_TYPES: Final = {
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_MESSAGES: Final = {
    400: "The request could not be understood.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to sample from this model.",
    404: "The resource does not exist.",
    429: "Rate limit reached. Please try again later.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later.",
    529: "The service is overloaded, please try again later.",
}


class Refused(Exception):
    """The simulated provider turns the request down; `reply` is what it says."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_reply(
    status: int,
    message: str | None = None,
    *,
    param: str | None = None,
    code: str | None = None,
    retry_after: str | None = None,  # noqa: ARG001 - other dialects tell it in the body
) -> Reply:
    """The reply OpenAI gives with this status; `message` and `code` default to its usual ones."""
    default_type = "server_error" if status >= 500 else "invalid_request_error"
    text = message or _MESSAGES.get(status, "The simulated provider refuses this request.")
    body = error_body(text, _TYPES.get(status, default_type), param=param, code=code or _CODES.get(status))
    return Reply(status=status, body=body)


def invalid_key(key: str | None) -> Reply:
    """401 for a missing or a wrong key, with all but the ends of a wrong one hidden."""
    if not key:
        return error_reply(401, "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY`.")
    return error_reply(401, f"Incorrect API key provided: {key[:3]}{'*' * 8}{key[-2:]}.")


def filtered() -> Reply:
    """The refusal of a prompt that the provider's own filter objects to."""
    message = "Your request was rejected as a result of our safety system."
    return error_reply(400, message, code="content_policy_violation")


def missing_model(model: str) -> Reply:
    return error_reply(
        404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
    )


def _unauthorised(request: Request, key: str | None) -> Reply:  # noqa: ARG001 - elsewhere the path matters
    return invalid_key(key)


def _stream_error(request_id: str, number: int) -> bytes:  # noqa: ARG001 - other dialects tell them
    return b"data: %b\n\n" % error_body(_MESSAGES[500], "server_error")


CHAT_MARKS: Final = Marks(
    is_end=lambda data: data.startswith(b"data: [DONE]"),
    finish=b'"finish_reason":"',
    index=(b'"index":0', b'"index":7'),
    id=(b'"id":"chatcmpl-', b'"id":"other-'),
    text=b'"content":"',
)
OPENAI: Final = Dialect("openai", OPENAI_LETTERHEAD, bearer_key, _unauthorised, error_reply, _stream_error, CHAT_MARKS)


def _numbered_error(request_id: str, number: int) -> bytes:  # noqa: ARG001
    body = msgspec.json.encode(
        {"type": "error", "code": "server_error", "message": _MESSAGES[500], "param": None, "sequence_number": number}
    )
    return b"event: error\ndata: %b\n\n" % body


_LAST_EVENTS: Final = (b"event: response.completed", b"event: response.incomplete", b"event: response.failed")

# The responses API streams in another way than the rest.
RESPONSES: Final = replace(
    OPENAI,
    stream_error=_numbered_error,
    marks=Marks(
        is_end=lambda data: data.startswith(_LAST_EVENTS),
        finish=b'"type":"response.completed"',
        index=(b'"output_index":0', b'"output_index":7'),
        id=(b'"id":"resp_', b'"id":"other_'),
        text=b'"delta":"',
    ),
)
