"""OpenAI's dialect: what is read out of requests, answers and streams."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.call import Request, Usage
from trueport.gateway.credentials import AmbiguousCredential
from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.kit.errors import InvalidRequest, NotFound, Unavailable

DIALECT = OpenAIDialect()
JSON = "application/json"


def read(body: Any = None, path: str = "chat/completions", method: str = "POST", content_type: str = JSON) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.read(method, path, "", content_type, data)


def chunk(text: str = "hi", **members: Any) -> bytes:
    made = {"id": "c", "model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}], **members}
    return b"data: " + json.dumps(made, separators=(",", ":")).encode() + b"\n\n"


def usage_chunk(prompt: Any = 3, completion: Any = 2, **members: Any) -> bytes:
    return chunk(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion, **members})


DONE = b"data: [DONE]\n\n"


def reader(*events: bytes, wants_usage: bool = False, path: str = "chat/completions") -> tuple[StreamReader, bytes]:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    made = DIALECT.stream_reader(read({"model": "m", "messages": [], "stream": True, **options}, path))
    return made, b"".join(made.pass_on([event]) for event in events)


# --- requests


def test_a_request_tells_model_stream_and_bound() -> None:
    request = read({"model": "m", "messages": [], "stream": True, "max_tokens": 7})

    assert (request.operation, request.model, request.streams) == ("chat/completions", "m", True)
    assert request.most_output_tokens == 7


@pytest.mark.parametrize(
    ("members", "bound"),
    [
        ({"max_completion_tokens": 5, "max_tokens": 7}, 5),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": 1.5}, None),
        ({"max_tokens": 10**30}, None),
        ({}, None),
    ],
)
def test_only_a_count_is_a_bound(members: dict[str, Any], bound: int | None) -> None:
    assert read({"model": "m", "messages": [], **members}).most_output_tokens == bound


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}, {"x": 1}])
def test_a_stream_is_made_to_tell_its_usage(path: str, options: dict[str, Any] | None) -> None:
    request = read({"model": "m", "stream": True, "stream_options": options}, path)

    assert json.loads(request.body)["stream_options"] == {**(options or {}), "include_usage": True}
    assert not request.wants_usage_event


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("chat/completions", {}),
        ("chat/completions", {"stream": False, "stream_options": {"include_usage": False}}),
        ("chat/completions", {"stream": None}),
        ("chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
        ("responses", {"stream": True}),
        ("embeddings", {"stream": True}),
    ],
)
def test_any_other_request_stays_as_it_is(path: str, members: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **members}, indent=3).encode()

    assert read(body, path).body == body


@pytest.mark.parametrize("model", [None, "", 1, [], "x" * 257, "a\nb", "a\x00", "a\x7f", "a\u2028b"])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings"])
def test_where_a_model_is_needed_it_has_to_be_a_printable_name(path: str, model: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read({"model": model}, path)

    assert refused.value.fields["param"] == "model"


def test_elsewhere_it_may_be_missing_but_not_nonsense() -> None:
    assert read({"input": "x"}, "moderations").model is None
    with pytest.raises(InvalidRequest):
        read({"model": 7}, "moderations")


@pytest.mark.parametrize("path", ["Chat/completions", "chat/Completions", "COMPLETIONS", "Embeddings"])
def test_another_spelling_of_a_known_operation_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read({"model": "m"}, path)


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonl", "multipart/form-data; boundary=x"])
def test_a_generation_has_to_be_json(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        read({"model": "m"}, content_type=content_type)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"']
)
def test_these_types_are_json(content_type: str) -> None:
    assert read({"model": "m"}, content_type=content_type).model == "m"


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", '"utf-7"', ""])
def test_json_in_another_charset_is_refused(charset: str) -> None:
    with pytest.raises(InvalidRequest):
        read({"model": "m"}, content_type=f"application/json; charset={charset}")


FORM = (
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n--x--\r\n'
)


def test_a_form_tells_its_model_and_is_passed_on_as_it_came() -> None:
    request = read(FORM, "audio/transcriptions", content_type="multipart/form-data; boundary=x")

    assert (request.body, request.model, request.members, request.kind) == (FORM, "whisper-1", None, "media")
    assert DIALECT.with_model(request, "other").body == FORM.replace(b"whisper-1", b"other")


def test_what_is_neither_json_nor_a_form_is_passed_on_unread() -> None:
    request = read(b"\x00\xff", "uploads/u/parts", content_type="application/octet-stream")

    assert (request.body, request.model, request.members) == (b"\x00\xff", None, None)


@pytest.mark.parametrize("path", ["Responses", "FILES", "audio/Speech", "images/Generations"])
def test_another_spelling_of_a_known_path_is_no_path(path: str) -> None:
    with pytest.raises(NotFound):
        read({"model": "m"}, path)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "chat/completions", "chat"),
        ("POST", "responses", "chat"),
        ("POST", "completions", "chat"),
        ("POST", "embeddings", "embeddings"),
        ("POST", "responses/input_tokens", "count"),
        ("POST", "moderations", "text"),
        ("POST", "images/generations", "media"),
        ("GET", "responses/resp_1", "state"),
        ("DELETE", "files/file-1", "state"),
        ("POST", "batches", "state"),
        ("GET", "chat/completions", "state"),
        ("GET", "models", "models"),
        ("POST", "anything/new", "other"),
    ],
)
def test_every_operation_is_of_a_kind(method: str, path: str, kind: str) -> None:
    assert read(b"" if method != "POST" else {"model": "m"}, path, method).kind == kind


@pytest.mark.parametrize(
    ("path", "model", "lists"),
    [
        ("models", None, True),
        ("models/m-1", "m-1", False),
        ("models/org/m", "org/m", False),
        ("chat/completions", None, False),
        ("files", None, False),
    ],
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


def test_a_replaced_model_leaves_every_other_byte() -> None:
    body = b'{ "temperature":1.0,"model" : "a" ,"messages":[ ]}'

    changed = DIALECT.with_model(read(body), "b")
    assert (changed.model, changed.body) == ("b", body.replace(b'"a"', b'"b"'))
    assert DIALECT.with_model(read(body), "a").body is body


# --- credentials


KEY = b"sk-tp-1"


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer " + KEY)], "sk-tp-1"),
        ([(b"authorization", b"bEARER   " + KEY + b" ")], "sk-tp-1"),
        ([(b"x-api-key", KEY)], "sk-tp-1"),
        ([(b"api-key", KEY)], "sk-tp-1"),
        ([(b"x-goog-api-key", KEY)], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Bearer ")], "sk-tp-1"),
        ([(b"x-api-key", KEY), (b"authorization", b"Basic eDp5")], "sk-tp-1"),
        ([(b"authorization", b"Basic " + KEY)], None),
        ([(b"authorization", KEY)], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"cookie", KEY)], None),
        ([], None),
    ],
)
def test_a_key_is_found_where_sdks_put_it(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    assert DIALECT.credential(headers, "key=sk-tp-2") == key


@pytest.mark.parametrize("other", [b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"])
def test_two_different_keys_are_refused(other: bytes) -> None:
    value = b"Bearer sk-tp-2" if other == b"authorization" else b"sk-tp-2"

    with pytest.raises(AmbiguousCredential):
        DIALECT.credential([(b"x-api-key", KEY), (other, value)], "")


# --- usage


@pytest.mark.parametrize(
    ("said", "usage", "doubtful"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 99}, Usage(3, 2), False),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0), False),
        ({"input_tokens": 3, "output_tokens": 2}, Usage(3, 2), False),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(3, 2), False),
        (
            {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 10, "x": {}},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(30, 20, cached_tokens=10, reasoning_tokens=5),
            False,
        ),
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(3, 2),
            True,
        ),
        ({"prompt_tokens": -3, "completion_tokens": 2}, None, True),
        ({"prompt_tokens": 3, "completion_tokens": 10**18}, None, True),
        ({"prompt_tokens": "3", "completion_tokens": 2}, None, True),
        ({"prompt_tokens": 3.0, "completion_tokens": 2}, None, True),
        ({"prompt_tokens": True, "completion_tokens": 2}, None, True),
        ({}, None, True),
        ([], None, True),
        ("many", None, True),
        (None, None, False),
    ],
)
def test_only_numbers_that_can_be_are_believed(said: Any, usage: Usage | None, *, doubtful: bool) -> None:
    assert DIALECT.usage(json.dumps({"model": "m-1", "usage": said}).encode()) == (usage, doubtful, "m-1")


@pytest.mark.parametrize("body", [b"", b"no", b"\xff\xfe", b"[]", b'{"usage":{"prompt_tokens":NaN}}', b'{"usage"'])
def test_an_answer_that_is_no_object_tells_nothing(body: bytes) -> None:
    assert DIALECT.usage(body) == (None, False, None)


# --- streams


@pytest.mark.parametrize("wants_usage", [False, True])
def test_usage_is_read_and_shown_only_to_who_asked(*, wants_usage: bool) -> None:
    events = [chunk(usage=None), chunk(usage=None), usage_chunk(), DONE]

    made, out = reader(*events, wants_usage=wants_usage)

    assert made.usage == Usage(3, 2)
    assert made.is_complete
    assert made.has_ended
    assert made.model == "m-1"
    assert out == (b"".join(events) if wants_usage else chunk() + chunk() + DONE)


@pytest.mark.parametrize(
    "spelling", [b',"usage":null', b', "usage": null', b',"usage" : null', b',\t"usage":\tnull'], ids=repr
)
def test_a_null_usage_goes_however_it_is_written(spelling: bytes) -> None:
    event = b'data: {"model":"m","choices":[{"delta":{}}]' + spelling + b',"x":1}\n\n'

    assert reader(event)[1] == event.replace(spelling, b"")


def test_a_null_usage_goes_from_the_first_place_too() -> None:
    assert reader(b'data: {"usage":null, "model":"m"}\n\n')[1] == b'data: { "model":"m"}\n\n'


def test_text_that_looks_like_usage_stays() -> None:
    event = chunk('x,"usage":null')

    assert reader(event, chunk('"usage":{"prompt_tokens":1}'))[1].startswith(event)


def test_a_chunk_with_choices_and_usage_is_passed_on() -> None:
    event = chunk("end", usage={"prompt_tokens": 1, "completion_tokens": 1})

    made, out = reader(event)

    assert (out, made.usage) == (event, Usage(1, 1))


@pytest.mark.parametrize(
    ("numbers", "last", "doubtful"),
    [
        ([(3, 1), (3, 2), (3, 2)], Usage(3, 2), False),
        ([(3, 9), (3, 2)], Usage(3, 9), False),
        ([(3, 2), (-1, 2)], Usage(3, 2), True),
        ([("3", 2)], None, True),
        ([], None, False),
    ],
)
def test_the_largest_believable_numbers_count(
    numbers: Sequence[tuple[Any, Any]], last: Usage | None, *, doubtful: bool
) -> None:
    made, _ = reader(chunk(), *(usage_chunk(*pair) for pair in numbers), DONE)

    assert (made.usage, made.usage_doubtful) == (last, doubtful)


def test_a_stream_is_complete_only_with_its_end_mark() -> None:
    made, _ = reader(chunk(), chunk())

    assert not made.is_complete
    assert made.output_events == 2


def test_a_stream_of_an_unknown_operation_may_end_anywhere() -> None:
    made = DIALECT.stream_reader(read({"model": "m", "stream": True}, "anything/new"))

    assert made.is_complete
    assert not made.has_ended


def response_event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind, **members}).encode() + b"\n\n"


def responses_reader(*events: bytes) -> tuple[StreamReader, bytes]:
    made = DIALECT.stream_reader(read({"model": "m", "stream": True}, "responses"))
    return made, b"".join(made.pass_on([event]) for event in events)


CREATED = response_event("response.created", response={"model": "m-1", "usage": None})
DELTA = response_event("response.output_text.delta", delta="hi")
COMPLETED = response_event(
    "response.completed", response={"model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 2}}
)


def test_a_responses_stream_is_metered_by_its_last_event_and_untouched() -> None:
    events = (CREATED, DELTA, DELTA, response_event("response.new_thing", x=1), COMPLETED)
    made, out = responses_reader(*events)

    assert out == b"".join(events)
    assert (made.usage, made.model, made.output_events) == (Usage(3, 2), "m-1", 2)
    assert made.is_complete
    assert made.has_ended
    assert not made.failed


def test_a_responses_stream_without_its_last_event_is_cut() -> None:
    made, _ = responses_reader(CREATED, DELTA, response_event("response.output_text.done", text="hi"))

    assert not made.is_complete


@pytest.mark.parametrize(
    "event", [response_event("response.failed", response={"error": {"code": "x"}}), response_event("error", code="x")]
)
def test_a_responses_stream_may_end_in_an_error(event: bytes) -> None:
    made, out = responses_reader(CREATED, event)

    assert out == CREATED + event
    assert made.failed


def test_a_media_stream_is_metered_by_its_last_event() -> None:
    made = DIALECT.stream_reader(read({"model": "m", "input": "x", "stream_format": "sse"}, "audio/speech"))
    last = b'data: {"type":"speech.audio.done","usage":{"input_tokens":3,"output_tokens":9,"total_tokens":12}}\n\n'

    assert not made.is_complete
    assert made.pass_on([b'data: {"type":"speech.audio.delta","audio":"AA"}\n\n', last]).endswith(last)
    assert made.usage == Usage(3, 9)
    assert made.has_ended


@pytest.mark.parametrize(("event", "failed"), [(chunk(error={"message": "x"}), True), (chunk(error=None), False)])
def test_an_error_inside_the_stream_is_noticed(event: bytes, *, failed: bool) -> None:
    made, out = reader(chunk(), event)

    assert (made.failed, out) == (failed, chunk() + event)


@pytest.mark.parametrize(
    "event",
    [b": keep-alive\n\n", b"event: x\ndata: {}\n\n", b"data: no json\n\n", b"data\n\n", b"id: 7\n\n", b"\r\n\r\n",
     b"data: {\"a\":1}\r\n\r\n", b"data: \xef\xbb\xbf\n\n"],
    ids=repr,
)  # fmt: skip
def test_events_nobody_knows_pass(event: bytes) -> None:
    assert reader(event, chunk(), event)[1] == event + chunk() + event


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("start", [b"data: [DONE]", b"data:[DONE]", b"event: end\ndata: [DONE]"])
def test_the_end_mark_is_known_in_every_spelling(start: bytes, end: bytes) -> None:
    assert reader(chunk(), start + end)[0].has_ended


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_make_the_reader_fail_or_lose_any_but_usage(lines: list[bytes]) -> None:
    events = [b"data: " + line + b"\n\n" for line in lines]

    made, out = reader(*events, wants_usage=True)

    assert out == b"".join(events)
    assert made.usage is None or made.usage.total_tokens >= 0


# --- lists of models, errors


def test_a_list_keeps_only_permitted_models_each_as_it_was() -> None:
    body = b'{"object":"list","x":1,"data":[{"id":"a","n":1.0},{"id":"b"},{"name":"none"}]}'

    kept = DIALECT.only_models(body, lambda model: model == "a")

    assert kept == b'{"object":"list","data":[{"id":"a","n":1.0}]}'


@pytest.mark.parametrize("body", [b"no", b"[]", b'{"data":{}}', b'{"data":[1]}', b'{"data":[{"id":3}]}', b"\xff"])
def test_what_is_no_list_shows_nothing(body: bytes) -> None:
    assert DIALECT.only_models(body, lambda _: True) == b""


def test_an_error_says_what_sdks_read() -> None:
    status, headers, body = DIALECT.refusal(Unavailable("Later."), "int_1", "req_1")

    assert (status, dict(headers)[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["error"] == {
        "message": "Later.",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
        "request_id": "req_1",
        "interaction_id": "int_1",
    }


def test_an_error_in_a_stream_is_one_event_without_an_end_mark() -> None:
    event = DIALECT.error_event(Unavailable("Later.\n\ndata: [DONE]"), "int_1", "req_1")

    assert event.startswith(b"event: error\ndata: {")
    assert event.count(b"\n\n") == 1
    assert event.endswith(b"\n\n")
