"""A body with texts replaced: the texts are there, and every other byte is as it was."""

import base64
import json
from typing import Any, cast
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bodies import ANSWERS, REQUESTS
from trueport.gateway.call import Request, Wire
from trueport.gateway.texts import NotEditable, Texts, of_answer, of_request


def request_of(body: bytes, content_type: str = "application/json", members: Any = None) -> Request:
    return Request(
        operation="any", model=None, streams=False, wants_usage_event=False, body=body, members=members,
        content_type=content_type, most_output_tokens=None,
    )  # fmt: skip


def of_json(wire: str, text: str) -> Texts:
    return of_request(cast(Wire, wire), request_of(text.encode(), members=json.loads(text)))


def index_of(texts: Texts, text: str) -> int:
    return next(index for index, part in enumerate(texts.parts) if part.passage.text == text)


def replaced(texts: Texts, old: str, new: str) -> str:
    return texts.with_texts({index_of(texts, old): new}).decode()


@pytest.mark.parametrize("name", REQUESTS)
def test_every_text_of_a_request_can_be_replaced_and_is_then_read(name: str) -> None:
    wire, body = REQUESTS[name]
    source = json.dumps(body, indent=1)
    texts = of_json(wire, source)
    for index, part in enumerate(texts.parts):
        if part.removal is not None:
            continue
        changed = texts.with_texts({index: "put in [X_1]"}).decode()

        again = of_json(wire, changed)

        assert any(one.passage.text == "put in [X_1]" for one in again.parts), part.path
        assert len(again.parts) == len(texts.parts)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_text_of_an_answer_can_be_replaced_at_once(name: str) -> None:
    wire, body = ANSWERS[name]
    texts = of_answer(cast(Wire, wire), json.dumps(body).encode(), "application/json")
    edits = {index: f"new {index}" for index, part in enumerate(texts.parts) if part.removal is None}

    again = of_answer(cast(Wire, wire), texts.with_texts(edits), "application/json")

    assert [part.passage.text for part in again.parts if part.removal is None] == list(edits.values())


def test_what_is_not_replaced_keeps_its_bytes() -> None:
    source = (
        '{ "a":1.50, "messages" : [ {"role":"user","content":"caf\\u00e9"} , {"role":"user","content":"two"} ],"z":1e3}'
    )

    assert replaced(of_json("openai", source), "two", 'a "quote"') == source.replace('"two"', '"a \\"quote\\""')


def test_nothing_replaced_is_the_very_same_body() -> None:
    source = '{"messages":[{"role":"user","content":"one"}]}'
    texts = of_json("openai", source)

    assert texts.with_texts({0: "one"}) is texts.body.source
    assert texts.with_texts({}) is texts.body.source


def test_arguments_of_a_tool_stay_json() -> None:
    arguments = json.dumps({"to": 'bob "b"', "card": 4111111111111111})
    source = json.dumps({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]})
    texts = of_json("openai", source)

    changed = json.loads(
        texts.with_texts({index_of(texts, 'bob "b"'): '[A "1]', index_of(texts, "4111111111111111"): "[C]"})
    )

    assert json.loads(changed["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {
        "to": '[A "1]',
        "card": "[C]",
    }


def test_a_text_file_in_a_data_url_is_encoded_again() -> None:
    wire, body = REQUESTS["chat"]

    changed = json.loads(replaced(of_json(wire, json.dumps(body)), "notes of a meeting", "[N]"))

    url = changed["messages"][1]["content"][4]["file"]["file_data"]
    assert url == "data:text/plain;base64," + base64.b64encode(b"[N]").decode()


def test_a_name_is_replaced_where_it_stands() -> None:
    texts = of_json("openai", '{"metadata":{"bob":"x","eve":"y"}}')

    assert replaced(texts, "bob", "[P]") == '{"metadata":{"[P]":"x","eve":"y"}}'


def test_a_name_that_would_be_there_twice_is_not_replaced() -> None:
    texts = of_json("openai", '{"metadata":{"bob":"x","eve":"y"}}')

    with pytest.raises(NotEditable):
        replaced(texts, "bob", "eve")


def test_a_changed_log_probability_takes_all_of_them_away() -> None:
    wire, body = ANSWERS["chat"]
    texts = of_answer(cast(Wire, wire), json.dumps(body).encode(), "application/json")

    changed = json.loads(texts.with_texts({index_of(texts, " day"): "[D]"}))

    assert changed["choices"][0]["logprobs"] is None
    assert changed["choices"][0]["message"] == body["choices"][0]["message"]


def _thinking(*others: dict[str, Any]) -> Texts:
    block = {"type": "thinking", "thinking": "of bob", "signature": "Eq"}
    return of_json("anthropic", json.dumps({"messages": [{"role": "assistant", "content": [block, *others]}]}))


def test_a_signed_thought_is_dropped_and_never_edited() -> None:
    texts = _thinking({"type": "text", "text": "hi"})

    changed = json.loads(replaced(texts, "of bob", "of [P]"))

    assert changed["messages"][0]["content"] == [{"type": "text", "text": "hi"}]


@pytest.mark.parametrize("others", [[], [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]])
def test_a_signed_thought_that_has_to_stay_stops_the_call(others: list[dict[str, Any]]) -> None:
    with pytest.raises(NotEditable):
        replaced(_thinking(*others), "of bob", "of [P]")


def test_fields_and_text_files_of_a_form_are_replaced() -> None:
    head = b"--b\r\ncontent-disposition: form-data; name="
    text, sound = b"\r\ncontent-type: text/plain\r\n\r\n", b"\r\ncontent-type: audio/wav\r\n\r\n"
    form = (
        head + b'"model"\r\n\r\nwhisper-1\r\n'
        + head + b'"prompt"\r\n\r\nabout bob\r\n'
        + head + b'"file"; filename="a.txt"' + text + b"by eve\r\n"
        + head + b'"file"; filename="a.wav"' + sound + b"\x00\xff\r\n--b--\r\n"
    )  # fmt: skip
    texts = of_request("openai", request_of(form, "multipart/form-data; boundary=b"))

    changed = texts.with_texts({index_of(texts, "about bob"): "about [P]", index_of(texts, "by eve"): "by [Q]"})

    assert changed == form.replace(b"bob", b"[P]").replace(b"eve", b"[Q]")
    assert [(one.kind, one.path) for one in texts.unscannable] == [("audio", "form[3]")]


def test_the_lines_of_a_batch_file_are_requests() -> None:
    lines = [
        {"custom_id": f"c {n}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "m", "messages": [{"role": "system" if n else "user", "content": f"text {n}"}]}}
        for n in range(2)
    ]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)) + "\n"
    form = (
        '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--b\r\ncontent-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n' + content + "\r\n--b--\r\n"
    )
    texts = of_request("openai", request_of(form.encode(), "multipart/form-data; boundary=b"))

    changed = texts.with_texts({index_of(texts, "text 1"): "[T]"}).decode()

    assert [(part.passage.text, part.passage.role) for part in texts.parts if part.passage.text.startswith("text")] == [
        ("text 0", "user"), ("text 1", "system"),
    ]  # fmt: skip
    assert changed == form.replace("text 1", "[T]")


def test_a_pair_of_a_form_is_replaced() -> None:
    texts = of_request("openai", request_of(b"a=1&prompt=hi+bob%21", "application/x-www-form-urlencoded"))

    changed = replaced(texts, "hi bob!", "hi [P]&x")

    assert parse_qs(changed) == {"a": ["1"], "prompt": ["hi [P]&x"]}


def test_events_are_read_as_what_they_add_up_to() -> None:
    stream = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % piece for piece in (b"bo", b"b")
    )
    stream += b"data: [DONE]\n\n"
    texts = of_answer("openai", stream, "text/event-stream")

    changed = texts.with_texts({index_of(texts, "bo"): "[P]", index_of(texts, "b"): ""})

    assert len({part.group for part in texts.parts}) == 1
    assert changed == stream.replace(b'"bo"', b'"[P]"').replace(b'"b"', b'""')


def test_what_an_object_names_twice_is_read_twice() -> None:
    texts = of_answer("openai", b'{"choices":[{"message":{"content":"one","content":"two"}}]}', "application/json")

    assert [part.passage.text for part in texts.parts if part.passage.text != "content"] == ["one", "two"]
    assert replaced(texts, "two", "[T]") == '{"choices":[{"message":{"content":"one","content":"[T]"}}]}'


def test_json_that_is_none_is_read_whole_and_named() -> None:
    texts = of_answer("openai", b'{"choices": [broken', "application/json")

    assert [part.passage.text for part in texts.parts] == ['{"choices": [broken']
    assert [one.kind for one in texts.unscannable] == ["unknown"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1), _json, max_size=5), st.sampled_from(["openai", "anthropic", "google"]))
def test_any_object_keeps_everything_but_what_is_replaced(body: dict[str, Any], wire: str) -> None:
    texts = of_json(wire, json.dumps(body))
    values = [n for n, part in enumerate(texts.parts) if not part.group and part.removal is None]

    changed = texts.with_texts({n: f"replaced {n}" for n in values})
    back = of_request(cast(Wire, wire), request_of(changed, members=json.loads(changed)))

    assert len(back.parts) >= len(values)
    assert {f"replaced {n}" for n in values} <= {part.passage.text for part in back.parts}
