"""Every string in a body is read, or named as unreadable, or stands where a table says that structure stands."""

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.support.bodies import ANSWERS, REQUESTS
from trueport.gateway.call import Request, Wire
from trueport.gateway.texts import Texts, of_answer, of_request
from trueport.gateway.texts.tables import TABLES

SENTENCE = "canary 7q with blanks"
TOKEN = "canary7qx"
_STRUCTURE = {"skip", "vector", "encrypted", "file"}


def request_of(body: bytes, content_type: str = "application/json", members: Any = None) -> Request:
    return Request(
        operation="any", model=None, streams=False, wants_usage_event=False, body=body, members=members,
        content_type=content_type, most_output_tokens=None,
    )  # fmt: skip


def read_request(wire: str, body: Any) -> Texts:
    return of_request(cast(Wire, wire), request_of(json.dumps(body).encode(), members=body))


def read_answer(wire: str, body: Any) -> Texts:
    return of_answer(cast(Wire, wire), json.dumps(body).encode(), "application/json")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the strings of a body stand; `("{}",)` in a place leads into the JSON that a string holds."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))
    elif isinstance(value, str):
        yield at
        if value.startswith("{") and isinstance(json.loads(value), dict):
            yield from places(json.loads(value), (*at, "{}"))


def with_value(body: Any, place: tuple[Any, ...], value: str) -> Any:
    body = copy.deepcopy(body)
    if "{}" in place:
        cut = place.index("{}")
        inner = json.loads(lookup(body, place[:cut]))
        return with_value(body, place[:cut], json.dumps(with_value(inner, place[cut + 1 :], value)))
    node = lookup(body, place[:-1])
    node[place[-1]] = value
    return body


def lookup(body: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        body = body[step]
    return body


def is_found(texts: Texts, canary: str) -> bool:
    return any(canary in part.passage.text for part in texts.parts)


def is_structure(wire: str, body: Any, place: tuple[Any, ...]) -> bool:
    """Whether a table names the member that the string is, or is below, as structure."""
    rules = TABLES[cast(Wire, wire)]
    names = [step for step in place if isinstance(step, str)]
    if "{}" in names:
        return False
    around = lookup(body, place[:-1])
    kind = around.get("type") if isinstance(around, dict) else None
    for before, name in zip(["", *names], names, strict=False):
        camel = "".join(part.title() if n else part for n, part in enumerate(name.split("_")))
        for key in (f"{kind}.{name}", f"{before}.{name}", name, camel):
            rule = rules.get(key)
            if rule is not None and rule.leaf in _STRUCTURE:
                return True
    return names[-1] in ("type", "format", "additionalProperties") and any(n in names for n in _SCHEMAS)


_SCHEMAS = ("parameters", "schema", "input_schema", "responseSchema")
REQUEST_PLACES = [(name, place) for name, (_, body) in REQUESTS.items() for place in places(body)]
ANSWER_PLACES = [(name, place) for name, (_, body) in ANSWERS.items() for place in places(body)]


def named(item: tuple[str, tuple[Any, ...]]) -> str:
    return f"{item[0]}:{'.'.join(map(str, item[1]))}"


@pytest.mark.parametrize("item", REQUEST_PLACES, ids=named)
def test_a_sentence_is_read_wherever_it_stands_in_a_request(item: tuple[str, tuple[Any, ...]]) -> None:
    wire, body = REQUESTS[item[0]]

    texts = read_request(wire, with_value(body, item[1], SENTENCE))

    assert is_found(texts, SENTENCE)


@pytest.mark.parametrize("item", ANSWER_PLACES, ids=named)
def test_a_sentence_is_read_wherever_it_stands_in_an_answer(item: tuple[str, tuple[Any, ...]]) -> None:
    wire, body = ANSWERS[item[0]]

    texts = read_answer(wire, with_value(body, item[1], SENTENCE))

    assert is_found(texts, SENTENCE)


@pytest.mark.parametrize("side", ["request", "answer"])
def test_a_word_is_read_or_stands_for_structure_or_content_that_cannot_be_read(side: str) -> None:
    table: dict[str, tuple[str, Any]] = REQUESTS if side == "request" else ANSWERS
    read = read_request if side == "request" else read_answer
    missed = []
    for name, (wire, body) in table.items():
        before = read(wire, body)
        for place in places(body):
            texts = read(wire, with_value(body, place, TOKEN))
            unreadable = len(texts.unscannable) >= len(before.unscannable) and any(
                one.path.split(".")[-1].split("[")[0] in place for one in texts.unscannable
            )
            if not (is_found(texts, TOKEN) or is_structure(wire, body, place) or unreadable):
                missed.append((name, place))
    assert missed == []


def objects(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield at
        for name, inner in value.items():
            yield from objects(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects(inner, (*at, index))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_member_nobody_knows_is_read_with_its_name_in_every_object_of_a_request(name: str) -> None:
    wire, body = REQUESTS[name]
    for place in objects(body):
        extended = copy.deepcopy(body)
        lookup(extended, place)["odd name"] = {"odder name": [SENTENCE, {"oddest": TOKEN}]}

        texts = read_request(wire, extended)

        for canary in ("odd name", "odder name", SENTENCE, TOKEN):
            assert is_found(texts, canary), (place, canary)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_member_nobody_knows_is_read_with_its_name_in_every_object_of_an_answer(name: str) -> None:
    wire, body = ANSWERS[name]
    for place in objects(body):
        extended = copy.deepcopy(body)
        lookup(extended, place)["odd name"] = {"odder name": [SENTENCE, {"oddest": TOKEN}]}

        texts = read_answer(wire, extended)

        for canary in ("odd name", "odder name", SENTENCE, TOKEN):
            assert is_found(texts, canary), (place, canary)


@pytest.mark.parametrize("name", REQUESTS)
def test_no_path_holds_what_a_client_named(name: str) -> None:
    wire, body = REQUESTS[name]
    extended = {**body, "Ada Lovelace": {"ada@x.example": "text"}}

    texts = read_request(wire, extended)

    assert all("Lovelace" not in part.path and "@" not in part.path for part in texts.parts)
