"""How much a tenant's expression can match at most: what has to be held back for it.

Source of the syntax: https://github.com/google/re2/wiki/Syntax
"""

import math
import re
from typing import Final

_REPEAT: Final = re.compile(r"([*+?]|\{([0-9]+)(,?)([0-9]*)\})\??")
_GROUP: Final = re.compile(r"\?(?:P?<[A-Za-z0-9_]+>|[imsU]*(?:-[imsU]+)?(?P<end>[:)]))")
_ESCAPE: Final = re.compile(
    r"\\(?:[pP](?:\{\^?[A-Za-z_]+\}|[A-Z])|x(?:\{[0-9A-Fa-f]+\}|[0-9A-Fa-f]{2})|[0-7]{1,3}|.)", re.DOTALL
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_BETWEEN: Final = frozenset({r"\b", r"\B", r"\A", r"\z"})


def longest_match(expression: str) -> int | None:
    """The most code points that a valid RE2 expression can match; None without a limit, or where that is not known."""
    reader = _Reader(expression)
    try:
        width = reader.alternatives()
    except ValueError:
        return None
    return int(width) if reader.at == len(expression) and math.isfinite(width) else None


class _Reader:
    def __init__(self, expression: str) -> None:
        self._text = expression
        self.at = 0

    def alternatives(self) -> float:
        longest, own = 0.0, 0.0
        while self.at < len(self._text) and self._text[self.at] != ")":
            if self._text[self.at] == "|":
                self.at += 1
                longest, own = max(longest, own), 0.0
            else:
                own += self._times(self._atom())
        return max(longest, own)

    def _times(self, width: float) -> float:
        """The width with the repeats that stand behind it."""
        while (found := _REPEAT.match(self._text, self.at)) is not None:
            self.at = found.end()
            if found[1] != "?" and width:
                is_open = found[1] in ("*", "+") or (found[3] == "," and not found[4])
                width *= math.inf if is_open else int(found[4] or found[2])
        return width

    def _atom(self) -> float:
        text, at = self._text, self.at
        mark = text[at]
        if mark == "(":
            return self._group()
        if mark == "\\":
            escape = self._taken(_ESCAPE)
            if escape in (r"\Q", r"\E"):
                raise ValueError(escape)  # quoted text is not followed
            return 0.0 if escape in _BETWEEN else 1.0
        if mark == "[":
            self._taken(_CLASS)
            return 1.0
        self.at += 1
        return 0.0 if mark in "^$" else 1.0

    def _group(self) -> float:
        self.at += 1
        if self._text.startswith("?", self.at):
            found = self._taken(_GROUP)
            if found.endswith(")"):
                return 0.0  # flags for what follows
        width = self.alternatives()
        if not self._text.startswith(")", self.at):
            raise ValueError(self._text)
        self.at += 1
        return width

    def _taken(self, form: re.Pattern[str]) -> str:
        found = form.match(self._text, self.at)
        if found is None:
            raise ValueError(self._text)
        self.at = found.end()
        return found[0]
