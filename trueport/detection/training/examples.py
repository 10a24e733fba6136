"""Labelled texts as training examples: what each row says for each head, and which sources are kept out of training.

A row says nothing of a head unless its source does: an unknown label is None and takes no part in that head's loss.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HELD_OUT: Final = (
    "ethz-spylab/ctf-satml24",
    "NVIDIA/garak",
    "neuralchemy/Prompt-injection-dataset:original",
    "suzgunmirac/BIG-Bench-Hard",
    "yizhongw/self-instruct",
    "openai/human-eval",
    "bigscience-workshop/promptsource",
    "sjtuprog/fox-news-comments",
    "microsoft/TOXIGEN",
    "swisskyrepo/PayloadsAllTheThings",
)
"""Sources of the training files that nothing is trained on: temperatures, thresholds and checkpoints are chosen there.

A row whose source names one of these, also as part of a pair, is held out.
"""

HELD_OUT_MARK: Final = " (held out)"
"""Ends the family of a generated text whose template is not trained on."""

_DOCUMENTS: Final = frozenset({"benign_document", "benign_response", "document"})
# Requests that are themselves unpleasant: harmless as an injection, unknown as toxicity.
_UNPLEASANT: Final = frozenset({"sensitive_request", "harmful_request"})
_ENTITIES: Final = {"PERSON": "PERSON", "LOCATION": "LOCATION", "ADDRESS": "ADDRESS", "ORGANIZATION": "ORG"}


@dataclass(frozen=True, slots=True)
class Span:
    """Code points `start` up to `end`, of one type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Example:
    """A text with what is known of it. A label is 1.0, 0.0, or None where nothing is known.

    `entities` is None where names were not marked. `place` is the part that makes the text what it is, so that a
    window of a long text is cut around it. `family` groups examples for sampling and for keeping out.
    """

    text: str
    family: str
    injection: float | None = None
    indirect: float | None = None
    toxicity: float | None = None
    bias: float | None = None
    entities: tuple[Span, ...] | None = None
    place: tuple[int, int] | None = None

    @property
    def is_held_out(self) -> bool:
        return self.family.endswith(HELD_OUT_MARK) or any(name in self.family for name in HELD_OUT)


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:  # rows of several shapes; each reader below knows its own
    """The rows of one gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_examples(folder: Path) -> list[Example]:
    """Every training row of the labelled data in `folder`; never a row of a dev file."""
    makers = {"injection": _injection, "indirect": _indirect, "toxicity": _toxicity, "pii": _pii, "topics": _topic}
    return [
        example
        for name, make in makers.items()
        for row in read_rows(folder / f"{name}.train.jsonl.gz")
        if (example := make(row)) is not None
    ]


def family_of(example: Example) -> tuple[str, float | None, float | None, float | None]:
    """What sampling balances by: the source and what is known of the text."""
    return example.family, example.injection, example.indirect, example.toxicity


def _injection(row: Mapping[str, Any]) -> Example:
    is_attack = row["label"] == 1
    is_document = row["category"] in _DOCUMENTS
    return Example(
        text=row["text"],
        family=row["source"],
        injection=float(row["label"]),
        # An attack that is a tool's whole answer is an instruction where none belongs.
        indirect=1.0 if is_attack else 0.0 if is_document else None,
        toxicity=None if is_attack or row["category"] in _UNPLEASANT else 0.0,
        bias=None if is_attack or row["category"] in _UNPLEASANT else 0.0,
    )


def _indirect(row: Mapping[str, Any]) -> Example:
    spans = row.get("spans") or []
    return Example(
        text=row["text"],
        # Pairs of sources are many; documents and instructions are balanced by the document's source.
        family=f"placed: {row['source']}",
        injection=None if row["label"] else 0.0,
        indirect=float(row["label"]),
        place=(spans[0]["start"], spans[0]["end"]) if spans else None,
    )


def _toxicity(row: Mapping[str, Any]) -> Example:
    names_groups = row["category"] in {"hate", "implicit_hate"}
    knows_groups = any(name in row["source"] for name in ("Hatemoji", "TOXIGEN", "t-davidson"))
    return Example(
        text=row["text"],
        family=row["source"],
        injection=0.0,
        toxicity=float(row["label"]),
        bias=1.0 if names_groups else 0.0 if knows_groups or row["label"] == 0 else None,
    )


def _pii(row: Mapping[str, Any]) -> Example:
    spans = [Span(one["start"], one["end"], one["type"]) for one in row["spans"]]
    is_tweet = "emerging_entities" in row["source"]
    return Example(
        text=row["text"],
        family=row["source"],
        injection=0.0,
        toxicity=None if is_tweet else 0.0,
        bias=None if is_tweet else 0.0,
        entities=named(spans),
    )


def _topic(row: Mapping[str, Any]) -> Example | None:
    # The other topics are in the injection set already, word for word.
    return Example(row["text"], row["source"], injection=0.0) if row["category"] in _UNPLEASANT else None


def named(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans of the four kinds that the token head knows, under its names."""
    return tuple(Span(one.start, one.end, _ENTITIES[one.type]) for one in spans if one.type in _ENTITIES)
