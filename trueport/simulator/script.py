"""What a request asks of the simulator, as values: how to answer, and how to misbehave.

`directives` reads a script out of a request; each dialect's handlers answer by it; `faults` bends the answer.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["count", "duration", "word"]

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_LARGEST_COUNT: Final = 10**9


class DirectiveError(ValueError):
    """A directive that cannot be obeyed; the message says which and why, and goes back to the caller."""


@dataclass(frozen=True, slots=True)
class Option:
    """A named value that a fault understands; an empty default means that it is unset unless given."""

    name: str
    kind: Kind
    default: str = ""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = _LARGEST_COUNT

    def check(self, given: str) -> None:
        """Raise DirectiveError unless `given` is of this option's kind."""
        if self.kind == "count":
            if not self.least <= count(given) <= self.most:
                raise DirectiveError(f"{self.name} is from {self.least} to {self.most}; got {given}")
        elif self.kind == "duration":
            seconds(given)
        elif self.choices and given not in self.choices:
            raise DirectiveError(f"{self.name} is one of {', '.join(self.choices)}; got {given!r}")


@dataclass(frozen=True, slots=True)
class FaultCall:
    """One fault with the options given and the defaults of the rest; options were checked when it was read."""

    name: str
    options: Mapping[str, str]
    text: str

    def has(self, option: str) -> bool:
        return self.options[option] != ""

    def count(self, option: str) -> int:
        return count(self.options[option])

    def seconds(self, option: str) -> float:
        return seconds(self.options[option])

    def word(self, option: str) -> str:
        return self.options[option]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the answer calls; `arguments` is sent as written, valid JSON or not."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Script:
    """Everything the directives of one request add up to."""

    say: str | None = None
    think: str | None = None
    tokens: int | None = None
    pace_s: float | None = None
    finish: str | None = None
    filtered: str | None = None
    tools: tuple[ToolCall, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    extra: frozenset[str] = frozenset()
    faults: tuple[FaultCall, ...] = ()

    def fault(self, name: str) -> FaultCall | None:
        """The first fault of that name, if the script has one."""
        return next((call for call in self.faults if call.name == name), None)

    @property
    def usage_shape(self) -> str | None:
        """How the usage is to be misreported; None tells the truth."""
        misreport = self.fault("usage") if self.faults else None
        return misreport.word("usage") if misreport else None


NO_SCRIPT: Final = Script()


def count(text: str) -> int:
    """A whole number from 0 to 10^9."""
    if not text.isascii() or not text.isdigit() or int(text) > _LARGEST_COUNT:
        raise DirectiveError(f"{text!r} is not a whole number from 0 to {_LARGEST_COUNT}")
    return int(text)


def seconds(text: str) -> float:
    """A duration such as `20ms` or `1.5s`, in seconds; `forever` is infinity."""
    if text == "forever":
        return math.inf
    found = _DURATION.fullmatch(text)
    if found is None:
        raise DirectiveError(f"{text!r} is not a duration such as 20ms, 1.5s or forever")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)
