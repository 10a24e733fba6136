"""OpenAI's older text completions in the neutral form, and the neutral form written as them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from tests.support.openai_translate import (
    NOW,
    USAGE,
    answers,
    events_in,
    golden,
    golden_names,
    json_values,
    objects_in,
    shape,
    streams,
    written,
)
from trueport.gateway.translate.model import (
    Answer,
    CallPiece,
    Candidate,
    Conversation,
    Counted,
    Ended,
    Failed,
    Failure,
    Finished,
    FinishReason,
    Piece,
    Refusal,
    Sampling,
    Started,
    Text,
    TextPiece,
    Thinking,
    ThinkingPiece,
    ToolCall,
    Turn,
)
from trueport.gateway.translate.openai_chat import OpenAIChat
from trueport.gateway.translate.openai_completions import FEATURE_NAMES, OpenAICompletions
from trueport.kit.errors import InvalidRequest

COMPLETIONS = OpenAICompletions(now=lambda: NOW, number=lambda: "fresh")


def read(prompt: object = "Once", **members: object) -> Conversation:
    return COMPLETIONS.read_request({"model": "m", "prompt": prompt, **members}, "m", streams=False)


@pytest.mark.parametrize("name", golden_names("openai_completions/requests"))
def test_a_golden_request_means_the_same_as_a_chat_completion(name: str) -> None:
    case = golden(name)
    asked = case["asked"]
    assert isinstance(asked, dict)

    conversation = COMPLETIONS.read_request(asked, "m", streams=asked.get("stream") is True)

    assert OpenAIChat().write_request(conversation, "gpt-y") == ("chat/completions", case["written"])
    assert sorted(conversation.features) == case["features"]
    assert list(conversation.unknown) == case["unknown"]


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_prompt_is_what_the_user_says(prompt: object) -> None:
    assert read(prompt).turns == (Turn("user", (Text("Once"),)),)


def test_an_answer_is_sixteen_tokens_long_unless_the_request_says_otherwise() -> None:
    assert read().sampling == Sampling(max_tokens=16)
    assert read(max_tokens=0).sampling == Sampling(max_tokens=0)


@pytest.mark.parametrize(
    ("members", "feature"),
    [
        ({"prompt": ["a", "b"]}, "several_prompts"),
        ({"prompt": [1, 2]}, "token_prompt"),
        ({"prompt": [[1, 2]]}, "token_prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
    ],
)
def test_what_the_neutral_form_has_no_member_for_is_noted_as_a_feature(
    members: dict[str, object], feature: str
) -> None:
    conversation = read(**{"prompt": "x", **members})

    assert conversation.features == {feature}
    assert feature in FEATURE_NAMES


@pytest.mark.parametrize(
    "members", [{"suffix": None}, {"suffix": ""}, {"echo": False}, {"best_of": 1}, {"best_of": 2, "n": 2}]
)
def test_a_member_that_asks_for_nothing_is_no_feature(members: dict[str, object]) -> None:
    assert (read(**members).features, read(**members).unknown) == (frozenset(), ())


def test_logprobs_are_a_number_here() -> None:
    assert read(logprobs=2).sampling == Sampling(max_tokens=16, logprobs=True, top_logprobs=2)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "n": "x"}, "n"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_name(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        COMPLETIONS.read_request(members, "m", streams=False)

    assert refusal.value.fields["param"] == param


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "suffix", "echo", "best_of", "logprobs", "stop", "n", "stream_options"]), json_values
    )
)
@settings(max_examples=40, deadline=None)
def test_no_request_however_odd_raises_anything_but_a_refusal(members: dict[str, object]) -> None:
    refused_for, features = None, None
    try:
        features = COMPLETIONS.read_request(members, "m", streams=False).features
    except InvalidRequest as refusal:
        refused_for = refusal.fields["param"]

    assert refused_for or (features is not None and features <= FEATURE_NAMES)


@pytest.mark.parametrize("name", golden_names("openai_completions/answers"))
def test_a_golden_answer_is_written_as_openai_would(name: str) -> None:
    case = golden(name)
    chat, expected = case["answer"], case["written"]
    assert isinstance(chat, dict)

    assert COMPLETIONS.write_answer(OpenAIChat().read_answer(chat), shape()) == expected


@given(answers)
@settings(max_examples=40, deadline=None)
def test_every_answer_is_one_that_openais_sdk_understands(answer: Answer) -> None:
    body = json.loads(json.dumps(COMPLETIONS.write_answer(answer, shape())))

    completion = Completion.model_validate(body, strict=True)

    assert [choice.text for choice in completion.choices] == [
        "".join(part.text for part in candidate.parts if isinstance(part, Text | Refusal))
        for candidate in answer.candidates
    ]


@pytest.mark.parametrize(
    ("finish", "said"),
    [
        ("stop", "stop"), ("stop_sequence", "stop"), ("length", "length"), ("tool_calls", "stop"),
        ("content_filter", "content_filter"), ("refusal", "content_filter"), ("pause", "stop"),
        ("error", "content_filter"),
    ],
)  # fmt: skip
def test_every_reason_to_finish_has_a_word_in_answers_and_streams(finish: FinishReason, said: str) -> None:
    body = COMPLETIONS.write_answer(Answer("a", "m", (Candidate((Text("x"),), finish),), None), shape())
    stream = written(COMPLETIONS.stream_encoder(shape()), [Started("a", "m"), Finished(0, finish)])

    assert Completion.model_validate(body, strict=True).choices[0].finish_reason == said
    assert objects_in(stream)[-1]["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": said}]


def test_thoughts_and_calls_have_no_place() -> None:
    parts = (Thinking("SECRET"), Text("4"), ToolCall("SECRET", "f", "{}"))
    pieces: list[Piece] = [Started("a", "m"), ThinkingPiece(0, 0, "SECRET"), CallPiece(0, 1, "SECRET", "f"), Ended()]
    asked = COMPLETIONS.shape({"model": "m"}, read())

    body = COMPLETIONS.write_answer(Answer("a", "m", (Candidate(parts, "stop"),), None), asked)

    assert "SECRET" not in json.dumps(body)
    assert b"SECRET" not in written(COMPLETIONS.stream_encoder(asked), pieces)


def test_a_prompt_the_provider_refused_is_a_filtered_answer() -> None:
    body = COMPLETIONS.write_answer(Answer("", "", (), USAGE, blocked="SAFETY"), shape())

    completion = Completion.model_validate(body, strict=True)

    assert (completion.id, completion.created, completion.model) == ("cmpl-fresh", NOW, "gpt-x")
    assert [choice.finish_reason for choice in completion.choices] == ["content_filter"]
    assert completion.usage is not None
    assert completion.usage.total_tokens == USAGE.total_tokens


@pytest.mark.parametrize("name", golden_names("openai_completions/streams"))
def test_a_golden_stream_is_written_as_openai_would(name: str) -> None:
    case = golden(name)
    chunks, expected = case["chunks"], case["written"]
    assert isinstance(chunks, list)
    decoder = OpenAIChat().stream_decoder()
    pieces = [piece for chunk in chunks for piece in decoder.read("", json.dumps(chunk).encode())]

    stream = written(COMPLETIONS.stream_encoder(shape()), [*pieces, Ended()])

    assert objects_in(stream) == expected
    assert stream.endswith(b"data: [DONE]\n\n")


@given(streams())
@settings(max_examples=40, deadline=None)
def test_every_stream_says_all_the_text_and_ends_with_the_mark(pieces: list[Piece]) -> None:
    stream = written(COMPLETIONS.stream_encoder(shape()), pieces)

    said: dict[int, str] = {}
    for value in objects_in(stream):
        if value["choices"]:
            delta = value["choices"][0]  # type: ignore[index]  # a list that is not empty
            said[delta["index"]] = said.get(delta["index"], "") + delta["text"]
            if delta["finish_reason"] is not None:
                Completion.model_validate(value, strict=True)
    wanted: dict[int, str] = {}
    for piece in pieces:
        if isinstance(piece, TextPiece):
            wanted[piece.candidate] = wanted.get(piece.candidate, "") + piece.text
    assert {index: text for index, text in said.items() if text} == wanted
    assert events_in(stream)[-1] == ("", b"[DONE]")


def test_usage_is_a_chunk_of_its_own_for_clients_that_asked_and_absent_for_others() -> None:
    pieces: list[Piece] = [Started("a", "m"), Finished(0, "stop"), Counted(USAGE), Ended()]

    asked = objects_in(written(COMPLETIONS.stream_encoder(shape()), pieces))
    other = objects_in(written(COMPLETIONS.stream_encoder(shape(wants_usage=False)), pieces))

    assert [(chunk["choices"] == [], chunk["usage"] is not None) for chunk in asked] == [(False, False), (True, True)]
    assert ["usage" in chunk for chunk in other] == [False]


def test_a_stream_that_breaks_off_or_fails_has_no_end_mark() -> None:
    begun: list[Piece] = [Started("a", "m"), TextPiece(0, 0, "x")]

    cut = written(COMPLETIONS.stream_encoder(shape()), [*begun, Finished(0, "stop")])
    failed = written(COMPLETIONS.stream_encoder(shape()), [*begun, Failed(Failure(429, "slow")), *begun, Ended()])

    assert b"[DONE]" not in cut
    assert b"[DONE]" not in failed
    assert objects_in(failed)[-1] == {
        "error": {"message": "slow", "type": "rate_limit_error", "param": None, "code": None}
    }
