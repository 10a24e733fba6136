"""Anthropic's dialect: what is read out of requests, answers and streams."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import Request, Usage
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.base import Dialect, StreamReader
from trueport.gateway.dialects.body import TooMany
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError, Unavailable

DIALECT: Dialect = AnthropicDialect()
JSON = "application/json"


def read(
    body: Any = None, path: str = "v1/messages", method: str = "POST", content_type: str = JSON, query: str = ""
) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.read(method, path, query, content_type, data)


def event(name: str, **members: Any) -> bytes:
    data = json.dumps({"type": name, **members}, separators=(",", ":")).encode()
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1", "content": []}
    return event("message_start", message={**message, "usage": usage})


def piece(text: str = "hi") -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def delta(**usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)


OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
CLOSE = event("content_block_stop", index=0)
PING = event("ping")
STOP = event("message_stop")


def reader(*events: bytes, path: str = "messages") -> tuple[StreamReader, bytes]:
    made = DIALECT.stream_reader(read({"model": "m", "messages": [], "stream": True}, path))
    return made, b"".join(made.pass_on([each]) for each in events)


# --- requests


def test_a_request_tells_model_stream_bound_and_user() -> None:
    request = read(
        {"model": "m", "messages": [], "stream": True, "max_tokens": 7, "metadata": {"user_id": "u-1"}},
        query="beta=true",
    )

    assert (request.operation, request.kind, request.model, request.streams) == ("messages", "chat", "m", True)
    assert (request.most_output_tokens, request.user, request.query) == (7, "u-1", "beta=true")
    assert DIALECT.format_of(request) == "anthropic"


@pytest.mark.parametrize("path", ["messages", "v1/messages", "v1/v1/messages"])
def test_a_version_put_there_once_more_means_the_same(path: str) -> None:
    assert read({"model": "m"}, path).operation == "messages"


@pytest.mark.parametrize(
    ("method", "path", "operation", "kind"),
    [
        ("POST", "messages/count_tokens", "messages/count_tokens", "count"),
        ("POST", "messages/batches", "messages/batches", "state"),
        ("GET", "v1/messages/batches", "messages/batches", "state"),
        ("GET", "messages/batches/b/results", "messages/batches/b/results", "state"),
        ("POST", "messages/batches/b/cancel", "messages/batches/b/cancel", "state"),
        ("GET", "models", "models", "models"),
        ("GET", "v1/models/claude-1", "models/claude-1", "models"),
        ("POST", "complete", "complete", "text"),
        ("GET", "files", "files", "state"),
        ("DELETE", "files/f", "files/f", "state"),
        ("GET", "messages", "messages", "other"),
        ("GET", "organizations/me", "organizations/me", "other"),
    ],
)
def test_each_operation_is_of_a_kind(method: str, path: str, operation: str, kind: str) -> None:
    request = read({"model": "m"} if method == "POST" else b"", path, method)

    assert (request.operation, request.kind, request.method) == (operation, kind, method)
    assert DIALECT.format_of(request) is None


@pytest.mark.parametrize(
    ("path", "model", "lists"), [("models", None, True), ("models/claude-1", "claude-1", False), ("files", None, False)]
)
def test_a_request_without_a_body_names_its_model_in_the_path_if_at_all(
    path: str, model: str | None, *, lists: bool
) -> None:
    request = read(b"", path, "GET", "")

    assert (request.model, request.lists_models) == (model, lists)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_those_take_no_body(method: str) -> None:
    with pytest.raises(InvalidRequest):
        read({"model": "m"}, "models", method)


@pytest.mark.parametrize("path", ["messages", "messages/count_tokens", "complete"])
@pytest.mark.parametrize("model", [None, "", 1, [], "a\nb", "x" * 257])
def test_where_a_model_is_needed_it_has_to_be_a_printable_name(path: str, model: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read({"model": model}, path)

    assert refused.value.fields["param"] == "model"


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("messages", "text/plain", b'{"model":"m"}'),
        ("messages/count_tokens", "multipart/form-data; boundary=x", b'{"model":"m"}'),
        ("messages", JSON, b""),
        ("complete", "", b""),
    ],
)
def test_a_generation_has_to_be_json(path: str, content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body, path, content_type=content_type)


@pytest.mark.parametrize("path", ["Messages", "messages/Count_tokens", "v1/MESSAGES", "Models", "messages/BATCHES"])
def test_another_spelling_of_a_known_operation_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read({"model": "m"}, path)


@pytest.mark.parametrize(("name", "length"), [("messages", 2_049), ("tools", 513)])
def test_more_than_any_honest_call_has_is_refused(name: str, length: int) -> None:
    with pytest.raises(TooMany):
        read({"model": "m", name: [{}] * length})


@pytest.mark.parametrize(
    ("members", "bound", "user"),
    [
        ({"max_tokens": -1, "metadata": None}, None, None),
        ({"max_tokens": True, "metadata": []}, None, None),
        ({"max_tokens": 10**30, "metadata": {"user_id": 7}}, None, None),
        ({"max_tokens": "5", "metadata": {"user_id": ""}}, None, None),
        ({}, None, None),
    ],
)
def test_what_is_no_bound_and_no_tag_is_none(members: dict[str, Any], bound: int | None, user: str | None) -> None:
    request = read({"model": "m", **members})

    assert (request.most_output_tokens, request.user) == (bound, user)


def test_the_old_completions_name_their_bound_otherwise() -> None:
    assert read({"model": "m", "max_tokens_to_sample": 9}, "complete").most_output_tokens == 9


@pytest.mark.parametrize("streams", [1, "true", [], {}])
def test_stream_is_true_or_false(streams: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read({"model": "m", "stream": streams})

    assert refused.value.fields["param"] == "stream"


def test_an_upload_is_passed_on_unread() -> None:
    request = read(b"\x00\xff", "files", content_type="multipart/form-data; boundary=x")

    assert (request.body, request.model, request.members) == (b"\x00\xff", None, None)


def test_a_body_and_a_query_stay_as_they_are_but_for_a_key() -> None:
    body = b'{ "stream":true,"model" : "m", "messages":[ ],"temperature":1.0, "thinking":{"budget_tokens":1e3}}'

    request = read(body, query="beta=%74rue&key=sk-tp-1&x=+")

    assert (request.body, request.query) == (body, "beta=%74rue&x=+")


def test_a_replaced_model_leaves_every_other_byte() -> None:
    body = b'{ "temperature":1.0,"model" : "a" ,"messages":[{"role":"user","content":"model"}]}'
    request = read(body)

    changed = DIALECT.with_model(request, "b")

    assert (changed.body, changed.model) == (body.replace(b'"a"', b'"b"'), "b")
    assert changed.members is not None
    assert changed.members["model"] == "b"
    assert DIALECT.with_model(request, "a") is request


def test_a_description_is_asked_for_the_other_model() -> None:
    changed = DIALECT.with_model(read(b"", "models/a", "GET"), "b")

    assert (changed.operation, changed.model, changed.body) == ("models/b", "b", b"")


def test_a_batch_names_no_model_of_its_own() -> None:
    request = read({"requests": [{"custom_id": "1", "params": {"model": "m"}}]}, "messages/batches")

    assert request.model is None
    assert DIALECT.with_model(request, "b") is request


# --- usage


@pytest.mark.parametrize(
    ("said", "usage", "doubtful"),
    [
        ({"input_tokens": 3, "output_tokens": 2}, Usage(3, 2), False),
        (
            {
                "input_tokens": 3,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 20,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
                "output_tokens": 2,
                "server_tool_use": {"web_search_requests": 1},
                "service_tier": "priority",
            },
            Usage(33, 2, 20, 4, 6, web_searches=1, service_tier="priority"),
            False,
        ),
        ({"input_tokens": -3, "output_tokens": 2}, None, True),
        ({"input_tokens": "3", "output_tokens": 2}, None, True),
        ([], None, True),
        ("many", None, True),
        (None, None, False),
    ],
)
def test_only_numbers_that_can_be_are_believed(said: Any, usage: Usage | None, *, doubtful: bool) -> None:
    body = json.dumps({"type": "message", "model": "claude-1", "usage": said}).encode()

    assert DIALECT.usage(body) == (usage, doubtful, "claude-1")


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"\xff\xfe", b"[]", b'{"usage"', b'{"x":' + b"[" * 100_000, b'{"input_tokens":7}', b'{"model":3}'],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_without_usage_tells_nothing(body: bytes) -> None:
    assert DIALECT.usage(body) == (None, False, None)


def test_a_usage_that_cannot_be_read_is_doubtful() -> None:
    assert DIALECT.usage(b'{"model":"m","usage":{"input_tokens":3,"x":"\xff"}}') == (None, True, "m")


# --- streams


def test_a_stream_passes_as_it_came_and_is_metered() -> None:
    events = [
        start(input_tokens=10, output_tokens=1),
        PING,
        OPEN,
        piece("a"),
        piece("b"),
        CLOSE,
        delta(output_tokens=5),
    ]

    made, out = reader(*events)
    assert not made.is_complete
    out += made.pass_on([STOP])

    assert out == b"".join(events) + STOP
    assert (made.usage, made.model, made.output_events) == (Usage(10, 5), "claude-1", 2)
    assert (made.is_complete, made.has_ended, made.failed, made.usage_doubtful) == (True, True, False, False)
    assert made.ending() == b""


def test_the_cache_is_told_at_the_start_and_the_output_at_the_end() -> None:
    made, _ = reader(
        start(input_tokens=3, cache_read_input_tokens=20, cache_creation_input_tokens=10, output_tokens=1),
        delta(output_tokens=4),
        delta(output_tokens=9),
    )

    assert made.usage == Usage(33, 9, 20, 10)


@pytest.mark.parametrize(
    ("events", "usage", "doubtful"),
    [
        ([start(input_tokens=3, output_tokens=1)], Usage(3, 1), False),
        ([start(input_tokens=3, output_tokens=1), delta(output_tokens=0)], Usage(3, 1), False),
        ([start(input_tokens=3, output_tokens=9), delta(output_tokens=2)], Usage(3, 9), False),
        ([start(input_tokens=3, output_tokens=1), delta(output_tokens=-2)], Usage(3, 1), True),
        ([start(input_tokens=3, output_tokens=1), delta(input_tokens=5, output_tokens=2)], Usage(5, 2), False),
        ([start(), delta(output_tokens=2)], None, True),
        ([event("message_start", message=7), delta(output_tokens=2)], None, True),
        ([event("message_start", message={"model": 3, "usage": "x"})], None, True),
        ([delta(input_tokens=3, output_tokens=2)], Usage(3, 2), False),
        ([piece()], None, False),
    ],
)
def test_what_a_stream_says_of_its_usage_is_believed_if_it_can_be(
    events: Sequence[bytes], usage: Usage | None, *, doubtful: bool
) -> None:
    made, out = reader(*events)

    assert (made.usage, made.usage_doubtful) == (usage, doubtful)
    assert out == b"".join(events)


@pytest.mark.parametrize(
    "events", [[], [start(input_tokens=1)], [start(input_tokens=1), piece(), CLOSE, delta(output_tokens=1)]]
)
def test_without_its_mark_a_stream_is_cut(events: Sequence[bytes]) -> None:
    made, _ = reader(*events)

    assert not made.is_complete
    assert not made.has_ended


@pytest.mark.parametrize(
    "error",
    [
        event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        b'data: {"type":"error","error":{}}\n\n',
        b"event: error\ndata: not json\n\n",
        b"event: error\r\ndata: {}\r\n\r\n",
    ],
)
def test_an_error_inside_the_stream_is_noticed_and_passed_on(error: bytes) -> None:
    made, out = reader(start(input_tokens=3, output_tokens=1), piece(), error)

    assert (made.failed, made.has_ended, made.is_complete) == (True, True, False)
    assert out.endswith(error)
    assert made.ending() == b""


def test_text_that_looks_like_an_error_or_an_end_is_text() -> None:
    made, _ = reader(piece('"type":"error"'), piece("event: message_stop"), piece('{"type":"message_stop"}'))

    assert (made.failed, made.has_ended, made.output_events) == (False, False, 3)


@pytest.mark.parametrize(
    ("stop", "delta_of"),
    [
        (b'data: {"type":"message_stop"}\n\n', b'data: {"type":"content_block_delta","index":0}\n\n'),
        (
            b'event:message_stop\r\ndata:{"type":"message_stop"}\r\n\r\n',
            b"event: content_block_delta\r\ndata: {}\r\n\r\n",
        ),
        (b"data: {}\nevent: message_stop\n\n", b'data: { "type": "content_block_delta" }\n\n'),
    ],
)
def test_events_are_known_in_every_spelling(stop: bytes, delta_of: bytes) -> None:
    made, out = reader(delta_of, stop)

    assert (made.is_complete, made.output_events) == (True, 1)
    assert out == delta_of + stop


@pytest.mark.parametrize(
    "unknown",
    [b": keep-alive\n\n", event("vault_event", x=1), b"data: no json\n\n", b"data\n\n", b"id: 7\n\n", b"\r\n\r\n"],
    ids=repr,
)
def test_events_nobody_knows_pass(unknown: bytes) -> None:
    made, out = reader(unknown, STOP)

    assert out == unknown + STOP
    assert made.is_complete


def test_an_event_nested_beyond_reason_passes_without_harm() -> None:
    deep = b'data: {"type":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"

    assert reader(deep)[1] == deep


def test_a_stream_of_another_operation_may_end_anywhere() -> None:
    made, out = reader(b"event: completion\ndata: {}\n\n", path="complete")

    assert (made.is_complete, made.has_ended, made.output_events) == (True, False, 1)
    assert out == b"event: completion\ndata: {}\n\n"


EVENTS = [start(input_tokens=3, output_tokens=1), OPEN, piece(), PING, piece("x"), CLOSE, delta(output_tokens=7), STOP]
ANY_EVENT = st.sampled_from(EVENTS) | st.text(max_size=30).map(
    lambda text: b"data: " + text.replace("\r", "").replace("\n", "").encode() + b"\n\n"
)


@given(st.lists(ANY_EVENT, max_size=12), st.data())
def test_how_the_events_are_batched_changes_nothing(events: list[bytes], data: st.DataObject) -> None:
    one, whole = DIALECT.stream_reader(read({"model": "m"})), b""
    for each in events:
        whole += one.pass_on([each])
    many, pieces = DIALECT.stream_reader(read({"model": "m"})), b""
    rest = list(events)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces += many.pass_on(rest[:size])
        del rest[:size]

    assert whole == pieces == b"".join(events)
    for name in ("usage", "model", "is_complete", "has_ended", "failed", "output_events", "usage_doubtful"):
        assert getattr(one, name) == getattr(many, name)


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
NAMES = ("model", "messages", "tools", "stream", "max_tokens", "metadata", "system", "x")
MEMBERS = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON_VALUES))


def tried(method: str, path: str, query: str, content_type: str, body: bytes) -> Request | int:
    """What was understood, or the status of the refusal."""
    try:
        return DIALECT.read(method, path, query, content_type, body)
    except TrueportError as refused:
        return refused.status


@given(
    MEMBERS | JSON_VALUES,
    st.sampled_from(["messages", "messages/count_tokens", "complete", "messages/batches", "models", "x", "", "v1/"]),
    st.sampled_from(["POST", "GET", "PUT", "DELETE"]),
)
def test_no_json_is_more_than_refused(body: Any, path: str, method: str) -> None:
    data = json.dumps(body).encode()

    request = tried(method, path, "beta=true", JSON, data)

    if isinstance(request, int):
        assert request in (400, 404)
        return
    assert request.body == data
    assert DIALECT.with_model(request, "other").model == (None if request.model is None else "other")


@given(st.binary(max_size=60), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_bytes_are_more_than_refused(body: bytes, path: str, query: str, content_type: str) -> None:
    for method in ("POST", "GET"):
        request = tried(method, path, query, content_type, body)
        assert isinstance(request, Request) or request in (400, 404)
    DIALECT.usage(body)
    DIALECT.only_models(body, lambda _: True)


# --- lists of models


def test_a_list_keeps_only_permitted_models_each_as_it_was() -> None:
    body = b'{"data":[{"id":"a"},{"id":"b","n":1.0},{"id":"c"}],"has_more":false,"first_id":"a","last_id":"c"}'

    kept = DIALECT.only_models(body, lambda model: model in ("b", "c"))

    assert kept == b'{"data":[{"id":"b","n":1.0},{"id":"c"}],"has_more":false,"first_id":"b","last_id":"c"}'


def test_a_list_of_which_nothing_is_left_is_an_empty_list() -> None:
    kept = DIALECT.only_models(b'{"data":[{"id":"a"}],"has_more":false,"first_id":"a","last_id":"a"}', lambda _: False)

    assert json.loads(kept) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_the_next_page_is_found_though_this_one_shrank() -> None:
    kept = DIALECT.only_models(
        b'{"data":[{"id":"a"},{"id":"b"}],"has_more":true,"first_id":"a","last_id":"b"}', lambda model: model == "a"
    )

    assert json.loads(kept) == {"data": [{"id": "a"}], "has_more": True, "first_id": "a", "last_id": "b"}


@pytest.mark.parametrize(
    "body",
    [b"no", b"[]", b"{}", b'{"data":{}}', b'{"data":[1]}', b'{"data":[{"id":3}]}', b"\xff", b'{"data":' + b"[" * 9_999],
)
def test_what_is_no_list_shows_nothing(body: bytes) -> None:
    assert DIALECT.only_models(body, lambda _: True) == b""


# --- refusals


def refusal(status: int, code: str = "some_code", **fields: object) -> TrueportError:
    made: type[TrueportError] = type("Refusal", (TrueportError,), {"status": status, "code": code})
    return made("One plain sentence.", **fields)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_says_what_sdks_read(status: int, kind: str) -> None:
    answered, headers, body = DIALECT.refusal(refusal(status), "int_1", "req_1")

    assert answered == status
    assert headers == [(b"content-type", b"application/json")]
    assert json.loads(body) == {
        "type": "error",
        "error": {
            "type": kind,
            "message": "One plain sentence.",
            "code": "some_code",
            "interaction_id": "int_1",
        },
        "request_id": "req_1",
    }


def test_an_error_names_the_member_it_is_about() -> None:
    body = DIALECT.refusal(refusal(400, param="model"), "int_1", "req_1")[2]

    assert json.loads(body)["error"]["param"] == "model"


def test_an_error_says_whether_and_when_to_try_again() -> None:
    error = Unavailable("Later.")
    error.should_retry = False

    headers = dict(DIALECT.refusal(error, "int_1", "req_1")[1])

    assert (headers[b"retry-after"], headers[b"x-should-retry"]) == (b"1", b"false")


def test_an_error_in_a_stream_is_one_event_without_an_end_mark() -> None:
    said = DIALECT.error_event(Unavailable("Later.\n\nevent: message_stop"), "int_1", "req_1")

    assert said.startswith(b'event: error\ndata: {"type":"error"')
    assert said.count(b"\n\n") == 1
    assert said.endswith(b"\n\n")
    made, _ = reader(start(input_tokens=1), said)
    assert (made.failed, made.is_complete) == (True, False)
