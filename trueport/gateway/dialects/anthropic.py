"""Anthropic's API as its SDKs and Claude Code speak it.

Source: https://docs.anthropic.com/en/api (Messages, Errors, Streaming messages). The wire forms this file relies on
are the error object, the `usage` objects and the events of a message stream.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from trueport.gateway.call import HeaderList, Kind, Request, Usage
from trueport.gateway.credentials import bearer_or_header, without_key
from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.body import check_list_lengths, checked_model, count, is_json, json_members, tag
from trueport.gateway.dialects.meter import UNREADABLE, Meter, OpenEndedReader
from trueport.gateway.json_gate import splice_members
from trueport.gateway.streaming import event_data, event_name
from trueport.gateway.translate.model import Format
from trueport.gateway.usage import anthropic_usage
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError

_NEEDS_MODEL: Final = frozenset({"messages", "messages/count_tokens", "complete"})
# Where a provider that reads paths leniently would do work; a different spelling would slip past what goes by names.
_SPELLED: Final = frozenset({"messages", "count_tokens", "batches", "models", "complete", "files"})
_JSON: Final = (b"content-type", b"application/json")
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


_RESULTS: Final = re.compile(rb'("results_url"\s*:\s*")https?://[^"\\]*?(/v1/messages/batches/[^"/\\]+/results")')


class _Message(msgspec.Struct):
    """The few members of a message that metering reads; the decoder skips everything else."""

    model: object = None
    usage: msgspec.Raw = msgspec.Raw(b"")


class _Event(msgspec.Struct):
    type: object = None
    message: msgspec.Raw = msgspec.Raw(b"")
    usage: msgspec.Raw = msgspec.Raw(b"")


class _ModelName(msgspec.Struct):
    id: str = ""


class _ModelList(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


_messages: Final = msgspec.json.Decoder(_Message)
_events: Final = msgspec.json.Decoder(_Event)
_lists: Final = msgspec.json.Decoder(_ModelList)
_names: Final = msgspec.json.Decoder(_ModelName)
_parsed: Final = msgspec.json.Decoder()


class AnthropicDialect:
    """The dialect of `/anthropic/v1/…` and `/v1/messages`."""

    name = "anthropic"
    wire: Final = "anthropic"
    request_id_header = b"request-id"

    def credential(self, headers: HeaderList, query: str) -> str | None:  # noqa: ARG002 - a key in a query is no key here
        return bearer_or_header(headers)

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:
        while path.startswith("v1/"):
            path = path.removeprefix("v1/")
        for part in path.split("/")[:2]:
            if part.lower() in _SPELLED and part not in _SPELLED:
                raise NotFound("This path is not part of the API.")
        bare = Request(
            operation=path,
            model=None,
            streams=False,
            wants_usage_event=False,
            body=body,
            members=None,
            content_type=content_type,
            most_output_tokens=None,
            kind=_kind(method, path),
            method=method,
            query=without_key(query),
        )
        if method in ("GET", "HEAD", "DELETE"):
            if body:
                raise InvalidRequest(f"A {method} request takes no body.", param="body")
            return replace(bare, model=_model_in(path), lists_models=path == "models")
        if path not in _NEEDS_MODEL and (not body or not is_json(content_type)):
            return bare
        return _with_json(bare)

    def format_of(self, request: Request) -> Format | None:
        return "anthropic" if request.kind == "chat" else None

    def with_model(self, request: Request, model: str) -> Request:
        if request.model in (None, model):
            return request
        if request.members is None:
            return replace(request, model=model, operation=f"models/{model}")
        body = splice_members(request.body, request.members, {"model": model})
        return replace(request, model=model, body=body, members={**request.members, "model": model})

    def usage(self, body: bytes) -> tuple[Usage | None, bool, str | None]:
        try:
            answer = _messages.decode(body)
        except UNREADABLE:
            return None, False, None
        reading = anthropic_usage(_usage_object(answer.usage))
        return reading.usage, reading.is_doubtful, answer.model if isinstance(answer.model, str) else None

    def only_models(self, body: bytes, may_use: Callable[[str], bool]) -> bytes:
        try:
            listed = _lists.decode(body)
            kept = [(raw, name) for raw in listed.data if may_use(name := _names.decode(raw).id)]
        except UNREADABLE:
            return b""
        if not listed.has_more:
            # Otherwise these are where the next page begins, whoever may use the model named there.
            listed.first_id, listed.last_id = (kept[0][1], kept[-1][1]) if kept else (None, None)
        listed.data = [raw for raw, _ in kept]
        return msgspec.json.encode(listed)

    def with_own_links(self, request: Request, body: bytes) -> bytes:
        # The SDKs fetch the results of a batch from where it says they are, with the key they have. A path alone they
        # put behind their base URL. Inside a JSON string the quotes would be escaped, so only the member is found.
        return _RESULTS.sub(rb"\1\2", body) if request.operation.startswith("messages/batches") else body

    def stream_reader(self, request: Request) -> StreamReader:
        return MessageStreamReader() if request.operation == "messages" else OpenEndedReader()

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        headers = [_JSON]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        if error.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
        return error.status, headers, _error_object(error, interaction_id, request_id)

    def error_event(self, error: TrueportError, interaction_id: str, request_id: str) -> bytes:
        return b"event: error\ndata: " + _error_object(error, interaction_id, request_id) + b"\n\n"


class MessageStreamReader(Meter):
    """Meters a message stream: the input is told at its start, the output with its last delta."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        super().__init__(is_complete=False)
        self._start: object = None

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        for event in events:
            if event.startswith(_PIECES):
                self.output_events += 1
            else:
                self._look_at(event)
        return events[0] if len(events) == 1 else b"".join(events)

    def _look_at(self, event: bytes) -> None:
        data = event_data(event)
        try:
            said = _events.decode(data)
        except UNREADABLE:
            said = _Event()
        # The SDKs go by the event's name; what the data says counts where there is none.
        match event_name(event) or said.type:
            case "content_block_delta":
                self.output_events += 1
            case "message_start":
                self._begin(said.message)
            case "message_delta":
                self.count(anthropic_usage(_usage_object(said.usage), self._start))
            case "message_stop":
                self.end()
            case "error":
                self.fail()

    def _begin(self, raw: msgspec.Raw) -> None:
        try:
            message = _messages.decode(raw)
        except UNREADABLE:
            return
        if isinstance(message.model, str):
            self.model = message.model
        self._start = _usage_object(message.usage)
        self.count(anthropic_usage(None, self._start))


_PIECES: Final = (b"event: content_block_delta\n", b'data: {"type":"content_block_delta"')


def _kind(method: str, path: str) -> Kind:
    first = path.partition("/")[0]
    if first == "models":
        return "models"
    if method == "POST":
        if path == "messages":
            return "chat"
        if path == "messages/count_tokens":
            return "count"
        if path == "complete":
            return "text"
    return "state" if first == "files" or path.startswith("messages/batches") else "other"


def _with_json(bare: Request) -> Request:
    members = json_members(bare.content_type, bare.body)
    streams = members.get("stream")
    if not isinstance(streams, bool | None):
        raise InvalidRequest("stream must be true or false.", param="stream")
    check_list_lengths(members, items=("messages",), tools=("tools",))
    metadata = members.get("metadata")
    most = members.get("max_tokens_to_sample" if bare.operation == "complete" else "max_tokens")
    return replace(
        bare,
        model=checked_model(members.get("model"), required=bare.operation in _NEEDS_MODEL),
        streams=streams is True,
        members=members,
        content_type=bare.content_type or "application/json",
        most_output_tokens=count(most),
        user=tag(metadata.get("user_id")) if isinstance(metadata, dict) else None,
    )


def _model_in(path: str) -> str | None:
    return path.removeprefix("models/") if path.startswith("models/") else None


def _usage_object(raw: msgspec.Raw) -> object:
    """The parsed object, None where there is none; for what cannot be read something that is no usage object."""
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        return _parsed.decode(raw)
    except UNREADABLE:
        return False


def _error_object(error: TrueportError, interaction_id: str, request_id: str) -> bytes:
    said = {
        "type": _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error"),
        "message": error.message,
        "code": error.code,
        "interaction_id": interaction_id,
    }
    if isinstance(param := error.fields.get("param"), str):
        said["param"] = param
    return msgspec.json.encode({"type": "error", "error": said, "request_id": request_id})
