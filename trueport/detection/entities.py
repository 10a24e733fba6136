"""From the labels of tokens to spans of a text. Pure."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trueport.detection.artefact import entity_types

FAINT: Final = 0.2
"""The least score of an entity that is reported, low so that a policy can lower its threshold."""
_LIKELY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Entity:
    """Tokens or code points from `start` up to `stop` that have one type, such as PERSON."""

    type: str
    start: int
    stop: int
    score: float


class BioLabels:
    """The labels of a token head in its order: O, and B-… and I-… for each type."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Raises ValueError for labels of another form."""
        place = {label: at for at, label in enumerate(labels)}
        self.types = entity_types(labels)
        self._begins = np.array([place[f"B-{kind}"] for kind in self.types], np.intp)
        self._inside = np.array([place[f"I-{kind}"] for kind in self.types], np.intp)

    def runs(self, probabilities: NDArray[np.float64], goes_on: NDArray[np.bool_]) -> tuple[Entity, ...]:
        """Runs of tokens of one type, in order; `start` and `stop` count tokens.

        probabilities: shape (tokens, labels). goes_on: shape (tokens,), true where a token is the rest of a word.
        A run has the score of its surest token: redacting half of a name helps nobody. Tokens that are likelier no
        entity form runs of their own, so that they do not lengthen a sure one.
        """
        if not len(probabilities) or not self.types:
            return ()
        begins, inside = probabilities[:, self._begins], probabilities[:, self._inside]
        by_type = np.minimum(begins + inside, 1.0)
        kinds, scores = by_type.argmax(axis=1), by_type.max(axis=1)
        rows = np.arange(len(kinds))
        begins_anew = (begins[rows, kinds] > inside[rows, kinds]) & ~goes_on
        found: list[Entity] = []
        for at in np.flatnonzero(scores >= FAINT).tolist():
            kind, score = self.types[kinds[at]], float(scores[at])
            before = found[-1] if found else None
            if (
                before is not None
                and before.stop == at
                and before.type == kind
                and (scores[at - 1] >= _LIKELY) == (score >= _LIKELY)
                and not begins_anew[at]
            ):
                found[-1] = replace(before, stop=at + 1, score=max(before.score, score))
            else:
                found.append(Entity(kind, at, at + 1, score))
        return tuple(found)


def widen(entity: Entity, text: str) -> Entity:
    """The entity, in code points, with the rest of the words that it begins and ends in, and their accents."""
    start, stop = entity.start, entity.stop
    while 0 < start < stop and _is_of_a_word(text[start]) and _is_of_a_word(text[start - 1]):
        start -= 1
    while 0 < stop < len(text) and (
        unicodedata.combining(text[stop]) or (_is_of_a_word(text[stop - 1]) and _is_of_a_word(text[stop]))
    ):
        stop += 1
    return replace(entity, start=start, stop=stop)


def join(entities: Sequence[Entity]) -> list[Entity]:
    """Overlapping entities of one type as one with the highest score, in the order of the text.

    Windows and views overlap, so that one name is found more than once.
    """
    joined: list[Entity] = []
    for entity in sorted(entities, key=lambda one: (one.type, one.start, one.stop)):
        before = joined[-1] if joined else None
        if before is not None and before.type == entity.type and entity.start < before.stop:
            score = max(before.score, entity.score)
            joined[-1] = replace(before, stop=max(before.stop, entity.stop), score=score)
        else:
            joined.append(entity)
    return sorted(joined, key=lambda one: (one.start, one.stop, one.type))


def _is_of_a_word(char: str) -> bool:
    # From U+2E80 on come the scripts that put no space between words.
    return (char.isalnum() or unicodedata.combining(char) > 0) and char < "\u2e80"
