"""Reads a script out of a request: from its texts, its model name and its `x-simulator` header.

In a text a directive is written `[[name: value]]`; brackets around anything else are left alone, because a
prompt may contain them. In the header, after the `+` of a model name, and in a server-wide script, directives
are `name=value` with `;` between them, and an unknown name is an error.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from trueport.simulator.faults import parse_fault
from trueport.simulator.script import NO_SCRIPT, DirectiveError, FaultCall, Script, ToolCall, count, seconds
from trueport.simulator.usage import Usage

_USAGE_FIELDS: Final = Usage._fields
_FILTERS: Final = ("hate", "self_harm", "sexual", "violence", "jailbreak")
_EXTRAS: Final = ("fields", "comment", "event", "crlf", "cr", "mixed")
_DEFAULT_EXTRAS: Final = frozenset({"fields", "comment", "event"})
_MOST_TOKENS: Final = 1_000_000
_MOST_TALLIED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Directive:
    """One row of the table: how it is written, what it does, and how its value changes a script."""

    name: str
    example: str
    summary: str
    apply: Callable[[Script, str], Script]


def _say(script: Script, value: str) -> Script:
    return replace(script, say=value)


def _think(script: Script, value: str) -> Script:
    return replace(script, think=value)


def _filter(script: Script, value: str) -> Script:
    category = value or "violence"
    if category not in _FILTERS:
        raise DirectiveError(f"filter is one of {', '.join(_FILTERS)}; got {category!r}")
    return replace(script, filtered=category)


def _tokens(script: Script, value: str) -> Script:
    number = count(value)
    if number > _MOST_TOKENS:
        raise DirectiveError(f"an answer has at most {_MOST_TOKENS} tokens")
    return replace(script, tokens=number)


def _pace(script: Script, value: str) -> Script:
    return replace(script, pace_s=seconds(value))


def _tool(script: Script, value: str) -> Script:
    name, _, arguments = value.partition(" ")
    if not name:
        raise DirectiveError("a tool call needs the name of the tool")
    return replace(script, tools=(*script.tools, ToolCall(name, arguments.strip() or "{}")))


def _usage(script: Script, value: str) -> Script:
    stated = dict(script.usage)
    for word in value.split():
        name, _, number = word.partition("=")
        if name not in _USAGE_FIELDS:
            raise DirectiveError(f"usage states {', '.join(_USAGE_FIELDS)}; got {name!r}")
        stated[name] = count(number)
    return replace(script, usage=stated)


def _finish(script: Script, value: str) -> Script:
    return replace(script, finish=value)


def _extra(script: Script, value: str) -> Script:
    words = value.split()
    unknown = sorted(set(words) - set(_EXTRAS))
    if unknown:
        raise DirectiveError(f"extra has {', '.join(_EXTRAS)}; got {unknown[0]!r}")
    return replace(script, extra=script.extra | (frozenset(words) or _DEFAULT_EXTRAS))


def _fault(script: Script, value: str) -> Script:
    return replace(script, faults=(*script.faults, parse_fault(value)))


_ROWS: Final = (
    Directive("say", "[[say: Good morning.]]", "Answers exactly this text.", _say),
    Directive(
        "think",
        "[[think: The user greets me.]]",
        "Thinks this where thoughts are asked for (Anthropic, Google); at OpenAI's responses it adds a reasoning item "
        "with this summary.",
        _think,
    ),
    Directive("tokens", "[[tokens: 40]]", "Answers with this many tokens.", _tokens),
    Directive(
        "pace",
        "[[pace: 20ms]]",
        "Sends each piece of the answer by itself, this far apart; `0ms` only keeps them apart.",
        _pace,
    ),
    Directive(
        "tool",
        '[[tool: get_weather {"city": "Paris"}]]',
        "Calls this tool if the request offers tools; several make parallel calls.",
        _tool,
    ),
    Directive(
        "usage",
        "[[usage: prompt=10 completion=5 cached=4 reasoning=2]]",
        "Reports and bills these counts instead of the counted ones; also `cache_write`, `cache_write_1h`, "
        "`tool_prompt`, `audio_ms`, `images` and `web_searches`, where the dialect has them.",
        _usage,
    ),
    Directive(
        "finish",
        "[[finish: content_filter]]",
        "Gives this finish reason; OpenAI's words are put into those of the dialect, others are sent as written.",
        _finish,
    ),
    Directive(
        "filter",
        "[[filter: violence]]",
        "The provider's own content filter objects: Azure and OpenAI answer 400, Google blocks the prompt, Anthropic "
        "stops with `refusal`. Or `hate`, `self_harm`, `sexual`, `jailbreak`.",
        _filter,
    ),
    Directive(
        "extra",
        "[[extra: fields comment event crlf]]",
        "Adds unknown JSON `fields`, an SSE `comment`, a custom SSE `event` (those three when nothing is named); "
        "`crlf`, `cr` and `mixed` change the line ends of a stream.",
        _extra,
    ),
    Directive("fault", "[[fault: status=500]]", "Misbehaves; see the faults. May be given several times.", _fault),
)

DIRECTIVES: Final = {row.name: row for row in _ROWS}

_IN_TEXT: Final = re.compile(rf"\[\[\s*({'|'.join(DIRECTIVES)})\s*(?::\s*(.*?)\s*)?\]\](?!\])", re.DOTALL)


def from_texts(texts: Iterable[str], script: Script = NO_SCRIPT) -> Script:
    """`script` with every directive found in `texts`, in order. Raises DirectiveError for a bad value."""
    for text in texts:
        if "[[" in text:
            for name, value in _IN_TEXT.findall(text):
                script = DIRECTIVES[name].apply(script, value)
    return script


def from_list(text: str, script: Script = NO_SCRIPT) -> Script:
    """`script` with the directives of `name=value; name=value`. Raises DirectiveError for an unknown name too."""
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, _, value = item.partition("=")
        directive = DIRECTIVES.get(name.strip())
        if directive is None:
            raise DirectiveError(f"no directive is called {name.strip()!r}; there are {', '.join(DIRECTIVES)}")
        script = directive.apply(script, value.strip())
    return script


class Tally:
    """Counts how often faults with `times=N` have struck, for each fault and subject, so that they stop."""

    def __init__(self) -> None:
        self._struck: dict[tuple[str, str], int] = {}

    def still_due(self, script: Script, subject: str) -> Script:
        """`script` without the faults that have struck `subject` (a prompt) often enough; the rest are counted."""
        return replace(script, faults=tuple(call for call in script.faults if self._is_due(call, subject)))

    def clear(self) -> None:
        self._struck.clear()

    def _is_due(self, call: FaultCall, subject: str) -> bool:
        if not call.has("times"):
            return True
        key = (call.text, subject)
        struck = self._struck.get(key, 0)
        if struck >= call.count("times"):
            return False
        if len(self._struck) >= _MOST_TALLIED:
            self._struck.pop(next(iter(self._struck)))
        self._struck[key] = struck + 1
        return True
