"""Turns as Anthropic and Google want them: user and model in turn, the user first and never nobody."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Literal

from trueport.gateway.translate.model import Conversation, Turn

Block = dict[str, object]
Role = Literal["user", "assistant"]

# What a conversation that the model opened is taken to have answered. Both providers want the user to begin.
OPENING: Final = "Hello."
# Asks for what OpenAI's json_object form promises; Anthropic has no switch for it that works without a schema.
JSON_INSTRUCTION: Final = "Answer with one JSON object and nothing else: no prose around it and no code fence."


def with_something_to_answer(conversation: Conversation) -> Conversation:
    """The conversation, with its system text as the user's when there is no turn at all: a model answers a turn."""
    if conversation.turns or not conversation.system:
        return conversation
    return replace(conversation, turns=(Turn("user", conversation.system),), system=())


def alternating(
    turns: Iterable[tuple[Role, list[Block]]], *, is_result: Callable[[Block], bool], opening: Block
) -> list[tuple[Role, list[Block]]]:
    """The blocks of neighbours of one role together, without empty turns.

    What tools answered comes first in its turn: both providers want it directly behind the calls.
    """
    merged: list[tuple[Role, list[Block]]] = []
    for role, blocks in turns:
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(blocks)
        elif blocks:
            merged.append((role, list(blocks)))
    for _, blocks in merged:
        blocks.sort(key=lambda block: not is_result(block))
    if not merged or merged[0][0] == "assistant":
        merged.insert(0, ("user", [opening]))
    return merged
