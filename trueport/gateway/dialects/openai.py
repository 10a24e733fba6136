"""OpenAI's API as its SDKs speak it: chat completions, completions, embeddings, models, and pass-through for the rest.

Source: https://platform.openai.com/docs/api-reference. The wire forms this file relies on are the error object,
`stream_options.include_usage`, the `usage` objects and `data: [DONE]`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from trueport.gateway.call import HeaderList, Request, Usage
from trueport.gateway.credentials import bearer_or_header
from trueport.gateway.json_gate import read_object, splice_members
from trueport.gateway.streaming import event_data
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError

_GENERATES: Final = frozenset({"chat/completions", "completions"})
_NEEDS_MODEL: Final = _GENERATES | {"embeddings"}
_MOST_MESSAGES: Final = 2_048
_MOST_TOOLS: Final = 512
_MOST_TOKENS: Final = 1_000_000_000
_CHARSET: Final = re.compile(r';\s*charset="?([^";\s]*)', re.IGNORECASE)
_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')
_JSON: Final = (b"content-type", b"application/json")

# Which `type` OpenAI's SDKs and their users expect beside a status.
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class _Details(msgspec.Struct):
    cached_tokens: object = 0
    reasoning_tokens: object = 0


class _UsageObject(msgspec.Struct):
    prompt_tokens: object = None
    completion_tokens: object = None
    input_tokens: object = None
    output_tokens: object = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    """The few members of a reply or chunk that metering reads; the decoder skips everything else."""

    model: object = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    choices: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _ModelName(msgspec.Struct):
    id: str = ""


class _ModelList(msgspec.Struct):
    object: str = "list"
    data: list[msgspec.Raw] = []


_answer: Final = msgspec.json.Decoder(_Answer)
_usage_object: Final = msgspec.json.Decoder(_UsageObject)


class OpenAIDialect:
    """The dialect of `/openai/v1/…` and `/v1/…`."""

    name = "openai"
    providers = frozenset({"openai", "openai_compatible"})

    def credential(self, headers: HeaderList, query: str) -> str | None:  # noqa: ARG002 - a key in a query is refused
        return bearer_or_header(headers)

    def read(self, method: str, path: str, content_type: str, body: bytes) -> Request:
        if path.lower() in _NEEDS_MODEL and path not in _NEEDS_MODEL:
            # A provider that reads paths leniently would serve it, past everything that goes by the operation's name.
            raise NotFound("This path is not part of the API.")
        if method in ("GET", "HEAD", "DELETE"):
            if body:
                raise InvalidRequest(f"A {method} request takes no body.", param="body")
            lists = path == "models"
            return Request(path, _model_in(path), False, False, body, None, content_type, None, lists_models=lists)
        if not body or content_type.partition(";")[0].strip().lower() not in ("application/json", ""):
            if path in _NEEDS_MODEL:
                raise InvalidRequest("Send a JSON object with content-type application/json.", param="body")
            return Request(path, None, False, False, body, None, content_type, None)
        charset = _CHARSET.search(content_type)
        if charset is not None and charset[1].lower() not in ("utf-8", "utf8"):
            raise InvalidRequest("The body must be UTF-8.", param="body")
        members = read_object(body)
        model = _model(members, required=path in _NEEDS_MODEL)
        streams = members.get("stream") is True
        if not isinstance(members.get("stream"), bool | None):
            raise InvalidRequest("stream must be true or false.", param="stream")
        if path == "chat/completions":
            _check_chat(members)
        wants_usage_event = False
        if streams and path in _GENERATES:
            options = members.get("stream_options")
            if not isinstance(options, dict | None):
                raise InvalidRequest("stream_options must be an object.", param="stream_options")
            wants_usage_event = (options or {}).get("include_usage") is True
            if not wants_usage_event:
                # Without it a stream carries no numbers to meter by; the reader takes the extra event out again.
                body = splice_members(body, members, {"stream_options": {**(options or {}), "include_usage": True}})
        return Request(
            operation=path,
            model=model,
            streams=streams,
            wants_usage_event=wants_usage_event,
            body=body,
            members=members,
            content_type=content_type or "application/json",
            most_output_tokens=_most_output(members),
        )

    def with_model(self, request: Request, model: str) -> bytes:
        if request.members is None or request.model == model:
            return request.body
        return splice_members(request.body, read_object(request.body), {"model": model})

    def usage(self, body: bytes) -> tuple[Usage | None, bool, str | None]:
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None, False, None
        usage, doubtful = read_usage(answer.usage)
        return usage, doubtful, answer.model if isinstance(answer.model, str) else None

    def only_models(self, body: bytes, may_use: Callable[[str], bool]) -> bytes:
        try:
            listed = msgspec.json.decode(body, type=_ModelList)
            kept = [raw for raw in listed.data if may_use(msgspec.json.decode(raw, type=_ModelName).id)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return b""
        return msgspec.json.encode(_ModelList(data=kept))

    def stream_reader(self, request: Request) -> "OpenAIStreamReader":
        strips = request.operation in _GENERATES and not request.wants_usage_event
        return OpenAIStreamReader(strips_usage=strips, needs_done=request.operation in _GENERATES)

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        headers = [_JSON]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        if error.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
        return error.status, headers, _error_object(error, interaction_id, request_id)

    def error_event(self, error: TrueportError, interaction_id: str, request_id: str) -> bytes:
        return b"event: error\ndata: " + _error_object(error, interaction_id, request_id) + b"\n\n"


class OpenAIStreamReader:
    """Meters a chat or completion stream, and takes out what only the gateway asked for."""

    __slots__ = ("_strips_usage", "failed", "has_ended", "is_complete", "model", "output_events", "usage",
                 "usage_doubtful")  # fmt: skip

    def __init__(self, *, strips_usage: bool, needs_done: bool) -> None:
        self._strips_usage = strips_usage
        self.is_complete = not needs_done
        self.has_ended = False
        self.usage: Usage | None = None
        self.usage_doubtful = False
        self.model: str | None = None
        self.failed = False
        self.output_events = 0

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        if len(events) == 1:
            return self._look_at(events[0])
        return b"".join(map(self._look_at, events))

    def _look_at(self, event: bytes) -> bytes:
        if b'"usage"' not in event and b'"error"' not in event and self.model is not None and b"[DONE]" not in event:
            self.output_events += 1
            return event
        data = event_data(event)
        if data == b"[DONE]":
            self.is_complete = self.has_ended = True
            return event
        try:
            chunk = _answer.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return event
        if self.model is None and isinstance(chunk.model, str):
            self.model = chunk.model
        if bytes(chunk.error) not in (b"", b"null"):
            self.failed = True
        raw_usage = bytes(chunk.usage)
        if raw_usage in (b"", b"null"):
            self.output_events += 1
            return _without_null_usage(event) if raw_usage and self._strips_usage else event
        usage, doubtful = read_usage(chunk.usage)
        self.usage_doubtful = self.usage_doubtful or doubtful
        # Numbers are cumulative: the last believable ones count, and a smaller total never replaces a larger one.
        if usage is not None and (self.usage is None or usage.total_tokens >= self.usage.total_tokens):
            self.usage = usage
        is_usage_only = bytes(chunk.choices).replace(b" ", b"") == b"[]"
        return b"" if self._strips_usage and is_usage_only else event


def _without_null_usage(event: bytes) -> bytes:
    """The chunk without the `"usage":null` that providers add to each one once usage was asked for.

    Inside a JSON string the quotes would be escaped, so these bytes can only be a member.
    """
    return _NULL_USAGE.sub(b"", event, count=1)


def read_usage(raw: msgspec.Raw) -> tuple[Usage | None, bool]:
    """The usage object of any OpenAI operation, and whether it held numbers that cannot be.

    Chat and completions say prompt/completion, the newer operations input/output; cached tokens are part of the
    input, reasoning tokens part of the output.
    """
    if bytes(raw) in (b"", b"null"):
        return None, False
    try:
        said = _usage_object.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, True
    input_tokens = said.prompt_tokens if said.prompt_tokens is not None else said.input_tokens
    output_tokens = said.completion_tokens if said.completion_tokens is not None else said.output_tokens
    if output_tokens is None:
        output_tokens = 0
    if not _is_count(input_tokens) or not _is_count(output_tokens):
        return None, True
    into = said.prompt_tokens_details or said.input_tokens_details or _Details()
    out = said.completion_tokens_details or said.output_tokens_details or _Details()
    cached, reasoning = _part(into.cached_tokens, input_tokens), _part(out.reasoning_tokens, output_tokens)
    return Usage(_count(input_tokens), _count(output_tokens), cached or 0, reasoning or 0), None in (cached, reasoning)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _part(value: object, whole: object) -> int | None:
    """A count that is part of another, or None when it cannot be."""
    if value is None:
        return 0
    return _count(value) if _is_count(value) and _count(value) <= _count(whole) else None


def _model(members: dict[str, object], *, required: bool) -> str | None:
    model = members.get("model")
    if model is None and not required:
        return None
    # Printable, because it is repeated in a header of the answer.
    if not isinstance(model, str) or not 0 < len(model) <= 256 or not model.isprintable():
        raise InvalidRequest("model must be a model name.", param="model")
    return model


def _model_in(path: str) -> str | None:
    """The model that `models/{id}` is about. Some ids contain slashes."""
    return path.removeprefix("models/") if path.startswith("models/") else None


def _check_chat(members: dict[str, object]) -> None:
    messages, tools = members.get("messages"), members.get("tools")
    if isinstance(messages, list) and len(messages) > _MOST_MESSAGES:
        raise TooMany(f"At most {_MOST_MESSAGES} messages are taken.", param="messages")
    if isinstance(tools, list) and len(tools) > _MOST_TOOLS:
        raise TooMany(f"At most {_MOST_TOOLS} tools are taken.", param="tools")


class TooMany(InvalidRequest):
    """More list items than any honest call has."""

    code = "too_many_items"


def _most_output(members: dict[str, object]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = members.get(name)
        if _is_count(value):
            return _count(value)
    return None


def _error_object(error: TrueportError, interaction_id: str, request_id: str) -> bytes:
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": kind,
                "param": error.fields.get("param"),
                "code": error.code,
                "request_id": request_id,
                "interaction_id": interaction_id,
            }
        }
    )
