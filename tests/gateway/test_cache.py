"""Which answers are kept for whom, for how long, and within what bounds."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.support.objects import admitted, asked, credential
from trueport.gateway.cache import LARGEST_ANSWER_BYTES, AnswerCache, KeptAnswer, name_of
from trueport.gateway.call import Admitted, HeaderList
from trueport.gateway.snapshot import Target
from trueport.kit.clock import ManualClock

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stop": ["a", "b"]}
MAIN, SPARE = credential("main"), credential("spare")


def call(body: Any = None, *, line: str = "POST chat/completions", wire: str = "openai", **options: Any) -> Admitted:
    return admitted(wire, asked(wire, line, CHAT if body is None else body), **options)


def with_headers(headers: HeaderList) -> Admitted:
    found = call()
    return structs.replace(found, call=structs.replace(found.call, headers=headers))


def under(**changes: Any) -> Admitted:
    found = call()
    return structs.replace(found, snapshot=dataclasses.replace(found.snapshot, **changes))


NAME = name_of(call())


@pytest.mark.parametrize(
    "other",
    [
        call(tenant="ten_b"),
        call(environment="staging"),
        call({**CHAT, "model": "n"}),
        call({**CHAT, "stream": True}),
        call({**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
        call({**CHAT, "messages": [{"role": "user", "content": "Hello "}]}),
        call({**CHAT, "messages": [{"role": "system", "content": "Hello"}]}),
        call({**CHAT, "stop": ["b", "a"]}),
        call({**CHAT, "temperature": 0}),
        call({**CHAT, "seed": None}),
        call({**CHAT, "an_extension": 1}),
        call(targets=[Target(SPARE)]),
        call(targets=[Target(MAIN, "other")]),
        call(targets=[Target(MAIN), Target(SPARE)]),
        call({"model": "m", "input": "Hello"}, line="POST responses"),
        call({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}, wire="anthropic",
             line="POST messages"),
        structs.replace(call(), model="behind-the-alias"),
        under(revision=2),
        under(policy_version=1),
        with_headers([(b"openai-beta", b"assistants=v2")]),
        with_headers([(b"anthropic-beta", b"context-1m")]),
    ],
)  # fmt: skip
def test_an_answer_is_right_for_the_very_same_request_of_the_same_tenant_alone(other: Admitted) -> None:
    assert name_of(other) not in (None, NAME)


@pytest.mark.parametrize(
    "same",
    [
        call(json.dumps(CHAT, indent=3).encode()),
        call(json.dumps(dict(reversed(CHAT.items()))).encode()),
        call(b'{"stop":["a","b"],"messages":[{"content":"H\\u0065llo","role":"user"}],"model":"m"}'),
        call({**CHAT, "user": "ann"}),
        call({**CHAT, "metadata": {"trace": "1"}}),
        call({**CHAT, "safety_identifier": "x"}),
        with_headers([(b"user-agent", b"another"), (b"authorization", b"Bearer other"), (b"x-request-id", b"2")]),
    ],
)
def test_how_a_request_is_written_and_who_sends_it_do_not_matter(same: Admitted) -> None:
    assert name_of(same) == NAME


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("POST uploads", {"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "text/plain"}),
        ("GET models", None),
        ("GET files/file-1", None),
        ("POST moderations", {"input": "Hello"}),
        ("POST images/generations", {"model": "m", "prompt": "Hello"}),
        ("POST audio/speech", {"model": "m", "input": "Hello", "voice": "alloy"}),
    ],
)
def test_what_is_not_a_repeatable_question_has_no_name(line: str, body: Any) -> None:
    request = asked("openai", line, body)

    assert name_of(admitted("openai", request)) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(_json, _json)
def test_two_requests_share_a_name_only_if_they_say_the_same(one: object, other: object) -> None:
    names = {name_of(call({**CHAT, "response_format": said})) for said in (one, other)}

    # True == 1 for Python, and not for a provider.
    assert (len(names) == 1) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def answer(body: bytes = b"x", *, until_s: float = 60.0) -> KeptAnswer:
    return KeptAnswer("int_1", 200, [], body, is_stream=False, provider="openai", model="m", expires_s=until_s)


def test_an_answer_is_there_until_its_time_is_over() -> None:
    clock = ManualClock()
    cache = AnswerCache(clock)
    cache.keep(b"a", answer(until_s=clock.monotonic() + 60))

    clock.advance(59.9)
    assert cache.find(b"a") == answer(until_s=60)
    clock.advance(0.1)
    assert cache.find(b"a") is None
    assert cache.find(b"a") is None
    assert cache.find(b"b") is None


def test_the_least_recently_used_make_room() -> None:
    cache = AnswerCache(ManualClock(), capacity_bytes=30)
    for name in (b"a", b"b", b"c"):
        cache.keep(name, answer(b"x" * 10))
    cache.find(b"a")

    cache.keep(b"d", answer(b"x" * 11))

    assert [name for name in (b"a", b"b", b"c", b"d") if cache.find(name)] == [b"a", b"d"]


def test_an_answer_that_replaces_another_takes_its_room() -> None:
    cache = AnswerCache(ManualClock(), capacity_bytes=20)
    for _ in range(5):
        cache.keep(b"a", answer(b"x" * 10))
    cache.keep(b"b", answer(b"y" * 10))

    assert cache.find(b"a") is not None
    assert cache.find(b"b") is not None


def test_answers_too_large_to_be_worth_it_and_those_larger_than_the_cache_are_not_kept() -> None:
    cache = AnswerCache(ManualClock())
    cache.keep(b"large", answer(b"x" * (LARGEST_ANSWER_BYTES + 1)))
    small = AnswerCache(ManualClock(), capacity_bytes=10)
    small.keep(b"a", answer(b"x" * 11))
    small.keep(b"b", answer(b"x" * 10))

    assert cache.find(b"large") is None
    assert small.find(b"a") is None
    assert small.find(b"b") is not None


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 40)), max_size=60))
def test_it_never_holds_more_than_its_capacity(steps: list[tuple[bytes, int]]) -> None:
    cache = AnswerCache(ManualClock(), capacity_bytes=50)
    for name, size in steps:
        cache.keep(name, answer(b"x" * size))

        held = [kept for each in (b"a", b"b", b"c", b"d") if (kept := cache.find(each))]
        assert sum(len(kept.body) for kept in held) <= 50
        assert cache.find(name) is not None
