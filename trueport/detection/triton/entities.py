"""From the labels of tokens to spans of a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trueport.detection.triton.contract import Floats, Whole

FAINT: Final = 0.2
"""The least score of a span that is reported, low so that a policy can lower its threshold."""
_LIKELY: Final = 0.5
_OUTSIDE: Final = "O"


@dataclass(frozen=True, slots=True)
class Entity:
    """Code points `start` up to `end` of a row's text."""

    type: str
    start: int
    end: int
    score: float


class EntityTypes:
    """The labels of a model by type: B-GIVENNAME, I-GIVENNAME and I-SURNAME are all PERSON.

    Labels may have B-, I-, E-, S-, L- or U- before the name, or nothing; `O` is no entity.
    """

    def __init__(self, labels: Sequence[str], type_of: Callable[[str], str]) -> None:
        marked = [_unmarked(label) for label in labels]
        self.types = tuple(dict.fromkeys(type_of(name) for mark, name in marked if name != _OUTSIDE))
        # sums[label, type] is 1 where the label is of the type; the probability of a type is that of all its labels.
        self._sums = np.zeros((len(labels), len(self.types)))
        self._begins = np.zeros((len(labels), len(self.types)))
        for at, (mark, name) in enumerate(marked):
            if name != _OUTSIDE:
                column = self.types.index(type_of(name))
                self._sums[at, column] = 1.0
                self._begins[at, column] = mark in ("B", "S", "U")

    def find(self, probabilities: Floats, offsets: Whole, text: str) -> list[Entity]:
        """The entities of one row, in order.

        probabilities: shape (tokens, labels); offsets: shape (tokens, 2), those of special tokens empty.
        A run of tokens of one type is one entity with the score of its surest token, widened to whole words: a model
        that is unsure of half a name must not leave the other half readable.
        """
        real = offsets[:, 1] > offsets[:, 0]
        if not self.types or not real.any():
            return []
        by_type = np.minimum(probabilities[real] @ self._sums, 1.0)
        begins = probabilities[real] @ self._begins
        places = offsets[real]
        kinds = by_type.argmax(axis=1)
        found: list[Entity] = []
        last, last_kind, was_likely = -2, -1, False
        for at in np.flatnonzero(by_type.max(axis=1) >= FAINT):
            kind, (start, end) = int(kinds[at]), places[at].tolist()
            score = float(by_type[at, kind])
            is_likely = score >= _LIKELY
            begins_anew = begins[at, kind] > score / 2 and start > places[at - 1, 1]
            goes_on = at == last + 1 and kind == last_kind and is_likely == was_likely and not begins_anew
            if goes_on:
                found[-1] = Entity(found[-1].type, found[-1].start, end, max(score, found[-1].score))
            else:
                found.append(Entity(self.types[kind], start, end, score))
            last, last_kind, was_likely = int(at), kind, is_likely
        return [_whole_words(entity, text) for entity in found]


def join(entities: Sequence[Entity]) -> list[Entity]:
    """Overlapping entities of one type as one, with the highest score; those of neighbouring pieces overlap."""
    joined: list[Entity] = []
    for entity in sorted(entities, key=lambda one: (one.type, one.start, one.end)):
        if joined and joined[-1].type == entity.type and entity.start < joined[-1].end:
            before = joined.pop()
            entity = Entity(  # noqa: PLW2901 - the one that takes the place of both
                entity.type, before.start, max(before.end, entity.end), max(before.score, entity.score)
            )
        joined.append(entity)
    return sorted(joined, key=lambda one: (one.start, one.end, one.type))


def _unmarked(label: str) -> tuple[str, str]:
    mark, dash, name = label.partition("-")
    return (mark, name) if dash and mark in ("B", "I", "E", "S", "L", "U") else ("", label)


def _whole_words(entity: Entity, text: str) -> Entity:
    start, end = entity.start, entity.end
    # A tokenizer may put the space before a word into the word's first token.
    while start < end - 1 and text[start].isspace():
        start += 1
    while start > 0 and _is_of_a_word(text[start]) and _is_of_a_word(text[start - 1]):
        start -= 1
    while end < len(text) and _is_of_a_word(text[end - 1]) and _is_of_a_word(text[end]):
        end += 1
    return Entity(entity.type, start, end, entity.score)


def _is_of_a_word(char: str) -> bool:
    # From U+2E80 on come the scripts that put no space between words.
    return char.isalnum() and char < "\u2e80"
