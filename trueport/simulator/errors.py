"""Errors as OpenAI words them."""

from typing import Final

import msgspec

from trueport.simulator.reply import Reply

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


def error_reply(status: int, message: str | None = None, *, param: str | None = None, code: str | None = None) -> Reply:
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


def missing_model(model: str) -> Reply:
    return error_reply(
        404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
    )
