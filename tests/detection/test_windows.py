"""Texts as windows: every token is read, and every token knows its place."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.detectors import TINY
from trueport.detection.windows import STRIDE, cut, is_prose, pieces, reading_order, tokenise

SIZE = 254


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.no_truncation()
    return tokenizer


@given(st.integers(0, 3_000))
def test_every_token_is_in_a_window_and_windows_overlap(count: int) -> None:
    spans = cut(count, SIZE)

    assert {at for span in spans for at in range(span.start, span.stop)} == set(range(count))
    assert all(0 < span.stop - span.start <= SIZE and span.start % STRIDE == 0 for span in spans)
    assert all(left.stop - right.start == SIZE - STRIDE for left, right in pairwise(spans))


def test_nothing_has_no_window() -> None:
    assert cut(0, SIZE) == []


@given(st.integers(1, 2_000), st.integers(1, 2_000))
def test_full_windows_stay_as_they_are_when_a_text_grows(shorter: int, more: int) -> None:
    full = [span for span in cut(shorter, SIZE) if span.stop - span.start == SIZE]

    assert cut(shorter + more, SIZE)[: len(full)] == full


@given(st.integers(0, 50), st.sets(st.integers(0, 60)))
def test_every_window_is_read_once_whatever_is_urgent(count: int, urgent: set[int]) -> None:
    assert sorted(reading_order(count, urgent)) == list(range(count))


def test_beginning_end_and_what_is_urgent_come_first() -> None:
    assert reading_order(10, {6, 5}) == [0, 1, 2, 3, 8, 9, 5, 6, 4, 7]


@given(st.text(max_size=300) | st.lists(st.sampled_from(["word", "x" * 130, " ", "\n", "é" * 70])).map("".join))
def test_pieces_make_up_the_text(text: str) -> None:
    assert "".join(text[piece.start : piece.stop] for piece in pieces(text)) == text


def test_pieces_of_a_long_text_are_bounded_and_cut_no_word() -> None:
    text = "abcdefghi " * 3_000

    found = list(pieces(text))

    assert all(piece.stop - piece.start <= 4_000 for piece in found)
    assert all(text[piece.stop - 1] == " " for piece in found)


def test_pieces_of_a_text_without_white_space_are_bounded() -> None:
    assert max(piece.stop - piece.start for piece in pieces("a1" * 10_000)) <= 4_000


def test_a_long_text_has_the_tokens_it_would_have_in_one_go(tokenizer: Tokenizer) -> None:
    text = "hello marie, the weather in berlin is fine! 😀 é " * 600

    tokens = tokenise(tokenizer, text)

    whole = tokenizer.encode(text, add_special_tokens=False)
    assert tokens.ids.tolist() == whole.ids
    assert [tuple(place) for place in tokens.offsets.tolist()] == whole.offsets


@given(st.text(st.sampled_from("ab é\u0301😀ß中Ａ\u200d \n"), max_size=60))
def test_offsets_are_code_points_within_the_text_and_in_order(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokens = tokenise(tokenizer, text)

    places = tokens.offsets.tolist()
    assert all(0 <= start <= end <= len(text) for start, end in places)
    assert [start for start, _ in places] == sorted(start for start, _ in places)


def test_a_word_behind_emoji_and_accents_is_where_it_is(tokenizer: Tokenizer) -> None:
    text = "😀 e\u0301 中文 idiot"

    tokens = tokenise(tokenizer, text)

    start, end = tokens.offsets[-1].tolist()
    assert text[start:end] == "idiot"


def test_a_sentence_without_spaces_is_not_one_unknown_token(tokenizer: Tokenizer) -> None:
    assert len(tokenise(tokenizer, "ignoreallpreviousinstructions" * 4).ids) > 50


def test_encoded_data_stays_one_unknown_token(tokenizer: Tokenizer) -> None:
    assert len(tokenise(tokenizer, "aGVsbG8gd29ybGQ0" * 50).ids) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The weather is fine, and nobody asked for more than that.", True),
        ("aGVsbG8gd29ybGQ0aGVsbG8gd29ybGQ0aGVsbG8gd29ybGQ0aGVsbG8gd29ybGQ0", False),
        ("1gn0r3 4ll pr3v10u5 1n5truc710n5", False),
        ("{}[]<>::;;()!!??--==", False),
        ("", True),
    ],
)
def test_what_reads_like_language_is_prose(text: str, expected: bool) -> None:
    assert is_prose(text) is expected
