"""Requests as Anthropic wants them.

Source: https://platform.claude.com/docs/en/api/messages (POST /v1/messages). Decisions, where the neutral form and
this API differ:

- `max_tokens` is required: without one it is 4,096, above the thinking budget where there is one.
- Temperatures above 1 become 1: below, both scales mean the same, and scaling would move what most clients ask for.
- An effort becomes adaptive thinking at that effort, and for models before 4.6 a budget. Thinking is left out where
  it would be refused: with a temperature other than 1, `top_k` or a `top_p` below 0.95, with a forced tool, behind an
  answer begun for the model, in a budget that leaves no room, and (with a budget) in the middle of tool calls whose
  own thinking is not there, as it never is when another provider or a format without signatures was in between.
- A JSON schema becomes `output_config.format`, closed and without the bounds that are not enforced. "Any JSON object"
  becomes one sentence behind the system text.
- Reasoning goes back only whole, with Anthropic's own signature.
- Texts of nothing but white space are left out, and the white space behind an answer begun for the model; the API
  refuses both.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from trueport.gateway.translate.calls import json_object
from trueport.gateway.translate.ids import safe_call_id
from trueport.gateway.translate.model import (
    Conversation,
    Media,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from trueport.gateway.translate.rules import NotTranslatable
from trueport.gateway.translate.schema import as_parameters, enforceable
from trueport.gateway.translate.thinking import budget_of, effort_of
from trueport.gateway.translate.turns import (
    JSON_INSTRUCTION,
    OPENING,
    Block,
    alternating,
    with_something_to_answer,
)
from trueport.kit.errors import InvalidRequest

DEFAULT_MAX_TOKENS: Final = 4_096
_LEAST_BUDGET: Final = 1_024
_LONGEST_USER: Final = 256
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
# claude-3-7-sonnet-20250219, claude-3-opus, claude-opus-4-20250514, claude-sonnet-4-5@20250929, …-claude-opus-4-1-…
_GENERATION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2}))?(?!\d)")


def body(conversation: Conversation, model: str) -> dict[str, object]:
    """The JSON body that asks `model`. Raises InvalidRequest for names and values Anthropic does not take."""
    conversation = with_something_to_answer(conversation)
    sampling = conversation.sampling
    thinking = _thinking(conversation, model)
    written: dict[str, object] = {
        "model": model,
        "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS + thinking.budget,
        "messages": [{"role": role, "content": blocks} for role, blocks in _messages(conversation)],
    }
    optional = {
        "system": _system(conversation),
        "temperature": None if sampling.temperature is None else min(sampling.temperature, 1.0),
        # Newer models refuse both at once, and many clients send the value that changes nothing.
        "top_p": None if sampling.top_p == 1 and sampling.temperature is not None else sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": _stop_sequences(sampling.stop),
        "tools": [_tool(tool, model) for tool in conversation.tools],
        "tool_choice": _tool_choice(conversation),
        "thinking": thinking.thinking,
        "output_config": _output_config(conversation, thinking.effort),
        "metadata": _metadata(conversation.user),
        "stream": conversation.streams or None,
    }
    return written | {name: value for name, value in optional.items() if value not in (None, [], {})}


def _generation(model: str) -> tuple[int, int]:
    """Which generation of models this is, as (4, 5); one nobody knows counts as newer than all."""
    match = _GENERATION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)


# Messages


def _messages(conversation: Conversation) -> list[tuple[str, list[Block]]]:
    turns = ((turn.role, list(_blocks(turn))) for turn in conversation.turns)
    merged = alternating(
        turns, is_result=lambda block: block["type"] == "tool_result", opening={"type": "text", "text": OPENING}
    )
    role, last = merged[-1]
    if role == "assistant" and last[-1]["type"] == "text":
        last[-1]["text"] = str(last[-1]["text"]).rstrip()
    return [(role, blocks) for role, blocks in merged]


def _blocks(turn: Turn) -> Iterator[Block]:
    for part in turn.parts:
        block = _block(part, turn.role)
        if block is not None:
            yield block


def _block(part: Part, role: str) -> Block | None:
    match part:
        case Text():
            return _text(part.text, part.cache)
        case Refusal():
            return _text(part.text)
        case Media():
            if role == "assistant":
                raise NotTranslatable("media_output", "anthropic", "messages")
            return _media(part)
        case ToolCall():
            return _call(part)
        case ToolResult():
            return _result(part)
        case Thinking():
            return _signed(part)


def _text(text: str, cache: str | None = None) -> Block | None:
    return _marked({"type": "text", "text": text}, cache) if text.strip() else None


def _marked(block: Block, cache: str | None) -> Block:
    if cache is None:
        return block
    return block | {"cache_control": {"type": "ephemeral"} | ({"ttl": cache} if cache != "5m" else {})}


def _media(media: Media) -> Block:
    if media.kind == "audio":
        raise NotTranslatable("audio_input", "anthropic", "messages")
    block: Block = {"type": media.kind, "source": _source(media)}
    if media.kind == "document" and media.name:
        block["title"] = media.name
    return _marked(block, media.cache)


def _source(media: Media) -> dict[str, object]:
    if media.reference is not None:
        return {"type": "file", "file_id": media.reference}
    if media.url is not None:
        return {"type": "url", "url": media.url}
    if media.kind == "document" and (media.media_type or "").startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": _plain(media.data or "")}
    kind = "image/png" if media.kind == "image" else "application/pdf"
    return {"type": "base64", "media_type": media.media_type or kind, "data": media.data or ""}


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError as error:
        raise InvalidRequest("A text document must be UTF-8.", param="messages") from error


def _call(call: ToolCall) -> Block:
    given = json_object(call.arguments) if call.arguments.strip() else {}
    if given is None:
        raise InvalidRequest(f"The arguments of an earlier call of {call.name} are not an object.", param="messages")
    return {"type": "tool_use", "id": safe_call_id(call.id), "name": _checked_name(call.name), "input": given}


def _result(result: ToolResult) -> Block:
    written: Block = {"type": "tool_result", "tool_use_id": safe_call_id(result.call_id)}
    content = [block for part in result.parts if (block := _block(part, "user")) is not None]
    if content:
        written["content"] = content
    if result.is_error:
        written["is_error"] = True
    return _marked(written, result.cache)


def _signed(thinking: Thinking) -> Block | None:
    if thinking.signed_by != "anthropic":
        return None
    if thinking.redacted is not None:
        return {"type": "redacted_thinking", "data": thinking.redacted}
    if thinking.signature is None:
        return None
    return {"type": "thinking", "thinking": thinking.text, "signature": thinking.signature}


def _system(conversation: Conversation) -> str | list[Block] | None:
    texts = [*conversation.system]
    if conversation.output.kind == "json":
        texts.append(Text(JSON_INSTRUCTION))
    blocks = [block for text in texts if (block := _text(text.text, text.cache)) is not None]
    if len(blocks) == 1 and "cache_control" not in blocks[0]:
        return str(blocks[0]["text"])
    return blocks


# Tools, output and the rest


def _checked_name(name: str) -> str:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            "The provider that serves this model takes tool names of 1 to 128 letters, digits, _ and -.",
            param="tools",
        )
    return name


def _tool(tool: Tool, model: str) -> Block:
    written: Block = {"name": _checked_name(tool.name), "input_schema": as_parameters(tool.parameters)}
    if tool.description:
        written["description"] = tool.description
    # Structured outputs came with generation 4.5; a model before it refuses the member.
    if tool.is_strict and _generation(model) >= (4, 5):
        written |= {"strict": True, "input_schema": enforceable(as_parameters(tool.parameters))}
    return _marked(written, tool.cache)


def _tool_choice(conversation: Conversation) -> Block | None:
    choice = conversation.tool_choice
    if not conversation.tools or (choice.mode is None and choice.one_at_a_time is None):
        return None
    match choice.mode:
        case "none":
            return {"type": "none"}
        case "required":
            written: Block = {"type": "any"}
        case "named":
            written = {"type": "tool", "name": _checked_name(choice.name or "")}
        case "auto" | None:
            written = {"type": "auto"}
    if choice.one_at_a_time is not None:
        written["disable_parallel_tool_use"] = choice.one_at_a_time
    return written


def _output_config(conversation: Conversation, effort: str | None) -> Block:
    config: Block = {}
    if effort is not None:
        config["effort"] = effort
    if conversation.output.kind == "schema":
        config["format"] = {"type": "json_schema", "schema": enforceable(conversation.output.schema or {})}
    return config


def _stop_sequences(stop: Sequence[str]) -> list[str]:
    if not all(sequence.strip() for sequence in stop):
        raise InvalidRequest(
            "The provider that serves this model takes no stop sequences of white space alone.", param="stop"
        )
    return list(stop)


def _metadata(user: str | None) -> Block | None:
    # A tag for abuse reports: leaving out one that is too long changes no answer.
    return {"user_id": user} if user and len(user) <= _LONGEST_USER else None


# Thinking


@dataclass(frozen=True, slots=True)
class _Thinking:
    """What to write for it: the member, the effort beside it, and how many tokens the budget adds to the default."""

    thinking: Block | None = None
    effort: str | None = None
    budget: int = 0


def _thinking(conversation: Conversation, model: str) -> _Thinking:
    effort = effort_of(conversation.reasoning)
    generation = _generation(model)
    if effort is None or generation < (3, 7):
        return _Thinking()
    if effort == "none":
        # Before 4.6 no model thinks unasked.
        return _Thinking({"type": "disabled"}) if generation >= (4, 6) else _Thinking()
    if not _may_think(conversation):
        return _Thinking()
    if generation < (4, 6):
        return _with_budget(conversation)
    thinking: Block = {"type": "adaptive"}
    if conversation.reasoning.is_shown is not None:
        thinking["display"] = "summarized" if conversation.reasoning.is_shown else "omitted"
    return _Thinking(thinking, "low" if effort == "minimal" else effort)


def _may_think(conversation: Conversation) -> bool:
    sampling = conversation.sampling
    return (
        sampling.temperature in (None, 1)
        and sampling.top_k is None
        and (sampling.top_p is None or sampling.top_p >= 0.95)
        and not (conversation.tools and conversation.tool_choice.mode in ("required", "named"))
        and not (conversation.turns and conversation.turns[-1].role == "assistant")
    )


def _with_budget(conversation: Conversation) -> _Thinking:
    budget = max(budget_of(conversation.reasoning) or 0, _LEAST_BUDGET)
    most = conversation.sampling.max_tokens
    if most is not None:
        budget = min(budget, most // 2)
    if budget < _LEAST_BUDGET or _is_amid_calls_without_thinking(conversation):
        return _Thinking()
    return _Thinking({"type": "enabled", "budget_tokens": budget}, budget=budget)


def _is_amid_calls_without_thinking(conversation: Conversation) -> bool:
    """Whether the last turn answers calls of a turn that does not begin with thinking Anthropic has signed."""
    turns = conversation.turns
    if not turns or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return False
    calling = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    return calling is None or not any(isinstance(part, Thinking) and _signed(part) for part in calling.parts)
