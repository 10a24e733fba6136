"""What an answer says, before it is a chat, a text or a stream: its choices and its usage."""

from typing import NamedTuple

from trueport.simulator.script import Script, ToolCall
from trueport.simulator.text import json_answer, sentence, words
from trueport.simulator.usage import Usage, corrected, count_tokens, pieces

# 2026-01-01T00:00:00Z. Answers do not depend on when they are given.
CREATED = 1_767_225_600
FINGERPRINT = "fp_simulator"

# The members no client knows. Spacing, number forms and escapes are unusual on purpose: a byte-faithful relay keeps
# them, one that decodes and encodes does not.
EXTRA_FIELDS = b',"x_simulator": {"big": 12345678901234567890, "ratio": 1.50, "text": "\\u00e9\\/"}'


class Choice(NamedTuple):
    """One answer: text in tokens, or tool calls, and why it ended."""

    tokens: list[str]
    tools: tuple[ToolCall, ...]
    finish: str

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Wanted(NamedTuple):
    """What the request wants of each choice."""

    choices: int
    limit: int | None = None
    tools: tuple[ToolCall, ...] = ()
    is_json: bool = False
    schema: dict[str, object] | None = None


def compose(script: Script, wanted: Wanted, digest: bytes) -> list[Choice]:
    """The choices that answer the prompt with this `digest`."""
    return [_choice(script, wanted, digest, number) for number in range(wanted.choices)]


def _choice(script: Script, wanted: Wanted, digest: bytes, number: int) -> Choice:
    if wanted.tools:
        return Choice([], wanted.tools, script.finish or "tool_calls")
    tokens = _tokens(script, wanted, digest, number)
    if wanted.limit is not None and len(tokens) > wanted.limit:
        return Choice(tokens[: wanted.limit], (), script.finish or "length")
    return Choice(tokens, (), script.finish or "stop")


def _tokens(script: Script, wanted: Wanted, digest: bytes, number: int) -> list[str]:
    if script.say is not None:
        return pieces(script.say)
    if script.tokens is not None:
        return words(digest, number, script.tokens)
    if wanted.is_json:
        return pieces(json_answer(digest, number, wanted.schema))
    return pieces(sentence(digest, number))


def counted(prompt: int, choices: list[Choice], script: Script) -> Usage:
    """The usage of an answer: tokens counted, unless the script states others."""
    completion = 0
    for choice in choices:
        completion += len(choice.tokens)
        for tool in choice.tools:
            completion += count_tokens(tool.name) + count_tokens(tool.arguments)
    return corrected(Usage(prompt, completion), script.usage)


class Meter:
    """Hands out the billed completion tokens of a stream event by event, so that a cut stream is billed for what
    was sent. Reasoning comes first, because models think before they speak."""

    def __init__(self, usage: Usage) -> None:
        self._left = usage.completion
        self._reasoning = usage.reasoning

    def take(self, tokens: int) -> int:
        """At most `tokens`, as far as there are any left."""
        taken = min(tokens, self._left)
        self._left -= taken
        return taken

    def take_reasoning(self) -> int:
        taken, self._reasoning = self.take(self._reasoning), 0
        return taken

    def take_rest(self) -> int:
        return self.take(self._left)
