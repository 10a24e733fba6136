"""Who speaks a text, by where it stands: what is looked for in it depends on that."""

import json
from typing import Any, cast

import pytest

from tests.support.bodies import ANSWERS, REQUESTS
from trueport.detection.types import Role
from trueport.gateway.call import Request, Wire
from trueport.gateway.texts import of_answer, of_request

EXPECTED: dict[str, dict[str, Role]] = {
    "chat": {
        "be brief": "system",
        "look at these": "user",
        "notes of a meeting": "document",
        "unheard of": "user",
        "not this": "assistant",
        "let me see": "reasoning",
        "Paris": "tool_call",
        "list files": "tool_call",
        "rain": "tool_result",
        "wind": "tool_result",
        "two files": "tool_result",
        "plain result": "tool_result",
        "what it takes": "tool_definition",
        "tells": "tool_definition",
        "it will be this": "assistant",
        "secret one": "metadata",
        "hidden text": "metadata",
    },
    "completions": {"one prompt": "user"},
    "responses": {
        "be kind": "system",
        "a plain turn": "user",
        "a listed turn": "user",
        "a summary": "reasoning",
        "the thought": "reasoning",
        "b c": "tool_call",
        "s t": "tool_result",
        "do this": "tool_call",
        "did that": "tool_result",
        "mcp said": "tool_result",
        "find me": "tool_call",
        "it is": "document",
        "does f": "tool_definition",
    },
    "embeddings": {"embed me": "user"},
    "messages": {
        "be good": "system",
        "a first turn": "user",
        "signed thought": "reasoning",
        "an answer": "assistant",
        "they said": "document",
        "Rome now": "tool_call",
        "it rains": "tool_result",
        "plain words": "tool_result",
        "a title": "document",
        "document text": "document",
        "inner text": "document",
        "says so": "document",
        "tells it": "tool_definition",
        "user one": "metadata",
    },
    "message batches": {"be nice": "system", "in a batch": "user"},
    "complete": {"Human: hi there": "user"},
    "generate": {
        "be short": "system",
        "a google turn": "user",
        "notes of a meeting": "document",
        "thinking it": "reasoning",
        "said it": "assistant",
        "b c": "tool_call",
        "print(2)": "tool_call",
        "2 lines": "tool_result",
        "came back": "tool_result",
        "does it": "tool_definition",
        "the blue": "metadata",
    },
    "embed": {"embed this": "user"},
    "batch embed": {"embed that": "user"},
    "predict": {"a blue dog": "user"},
}
ANSWERED: dict[str, dict[str, Role]] = {
    "chat": {"a warm day": "assistant", "so warm": "reasoning", "spoken words": "assistant", "bob x": "tool_call"},
    "responses": {"the reply": "assistant", "in short": "reasoning", "r s": "tool_call", "echoed rule": "system"},
    "message": {"a reply": "assistant", "hm well": "reasoning", "eve y": "tool_call", "result one": "tool_result"},
    "generate": {"google said": "assistant", "thought of": "reasoning", "y z": "tool_call"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_text_of_a_request_has_the_role_of_its_place(name: str) -> None:
    wire, body = REQUESTS[name]
    request = Request(
        operation="any", model=None, streams=False, wants_usage_event=False, body=json.dumps(body).encode(),
        members=body, content_type="application/json", most_output_tokens=None,
    )  # fmt: skip

    roles = {part.passage.text: part.passage.role for part in of_request(cast(Wire, wire), request).parts}

    assert {text: roles.get(text) for text in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", ANSWERED)
def test_a_text_of_an_answer_has_the_role_of_its_place(name: str) -> None:
    wire, body = ANSWERS[name]
    found: Any = of_answer(cast(Wire, wire), json.dumps(body).encode(), "application/json")

    roles = {part.passage.text: part.passage.role for part in found.parts}

    assert {text: roles.get(text) for text in ANSWERED[name]} == ANSWERED[name]


UNREADABLE: dict[str, list[tuple[str, str]]] = {
    "chat": [("image", "url"), ("image", "url"), ("audio", "data"), ("file", "file_id")],
    "messages": [
        ("encrypted", "signature"),
        ("encrypted", "data"),
        ("image", "data"),
        ("image", "url"),
        ("file", "file_id"),
    ],
    "generate": [("image", "data"), ("video", "fileUri"), ("encrypted", "thoughtSignature")],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_named_by_its_kind(name: str) -> None:
    wire, body = REQUESTS[name]
    request = Request(
        operation="any", model=None, streams=False, wants_usage_event=False, body=json.dumps(body).encode(),
        members=body, content_type="application/json", most_output_tokens=None,
    )  # fmt: skip

    found = of_request(cast(Wire, wire), request).unscannable

    assert [(one.kind, one.path.rpartition(".")[2]) for one in found] == UNREADABLE[name]
