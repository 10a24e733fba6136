"""Google's dialect: what is read out of requests, answers and streams."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import Request, Usage
from trueport.gateway.dialects.base import Dialect, StreamReader
from trueport.gateway.dialects.body import TooMany
from trueport.gateway.dialects.google import GoogleDialect
from trueport.gateway.dialects.google_streams import ArrayReader, ContentStreamReader
from trueport.gateway.streaming import SseSplitter
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError, Unavailable

DIALECT: Dialect = GoogleDialect()
JSON = "application/json"
CHAT = "v1beta/models/gemini-1:generateContent"
STREAM = "v1beta/models/gemini-1:streamGenerateContent"


def read(
    body: Any = None, path: str = CHAT, method: str = "POST", content_type: str = JSON, query: str = ""
) -> Request:
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    return DIALECT.read(method, path, query, content_type, data)


def event(**members: Any) -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\r\n\r\n"


def candidate(text: str | None = "hi", index: int | None = None, finish: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if text is not None:
        made["content"] = {"parts": [{"text": text}], "role": "model"}
    if finish is not None:
        made["finishReason"] = finish
    if index is not None:
        made["index"] = index
    return made


def chunk(text: str | None = "hi", index: int | None = None, finish: str | None = None, **members: Any) -> bytes:
    return event(candidates=[candidate(text, index, finish)], **members)


def numbers(prompt: Any = 3, output: Any = 2, **members: Any) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": output, **members}}


LAST = chunk("end", finish="STOP", modelVersion="gemini-1-001", **numbers())
ERROR = event(error={"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"})
BARE_ERROR = b'{\n  "error": {\n    "code": 503,\n    "message": "Overloaded"\n  }\n}\n\n'


def reader(*events: bytes, query: str = "alt=sse") -> tuple[StreamReader, bytes]:
    made = DIALECT.stream_reader(read({"contents": []}, STREAM, query=query))
    return made, b"".join(made.pass_on([each]) for each in events)


# --- paths


@pytest.mark.parametrize(
    ("path", "version", "model"),
    [
        ("v1beta/models/gemini-1:generateContent", "v1beta", "gemini-1"),
        ("v1/models/gemini-1:generateContent", "v1", "gemini-1"),
        ("v1alpha/models/gemini-1:generateContent", "v1alpha", "gemini-1"),
        ("models/gemini-1:generateContent", None, "gemini-1"),
        ("v1beta/v1beta/models/gemini-1:generateContent", "v1beta", "gemini-1"),
        ("v1/v1beta/models/gemini-1:generateContent", "v1beta", "gemini-1"),
        ("v1beta/models/models/gemini-1:generateContent", "v1beta", "gemini-1"),
        ("v1beta/tunedModels/mine:generateContent", "v1beta", "tunedModels/mine"),
        ("v1beta/models/tunedModels/mine:generateContent", "v1beta", "tunedModels/mine"),
        ("v1beta/models/a.b@001:generateContent", "v1beta", "a.b@001"),
        ("v1beta/models/org/m:generateContent", "v1beta", "org/m"),
        ("v1beta1/projects/p/locations/l/publishers/google/models/gemini-1:generateContent", None, "gemini-1"),
        ("v1/projects/p/locations/global/publishers/google/models/gemini-1:generateContent", None, "gemini-1"),
        ("v1/publishers/google/models/gemini-1:generateContent", None, "gemini-1"),
        ("projects/p/locations/l/publishers/google/models/gemini-1:generateContent", None, "gemini-1"),
    ],
)
def test_the_path_names_version_model_and_verb(path: str, version: str | None, model: str) -> None:
    request = read({}, path)

    assert (request.version, request.model, request.operation) == (version, model, "generateContent")
    assert request.kind == "chat"
    assert DIALECT.format_of(request) == "google"


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("generateContent", "chat"),
        ("streamGenerateContent", "chat"),
        ("countTokens", "count"),
        ("embedContent", "embeddings"),
        ("batchEmbedContents", "embeddings"),
        ("predict", "media"),
        ("predictLongRunning", "media"),
        ("batchGenerateContent", "state"),
        ("newVerb", "other"),
    ],
)
def test_each_verb_is_of_a_kind(verb: str, kind: str) -> None:
    request = read({}, f"v1beta/models/gemini-1:{verb}")

    assert (request.operation, request.kind, request.model) == (verb, kind, "gemini-1")
    assert (DIALECT.format_of(request) is not None) == (kind == "chat")
    assert request.streams == (verb == "streamGenerateContent")


@pytest.mark.parametrize(
    ("method", "path", "operation", "kind", "model"),
    [
        ("GET", "v1beta/models", "models", "models", None),
        ("GET", "v1beta/models/gemini-1", "models/gemini-1", "models", "gemini-1"),
        ("GET", "v1beta1/publishers/google/models", "models", "models", None),
        ("GET", "v1beta/tunedModels/mine", "tunedModels/mine", "models", "tunedModels/mine"),
        ("POST", "v1beta/tunedModels", "tunedModels", "state", None),
        ("PATCH", "v1beta/tunedModels/mine", "tunedModels/mine", "state", None),
        ("POST", "v1beta/tunedModels/mine:transferOwnership", "tunedModels/mine:transferOwnership", "state", None),
        ("GET", "v1beta/models/m/operations/o", "models/m/operations/o", "state", "m"),
        ("GET", "v1beta/cachedContents", "cachedContents", "state", None),
        ("POST", "v1beta/cachedContents", "cachedContents", "state", "gemini-1"),
        ("DELETE", "v1beta1/projects/p/locations/l/cachedContents/c", "cachedContents/c", "state", None),
        ("GET", "v1beta/files/f", "files/f", "state", None),
        ("GET", "v1beta/files/f:download", "files/f:download", "state", None),
        ("POST", "upload/v1beta/files", "upload/files", "state", None),
        ("POST", "v1beta/upload/v1beta/files", "upload/files", "state", None),
        ("POST", "v1beta/batches/b:cancel", "batches/b:cancel", "state", None),
        ("GET", "v1beta/operations/o", "operations/o", "state", None),
        ("POST", "v1beta/interactions", "interactions", "text", "gemini-1"),
        ("POST", "v1beta/corpora/c/documents", "corpora/c/documents", "state", None),
        ("POST", "v1beta/something", "something", "other", None),
    ],
)
def test_what_is_no_verb_is_of_a_kind(method: str, path: str, operation: str, kind: str, model: str | None) -> None:
    request = read(b"" if method in ("GET", "DELETE") else {"model": "models/gemini-1"}, path, method)

    assert (request.operation, request.kind, request.model) == (operation, kind, model)
    assert request.lists_models == (operation == "models")
    assert DIALECT.format_of(request) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1beta",
        "v1beta/",
        "v1beta//models/m:generateContent",
        "v1beta/models/../files/f",
        "upload/v1beta/models/m:generateContent",
        "v1beta/models/m:",
        "v1beta/models/m:GenerateContent",
        "v1beta/models/m:STREAMGENERATECONTENT",
        "v1beta/Models/m:generateContent",
        "v1beta/models/m:generate-content",
        "v1beta/tunedmodels/m:generateContent",
        "v1beta/generateContent",
        "v1beta/generateContent:x",
        "streamGenerateContent",
        "v1beta/endpoints/1:generateContent",
        "v1beta/files/f:generateContent",
        "v1beta/publishers/anthropic/models/claude-1:rawPredict",
        "v1beta/Publishers/google/models/m:generateContent",
        "v1beta/projects/p/models/m:generateContent",
        "v1beta/openai/chat/completions",
        "v1beta/OpenAI/chat/completions",
    ],
)
def test_another_spelling_or_place_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read({}, path)


@pytest.mark.parametrize("name", ["", "x" * 257, "a\u2028b"])
def test_a_path_names_a_model_by_its_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        read({}, f"v1beta/models/{name}:generateContent")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_verb_is_posted(method: str) -> None:
    with pytest.raises(NotFound):
        read({}, CHAT, method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_those_take_no_body(method: str) -> None:
    with pytest.raises(InvalidRequest):
        read({"a": 1}, "v1beta/models", method)


# --- requests


@pytest.mark.parametrize(
    "members",
    [
        {"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}, "labels": {"user": "u-1"}},
        {"generation_config": {"max_output_tokens": 7, "candidate_count": 2}, "labels": {"user": "u-1"}},
        {"generationConfig": {"max_output_tokens": 7, "candidateCount": 2}, "labels": {"user": "u-1", "x": 1}},
    ],
)
def test_members_are_read_in_both_spellings(members: dict[str, Any]) -> None:
    request = read(members)

    assert (request.most_output_tokens, request.candidates, request.user) == (7, 2, "u-1")


@pytest.mark.parametrize(
    "members",
    [
        {"generationConfig": {}, "generation_config": {}},
        {"systemInstruction": {}, "system_instruction": {}},
        {"generationConfig": {"maxOutputTokens": 7, "max_output_tokens": 8}},
    ],
)
def test_both_spellings_at_once_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(members)

    assert "_" in str(refused.value.fields["param"])


@pytest.mark.parametrize(
    "members",
    [
        {"generationConfig": [], "labels": []},
        {"generationConfig": "x", "labels": {"user": 7}},
        {"generationConfig": {"maxOutputTokens": True, "candidateCount": "2"}, "labels": {"user": ""}},
        {"generationConfig": {"maxOutputTokens": -1, "candidateCount": 0}},
        {"generationConfig": {"maxOutputTokens": 10**30, "candidateCount": 1_000}},
        {},
    ],
)
def test_what_is_no_bound_and_no_tag_is_none(members: dict[str, Any]) -> None:
    request = read(members)

    assert (request.most_output_tokens, request.candidates, request.user) == (None, 1, None)


@pytest.mark.parametrize(
    "members",
    [
        {"contents": [{}] * 2_049},
        {"requests": [{}] * 2_049},
        {"tools": [{}] * 513},
        {"tools": [{"functionDeclarations": [{}] * 300}, {"function_declarations": [{}] * 213}]},
    ],
)
def test_more_than_any_honest_call_has_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(TooMany):
        read(members)


@pytest.mark.parametrize(("content_type", "body"), [("text/plain", b"{}"), (JSON, b""), (JSON, b"[]"), ("", b"x")])
def test_a_verb_takes_a_json_object(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body, content_type=content_type)


def test_an_upload_is_passed_on_unread() -> None:
    request = read(b"\x00\xff", "upload/v1beta/files", content_type="image/png", query="uploadType=media&key=sk-tp-1")

    assert (request.body, request.members, request.query) == (b"\x00\xff", None, "uploadType=media")


# --- the form of a stream


@pytest.mark.parametrize(
    ("query", "form", "asked"),
    [
        ("alt=sse", "sse", "alt=sse"),
        ("", "array", "alt=sse"),
        ("alt=json", "array", "alt=sse"),
        ("prettyPrint=%66alse&key=sk-tp-1&alt=sse&x", "sse", "prettyPrint=%66alse&x&alt=sse"),
        ("key=sk-tp-1", "array", "alt=sse"),
        ("%61lt=s%73e", "sse", "alt=sse"),
        ("$alt=sse&alt=sse", "sse", "alt=sse"),
    ],
)
def test_a_provider_is_always_asked_for_events(query: str, form: str, asked: str) -> None:
    request = read({}, STREAM, query=query)

    assert (request.streams, request.streams_as, request.query) == (True, form, asked)


@pytest.mark.parametrize("path", [CHAT, STREAM])
@pytest.mark.parametrize("query", ["alt=proto", "alt=media", "alt=sse&alt=json", "$alt=proto", "alt=", "alt=SSE"])
def test_no_form_is_asked_for_that_is_not_read_here(path: str, query: str) -> None:
    with pytest.raises(InvalidRequest):
        read({}, path, query=query)


def test_a_whole_answer_is_never_asked_for_as_events() -> None:
    request = read({}, CHAT, query="alt=sse&x=1")

    assert (request.streams, request.streams_as, request.query) == (False, "sse", "x=1")


# --- models


def test_another_model_changes_nothing_but_its_name() -> None:
    body = b'{ "contents":[ ], "generationConfig":{"temperature":1.0} }'
    request = read(body, STREAM, query="alt=sse")

    changed = DIALECT.with_model(request, "gemini-2")

    assert (changed.body, changed.model, changed.query) == (body, "gemini-2", "alt=sse")
    assert DIALECT.with_model(request, "gemini-1") is request


@pytest.mark.parametrize(
    ("verb", "members"),
    [
        ("generateContent", {"model": "models/other"}),
        ("generateContent", {"model": "other"}),
        ("generateContent", {"model": "tunedModels/gemini-1"}),
        ("embedContent", {"model": "publishers/google/models/other"}),
        ("countTokens", {"generateContentRequest": {"model": "models/other"}}),
        ("countTokens", {"generate_content_request": {"model": "models/other"}}),
        ("batchEmbedContents", {"requests": [{"model": "models/gemini-1"}, {"model": "models/other"}]}),
        ("batchGenerateContent", {"batch": {"model": "models/other"}}),
        (
            "batchGenerateContent",
            {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"model": "models/other"}}]}}}},
        ),
        (
            "batchGenerateContent",
            {"batch": {"input_config": {"requests": {"requests": [{"request": {"model": "models/other"}}]}}}},
        ),
    ],
)
def test_a_body_may_not_name_another_model_than_the_path(verb: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(members, f"v1beta/models/gemini-1:{verb}")

    assert refused.value.fields["param"] == "model"


@pytest.mark.parametrize("model", [7, "", [], {}, "a\nb"])
def test_a_model_in_a_body_is_a_name(model: Any) -> None:
    with pytest.raises(InvalidRequest):
        read({"requests": [{"model": model}]}, "v1beta/models/gemini-1:batchEmbedContents")


def test_a_model_in_a_conversation_is_content() -> None:
    part = {"functionCall": {"name": "f", "args": {"model": "other", "requests": [{"model": "other"}]}}}

    assert read({"contents": [{"parts": [part]}]}).model == "gemini-1"


@pytest.mark.parametrize(
    ("verb", "members", "changed"),
    [
        ("embedContent", {"model": "models/gemini-1", "content": {"x": 1.0}}, {"model": "models/new"}),
        ("embedContent", {"model": "gemini-1"}, {"model": "new"}),
        ("embedContent", {"model": None}, {"model": None}),
        (
            "countTokens",
            {"generateContentRequest": {"model": "models/gemini-1", "contents": []}},
            {"generateContentRequest": {"model": "models/new", "contents": []}},
        ),
        (
            "batchEmbedContents",
            {"requests": [{"model": "models/gemini-1", "content": "é"}, {"content": "b"}, 7]},
            {"requests": [{"model": "models/new", "content": "é"}, {"content": "b"}, 7]},
        ),
        (
            "batchGenerateContent",
            {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"model": "models/gemini-1"}}]}}}},
            {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"model": "models/new"}}]}}}},
        ),
    ],
)
def test_another_model_is_named_wherever_the_old_one_was(
    verb: str, members: dict[str, Any], changed: dict[str, Any]
) -> None:
    made = DIALECT.with_model(read(members, f"v1beta/models/gemini-1:{verb}"), "new")

    assert json.loads(made.body) == made.members == {**members, **changed}
    assert made.model == "new"


def test_a_tuned_model_is_named_in_full() -> None:
    members = {"requests": [{"model": "models/gemini-1"}]}

    made = DIALECT.with_model(read(members, "v1beta/models/gemini-1:batchEmbedContents"), "tunedModels/mine")

    assert json.loads(made.body) == {"requests": [{"model": "tunedModels/mine"}]}


@pytest.mark.parametrize(
    ("path", "model", "operation"),
    [
        ("models/a", "b", "models/b"),
        ("models/a", "tunedModels/b", "tunedModels/b"),
        ("models/a/operations/o", "b", "models/b/operations/o"),
    ],
)
def test_a_description_is_asked_for_the_other_model(path: str, model: str, operation: str) -> None:
    made = DIALECT.with_model(read(b"", f"v1beta/{path}", "GET"), model)

    assert (made.operation, made.model) == (operation, model)


def test_a_cache_is_made_for_the_other_model() -> None:
    made = DIALECT.with_model(read({"model": "models/a", "ttl": "1s"}, "v1beta/cachedContents"), "b")

    assert made.body == b'{"model": "models/b", "ttl": "1s"}'


# --- usage


@pytest.mark.parametrize(
    ("said", "usage", "doubtful"),
    [
        (numbers(), Usage(3, 2), False),
        (
            numbers(30, 20, thoughtsTokenCount=5, cachedContentTokenCount=10, toolUsePromptTokenCount=2),
            Usage(32, 25, 10, reasoning_tokens=5),
            False,
        ),
        (numbers(None, 2), Usage(0, 2), False),
        (numbers(-3), None, True),
        (numbers("3"), None, True),
        ({"usageMetadata": []}, None, True),
        ({"usageMetadata": None}, None, False),
        ({"usageMetadata": {}}, None, False),
        ({}, None, False),
    ],
)
def test_only_numbers_that_can_be_are_believed(said: dict[str, Any], usage: Usage | None, *, doubtful: bool) -> None:
    body = json.dumps({"candidates": [], "modelVersion": "gemini-1-001", **said}).encode()

    assert DIALECT.usage(body) == (usage, doubtful, "gemini-1-001")


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"\xff\xfe", b"[]", b'{"usageMetadata"', b'{"x":' + b"[" * 100_000, b'{"modelVersion":3}'],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_that_is_no_object_tells_nothing(body: bytes) -> None:
    assert DIALECT.usage(body) == (None, False, None)


def test_a_usage_that_cannot_be_read_is_doubtful() -> None:
    assert DIALECT.usage(b'{"usageMetadata":{"promptTokenCount":3,"x":"\xff"}}') == (None, True, None)


# --- streams


def test_a_stream_passes_as_it_came_and_is_metered() -> None:
    events = [chunk("a", **numbers(3, 1)), chunk("b", **numbers(3, 2)), b": ping\n\n"]

    made, out = reader(*events)
    assert not made.is_complete
    out += made.pass_on([chunk("c", finish="STOP", modelVersion="gemini-1-001", **numbers(3, 7))])

    assert out == b"".join(events) + chunk("c", finish="STOP", modelVersion="gemini-1-001", **numbers(3, 7))
    assert (made.usage, made.model, made.output_events) == (Usage(3, 7), "gemini-1-001", 3)
    assert (made.is_complete, made.failed, made.usage_doubtful) == (True, False, False)
    assert made.ending() == b""


@pytest.mark.parametrize(
    ("events", "is_complete"),
    [
        ([], False),
        ([chunk()], False),
        ([event(**numbers())], False),
        ([chunk(finish="STOP")], True),
        ([chunk(finish="MAX_TOKENS"), event(**numbers())], True),
        ([chunk(None, finish="SAFETY")], True),
        ([chunk(finish="")], False),
        ([chunk(finish="FINISH_REASON_UNSPECIFIED")], False),
        ([event(candidates=[{"finishReason": 7}])], False),
        ([event(candidates=[])], False),
        ([chunk(index=0, finish="STOP"), chunk(index=1)], False),
        ([chunk(index=0), chunk(index=1), chunk(index=1, finish="STOP"), chunk(index=0, finish="STOP")], True),
        ([event(candidates=[candidate(index=0, finish="STOP"), candidate(index=1)])], False),
        ([event(candidates=[candidate(index=0, finish="STOP"), candidate(index=1, finish="OTHER")])], True),
        ([event(promptFeedback={"blockReason": "SAFETY"})], True),
        ([event(promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"})], False),
        ([event(promptFeedback={"safetyRatings": []})], False),
        ([event(promptFeedback=None), event(promptFeedback=7)], False),
        ([event(candidates={"finishReason": "STOP"})], False),
        ([event(candidates=[{"index": "x", "finishReason": "STOP"}])], True),
    ],
)
def test_a_stream_is_whole_when_every_candidate_has_finished(events: Sequence[bytes], *, is_complete: bool) -> None:
    made, out = reader(*events)

    assert made.is_complete == is_complete
    assert not made.has_ended, "the format has no end mark"
    assert out == b"".join(events)


@pytest.mark.parametrize(
    ("said", "usage", "doubtful"),
    [
        ([numbers(3, 1), numbers(3, 5)], Usage(3, 5), False),
        ([numbers(3, 5), numbers(3, 1)], Usage(3, 5), False),
        ([numbers(3, 5), {}], Usage(3, 5), False),
        ([numbers(3, 5), numbers(-3, 9)], Usage(3, 5), True),
        ([{"usageMetadata": "x"}], None, True),
        ([{"usageMetadata": "x"}, numbers(3, 5)], Usage(3, 5), True),
        ([{}], None, False),
    ],
)
def test_the_last_believable_numbers_count(
    said: Sequence[dict[str, Any]], usage: Usage | None, *, doubtful: bool
) -> None:
    made, _ = reader(*(chunk(**each) for each in said))

    assert (made.usage, made.usage_doubtful) == (usage, doubtful)


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ([{"text": "x" * 400}], 100),
        ([{"text": "x"}], 1),
        ([{"text": "x" * 40}, {"text": "y" * 40, "thought": True}], 20),
        ([{"functionCall": {"name": "f", "args": {"q": "x" * 380}}}], 102),
        ([{"inlineData": {"mimeType": "image/png", "data": "x" * 100_000}}], 1),
        ([], 0),
        ("nonsense", 1),
    ],
)
def test_a_chunk_is_estimated_by_its_text(parts: Any, tokens: int) -> None:
    made, _ = reader(event(candidates=[{"content": {"parts": parts}}]))

    assert made.output_events == tokens


@pytest.mark.parametrize("error", [ERROR, BARE_ERROR])
@pytest.mark.parametrize("before", [[], [chunk()], [LAST]])
def test_an_error_inside_the_stream_is_noticed_and_passed_on(error: bytes, before: list[bytes]) -> None:
    made, out = reader(*before, error)

    assert (made.failed, made.has_ended) == (True, True)
    assert out == b"".join(before) + error


def test_text_that_looks_like_an_error_or_an_end_is_text() -> None:
    made, _ = reader(chunk('"error":{"code":500}'), chunk('"finishReason":"STOP"'), event(error=None))

    assert (made.failed, made.is_complete) == (False, False)


@pytest.mark.parametrize(
    "unknown",
    [b": keep-alive\n\n", b"event: x\ndata: {}\n\n", b"data: no json\n\n", b"data\n\n", b"\r\n\r\n",
     b"data: " + b"[" * 100_000 + b"\n\n", b'data: {"x":' + b"[" * 100_000 + b"\n\n"],
    ids=lambda unknown: repr(unknown[:20]),
)  # fmt: skip
def test_events_nobody_knows_pass(unknown: bytes) -> None:
    made, out = reader(unknown, LAST)

    assert out == unknown + LAST
    assert made.is_complete


def test_a_stream_of_another_operation_may_end_anywhere() -> None:
    made = DIALECT.stream_reader(read({"model": "m", "stream": True}, "v1beta/interactions"))

    assert made.is_complete
    assert made.pass_on([b"data: {}\n\n"]) == b"data: {}\n\n"


# --- the same stream as an array


def test_without_events_asked_for_a_stream_is_an_array() -> None:
    made, out = reader(chunk("a"), b": ping\n\n", LAST, query="")
    out += made.ending()

    assert [each.get("modelVersion") for each in json.loads(out)] == [None, "gemini-1-001"]
    assert out.startswith(b'[{"candidates"')
    assert b"},\r\n{" in out
    assert (made.is_complete, made.has_ended, made.usage, made.model) == (True, True, Usage(3, 2), "gemini-1-001")


def test_an_element_is_the_event_byte_for_byte() -> None:
    spelled = b'{ "candidates" : [ {"finishReason":"STOP", "x":1.0} ] }'

    made, out = reader(b"data:" + spelled + b"\n\n", query="")

    assert out + made.ending() == b"[" + spelled + b"]"


@pytest.mark.parametrize("events", [[], [chunk()], [chunk(), ERROR], [LAST, ERROR], [BARE_ERROR]])
def test_the_array_of_a_broken_stream_stays_open(events: list[bytes]) -> None:
    made, out = reader(*events, query="")

    assert made.ending() == b""
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)
    assert len(json.loads(out + b"]" if out else b"[]")) == len(events)


@pytest.mark.parametrize("events", [[], [chunk()]])
def test_a_refusal_is_the_last_element_of_an_open_array(events: list[bytes]) -> None:
    made, out = reader(*events, query="")
    assert isinstance(made, ArrayReader)

    out += made.error(DIALECT.error_event(Unavailable("Later."), "int_1", "req_1"))

    elements = json.loads(out + b"]")
    assert len(elements) == len(events) + 1
    assert elements[-1]["error"]["message"] == "Later."


class _Whole(ContentStreamReader):
    """A reader of another provider whose stream was whole without a single event for the client."""

    def __init__(self) -> None:
        super().__init__()
        self.end()

    def pass_on(self, events: Sequence[bytes]) -> bytes:  # noqa: ARG002 - the Protocol's argument
        return b""


def test_a_whole_stream_without_events_is_an_empty_array() -> None:
    made = ArrayReader(_Whole())

    assert made.pass_on([chunk()]) + made.ending() == b"[]"


class _Translating(ContentStreamReader):
    """A reader that writes events of its own, in pieces that end anywhere, and its last one at the end."""

    def pass_on(self, events: Sequence[bytes]) -> bytes:
        super().pass_on(events)
        return b'data: {"n":1}\n\ndata: {"n"'

    def ending(self) -> bytes:
        return b':2}\n\ndata: {"n":3}\r\r'


def test_an_array_is_made_of_what_another_reader_writes() -> None:
    made = ArrayReader(_Translating())

    assert json.loads(made.pass_on([LAST]) + made.ending()) == [{"n": 1}, {"n": 2}, {"n": 3}]


EVENTS = [
    chunk("a"),
    chunk("b", **numbers()),
    LAST,
    ERROR,
    b": ping\n\n",
    chunk(index=1),
    chunk(index=1, finish="STOP"),
]
ANY_EVENT = st.sampled_from(EVENTS) | st.text(max_size=30).map(
    lambda text: b"data: " + text.replace("\r", "").replace("\n", "").encode() + b"\n\n"
)


@given(st.lists(ANY_EVENT, max_size=12), st.data(), st.sampled_from(["alt=sse", ""]))
def test_how_the_events_are_batched_changes_nothing(events: list[bytes], data: st.DataObject, query: str) -> None:
    one, whole = reader(*events, query=query)
    many, pieces = reader(query=query)
    rest = list(events)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces += many.pass_on(rest[:size])
        del rest[:size]

    assert whole == pieces
    assert query == "" or whole == b"".join(events)
    assert one.ending() == many.ending()
    for name in ("usage", "model", "is_complete", "has_ended", "failed", "output_events", "usage_doubtful"):
        assert getattr(one, name) == getattr(many, name)


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_an_array_is_valid_exactly_when_the_stream_was_whole(events: list[bytes]) -> None:
    made, out = reader(*events, query="")
    out += made.ending()

    try:
        elements = json.loads(out)
    except json.JSONDecodeError:
        elements = None

    assert (elements is not None) == (made.is_complete and not made.failed)


# --- hostile input

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NAMES = ("model", "contents", "tools", "stream", "generationConfig", "labels", "requests", "batch", "x")
MEMBERS = st.recursive(
    st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON_VALUES)),
    lambda inner: st.fixed_dictionaries(
        {}, optional={"requests": st.lists(inner, max_size=2), "request": inner, "model": st.just("models/gemini-1")}
    ),
    max_leaves=3,
)
PATHS = (CHAT, STREAM, "v1beta/models/gemini-1:batchEmbedContents", "v1beta/models/gemini-1:batchGenerateContent",
         "v1beta/cachedContents", "v1beta/interactions", "v1beta/models", "x", "", "v1/")  # fmt: skip


def tried(method: str, path: str, query: str, content_type: str, body: bytes) -> Request | int:
    """What was understood, or the status of the refusal."""
    try:
        return DIALECT.read(method, path, query, content_type, body)
    except TrueportError as refused:
        return refused.status


@given(MEMBERS | JSON_VALUES, st.sampled_from(PATHS), st.sampled_from(["POST", "GET", "PATCH", "DELETE"]))
def test_no_json_is_more_than_refused(body: Any, path: str, method: str) -> None:
    data = json.dumps(body).encode()

    request = tried(method, path, "alt=sse", JSON, data)

    if isinstance(request, int):
        assert request in (400, 404)
        return
    assert request.body == data
    changed = DIALECT.with_model(request, "other")
    assert changed.model == (None if request.model is None else "other")
    # What names the new model only is accepted under its name.
    if request.operation == "batchEmbedContents":
        DIALECT.read("POST", "models/other:batchEmbedContents", "", JSON, changed.body)


@given(st.binary(max_size=60), st.text(max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_no_bytes_are_more_than_refused(body: bytes, path: str, query: str, content_type: str) -> None:
    for method in ("POST", "GET"):
        for asked in (path, f"v1beta/{path}", f"models/{path}:generateContent"):
            request = tried(method, asked, query, content_type, body)
            assert isinstance(request, Request) or request in (400, 404)
    DIALECT.usage(body)
    DIALECT.only_models(body, lambda _: True)


@given(
    st.lists(st.sampled_from(["key=SECRET", "k%65y=SECRET", "alt=sse", "%61lt=json", "a=%20+", "b", "$alt=sse", ""]))
)
def test_a_query_never_carries_a_key_nor_two_forms(pairs: list[str]) -> None:
    request = tried("POST", STREAM, "&".join(pairs), JSON, b"{}")

    if isinstance(request, Request):
        assert "SECRET" not in request.query
        forms = [pair for pair in parse_qsl(request.query) if pair[0] in ("alt", "$alt")]
        assert forms == [("alt", "sse")]


# --- lists of models


def test_a_list_keeps_only_permitted_models_each_as_it_was() -> None:
    body = b'{"models":[{"name":"models/a","n":1.0},{"name":"models/b"},{"displayName":"x"}],"nextPageToken":"t"}'

    kept = DIALECT.only_models(body, lambda model: model == "a")

    assert kept == b'{"models":[{"name":"models/a","n":1.0}],"nextPageToken":"t"}'


@pytest.mark.parametrize(
    ("collection", "name", "model"),
    [
        ("tunedModels", "tunedModels/a", "tunedModels/a"),
        ("publisherModels", "publishers/google/models/a", "a"),
        ("models", "projects/p/locations/l/publishers/google/models/a", "a"),
    ],
)
def test_other_collections_are_lists_too(collection: str, name: str, model: str) -> None:
    body = json.dumps({collection: [{"name": name}, {"name": "models/denied"}]}).encode()

    assert json.loads(DIALECT.only_models(body, lambda asked: asked == model)) == {collection: [{"name": name}]}


@pytest.mark.parametrize("body", [b"{}", b'{"models":[]}', b'{"models":[{"name":"models/a"}]}'])
def test_an_empty_list_is_a_list(body: bytes) -> None:
    assert json.loads(DIALECT.only_models(body, lambda _: False)).get("models", []) == []


@pytest.mark.parametrize(
    "body", [b"no", b"[]", b'{"models":{}}', b'{"models":[1]}', b'{"models":[{"name":3}]}', b"\xff"]
)
def test_what_is_no_list_shows_nothing(body: bytes) -> None:
    assert DIALECT.only_models(body, lambda _: True) == b""


# --- refusals


def refusal(status: int, code: str = "some_code", **fields: object) -> TrueportError:
    made: type[TrueportError] = type("Refusal", (TrueportError,), {"status": status, "code": code})
    return made("One plain sentence.", **fields)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (402, "RESOURCE_EXHAUSTED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (408, "DEADLINE_EXCEEDED"),
        (409, "ABORTED"),
        (413, "INVALID_ARGUMENT"),
        (415, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_an_error_says_what_sdks_read(status: int, name: str) -> None:
    answered, headers, body = DIALECT.refusal(refusal(status), "int_1", "req_1")

    assert answered == status
    assert headers == [(b"content-type", b"application/json; charset=UTF-8")]
    assert json.loads(body) == {
        "error": {
            "code": status,
            "message": "One plain sentence.",
            "status": name,
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "SOME_CODE",
                    "domain": "trueportai.com",
                    "metadata": {"request_id": "req_1", "interaction_id": "int_1"},
                }
            ],
        }
    }


def test_a_policy_block_is_a_failed_precondition() -> None:
    status, _, body = DIALECT.refusal(refusal(400, "content_policy_violation"), "int_1", "req_1")

    assert (status, json.loads(body)["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_an_error_names_the_member_it_is_about() -> None:
    body = DIALECT.refusal(refusal(400, param="generationConfig"), "int_1", "req_1")[2]

    assert json.loads(body)["error"]["details"][1] == {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "generationConfig", "description": "One plain sentence."}],
    }


def test_an_error_says_whether_and_when_to_try_again() -> None:
    error = Unavailable("Later.")
    error.should_retry = False

    _, headers, body = DIALECT.refusal(error, "int_1", "req_1")

    assert (dict(headers)[b"retry-after"], dict(headers)[b"x-should-retry"]) == (b"1", b"false")
    assert json.loads(body)["error"]["details"][-1] == {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": "1s",
    }


def test_an_error_in_a_stream_is_one_event_of_data_alone() -> None:
    said = DIALECT.error_event(Unavailable("Later.\n\ndata: {}"), "int_1", "req_1")

    # Google's SDKs take a line that does not begin with `data: ` for JSON, so no event is named.
    assert said.startswith(b'data: {"error":{')
    assert SseSplitter().feed(said) == [said]
    made, _ = reader(LAST, said)
    assert made.failed
