"""Answers of OpenAI's Responses API, written for clients: a list of items, the model's reasoning, messages and calls.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from trueport.gateway.call import Usage
from trueport.gateway.translate.model import (
    Answer,
    Candidate,
    FinishReason,
    JsonObject,
    Media,
    Part,
    Refusal,
    Shape,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from trueport.gateway.translate.openai_chat_answers import completion_id
from trueport.gateway.translate.openai_seal import SEALED_REASONING, sealed
from trueport.gateway.usage import as_openai_responses

Status = Literal["in_progress", "completed", "incomplete", "failed"]

# Longer ids than 64 characters are refused when an item is sent back.
_LONGEST_ID: Final = 48
# What an answer says of a request that does not say it itself; OpenAI's own defaults, except that nothing is stored.
_DEFAULTS: Final[JsonObject] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_TOOL_DEFAULTS: Final = {"description": None, "parameters": None, "strict": None}
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


@dataclass(frozen=True, slots=True)
class Head:
    """What every form of one response repeats."""

    id: str
    created: int
    model: str
    shape: Shape

    def response(
        self,
        status: Status,
        output: Iterable[JsonObject],
        usage: Usage | None,
        *,
        reason: str | None = None,
        error: JsonObject | None = None,
    ) -> dict[str, object]:
        """The `response` object. `reason` is why an answer is incomplete."""
        echo = {name: value for name, value in self.shape.echo.items() if name in _DEFAULTS}
        for name, value in echo.items():
            default = _DEFAULTS[name]
            if isinstance(value, dict) and isinstance(default, dict):
                echo[name] = {**default, **value}
            elif name == "tools" and isinstance(value, list):
                echo[name] = [_echoed_tool(tool) for tool in value]
        tier = None if usage is None else usage.service_tier
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": self.model,
            "output": list(output),
            "service_tier": tier if tier in _TIERS else None,
            "usage": None if usage is None else as_openai_responses(usage),
            **_DEFAULTS,
            **echo,
        }

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self.id.removeprefix('resp_')[-_LONGEST_ID:]}_{index}"

    @property
    def seals_reasoning(self) -> bool:
        included = self.shape.echo.get("include")
        return isinstance(included, list) and SEALED_REASONING in included


def _echoed_tool(tool: object) -> object:
    is_function = isinstance(tool, dict) and tool.get("type") == "function"
    return {**_TOOL_DEFAULTS, **tool} if is_function and isinstance(tool, dict) else tool


def ending(finish: FinishReason, *, has_refusal: bool) -> tuple[Status, str | None]:
    """A response's status, and why it is incomplete."""
    match finish:
        case "stop" | "stop_sequence" | "tool_calls" | "pause":
            return "completed", None
        case "length":
            return "incomplete", "max_output_tokens"
        case "content_filter":
            return "incomplete", "content_filter"
        case "refusal":
            # The model's own words for it make a whole answer; without them it was taken away.
            return ("completed", None) if has_refusal else ("incomplete", "content_filter")
        case "error":
            return "failed", None
        case _:
            assert_never(finish)


BROKEN: Final = {"code": "server_error", "message": "The provider ended the answer without a result."}


# Whole answers


def write_answer(answer: Answer, shape: Shape, created: int, number: str) -> dict[str, object]:
    """A `response` object, made at `created`; `number` is the answer's id or a fresh one.

    One candidate is all that this form has.
    """
    head = Head(completion_id(number, "resp_"), created, answer.model or shape.model, shape)
    candidate = answer.candidates[0] if answer.candidates else Candidate((), "stop")
    if not answer.candidates and answer.blocked is not None:
        candidate = Candidate((Refusal(f"The provider refused the prompt: {answer.blocked}."),), "content_filter")
    has_refusal = any(isinstance(part, Refusal) for part in candidate.parts)
    status, reason = ending(candidate.finish, has_refusal=has_refusal)
    output = _write_items(candidate.parts, head)
    if status == "incomplete" and output and "status" in output[-1]:
        output[-1]["status"] = "incomplete"
    return head.response(status, output, answer.usage, reason=reason, error=BROKEN if status == "failed" else None)


def _write_items(parts: Iterable[Part], head: Head) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    content: list[JsonObject] | None = None
    for part in parts:
        if isinstance(part, Text | Refusal):
            if content is None:
                content = []
                items.append(message_item(head.item_id("msg", len(items)), "completed", content))
            content.append(text_part(part.text, is_refusal=isinstance(part, Refusal)))
            continue
        content = None
        match part:
            case Thinking():
                item = _reasoning_item(
                    head, len(items), part.text, sealed(part.signed_by, part.signature, part.redacted)
                )
                items += [] if item is None else [item]
            case ToolCall():
                items.append(
                    call_item(head.item_id("fc", len(items)), part.id, part.name, part.arguments or "{}", "completed")
                )
            case Media():
                if part.data is not None:
                    items.append(
                        {
                            "id": head.item_id("ig", len(items)),
                            "type": "image_generation_call",
                            "status": "completed",
                            "result": part.data,
                        }
                    )
            case ToolResult():
                pass  # no model says one
            case _:
                assert_never(part)
    return items


def message_item(item_id: str, status: Status, content: list[JsonObject]) -> dict[str, object]:
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str, *, is_refusal: bool) -> JsonObject:
    if is_refusal:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning_item(head: Head, index: int, text: str, seal: str | None) -> dict[str, object] | None:
    """Reasoning as a summary, for clients that asked for one; None when nothing of it may be told."""
    seal = seal if head.seals_reasoning else None
    text = text if head.shape.shows_thinking else ""
    if not text and seal is None:
        return None
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, object] = {"id": head.item_id("rs", index), "type": "reasoning", "summary": summary}
    return item if seal is None else item | {"encrypted_content": seal}


def call_item(item_id: str, call_id: str, name: str, arguments: str, status: Status) -> dict[str, object]:
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
