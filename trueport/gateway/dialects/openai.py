"""OpenAI's API as its SDKs speak it.

Source: https://platform.openai.com/docs/api-reference. The wire forms this file relies on are the error object,
`stream_options.include_usage`, the `usage` objects, `data: [DONE]` and the events of the Responses API.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from trueport.gateway.call import HeaderList, Kind, Request, Usage
from trueport.gateway.credentials import bearer_or_header
from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.body import (
    candidates,
    check_list_lengths,
    checked_model,
    count,
    is_json,
    json_members,
    tag,
)
from trueport.gateway.dialects.meter import UNREADABLE, OpenEndedReader
from trueport.gateway.dialects.openai_streams import (
    ChatStreamReader,
    MediaStreamReader,
    ResponsesStreamReader,
    answers,
    usage_in,
)
from trueport.gateway.json_gate import splice_members
from trueport.gateway.multipart import is_form, read_form, text_of, with_text
from trueport.gateway.translate.model import Format
from trueport.gateway.usage import Reading, openai_usage
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError

_WITH_DONE: Final = frozenset({"chat/completions", "completions"})
_MEDIA: Final = frozenset(
    {
        *("images/generations", "images/edits", "images/variations"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
    }
)
_FORMATS: Final[dict[str, Format]] = {
    "chat/completions": "openai_chat",
    "responses": "openai_responses",
    "completions": "openai_completions",
}
_NEEDS_MODEL: Final = frozenset({*_WITH_DONE, "embeddings"})
# Where a provider that reads paths leniently would do work; a different spelling would slip past what goes by names.
_SPELLED: Final = frozenset({*_NEEDS_MODEL, *_MEDIA, "responses", "moderations", "files", "batches", "models"})
_STATE: Final = frozenset(
    {"files", "batches", "uploads", "vector_stores", "fine_tuning", "conversations", "assistants", "threads",
     "containers", "evals", "videos", "chatkit", "responses", "chat"}
)  # fmt: skip
_OUTPUT_BOUNDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
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

_OWN_TYPES: Final = {"content_policy_violation": "policy_violation"}


class _Picture(msgspec.Struct):
    b64_json: object = None
    url: object = None


class _ModelName(msgspec.Struct):
    id: str = ""


class _ModelList(msgspec.Struct):
    object: str = "list"
    data: list[msgspec.Raw] = []


class OpenAIDialect:
    """The dialect of `/openai/v1/…` and `/v1/…`."""

    name = "openai"
    wire: Final = "openai"
    request_id_header = b"x-request-id"

    def credential(self, headers: HeaderList, query: str) -> str | None:  # noqa: ARG002 - a key in a query is refused
        return bearer_or_header(headers)

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:
        if path.lower() in _SPELLED and path not in _SPELLED:
            raise NotFound("This path is not part of the API.")
        kind = _kind(method, path)
        if method in ("GET", "HEAD", "DELETE"):
            if body:
                raise InvalidRequest(f"A {method} request takes no body.", param="body")
            return _bodiless(method, path, query, content_type, kind)
        if not body or not is_json(content_type):
            return _opaque(method, path, query, content_type, body, kind)
        return _json(method, path, query, content_type, body, kind)

    def format_of(self, request: Request) -> Format | None:
        return _FORMATS.get(request.operation) if request.kind == "chat" else None

    def with_model(self, request: Request, model: str) -> Request:
        if request.model == model or request.model is None:
            return request
        if request.members is not None:
            body = splice_members(request.body, request.members, {"model": model})
            return replace(request, model=model, body=body, members={**request.members, "model": model})
        if is_form(request.content_type):
            field = read_form(request.content_type, request.body).get("model")
            body = with_text(request.body, field, model) if field else request.body
            return replace(request, model=model, body=body)
        return request

    def usage(self, body: bytes) -> tuple[Usage | None, bool, str | None]:
        try:
            answer = answers.decode(body)
        except UNREADABLE:
            return None, False, None
        reading = usage_in(answer.usage, answer.service_tier)
        if bytes(answer.usage) == b"" and isinstance(answer.duration, int | float):
            # Transcripts in the verbose form tell how long the sound was and nothing else.
            reading = openai_usage({"type": "duration", "seconds": answer.duration})
        if reading.usage is None and not reading.is_doubtful and (images := _images_in(answer.data)):
            reading = Reading(Usage(0, 0, images=images), False)
        return reading.usage, reading.is_doubtful, answer.model if isinstance(answer.model, str) else None

    def only_models(self, body: bytes, may_use: Callable[[str], bool]) -> bytes:
        try:
            listed = msgspec.json.decode(body, type=_ModelList)
            kept = [raw for raw in listed.data if may_use(msgspec.json.decode(raw, type=_ModelName).id)]
        except UNREADABLE:
            return b""
        return msgspec.json.encode(_ModelList(data=kept))

    def with_own_links(self, request: Request, body: bytes) -> bytes:  # noqa: ARG002 - what it links to needs no key
        return body

    def stream_reader(self, request: Request) -> StreamReader:
        if request.operation in _WITH_DONE:
            return ChatStreamReader(strips_usage=not request.wants_usage_event)
        if request.operation == "responses" or request.operation.startswith("responses/"):
            return ResponsesStreamReader()
        return MediaStreamReader() if request.kind == "media" else OpenEndedReader()

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        headers = [_JSON]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        if error.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
        return error.status, headers, _error_object(error, interaction_id, request_id)

    def error_event(self, error: TrueportError, interaction_id: str, request_id: str) -> bytes:
        return b"event: error\ndata: " + _error_object(error, interaction_id, request_id) + b"\n\n"


def _kind(method: str, path: str) -> Kind:  # noqa: PLR0911 - a table of cases
    if path == "models" or path.startswith("models/"):
        return "models"
    if method == "POST":
        if path in _FORMATS:
            return "chat"
        if path in _MEDIA:
            return "media"
        if path == "embeddings":
            return "embeddings"
        if path == "responses/input_tokens":
            return "count"
        if path in ("moderations", "responses/compact"):
            return "text"
    return "state" if path.partition("/")[0] in _STATE else "other"


def _bodiless(method: str, path: str, query: str, content_type: str, kind: Kind) -> Request:
    return Request(
        operation=path,
        # Some ids contain slashes.
        model=path.removeprefix("models/") if path.startswith("models/") else None,
        streams=False,
        wants_usage_event=False,
        body=b"",
        members=None,
        content_type=content_type,
        most_output_tokens=None,
        lists_models=path == "models",
        kind=kind,
        method=method,
        query=query,
    )


def _opaque(method: str, path: str, query: str, content_type: str, body: bytes, kind: Kind) -> Request:
    """A body that is no JSON: of a form the gateway reads the fields it governs by, of anything else nothing."""
    if path in _NEEDS_MODEL or path in ("responses", "moderations"):
        raise InvalidRequest("Send a JSON object with content-type application/json.", param="body")
    model, streams, user = None, False, None
    if body and is_form(content_type):
        fields = read_form(content_type, body)
        model = checked_model(text_of(body, fields, "model"), required=False)
        streams = text_of(body, fields, "stream") == "true"
        user = text_of(body, fields, "user")
    return Request(
        operation=path,
        model=model,
        streams=streams,
        wants_usage_event=False,
        body=body,
        members=None,
        content_type=content_type,
        most_output_tokens=None,
        kind=kind,
        method=method,
        query=query,
        user=user,
    )


def _json(method: str, path: str, query: str, content_type: str, body: bytes, kind: Kind) -> Request:
    members = json_members(content_type, body)
    model = checked_model(members.get("model"), required=path in _NEEDS_MODEL)
    streams = members.get("stream")
    if not isinstance(streams, bool | None):
        raise InvalidRequest("stream must be true or false.", param="stream")
    if kind == "chat":
        check_list_lengths(members, items=("messages", "input"), tools=("tools", "functions"))
    wants_usage_event = False
    if streams and path in _WITH_DONE:
        options = members.get("stream_options")
        if not isinstance(options, dict | None):
            raise InvalidRequest("stream_options must be an object.", param="stream_options")
        wants_usage_event = (options or {}).get("include_usage") is True
        if not wants_usage_event:
            # Without it a stream carries no numbers to meter by; the reader takes the extra event out again.
            changed = {"stream_options": {**(options or {}), "include_usage": True}}
            body = splice_members(body, members, changed)
            members = {**members, **changed}
    return Request(
        operation=path,
        model=model,
        streams=streams is True or (path == "audio/speech" and members.get("stream_format") == "sse"),
        wants_usage_event=wants_usage_event,
        body=body,
        members=members,
        content_type=content_type or "application/json",
        most_output_tokens=_most_output(members),
        kind=kind,
        method=method,
        query=query,
        user=tag(members.get("safety_identifier")) or tag(members.get("user")),
        candidates=candidates(members.get("n")),
    )


def _most_output(members: dict[str, object]) -> int | None:
    return next((found for name in _OUTPUT_BOUNDS if (found := count(members.get(name))) is not None), None)


def _images_in(raw: msgspec.Raw) -> int:
    """How many pictures an answer holds; older models are billed by the piece and tell no tokens."""
    if b'"b64_json"' not in bytes(raw) and b'"url"' not in bytes(raw):
        return 0
    try:
        found = msgspec.json.decode(raw, type=list[_Picture])
    except UNREADABLE:
        return 0
    return sum(picture.b64_json is not None or picture.url is not None for picture in found)


def _error_object(error: TrueportError, interaction_id: str, request_id: str) -> bytes:
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    kind = _OWN_TYPES.get(error.code, kind)
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
