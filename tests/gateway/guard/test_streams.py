"""What a guard does with everything that is not plain text, and how it waits, restores, watches and ends."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.streams_of_guard import (
    CALL,
    CHANNELS,
    TEXT,
    CountingEngine,
    chat_chunk,
    documents,
    guard,
    passed,
    policies,
    sse,
    texts,
    written,
)
from trueport.detection.policy import Judged, Span
from trueport.detection.redact import Placeholders
from trueport.detection.types import Category, Failure, Passage, Reading
from trueport.gateway.guard.forms import ClientForm
from trueport.gateway.screening import ContentBlocked, DetectorUnavailable
from trueport.kit.clock import ManualClock

WORD = "moonshot"


def redacting(**members: Any) -> Any:
    return policies({"when": {"keywords": [WORD]}, "action": "redact", "on": ["output"], **members})


def blocking() -> Any:
    return policies({"when": {"keywords": [WORD]}, "action": "block", "on": ["output"]})


# --- everything but text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "event"),
    [
        ("openai_chat", sse({"brand": {"new": f"a {WORD} b"}})),
        ("openai_chat", sse({"choices": [{"index": 0, "delta": {"brand": {"new": [f"a {WORD} b"]}}}]})),
        ("openai_chat", b": a moonshot b\n\n"),
        ("openai_chat", b"data: a moonshot b\n\n"),
        ("openai_chat", b'id: a moonshot b\ndata: {"choices": []}\n\n'),
        ("openai_responses", sse({"type": "response.brand_new", "text": f"a {WORD} b"}, "response.brand_new")),
        ("anthropic", sse({"type": "brand_new", "text": f"a {WORD} b"}, "brand_new")),
        ("anthropic", sse({"type": "ping", "more": f"a {WORD} b"}, "ping")),
        ("google_sse", sse({"brandNew": f"a {WORD} b"})),
        ("google_sse", sse({"candidates": [{"content": {"parts": [{"functionCall": {"args": {"a": WORD}}}]}}]})),
        ("google_array", b'[{"brandNew": "a moonshot b"}'),
    ],
)
async def test_a_text_in_no_known_place_is_judged_where_it_stands(form: ClientForm, event: bytes) -> None:
    redacted = await passed(guard(form, redacting()), [event])
    blocked = await passed(guard(form, blocking()), [event])

    assert WORD.encode() not in redacted.body
    assert isinstance(blocked.error, ContentBlocked)
    assert blocked.body == b""


@pytest.mark.parametrize(
    "more", [{"id": f"a {WORD} b"}, {"brand_new": WORD}, {"brand_new": {WORD: 1}}, {"brand_new": [1, [f"1, {WORD},2"]]}]
)
async def test_an_event_like_those_before_it_is_read_where_it_differs(more: dict[str, Any]) -> None:
    same = [json.loads(chat_chunk({"content": f"{number} "})[6:]) for number in range(5)]
    events = [sse(one) for one in (*same, {**same[0], **more}, same[1])]

    found = await passed(guard("openai_chat", redacting()), events)

    assert WORD.encode() not in found.body
    assert b"[CUSTOM_1]" in found.body
    assert texts("openai_chat", found.body)[TEXT] == "0 1 2 3 4 0 1 "


async def test_members_of_an_event_that_say_nothing_leave_as_they_came() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 1}}
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    last = sse({"id": "chatcmpl-1", "choices": [], "usage": usage})
    event = chat_chunk({"content": f"a {WORD} b"}, content_filter_results=filtered, system_fingerprint="fp_1")

    found = await passed(guard("openai_chat", redacting()), [event, chat_chunk({}, finish="stop"), last])

    assert found.body == event.replace(WORD.encode(), b"[CUSTOM_1]") + chat_chunk({}, finish="stop") + last


async def test_citations_tell_no_more_than_the_text() -> None:
    cited = {"type": "char_location", "cited_text": f"the {WORD} plan", "document_index": 0, "document_title": WORD}
    events = written("anthropic", [(TEXT, "As it says. ")])
    place = next(number for number, event in enumerate(events) if b"content_block_stop" in event)
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": cited}}
    events.insert(place, sse(delta, "content_block_delta"))

    found = await passed(guard("anthropic", redacting()), events)

    assert WORD.encode() not in found.body
    (told,) = [one["delta"]["citation"] for one in documents("anthropic", found.body) if "citation" in str(one)]
    assert (told["cited_text"], told["document_index"]) == ("the [CUSTOM_1] plan", 0)


async def test_a_text_that_goes_on_in_another_block_is_one_text() -> None:
    def block(index: int, text: str) -> list[bytes]:
        start = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        delta = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
        stop = {"type": "content_block_stop", "index": index}
        return [sse(one, str(one["type"])) for one in (start, delta, stop)]

    stop = sse({"type": "message_stop"}, "message_stop")

    found = await passed(guard("anthropic", redacting()), [*block(0, "the moon"), *block(1, "shot plan"), stop])

    assert texts("anthropic", found.body)[TEXT] == "the [CUSTOM_1] plan"
    assert [one["index"] for one in documents("anthropic", found.body)[:-1]] == [0, 0, 0, 1, 1, 1]


def logprobs(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": []}
                        for token in tokens]}  # fmt: skip


async def test_log_probabilities_go_where_the_text_was_changed_and_stay_elsewhere() -> None:
    said = [("I like ",), ("moon", "shot"), (" and pies. Go on and on.",)]
    events = [chat_chunk({"content": "".join(tokens)}, logprobs=logprobs(*tokens)) for tokens in said]

    found = await passed(guard("openai_chat", redacting()), [*events, chat_chunk({}, finish="stop")])

    told = [one["choices"][0]["logprobs"] for one in documents("openai_chat", found.body)]
    assert told == [logprobs(*said[0]), None, logprobs(*said[2]), None]


async def test_log_probabilities_of_another_text_than_the_one_beside_them_go() -> None:
    event = chat_chunk({"content": "nothing"}, logprobs=logprobs("moon", "shot"))

    found = await passed(guard("openai_chat", redacting()), [event, chat_chunk({}, finish="stop")])

    assert b"moon" not in found.body
    assert texts("openai_chat", found.body)[TEXT] == "nothing"


async def test_the_repeated_text_of_a_response_loses_its_log_probabilities_with_its_words() -> None:
    place = {"item_id": "it_0", "output_index": 0, "content_index": 0}
    tokens = logprobs("a ", "moon", "shot")["content"]
    events = [
        sse({"type": "response.output_text.delta", **place, "delta": f"a {WORD}", "logprobs": tokens}),
        sse({"type": "response.output_text.done", **place, "text": f"a {WORD}", "logprobs": tokens}),
    ]

    found = await passed(guard("openai_responses", redacting()), events)

    assert b"moon" not in found.body
    delta, done = documents("openai_responses", found.body)
    assert (delta["delta"], delta["logprobs"]) == ("a [CUSTOM_1]", None)
    assert (done["text"], done["logprobs"]) == ("a [CUSTOM_1]", None)


async def test_half_a_character_alone_is_no_reason_to_fail() -> None:
    text = chat_chunk({"content": "X"}).replace(b'"X"', b'"a \\ud835 moonshot \\udd30"')
    call = chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "\\ud835 moonshot"}'}}]})

    found = await passed(guard("openai_chat", redacting()), [text, call, chat_chunk({}, finish="stop")])

    assert found.error is None
    assert texts("openai_chat", found.body)[TEXT] == "a \ufffd [CUSTOM_1] \ufffd"
    assert json.loads(texts("openai_chat", found.body)[CALL]) == {"a": "\ufffd [CUSTOM_1]"}


# --- order and ends -------------------------------------------------------------------------------------------------


async def test_what_keeps_the_connection_warm_overtakes_what_is_held() -> None:
    ping = sse({"type": "ping"}, "ping")
    stream = guard("anthropic", redacting())
    for event in written("anthropic", [(TEXT, "the moon")], is_whole=False):
        await stream.feed(event)

    assert await stream.feed(ping) == ping
    assert await stream.feed(b": warm\n\n") == b": warm\n\n"


async def test_nothing_leaves_that_was_said_behind_a_blocked_thought() -> None:
    thought = chat_chunk({"reasoning_content": f"the {WORD}"})
    content = [chat_chunk({"content": f"{number} words "}) for number in range(20)]

    found = await passed(guard("openai_chat", blocking()), [thought, *content, chat_chunk({}, finish="stop")])

    assert isinstance(found.error, ContentBlocked)
    assert found.body == b""


def google(text: str, *, signature: str = "", finish: str = "", is_thought: bool = False) -> bytes:
    part: dict[str, Any] = {"text": text}
    if is_thought:
        part["thought"] = True
    if signature:
        part["thoughtSignature"] = signature
    candidate: dict[str, Any] = {"index": 0, "content": {"parts": [part]}}
    if finish:
        candidate["finishReason"] = finish
    return sse({"candidates": [candidate]})


async def test_an_answer_that_ends_early_does_not_say_that_it_has_finished() -> None:
    event = google(f"{'word ' * 20} {WORD}", finish="STOP")

    found = await passed(guard("google_sse", blocking()), [event])

    assert isinstance(found.error, ContentBlocked)
    assert texts("google_sse", found.body)[TEXT].startswith("word word")
    assert documents("google_sse", found.body)[0]["candidates"][0]["finishReason"] is None


async def test_no_signature_stands_under_another_thought_than_was_signed() -> None:
    begun = google("I think ", is_thought=True)
    cut = google(f"{'word ' * 20} {WORD}", is_thought=True, signature="c2ln")
    changed = google(f"of {WORD} and no more", is_thought=True, signature="c2ln")

    blocked = await passed(guard("google_sse", blocking()), [begun, cut])
    redacted = await passed(guard("google_sse", redacting()), [begun, changed])

    for found in (blocked, redacted):
        assert isinstance(found.error, ContentBlocked)
        assert b"c2ln" not in found.body
        assert b"moon" not in found.body
    assert b"word word" in blocked.body


# --- choices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["openai_chat", "google_sse", "google_array"])
async def test_choices_do_not_wait_for_each_other(form: ClientForm) -> None:
    def chunk(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        if form == "openai_chat":
            return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}
        reason = {"finishReason": finish} if finish else {}
        return {"candidates": [{"index": index, "content": {"parts": [{"text": text}]}, **reason}]}

    chunks = [chunk(0, "the moon"), chunk(1, "x" * 200), chunk(1, "", "STOP"), chunk(0, "shot"), chunk(0, "", "STOP")]
    events = [sse(one) for one in chunks]
    if form == "google_array":
        events = [(b",\r\n" if number else b"[") + json.dumps(one).encode() for number, one in enumerate(chunks)]
        events.append(b"]")

    found = await passed(guard(form, redacting()), events)

    assert b"xxx" in b"".join(found.after_each[:3])
    by_choice = {0: "", 1: ""}
    for document in documents(form, found.body):
        for one in document.get("choices", document.get("candidates", [])):
            said = one["delta"]["content"] if "delta" in one else one["content"]["parts"][0]["text"]
            by_choice[one["index"]] += said
    assert by_choice == {0: "the [CUSTOM_1]", 1: "x" * 200}
    if form == "google_array":
        assert len(json.loads(found.body)) == len(chunks)


async def test_calls_that_share_a_number_are_both_judged() -> None:
    def call(arguments: str) -> bytes:
        return chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})

    events = [call('{"a": 1}'), call('{"b": "moon'), call('shot"}'), chat_chunk({}, finish="tool_calls")]

    found = await passed(guard("openai_chat", redacting()), events)

    assert texts("openai_chat", found.body)[CALL] == '{"a": 1}{"b": "[CUSTOM_1]"}'


async def test_deltas_whose_item_has_another_id_each_time_are_one_text() -> None:
    def delta(number: int, text: str) -> bytes:
        members = {"item_id": f"it_{number}", "output_index": 0, "content_index": 0, "delta": text}
        return sse({"type": "response.output_text.delta", **members}, "response.output_text.delta")

    events = [delta(0, "the moon"), delta(1, "shot plan"), sse({"type": "response.completed", "response": {}})]

    found = await passed(guard("openai_responses", redacting()), events)

    assert texts("openai_responses", found.body)[TEXT] == "the [CUSTOM_1] plan"


# --- detectors ---------------------------------------------------------------------------------------------------


class Failing(CountingEngine):
    """Does not answer from its `after`th reading on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        read = await super().read(passages, wanted, timeout_s=timeout_s)
        if self.reads <= self._after:
            return read
        return [Reading(failures=(Failure(wanted, "onnx", "timeout"),)) for _ in passages]


def secrets(**members: Any) -> Any:
    return policies({"when": {"category": "secrets"}, "action": "block", "on": ["output"], **members})


LONG = [(TEXT, f"word {number:03} ") for number in range(300)]


@pytest.mark.parametrize("form", list(CHANNELS))
async def test_a_detector_that_fails_in_the_middle_ends_the_stream_there(form: ClientForm) -> None:
    found = await passed(guard(form, secrets(), engine=Failing(9)), written(form, LONG))

    assert isinstance(found.error, DetectorUnavailable)
    said = texts(form, found.body)[TEXT]
    assert "".join(text for _, text in LONG).startswith(said)
    assert 100 < len(said) < 1_500
    judgement = found.stream.judgement
    assert judgement.decision == "block"
    assert [(one.detector, one.code) for one in judgement.failures] == [("onnx", "timeout")]


@pytest.mark.parametrize("on_failure", ["allow", "rules_only"])
async def test_one_that_fails_by_leave_of_the_policy_is_recorded(on_failure: str) -> None:
    stream = guard("openai_chat", secrets(on_failure=on_failure), engine=Failing(5))

    found = await passed(stream, written("openai_chat", LONG))

    assert found.error is None
    assert found.body == b"".join(written("openai_chat", LONG))
    assert [(one.detector, one.code) for one in found.stream.judgement.failures] == [("onnx", "timeout")]


@pytest.mark.parametrize("form", list(CHANNELS))
async def test_no_text_is_read_much_oftener_than_its_window_is_long(form: ClientForm) -> None:
    engine = CountingEngine()
    pieces = LONG * 10
    length = sum(len(text) for _, text in pieces)

    found = await passed(guard(form, secrets(), engine=engine), written(form, pieces))

    assert found.error is None
    # The hold twice, a step and what is around it, once for each step: never the whole text again.
    assert engine.code_points < 12 * length


HIDDEN = ("\u200b", "\u2060", "\ufe0f", "\u0336", "\U000e0061")


@pytest.mark.parametrize("form", ["openai_chat", "google_array"])
@pytest.mark.parametrize("between", [1, 60])
async def test_letters_with_any_number_of_invisible_ones_between_them_are_held_together(
    form: ClientForm, between: int
) -> None:
    address = "ada.lovelace@example.org"
    gap = (HIDDEN[0] + HIDDEN[1]) * between
    text = "word " * 100 + gap.join(address) + gap + " and more." + " Bye." * 200
    active = policies({"when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact", "on": ["output"]})
    outcomes = set()
    for size in (7, 90, 5_000):
        pieces = [(TEXT, text[at : at + size]) for at in range(0, len(text), size)]

        found = await passed(guard(form, active), written(form, pieces))

        assert found.error is None
        outcomes.add(texts(form, found.body)[TEXT])
    (said,) = outcomes
    shown = "".join(char for char in said if char not in HIDDEN)
    assert "[EMAIL_1] and more." in shown
    assert not any(part in shown for part in ("lovelace", "ada", "example"))


async def test_more_invisible_characters_than_anybody_writes_end_the_stream() -> None:
    text = "a" + HIDDEN[0] * 10_000 + "b"

    found = await passed(guard("openai_chat", secrets()), written("openai_chat", [(TEXT, text)]))

    assert isinstance(found.error, ContentBlocked)


async def test_what_was_found_is_told_once_and_in_places_of_the_whole_text() -> None:
    text = f"{'word ' * 100}{WORD} {'word ' * 100}{WORD} {'word ' * 50}"
    active = policies(
        {"when": {"keywords": [WORD]}, "action": "redact", "on": ["output"]},
        {"when": {"keywords": ["none"]}, "action": "flag", "on": ["output"]},
    )

    found = await passed(guard("openai_chat", active), written("openai_chat", [(TEXT, text)]))

    (entry,) = found.stream.entries
    assert isinstance(entry, Judged)
    assert (entry.path, entry.passage.text) == ("choice.0.content", "")
    assert [text[one.start : one.end] for one in entry.reading.findings] == [WORD, WORD]


# --- policies that only tell -----------------------------------------------------------------------------------


class Unread(CountingEngine):
    """Fails the test as soon as anything waits for it."""

    may_read = False

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        assert self.may_read
        return await super().read(passages, wanted, timeout_s=timeout_s)


@pytest.mark.parametrize("form", list(CHANNELS))
async def test_a_shadow_policy_changes_and_delays_nothing(form: ClientForm) -> None:
    engine = Unread()
    active = policies(
        {"when": {"category": "pii"}, "action": "block", "on": ["output"], "mode": "shadow"},
        {"when": {"keywords": [WORD]}, "action": "redact", "on": ["output"], "mode": "shadow"},
    )
    stream = guard(form, active, engine=engine)
    events = written(form, [(TEXT, f"Write to ada@example.org on {WORD}.")])

    left = [await stream.feed(event) for event in events] + [await stream.finish()]
    engine.may_read = True
    await stream.observe()

    assert left == [*events, b""]
    assert {(hit.category, hit.mode) for hit in stream.judgement.hits} == {("pii", "shadow"), ("custom", "shadow")}
    assert stream.judgement.decision == "allow"
    assert stream.held_ms == 0


# --- the client's own words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(CHANNELS))
@pytest.mark.parametrize("is_guarded", [False, True])
async def test_placeholders_of_the_request_become_the_clients_words_again(form: ClientForm, is_guarded: bool) -> None:
    placeholders = Placeholders()
    placeholders.redact('an "X"', (Span(3, 6, "PERSON", is_reversible=True),))
    text = "Dear [PERSON_1], not [PERSON_2], [PERSON_1"
    for size in (1, 5, 40):
        pieces = [(TEXT, text[at : at + size]) for at in range(0, len(text), size)]
        stream = guard(form, redacting() if is_guarded else None, restore=placeholders.restore)

        found = await passed(stream, written(form, pieces))

        assert texts(form, found.body)[TEXT] == 'Dear "X", not [PERSON_2], [PERSON_1'


# --- waiting ------------------------------------------------------------------------------------------------------


async def test_the_longest_wait_is_told() -> None:
    clock = ManualClock()
    stream = guard("openai_chat", redacting(), clock=clock)

    await stream.feed(chat_chunk({"content": "moon"}))
    clock.advance(1.5)
    await stream.feed(chat_chunk({"content": "light and nothing else, all night long."}))
    clock.advance(0.25)
    await stream.finish()

    assert (stream.held_ms, stream.held_sum_ms) == (1_500, 1_750)


async def test_what_ends_a_stream_is_known_with_the_last_that_leaves() -> None:
    stream = guard("openai_chat", blocking())
    events = [chat_chunk({"content": word}) for word in ("one two three four five six seven eight nine ten ", WORD)]
    last = chat_chunk({}, finish="stop")

    left = await stream.feed(b"".join([*events, last]))

    assert left != b""
    assert isinstance(stream.refusal, ContentBlocked)
    assert b"stop" not in left
