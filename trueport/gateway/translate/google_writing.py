"""Requests as Google wants them.

Source: https://ai.google.dev/api/generate-content. Decisions, where the neutral form and this API differ:

- Schemas go out as `parametersJsonSchema` and `responseJsonSchema`. Google's older `parameters` and `responseSchema`
  are a subset of OpenAPI without references, constants or several types, into which most schemas do not fit.
- Calls and their responses carry ids, which the API takes and which tell parallel calls of one function apart.
- A tool's text is the `response` itself where it is a JSON object, and `{"result": text}` otherwise; an error is
  `{"error": text}`. Images a tool gave stand beside its response, where models older than Gemini 3 see them too.
- Media at an http(s) address go as `fileData`, which Google fetches itself; its type is told from its ending.
- A call that comes back without Google's signature (no other format can carry one) bears the text with which Google
  lets such a call of Gemini 3 through; models before it want none. A signature of Google's goes back as it came.
- An effort becomes a thinking level for Gemini 3 and a budget for models before. What cannot be turned off there
  is turned down as far as it goes.
- Log probabilities are not asked for: answers have no place for them.
"""

import mimetypes
import re
from collections.abc import Iterator
from typing import Final

from trueport.gateway.translate.calls import json_object
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
from trueport.gateway.translate.thinking import budget_of, effort_of
from trueport.gateway.translate.turns import OPENING, Block, alternating, with_something_to_answer
from trueport.kit.errors import InvalidRequest

# https://ai.google.dev/gemini-api/docs/thought-signatures, on calls that Gemini itself did not make.
UNSIGNED: Final = "skip_thought_signature_validator"

_TOOL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_WITHOUT_SIGNATURES: Final = re.compile(r"gemini-[12]\b|gemini-(pro|ultra)|gemma|learnlm")
# The lowest budget of a model that cannot stop thinking: Gemini 2.5 Pro.
_LOWEST_BUDGET: Final = 128
_FALLBACK_TYPE: Final = {"image": "image/jpeg", "audio": "audio/mpeg", "document": "application/pdf"}


def body(conversation: Conversation, model: str) -> dict[str, object]:
    """The JSON body that asks `model`, whose name stands in the path. Raises InvalidRequest for names and values
    Google does not take.
    """
    conversation = with_something_to_answer(conversation)
    optional = {
        "systemInstruction": _system(conversation),
        "tools": _tools(conversation.tools),
        "toolConfig": _tool_config(conversation),
        "generationConfig": _config(conversation, model),
    }
    contents = {"contents": _contents(conversation, model)}
    return contents | {name: value for name, value in optional.items() if value not in (None, [], {})}


def _system(conversation: Conversation) -> Block | None:
    parts = [{"text": text.text} for text in conversation.system if text.text]
    return {"parts": parts} if parts else None


# Contents


def _contents(conversation: Conversation, model: str) -> list[Block]:
    stand_in = None if _WITHOUT_SIGNATURES.search(model) else UNSIGNED
    turns = ((turn.role, list(_parts(turn, stand_in))) for turn in conversation.turns)
    merged = alternating(turns, is_result=lambda part: "functionResponse" in part, opening={"text": OPENING})
    return [{"role": "user" if role == "user" else "model", "parts": parts} for role, parts in merged]


def _parts(turn: Turn, stand_in: str | None) -> Iterator[Block]:
    is_first_call = True
    for part in turn.parts:
        if isinstance(part, ToolCall):
            # Of parallel calls, only the first is signed.
            yield _call(part, stand_in if is_first_call else None)
            is_first_call = False
        else:
            yield from _part(part, turn.role)


def _part(part: Part, role: str) -> Iterator[Block]:
    match part:
        case Text() | Refusal():
            if part.text:
                yield {"text": part.text}
        case Media():
            if role == "assistant":
                raise NotTranslatable("media_output", "google", "messages")
            yield _media(part)
        case ToolResult():
            yield _result(part)
            yield from (_media(media) for media in part.parts if isinstance(media, Media))
        case Thinking():
            if part.signed_by == "google" and part.signature is not None:
                yield {"text": part.text, "thought": True, "thoughtSignature": part.signature}


def _media(media: Media) -> Block:
    if media.data is not None:
        return {"inlineData": {"mimeType": media.media_type or _FALLBACK_TYPE[media.kind], "data": media.data}}
    uri = media.reference if media.reference is not None else media.url or ""
    guessed = mimetypes.guess_type(uri.partition("?")[0])[0]
    return {"fileData": {"mimeType": media.media_type or guessed or _FALLBACK_TYPE[media.kind], "fileUri": uri}}


def _call(call: ToolCall, stand_in: str | None) -> Block:
    given = json_object(call.arguments) if call.arguments.strip() else {}
    if given is None:
        raise InvalidRequest(f"The arguments of an earlier call of {call.name} are not an object.", param="messages")
    part: Block = {"functionCall": {"id": call.id, "name": _checked_name(call.name), "args": given}}
    signature = call.signature or stand_in
    return part if signature is None else part | {"thoughtSignature": signature}


def _result(result: ToolResult) -> Block:
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    return {
        "functionResponse": {
            "id": result.call_id,
            "name": _checked_name(result.name),
            "response": {"error": text} if result.is_error else _response(text),
        }
    }


def _response(text: str) -> dict[str, object]:
    found = json_object(text)
    if found is None:
        return {"result": text}
    if len(found) == 1 and all(
        name in ("result", "output", "error") and isinstance(value, str) for name, value in found.items()
    ):
        return {"result": text}  # would be taken for the text in it
    return found


# Tools and settings


def _checked_name(name: str) -> str:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            "The provider that serves this model takes tool names of 1 to 64 letters, digits, _, -, . and : "
            "that begin with a letter or _.",
            param="tools",
        )
    return name


def _tools(tools: tuple[Tool, ...]) -> list[Block]:
    declared = []
    for tool in tools:
        function: Block = {"name": _checked_name(tool.name)}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters:
            function["parametersJsonSchema"] = dict(tool.parameters)
        declared.append(function)
    return [{"functionDeclarations": declared}] if declared else []


def _tool_config(conversation: Conversation) -> Block | None:
    choice = conversation.tool_choice
    if not conversation.tools:
        return None
    match choice.mode:
        case None:
            return None
        case "auto":
            calling: Block = {"mode": "AUTO"}
        case "none":
            calling = {"mode": "NONE"}
        case "required":
            calling = {"mode": "ANY"}
        case "named":
            calling = {"mode": "ANY", "allowedFunctionNames": [_checked_name(choice.name or "")]}
    return {"functionCallingConfig": calling}


def _config(conversation: Conversation, model: str) -> Block:
    sampling, output = conversation.sampling, conversation.output
    config = {
        "maxOutputTokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "stopSequences": list(sampling.stop) or None,
        "seed": sampling.seed,
        "frequencyPenalty": sampling.frequency_penalty,
        "presencePenalty": sampling.presence_penalty,
        "candidateCount": sampling.candidates,
        "responseMimeType": None if output.kind == "text" else "application/json",
        "responseJsonSchema": dict(output.schema or {}) if output.kind == "schema" else None,
        "thinkingConfig": _thinking_config(conversation, model),
    }
    return {name: value for name, value in config.items() if value is not None}


def _thinking_config(conversation: Conversation, model: str) -> Block | None:
    reasoning = conversation.reasoning
    effort, budget = effort_of(reasoning), budget_of(reasoning)
    config: Block = {}
    if reasoning.budget_tokens is None and effort is not None and not _WITHOUT_SIGNATURES.search(model):
        config["thinkingLevel"] = _level(effort, model)
    elif budget is not None:
        config["thinkingBudget"] = max(budget, _LOWEST_BUDGET) if "pro" in model else budget
    if reasoning.is_shown is not None:
        config["includeThoughts"] = reasoning.is_shown
    return config or None


def _level(effort: str, model: str) -> str:
    """Gemini 3 cannot stop thinking, and its Pro models do not go below low."""
    if effort in ("none", "minimal"):
        return "low" if "pro" in model else "minimal"
    return effort if effort in ("low", "medium", "high") else "medium"
