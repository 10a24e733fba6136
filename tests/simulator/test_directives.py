"""Where directives may stand, and what happens to those that cannot be obeyed."""

import json

import pytest

from tests.support.simulator import chat_call, raw_call, request_bytes
from trueport.simulator import DirectiveError, Simulator
from trueport.simulator.directives import from_list, from_texts
from trueport.simulator.faults import parse_fault


def test_directives_are_found_anywhere_in_any_text() -> None:
    script = from_texts(
        ["Before [[say: Hello: [you]]] after", 'x [[ pace : 20ms ]][[tool: f {"a": [1]}]]', "[[extra]][[tokens: 4]]"]
    )

    assert script.say == "Hello: [you]"
    assert script.pace_s == 0.02
    assert [(tool.name, tool.arguments) for tool in script.tools] == [("f", '{"a": [1]}')]
    assert script.extra == {"fields", "comment", "event"}
    assert script.tokens == 4


@pytest.mark.parametrize("text", ["[[ -f x ]]", "[[Wiki link]]", "[[]]", "[[sayings: x]]", "[say: x]", "[[say: x"])
def test_other_brackets_are_left_alone(text: str) -> None:
    assert from_texts([text]) == from_texts([])


def test_a_list_reads_values_that_hold_equals_signs() -> None:
    script = from_list("fault=status=429 retry-after=3; pace=1.5s ; extra")

    assert script.faults[0].count("status") == 429
    assert script.faults[0].word("retry-after") == "3"
    assert script.pace_s == 1.5
    assert "fields" in script.extra


def test_options_have_defaults() -> None:
    assert parse_fault("redirect").count("redirect") == 307
    assert parse_fault("drip").seconds("every") == 0.05
    assert not parse_fault("rst").has("after")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "status=99",
        "status=600",
        "status=abc",
        "status=500 after=3",
        "rst after",
        "rst after=-1",
        "rst after=99999999999",
        "delay=5",
        "drip=words",
        "usage=odd",
        "split=0",
        "rst times=x",
        "status=429 retry-after=date:x",
        "long-line=999999999",
    ],
)
def test_a_fault_that_cannot_be_obeyed_is_an_error(text: str) -> None:
    with pytest.raises(DirectiveError):
        parse_fault(text)


@pytest.mark.parametrize(
    "text", ["unknown=1", "tokens=many", "tokens=2000000", "pace=fast", "usage=total=3", "usage=prompt", "extra=more"]
)
def test_a_directive_that_cannot_be_obeyed_is_an_error(text: str) -> None:
    with pytest.raises(DirectiveError):
        from_list(text)


async def test_the_caller_is_told_what_cannot_be_obeyed(simulator: Simulator) -> None:
    reply = await chat_call(simulator.port, "[[fault: explode]]")

    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"]) == (400, "invalid_directive")
    assert "explode" in error["message"]


async def test_text_model_and_header_all_carry_directives_and_the_header_wins(simulator: Simulator) -> None:
    by_model = await chat_call(simulator.port, "[[say: text]]", model="sim-model+say=model")
    by_header = await chat_call(simulator.port, "[[say: text]]", script="say=header", model="sim-model+say=model")

    assert json.loads(by_model.body)["choices"][0]["message"]["content"] == "model"
    assert json.loads(by_model.body)["model"] == "sim-model+say=model"
    assert json.loads(by_header.body)["choices"][0]["message"]["content"] == "header"


async def test_the_header_works_where_there_is_no_text(simulator: Simulator) -> None:
    headers = {"connection": "close", "x-simulator": "fault=status=500"}
    paths = [("GET", "/v1/models"), ("GET", "/v1/models/a"), ("POST", "/v1/files"), ("GET", "/v1/nothing")]

    replies = [await raw_call(simulator.port, request_bytes(method=m, path=p, headers=headers)) for m, p in paths]

    assert [reply.status for reply in replies] == [500] * 4


async def test_parts_of_a_message_carry_directives_too(simulator: Simulator) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "[[say: seen]]"}]
    reply = await chat_call(simulator.port, messages=[{"role": "user", "content": parts}])

    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "seen"
