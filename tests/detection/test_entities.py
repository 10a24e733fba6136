"""From labels of tokens to names in a text."""

import numpy as np
import pytest

from trueport.detection.entities import BioLabels, Entity, join, widen

LABELS = ("O", "B-PERSON", "I-PERSON", "B-ORG", "I-ORG")


def runs(*tokens: dict[str, float], rest_of_words: set[int] | None = None) -> list[tuple[str, int, int, float]]:
    rows = []
    for token in tokens:
        row = [token.get(label, 0.0) for label in LABELS]
        row[0] = 1.0 - sum(row)
        rows.append(row)
    goes_on = np.array([at in (rest_of_words or set()) for at in range(len(tokens))])
    found = BioLabels(LABELS).runs(np.array(rows).reshape(-1, len(LABELS)), goes_on)
    return [(one.type, one.start, one.stop, round(one.score, 6)) for one in found]


def test_tokens_of_one_name_are_one_entity_as_sure_as_the_surest() -> None:
    assert runs({}, {"B-PERSON": 0.9}, {"I-PERSON": 0.6}, {}) == [("PERSON", 1, 3, 0.9)]


def test_two_names_in_a_row_are_two() -> None:
    assert runs({"B-PERSON": 0.9}, {"B-PERSON": 0.8}) == [("PERSON", 0, 1, 0.9), ("PERSON", 1, 2, 0.8)]


def test_the_rest_of_a_word_begins_no_name() -> None:
    assert runs({"B-PERSON": 0.9}, {"B-PERSON": 0.8}, rest_of_words={1}) == [("PERSON", 0, 2, 0.9)]


def test_names_of_different_types_are_apart() -> None:
    assert runs({"B-PERSON": 0.9}, {"I-ORG": 0.8}) == [("PERSON", 0, 1, 0.9), ("ORG", 1, 2, 0.8)]


def test_a_type_counts_whichever_of_its_labels_is_meant() -> None:
    assert runs({"B-PERSON": 0.4, "I-PERSON": 0.35, "B-ORG": 0.2}) == [("PERSON", 0, 1, 0.75)]


def test_faint_tokens_do_not_lengthen_a_sure_name() -> None:
    assert runs({"B-PERSON": 0.9}, {"I-PERSON": 0.3}, {"I-PERSON": 0.1}) == [
        ("PERSON", 0, 1, 0.9),
        ("PERSON", 1, 2, 0.3),
    ]


def test_no_tokens_have_no_names() -> None:
    assert runs() == []


@pytest.mark.parametrize("labels", [("B-X", "I-X"), ("O", "B-X"), ("O", "I-X"), ("O", "X"), ("O", "O", "B-X", "I-X")])
def test_labels_of_another_form_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="token labels"):
        BioLabels(labels)


@pytest.mark.parametrize(
    ("text", "marked", "expected"),
    [
        ("ask Müller now", "üll", "Müller"),
        ("ask Renée\u0301 now", "Ren", "Renée\u0301"),
        ("ask Rene\u0301 now", "Rene", "Rene\u0301"),
        ("ask Ann-Marie now", "Ann", "Ann"),
        ("問王小明了", "王小明", "王小明"),
        ("Ann", "Ann", "Ann"),
    ],
)
def test_a_name_is_widened_to_whole_words(text: str, marked: str, expected: str) -> None:
    start = text.index(marked)

    wide = widen(Entity("PERSON", start, start + len(marked), 0.9), text)

    assert text[wide.start : wide.stop] == expected


def test_what_overlaps_is_one_and_what_touches_is_not() -> None:
    found = [
        Entity("PERSON", 5, 9, 0.6),
        Entity("PERSON", 0, 6, 0.9),
        Entity("PERSON", 9, 12, 0.5),
        Entity("ORG", 0, 9, 0.7),
    ]

    assert join(found) == [Entity("ORG", 0, 9, 0.7), Entity("PERSON", 0, 9, 0.9), Entity("PERSON", 9, 12, 0.5)]
