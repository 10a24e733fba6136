"""Texts into pieces, and labelled tokens into spans."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trueport.detection.triton.cutting import Cutter
from trueport.detection.triton.entities import Entity, EntityTypes, join

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.text("ab \n漢😀", max_size=400)
sizes = st.integers(min_value=4, max_value=80)


@given(texts, sizes)
def test_pieces_cover_the_whole_text_within_their_bound(text: str, most: int) -> None:
    pieces = list(Cutter(most).pieces(text))

    read = 0
    for piece in pieces:
        assert text[piece.start : piece.end] == piece.text
        assert len(piece.text.encode()) <= most
        assert piece.start <= read < piece.end
        read = piece.end
    assert read == len(text)


@given(texts, texts, sizes)
def test_pieces_of_a_text_that_grows_stay_the_same_but_for_the_last(text: str, more: str, most: int) -> None:
    cutter = Cutter(most)
    before, after = list(cutter.pieces(text)), list(cutter.pieces(text + more))

    assert after[: max(len(before) - 1, 0)] == before[:-1]


@given(st.text("ab ", min_size=50, max_size=400))
def test_what_is_short_lies_whole_in_some_piece(text: str) -> None:
    pieces = list(Cutter(40).pieces(text))

    for start in range(len(text) - 8):
        assert any(piece.start <= start and start + 8 <= piece.end for piece in pieces)


def test_a_piece_ends_behind_a_word_where_it_can() -> None:
    first, *_ = Cutter(24).pieces("the quick brown foxes jump over")

    assert first.text == "the quick brown foxes "


def of(labels: list[str], text: str, *tokens: tuple[str, float, str]) -> list[tuple[str, str, float]]:
    """Entities of `text` by (token, probability, label) in order; the rest of the probability is no entity."""
    types = EntityTypes(labels, lambda label: {"GIVENNAME": "PERSON", "SURNAME": "PERSON"}.get(label, label))
    probabilities = np.zeros((len(tokens) + 2, len(labels)))
    offsets = np.zeros((len(tokens) + 2, 2), np.int64)
    probabilities[:, labels.index("O")] = 1.0
    at = 0
    for row, (token, probability, label) in enumerate(tokens, start=1):
        at = text.index(token, at)
        offsets[row] = at, at + len(token)
        at += len(token)
        probabilities[row, labels.index("O")] = 1.0 - probability
        probabilities[row, labels.index(label)] += probability
    found = types.find(probabilities, offsets, text)
    return [(one.type, text[one.start : one.end], round(one.score, 2)) for one in found]


BIO = ["O", "B-GIVENNAME", "I-GIVENNAME", "B-SURNAME", "I-SURNAME", "B-CITY", "I-CITY"]


def test_tokens_of_one_name_are_one_entity_as_sure_as_its_surest() -> None:
    found = of(
        BIO, "for Anna Maria Li", ("Anna", 0.9, "B-GIVENNAME"), ("Maria", 0.6, "I-GIVENNAME"), ("Li", 0.7, "I-SURNAME")
    )

    assert found == [("PERSON", "Anna Maria Li", 0.9)]


def test_two_names_in_a_row_are_two_entities() -> None:
    found = of(BIO, "Anna Bob", ("Anna", 0.9, "B-GIVENNAME"), ("Bob", 0.8, "B-GIVENNAME"))

    assert found == [("PERSON", "Anna", 0.9), ("PERSON", "Bob", 0.8)]


def test_the_rest_of_a_word_belongs_to_the_name_in_it() -> None:
    assert of(BIO, "hi Katharina!", ("Katha", 0.9, "B-GIVENNAME"), ("rina", 0.0, "O")) == [("PERSON", "Katharina", 0.9)]
    assert of(BIO, "hi Katharina!", ("Katha", 0.0, "O"), ("rina", 0.9, "I-GIVENNAME")) == [("PERSON", "Katharina", 0.9)]


def test_a_space_that_a_tokenizer_counts_to_the_word_is_not_part_of_the_name() -> None:
    assert of(BIO, "in Oslo now", (" Oslo", 0.9, "B-CITY")) == [("CITY", "Oslo", 0.9)]


def test_scripts_without_spaces_do_not_grow_to_the_whole_sentence() -> None:
    assert of(BIO, "我叫王小明住北京", ("王小明", 0.9, "B-SURNAME")) == [("PERSON", "王小明", 0.9)]


def test_what_is_unlikely_is_an_entity_of_its_own_and_what_is_faint_is_none() -> None:
    found = of(
        BIO, "Anna may March", ("Anna", 0.9, "B-GIVENNAME"), ("may", 0.3, "I-GIVENNAME"), ("March", 0.1, "B-CITY")
    )

    assert found == [("PERSON", "Anna", 0.9), ("PERSON", "may", 0.3)]


def test_labels_without_marks_are_understood() -> None:
    assert of(["O", "CITY"], "in New York", ("New", 0.8, "CITY"), ("York", 0.9, "CITY")) == [("CITY", "New York", 0.9)]


def test_overlapping_entities_of_one_type_are_joined() -> None:
    joined = join([Entity("A", 5, 9, 0.5), Entity("A", 3, 7, 0.9), Entity("B", 4, 6, 0.4), Entity("A", 9, 12, 0.3)])

    assert joined == [Entity("A", 3, 9, 0.9), Entity("B", 4, 6, 0.4), Entity("A", 9, 12, 0.3)]
