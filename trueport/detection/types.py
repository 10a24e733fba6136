"""What is read, what is found in it, and what could not be read. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Category = Literal[
    "pii",
    "phi",
    "bias",
    "toxicity",
    "prompt_injection",
    "jailbreak",
    "indirect_injection",
    "data_exfiltration",
    "secrets",
    "custom",  # a tenant's own expressions, keywords and topics
]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)

Side = Literal["input", "output"]

Role = Literal[
    "system",
    "user",
    "assistant",  # what the model said, now or in an earlier turn
    "reasoning",
    "tool_definition",
    "tool_call",  # arguments the model wrote
    "tool_result",
    "document",  # attached or retrieved text
    "metadata",  # names, titles, members nobody has a word for
]

FailureCode = Literal["timeout", "unavailable", "contract", "overloaded", "too_long"]


@dataclass(frozen=True, slots=True)
class Passage:
    """One text to be read. Its role decides what is looked for in it, and by which head of a model."""

    text: str
    role: Role = "user"


@dataclass(frozen=True, slots=True)
class Finding:
    """One span that a detector reported.

    `type` is upper case, such as EMAIL or JAILBREAK; `start` and `end` count Unicode code points of the passage's
    original text, end exclusive; `score` is calibrated to [0, 1]; `version` names the exact model (the first 16 hex
    digits of its SHA-256) or rule pack; `reason` is the code of the rule that matched. Never holds the text.
    """

    category: Category
    type: str
    start: int
    end: int
    score: float
    detector: str
    version: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Categories that a detector was asked for and gave no answer on: never the same as finding nothing."""

    categories: frozenset[Category]
    detector: str
    code: FailureCode


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in one passage.

    `scores` has the highest score of each category that was read, present even where it is low, so that other
    thresholds can be tried on it later. `embedding` is the passage's mean vector for topics, None where no model
    that gives one has read it.
    """

    scores: Mapping[Category, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    embedding: tuple[float, ...] | None = None
    failures: tuple[Failure, ...] = ()
