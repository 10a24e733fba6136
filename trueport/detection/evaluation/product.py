"""What the product as it runs finds in the labelled texts: every layer of the engine, patterns and model together."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from trueport.detection.engine import Engine
from trueport.detection.evaluation.measures import (
    Measure,
    Say,
    by_kind,
    f1_from,
    labels_of,
    measure,
    of_scores,
    over_negatives,
)
from trueport.detection.evaluation.metrics import Scores
from trueport.detection.evaluation.model import HeadMeta
from trueport.detection.evaluation.rows import Row, Side, read_rows
from trueport.detection.types import Category, Passage, Reading, Role

_ATTACKS: Final = frozenset[Category]({"prompt_injection", "jailbreak"})
_SETS: Final[tuple[tuple[str, Side, Role, frozenset[Category]], ...]] = (
    ("injection", "dev", "user", _ATTACKS),
    ("injection", "dev_ood", "user", _ATTACKS),
    ("indirect", "dev", "tool_result", frozenset({"indirect_injection"})),
    ("toxicity", "dev", "user", frozenset({"toxicity"})),
)
"""Name, side, the role that the texts are read in, and the categories that count as found."""

# Prompts to assistants that hold nobody's data: what the two sources are about.
_CLEAN: Final = ("clinc/oos-eval:oos_test", "josejg/instruction_following_eval")
# A place or a company is no person.
_NOBODYS: Final = frozenset({"LOCATION", "ORG", "ORGANIZATION"})
_FOUND_FROM: Final = 0.5
"""The score that a policy asks for unless it says otherwise."""

_AT_ONCE: Final = 64
_LONGEST_S: Final = 600.0


class Unread(Exception):
    """The engine gave no answer on some text: figures over the others would flatter."""


async def measure_product(engine: Engine, heads: Mapping[str, HeadMeta], folder: Path, say: Say) -> list[Measure]:
    """The figures of `engine` on the dev files in `folder`, at the bands of `heads`.

    Raises Unread and FileNotFoundError.
    """
    found: list[Measure] = []
    for name, side, role, categories in _SETS:
        if name not in heads:
            continue
        rows = read_rows(folder, name, side)
        say(f"product: {name}.{side}, {len(rows)} texts")
        scores = _scores(await _read(engine, rows, role, categories), _highest_of(categories))
        found += of_scores(f"product.{name}.{side}", rows, scores, heads[name].bands)
        if name == "injection":
            found += by_kind(f"product.{name}.{side}", rows, scores, heads[name].bands)
    return [*found, *await _of_data(engine, folder, say)]


async def _of_data(engine: Engine, folder: Path, say: Say) -> list[Measure]:
    """Personal data and secrets, text by text."""
    clean = [row for row in read_rows(folder, "injection", "dev_ood") if row.source.startswith(_CLEAN)]
    texts: tuple[tuple[str, Sequence[Row], Category, Callable[[Reading], float]], ...] = (
        ("pii.dev", read_rows(folder, "pii", "dev"), "pii", _surest_person),
        ("pii.dev_ood", clean, "pii", _surest_person),
        ("secrets.dev", read_rows(folder, "secrets", "dev"), "secrets", _highest_of(frozenset({"secrets"}))),
    )
    found: list[Measure] = []
    for name, rows, category, score in texts:
        say(f"product: {name}, {len(rows)} texts")
        scores = _scores(await _read(engine, rows, "user", frozenset({category})), score)
        labels = np.zeros(len(rows), np.bool_) if rows is clean else labels_of(rows)
        kind = ".clean_prompts" if rows is clean else ""
        if rows is not clean:
            found.append(measure(f"product.{name}.f1", f1_from(_FOUND_FROM), scores, labels))
        over = over_negatives(_FOUND_FROM)
        found.append(measure(f"product.{name}.false_positives{kind}", over, scores, labels))
    return found


async def _read(engine: Engine, rows: Sequence[Row], role: Role, wanted: frozenset[Category]) -> list[Reading]:
    passages = [Passage(row.text, role) for row in rows]
    parts = [
        await engine.read(passages[at : at + _AT_ONCE], wanted, timeout_s=_LONGEST_S)
        for at in range(0, len(passages), _AT_ONCE)
    ]
    readings = list(chain.from_iterable(parts))
    failures = {(one.detector, one.code) for reading in readings for one in reading.failures if one.categories}
    if failures:
        raise Unread(", ".join(f"{detector}: {code}" for detector, code in sorted(failures)))
    return readings


def _scores(readings: Sequence[Reading], score: Callable[[Reading], float]) -> Scores:
    return np.array([score(reading) for reading in readings], np.float64)


def _highest_of(categories: frozenset[Category]) -> Callable[[Reading], float]:
    return lambda reading: max(reading.scores[category] for category in categories)


def _surest_person(reading: Reading) -> float:
    found = (one.score for one in reading.findings if one.category == "pii" and one.type not in _NOBODYS)
    return max(found, default=0.0)
