"""Token counts without a tokenizer: near enough, cheap, and of the text the model reads."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.tokens import CAREFUL, QUICK, ByteClassCounter, TokenCounter, estimate_input_tokens

# What OpenAI's o200k_base makes of them.
KNOWN = [
    pytest.param(
        (
            "The committee met on Thursday to discuss the new schedule for the harbour. Nobody objected"
            " to the earlier opening hours, but several members asked how the additional staff would be"
            " paid, and the chair promised an answer before the end of the month."
        ),
        48,
        id="prose",
    ),
    pytest.param(
        (
            "Can you explain the difference between a mutex and a semaphore, and tell me when I should "
            "prefer one over the other? Please keep it short and give an example in Python."
        ),
        35,
        id="a question",
    ),
    pytest.param(
        (
            'def total(prices: list[int], discount: float = 0.0) -> int:\n    """Return the sum of all p'
            'rices after the discount."""\n    amount = sum(prices)\n    if discount:\n        amount = ro'
            "und(amount * (1 - discount))\n    return amount\n"
        ),
        58,
        id="code",
    ),
    pytest.param(
        (
            '{"type":"function","function":{"name":"get_weather","description":"Get the current weather'
            ' in a given city","parameters":{"type":"object","properties":{"city":{"type":"string","des'
            'cription":"Name of the city"},"unit":{"type":"string","enum":["celsius","fahrenheit"]}},"r'
            'equired":["city"]}}}'
        ),
        67,
        id="json",
    ),
    pytest.param(
        (
            "# Installation\n\n1. Download the archive and unpack it.\n2. Run `make install` as root.\n3. E"
            "dit `/etc/server.conf`:\n\n```ini\n[server]\nport = 8080\n```\n\n**Note:** the service restarts i"
            "tself after every change."
        ),
        57,
        id="markdown",
    ),
    pytest.param(
        (
            "2024-01-15,1482.50,37,0.0034\n2024-01-16,1519.25,41,0.0031\n2024-01-17,1498.75,39,0.0029\n202"
            "4-01-18,1533.00,44,0.0035\n2024-01-19,1541.10,40,0.0033"
        ),
        94,
        id="numbers",
    ),
    pytest.param(
        (
            "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQc2VjcmV0IHRva2VuIHZhbHVlIG"
            "ZvciB0ZXN0aW5nIG9ubHk"
        ),
        81,
        id="random base64",
    ),
    pytest.param(
        (
            "Die Verwaltung teilt mit, dass die Brücke über den Fluss wegen dringender Bauarbeiten bis "
            "Ende des Monats gesperrt bleibt. Fußgänger können die Umleitung über die Schillerstraße be"
            "nutzen."
        ),
        42,
        id="German",
    ),
    pytest.param(
        (
            "Le conseil municipal a décidé de rénover la bibliothèque centrale l'année prochaine. Les t"
            "ravaux devraient durer six mois et coûter environ deux millions d'euros."
        ),
        30,
        id="French",
    ),
    pytest.param(
        (
            "Завтра в городе ожидается сильный дождь и ветер до двадцати метров в секунду. Жителям реко"
            "мендуется оставаться дома и не парковать автомобили под деревьями."
        ),
        38,
        id="Russian",
    ),
    pytest.param(
        "明天上午九点我们将在三楼会议室召开项目进度会议，请各位同事提前准备好本周的工作总结和下周的计划安排。",
        36,
        id="Chinese",
    ),
    pytest.param(
        "明日の午前九時から三階の会議室でプロジェクトの進捗会議を行いますので、今週の作業報告を準備しておいてください。",
        43,
        id="Japanese",
    ),
    pytest.param(
        "내일 오전 아홉 시에 삼층 회의실에서 프로젝트 진행 상황 회의를 할 예정이니 이번 주 업무 보고를 준비해 주세요.",
        32,
        id="Korean",
    ),
    pytest.param(
        (
            "سيعقد الاجتماع غدا في الساعة التاسعة صباحا في قاعة الاجتماعات بالطابق الثالث ويرجى من الجم"
            "يع إعداد تقرير العمل الأسبوعي."
        ),
        31,
        id="Arabic",
    ),
    pytest.param(
        ("कल सुबह नौ बजे तीसरी मंजिल के सम्मेलन कक्ष में परियोजना की प्रगति बैठक होगी, कृपया इस सप्ताह की रिपोर्ट तैयार रखें।"),
        32,
        id="Hindi",
    ),
]


@pytest.mark.parametrize("counter", [QUICK, CAREFUL], ids=["quick", "careful"])
@pytest.mark.parametrize(("text", "tokens"), KNOWN)
def test_an_estimate_is_within_two_fifths_of_the_tokenizer(text: str, tokens: int, counter: TokenCounter) -> None:
    assert counter.count(text, "gpt-4o") == pytest.approx(tokens, rel=0.4)


@pytest.mark.parametrize(("text", "tokens"), KNOWN[:5])
def test_a_careful_estimate_of_english_and_code_is_within_a_tenth(text: str, tokens: int) -> None:
    assert CAREFUL.count(text, "gpt-4o") == pytest.approx(tokens, rel=0.1)


@pytest.mark.parametrize("counter", [QUICK, CAREFUL], ids=["quick", "careful"])
def test_nothing_is_no_token_and_anything_is_one(counter: ByteClassCounter) -> None:
    assert counter.count("", "m") == 0
    assert all(counter.count(text, "m") >= 1 for text in ("a", " ", "\x00", "\ue000", "\u2028"))


def test_the_first_word_counts_like_any_other() -> None:
    assert CAREFUL.count("internationally", "m") == CAREFUL.count(" internationally", "m")


def test_half_a_surrogate_pair_is_text() -> None:
    assert QUICK.count("\ud83d", "m") >= 1


@given(st.text(st.characters(exclude_categories=())), st.sampled_from([QUICK, CAREFUL]))
def test_any_text_has_an_estimate_no_larger_than_its_bytes_allow(text: str, counter: ByteClassCounter) -> None:
    assert 0 <= counter.count(text, "m") <= 3 * len(text) + 1


@given(st.text(min_size=1, max_size=300), st.sampled_from([QUICK, CAREFUL]))
def test_twice_the_text_is_about_twice_the_tokens(text: str, counter: ByteClassCounter) -> None:
    assert counter.count(text + " " + text, "m") == pytest.approx(2 * counter.count(text, "m"), abs=6)


def test_a_long_text_is_measured_in_samples() -> None:
    even = "The quick brown fox jumps over the lazy dog. "

    assert CAREFUL.count(even * 100_000, "m") == pytest.approx(100_000 * CAREFUL.count(even, "m"), rel=0.1)


def test_a_text_that_changes_is_sampled_all_over() -> None:
    english, chinese = "All work and no play. ", "明天上午九点我们将在三楼"
    mixed = english * 50_000 + chinese * 90_000

    parts = CAREFUL.count(english * 50_000, "m") + CAREFUL.count(chinese * 90_000, "m")
    assert CAREFUL.count(mixed, "m") == pytest.approx(parts, rel=0.15)


# --- requests

SAID = "The committee met on Thursday to discuss the new schedule for the harbour."
BASE64 = "q83vEjRWeJCr" * 10_000


def tokens(**members: Any) -> int:
    return estimate_input_tokens(members, json.dumps(members).encode(), "m")


class Words:
    """Counts words, so that what was read can be told exactly."""

    def count(self, text: str, model: str) -> int:  # noqa: ARG002 - words are words
        return len(text.split())


def words(**members: Any) -> int:
    return estimate_input_tokens(members, b"", "m", counter=Words())


IN_EVERY_DIALECT = [
    pytest.param({"messages": [{"role": "user", "content": SAID}]}, 4, id="chat"),
    pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": SAID}]}]}, 4, id="chat parts"),
    pytest.param({"input": SAID}, 0, id="responses text"),
    pytest.param({"input": [{"role": "user", "content": [{"type": "input_text", "text": SAID}]}]}, 4, id="responses"),
    pytest.param({"instructions": SAID}, 0, id="responses instructions"),
    pytest.param({"prompt": SAID}, 0, id="completions"),
    pytest.param({"input": [SAID]}, 0, id="embeddings"),
    pytest.param({"system": [{"type": "text", "text": SAID, "cache_control": {"type": "ephemeral"}}]}, 0, id="system"),
    pytest.param(
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t 1", "content": [{"type": "text", "text": SAID}]}
        ]}]}, 4, id="anthropic tool result",
    ),
    pytest.param(
        {"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": SAID}}
        ]}]}, 4, id="anthropic text document",
    ),
    pytest.param({"contents": [{"role": "user", "parts": [{"text": SAID}]}]}, 4, id="google"),
    pytest.param({"systemInstruction": {"parts": [{"text": SAID}]}}, 0, id="google system"),
    pytest.param({"content": {"parts": [{"text": SAID}]}}, 0, id="google embedding"),
    pytest.param({"requests": [{"model": "m x y", "content": {"parts": [{"text": SAID}]}}]}, 0, id="google batch"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "overhead"), IN_EVERY_DIALECT)
def test_the_text_is_found_in_every_dialect(members: dict[str, Any], overhead: int) -> None:
    assert words(**members, model="some other words", user="not read", metadata={"a": "b c d"}) == 13 + overhead


def test_every_message_counts_with_what_surrounds_it() -> None:
    one = {"role": "user", "content": "Hi"}

    assert words(messages=[one] * 5) == 5 * (1 + 4)


def test_tools_and_schemas_are_read_as_json() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": SAID}}}
    as_json = QUICK.count(json.dumps(schema, separators=(",", ":")), "m")

    for members in (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
        {"tools": [{"name": "f", "input_schema": schema}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        {"text": {"format": {"type": "json_schema", "schema": schema}}},
        {"generationConfig": {"temperature": 1, "responseSchema": schema}},
    ):
        assert as_json <= tokens(**members) <= as_json + 40


def test_arguments_of_tool_calls_are_read() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {"q": SAID}}]}

    assert tokens(messages=[call]) > QUICK.count(SAID, "m")
    # Here a type is what the model wrote, not what the format says.
    assert words(messages=[{"content": [{"name": "find", "input": {"type": "big red ball"}}]}]) == 1 + 3
    assert words(messages=[{"role": "assistant", "tool_calls": [{"function": {"arguments": SAID}}]}]) == 13 + 4


MEDIA = [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + BASE64}},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    {"type": "input_image", "image_url": "data:image/png;base64," + BASE64},
    {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64," + BASE64}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    {"inlineData": {"mimeType": "image/png", "data": BASE64}},
    {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/image.png"}},
]


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: str(list(medium.values())[-1])[:40])
def test_an_image_is_not_counted_as_the_letters_it_is_written_in(medium: dict[str, Any]) -> None:
    assert 1_000 <= tokens(messages=[{"role": "user", "content": [medium]}]) <= 1_200


def test_signatures_and_ids_are_not_read() -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": BASE64, "id": "a b c", "thoughtSignature": BASE64}

    assert words(messages=[{"role": "assistant", "content": [block]}]) == 1 + 4


def test_embeddings_may_be_asked_for_in_tokens() -> None:
    assert tokens(input=[1, 2, 3, 4]) == 4
    assert tokens(input=[[1, 2], [3]]) == 3


def test_a_body_that_is_no_json_is_one_medium() -> None:
    assert estimate_input_tokens(None, b"", "m") == 0
    assert estimate_input_tokens(None, bytes(1_000_000), None) == 1_500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=9,
)
NAMES = ["messages", "role", "content", "text", "data", "input", "tools", "generationConfig", "responseSchema", "parts"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values | st.dictionaries(st.sampled_from(NAMES), json_values)))
def test_no_request_makes_the_estimate_fail(members: dict[str, Any]) -> None:
    assert estimate_input_tokens(members, b"{}", "m") >= 0


def test_a_deep_request_is_no_deeper_stack() -> None:
    value: Any = SAID
    for _ in range(100_000):
        value = [value]

    assert words(messages=value) == 13
