"""Google's Gemini API as its SDKs speak it, and the paths of Vertex AI that lead to the same operations.

Source: https://ai.google.dev/api and https://google.aip.dev/193 (errors). The model stands in the path, the verb after
a colon; JSON members are accepted in camelCase and in snake_case.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

import msgspec
from msgspec.structs import replace

from trueport.gateway.call import HeaderList, Kind, Request, Usage
from trueport.gateway.credentials import bearer_header_or_query, without_key
from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.body import (
    MOST_TOOLS,
    TooMany,
    candidates,
    check_list_lengths,
    checked_model,
    count,
    is_json,
    json_members,
    tag,
)
from trueport.gateway.dialects.google_streams import ArrayReader, ContentStreamReader, answers, usage_in
from trueport.gateway.dialects.meter import UNREADABLE, OpenEndedReader
from trueport.gateway.json_gate import splice_members
from trueport.gateway.translate.model import Format
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError

_VERBS: Final[dict[str, Kind]] = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "countTokens": "count",
    "computeTokens": "count",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "generateAnswer": "text",
    "predict": "media",
    "predictLongRunning": "media",
    "batchGenerateContent": "state",
    "asyncBatchEmbedContent": "state",
}
_STATE: Final = frozenset(
    {"cachedContents", "files", "batches", "operations", "tunedModels", "fileSearchStores", "corpora", "upload",
     "download", "generatedFiles", "ragStores"}
)  # fmt: skip
_MODELS: Final = ("models", "tunedModels")
_NAMES_MODEL: Final = frozenset({"cachedContents", "interactions"})
# Where a provider that reads paths leniently would do work; a different spelling would slip past what goes by names.
_SPELLED: Final = {
    name.lower(): name for name in (*_VERBS, *_STATE, "models", "interactions", "publishers", "projects")
}
_VERSION: Final = re.compile(r"v[0-9]{1,3}(?:(?:alpha|beta)[0-9]{0,3})?")
_VERB: Final = re.compile(r"[A-Za-z]{1,64}")
# How a model may be called inside a body: a resource of a project, of a publisher, of the API, or by its bare name.
_RESOURCE: Final = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?(?:models/)*")
# What a request of a known verb is wrapped in; below these, `model` names the model that does the work.
_CONTAINERS: Final = frozenset(
    {"requests", "request", "generateContentRequest", "generate_content_request", "batch", "inputConfig",
     "input_config"}
)  # fmt: skip
_JSON: Final = (b"content-type", b"application/json; charset=UTF-8")
_TYPE: Final = "type.googleapis.com/google.rpc."
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_FAILED_PRECONDITION: Final = frozenset({"content_policy_violation"})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path leads: `rest` without version and project; a verb and its model where it is about these."""

    version: str | None
    rest: str
    model: str | None = None
    verb: str | None = None


class _Named(msgspec.Struct):
    name: str = ""


class _ModelList(msgspec.Struct, rename="camel", omit_defaults=True):
    models: list[msgspec.Raw] | None = None
    tuned_models: list[msgspec.Raw] | None = None
    publisher_models: list[msgspec.Raw] | None = None
    next_page_token: str | None = None


_lists: Final = msgspec.json.Decoder(_ModelList)
_names: Final = msgspec.json.Decoder(_Named)


class GoogleDialect:
    """The dialect of `/google/{version}/…`."""

    name = "google"
    wire: Final = "google"
    request_id_header = b"x-request-id"

    def credential(self, headers: HeaderList, query: str) -> str | None:
        return bearer_header_or_query(headers, query)

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:
        place = _place(path)
        bare = Request(
            operation=place.verb or place.rest,
            model=place.model,
            streams=False,
            wants_usage_event=False,
            body=body,
            members=None,
            content_type=content_type,
            most_output_tokens=None,
            method=method,
            query=without_key(query),
            version=place.version,
        )
        if place.verb is not None:
            if method != "POST":
                raise NotFound("This path is not part of the API.")
            return _with_content(replace(bare, kind=_VERBS.get(place.verb, "other")))
        bare = replace(bare, kind=_kind(method, place.rest))
        if method in ("GET", "HEAD", "DELETE"):
            if body:
                raise InvalidRequest(f"A {method} request takes no body.", param="body")
            return replace(bare, model=_described(place.rest), lists_models=place.rest in _MODELS)
        if not body or not is_json(content_type):
            return bare
        return _with_json(bare)

    def format_of(self, request: Request) -> Format | None:
        return "google" if request.kind == "chat" else None

    def with_model(self, request: Request, model: str) -> Request:
        if request.model in (None, model):
            return request
        if request.members is None:
            below = request.operation.split("/")[2:]
            return replace(request, model=model, operation="/".join([_resource(model), *below]))
        changes = _renamed(request.members, model)
        body = splice_members(request.body, request.members, changes)
        return replace(request, model=model, body=body, members={**request.members, **changes})

    def usage(self, body: bytes) -> tuple[Usage | None, bool, str | None]:
        try:
            answer = answers.decode(body)
        except UNREADABLE:
            return None, False, None
        reading = usage_in(answer.usage_metadata)
        model = answer.model_version
        return reading.usage, reading.is_doubtful, model if isinstance(model, str) else None

    def only_models(self, body: bytes, may_use: Callable[[str], bool]) -> bytes:
        def kept(listed: list[msgspec.Raw] | None) -> list[msgspec.Raw] | None:
            return listed and [raw for raw in listed if may_use(_bare(_names.decode(raw).name))]

        try:
            page = _lists.decode(body)
            return msgspec.json.encode(
                _ModelList(
                    kept(page.models), kept(page.tuned_models), kept(page.publisher_models), page.next_page_token
                )
            )
        except UNREADABLE:
            return b""

    def with_own_links(self, request: Request, body: bytes) -> bytes:  # noqa: ARG002 - its SDKs go by names
        return body

    def stream_reader(self, request: Request) -> StreamReader:
        if request.operation != "streamGenerateContent":
            return OpenEndedReader()
        reader = ContentStreamReader()
        return ArrayReader(reader) if request.streams_as == "array" else reader

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        headers = [_JSON]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_s))
        if error.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
        return error.status, headers, _error_object(error, interaction_id, request_id)

    def error_event(self, error: TrueportError, interaction_id: str, request_id: str) -> bytes:
        return b"data: " + _error_object(error, interaction_id, request_id) + b"\n\n"


def _place(path: str) -> _Place:
    """Raises NotFound for a path that names nothing Google offers, or in another spelling."""
    segments = path.split("/")
    prefix, version = [], _taken_version(segments)
    if segments[:1] in (["upload"], ["download"]):
        prefix = [segments.pop(0)]
        version = _taken_version(segments) or version
    is_vertex = False
    if segments[:1] == ["projects"] and segments[2:3] == ["locations"]:
        del segments[:4]
        is_vertex = True
    if segments[:2] == ["publishers", "google"]:
        del segments[:2]
        is_vertex = True
    # The versions of the two APIs differ, so that of one is no choice at the other.
    version = None if is_vertex else version
    while segments[:2] == ["models", "models"]:
        del segments[0]
    name, _, verb = "/".join(segments).rpartition(":")
    if not segments or any(part in ("", ".", "..") for part in segments) or not _is_spelled(segments[0], verb):
        raise NotFound("This path is not part of the API.")
    rest = "/".join([*prefix, *segments])
    if not name or (verb not in _VERBS and (segments[0] != "models" or len(segments) != 2)):
        return _Place(version, rest)
    if prefix or segments[0] not in _MODELS or len(segments) < 2 or _VERB.fullmatch(verb) is None:
        raise NotFound("This path is not part of the API.")
    return _Place(version, rest, checked_model(_bare(name), required=True), verb)


def _taken_version(segments: list[str]) -> str | None:
    """Takes the version off the front. SDKs add theirs to a base URL that may end in one: the last one counts."""
    version = None
    while segments and _VERSION.fullmatch(segments[0]):
        version = segments.pop(0)
    return version


def _is_spelled(collection: str, verb: str) -> bool:
    collection = collection.partition(":")[0]
    if any(_SPELLED.get(name.lower(), name) != name for name in (collection, verb)):
        return False
    # A verb is about a model, a publisher is Google, and Google's imitation of OpenAI's API would be metered and
    # inspected as what it is not.
    return collection not in _VERBS and collection.lower() not in ("openai", "publishers", "projects")


def _kind(method: str, rest: str) -> Kind:
    first, _, name = rest.partition("/")
    if first in _MODELS and (first == "models" or method in ("GET", "HEAD")):
        return "state" if "/" in name else "models"
    if first == "interactions":
        return "text" if method == "POST" and not name else "state"
    return "state" if first.partition(":")[0] in _STATE else "other"


def _described(rest: str) -> str | None:
    """The model that a path without a verb is about: its description, or an operation it works at."""
    parts = rest.split("/")
    if len(parts) < 2 or parts[0] not in _MODELS:
        return None
    return checked_model(_bare("/".join(parts[:2])), required=True)


def _bare(name: str) -> str:
    """A model's name as this gateway says it: `gemini-2.5-flash`, but `tunedModels/mine`."""
    return _RESOURCE.sub("", name, count=1)


def _resource(model: str) -> str:
    return model if model.startswith("tunedModels/") else f"models/{model}"


def _with_content(bare: Request) -> Request:
    """A request whose path names the model and what it shall do."""
    members = json_members(bare.content_type, bare.body)
    _check_spellings(members)
    check_list_lengths(members, items=("contents", "requests"), tools=("tools",))
    _check_functions(members.get("tools"))
    if any(named != bare.model for named in _named_models(members)):
        # What a provider makes of two names would be past every check of the one in the path.
        raise InvalidRequest("The body names another model than the path.", param="model")
    config = members.get("generationConfig", members.get("generation_config"))
    if isinstance(config, dict):
        _check_spellings(config)
    else:
        config = {}
    labels = members.get("labels")
    streams = bare.operation == "streamGenerateContent"
    asks_events, query = _form(bare.query, streams=streams)
    return replace(
        bare,
        streams=streams,
        streams_as="array" if streams and not asks_events else "sse",
        query=query,
        members=members,
        content_type=bare.content_type or "application/json",
        most_output_tokens=count(config.get("maxOutputTokens", config.get("max_output_tokens"))),
        candidates=candidates(config.get("candidateCount", config.get("candidate_count"))),
        user=tag(labels.get("user")) if isinstance(labels, dict) else None,
    )


def _with_json(bare: Request) -> Request:
    members = json_members(bare.content_type, bare.body)
    model = None
    if bare.operation.partition("/")[0] in _NAMES_MODEL:
        model = checked_model(members.get("model"), required=False)
    return replace(
        bare,
        model=model if model is None else checked_model(_bare(model), required=True),
        streams=members.get("stream") is True,
        members=members,
        content_type=bare.content_type or "application/json",
    )


def _form(query: str, *, streams: bool) -> tuple[bool, str]:
    """Whether the client wants events, and the query that makes the provider answer in the form read here."""
    kept, forms = [], set()
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if unquote_plus(name) in ("alt", "$alt"):
            forms.add(unquote_plus(value))
        elif pair:
            kept.append(pair)
    if not forms <= {"json", "sse"} or len(forms) > 1:
        raise InvalidRequest("alt must be json or sse.", param="alt")
    if streams:
        kept.append("alt=sse")
    return "sse" in forms, "&".join(kept)


def _check_spellings(members: Mapping[str, object]) -> None:
    """Raises InvalidRequest for a member that is there in both spellings: which one counts is the provider's guess."""
    for name in members:
        if "_" in name and re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name) in members:
            raise InvalidRequest("The body names a member in two spellings.", param=name)


def _check_functions(tools: object) -> None:
    total = 0
    for tool in tools if isinstance(tools, list) else []:
        for name in ("functionDeclarations", "function_declarations"):
            declared = tool.get(name) if isinstance(tool, dict) else None
            total += len(declared) if isinstance(declared, list) else 0
    if total > MOST_TOOLS:
        raise TooMany(f"At most {MOST_TOOLS} tools are taken.", param="tools")


def _named_models(members: Mapping[str, object]) -> Iterator[str]:
    """The models that a body names. Raises InvalidRequest for what is no name; a null says nothing."""
    for name, value in members.items():
        if name == "model":
            model = checked_model(value, required=False)
            if model is not None:
                yield _bare(model)
        elif name in _CONTAINERS:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    yield from _named_models(item)


def _renamed(members: Mapping[str, object], model: str) -> dict[str, object]:
    """The members that change when everything in a body which names a model is to name this one."""
    changed: dict[str, object] = {}
    for name, value in members.items():
        if name == "model" and isinstance(value, str):
            changed[name] = _resource(model) if "/" in value else model
        elif name in _CONTAINERS and isinstance(value, dict) and (inner := _renamed(value, model)):
            changed[name] = {**value, **inner}
        elif name in _CONTAINERS and isinstance(value, list):
            items = [{**item, **_renamed(item, model)} if isinstance(item, dict) else item for item in value]
            if items != value:
                changed[name] = items
    return changed


def _error_object(error: TrueportError, interaction_id: str, request_id: str) -> bytes:
    told: list[dict[str, object]] = [
        {
            "@type": f"{_TYPE}ErrorInfo",
            "reason": error.code.upper(),
            "domain": "trueportai.com",
            "metadata": {"request_id": request_id, "interaction_id": interaction_id},
        }
    ]
    if isinstance(param := error.fields.get("param"), str):
        violation = {"field": param, "description": error.message}
        told.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None:
        told.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after_s}s"})
    return msgspec.json.encode(
        {"error": {"code": error.status, "message": error.message, "status": _status(error), "details": told}}
    )


def _status(error: TrueportError) -> str:
    if error.code in _FAILED_PRECONDITION:
        return "FAILED_PRECONDITION"
    return _STATUSES.get(error.status, "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT")
