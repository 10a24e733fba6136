"""`models.toml`: what the served models are for. Loaded once, checked wholly, immutable."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from trueport.detection.types import Category, Role

MODELS: Final = Path(__file__).parent.parent / "models.toml"

ServedName = Literal["toxicity", "injection", "pii", "exfiltration"]
SERVED: Final[tuple[ServedName, ...]] = get_args(ServedName)
ENTITY_MODEL: Final[ServedName] = "pii"
"""The one that gives logits of tokens with their offsets; the others give scores of a whole row."""


class CategoryRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which served model answers a category, by which groups of labels, and what its findings are called.

    Without a `type` a finding is called by its label.
    """

    model: ServedName
    labels: tuple[tuple[str, ...], ...] = ()
    type: str = ""
    optional: bool = False

    def columns(self, labels: Sequence[str]) -> tuple[int, ...]:
        """The positions in a model's `labels` that answer the category; none where the model cannot."""
        for group in self.labels:
            found = tuple(at for at, label in enumerate(labels) if label.lower() in group)
            if found:
                return found
        return ()


class Catalogue(msgspec.Struct, frozen=True):
    """The parts of `models.toml` that reading needs."""

    roles: dict[Role, frozenset[Category]]
    categories: dict[Category, CategoryRule]
    entities: dict[str, str]

    def served_by(self, name: ServedName) -> Mapping[Category, CategoryRule]:
        return {category: rule for category, rule in self.categories.items() if rule.model == name}

    def entity_type(self, label: str) -> str:
        """PERSON for the label `GIVENNAME`; the label itself where nothing is said of it."""
        return self.entities.get(label.lower(), label.upper())


@cache
def built_in() -> Catalogue:
    return msgspec.convert(tomllib.loads(MODELS.read_text("utf-8")), Catalogue)
