"""What providers are asked in chat completions.

Cache marks and thinking are left out. Tool messages take only text, so images and documents that a tool returned go
into a user message behind them.
"""

import base64
from collections.abc import Iterator
from typing import Final, assert_never

from trueport.gateway.translate.model import (
    Conversation,
    JsonObject,
    Media,
    OutputForm,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trueport.gateway.translate.rules import NotTranslatable
from trueport.gateway.translate.thinking import effort_of

# What only OpenAI's API has, and is passed on to providers that speak it.
_EXTRAS: Final = ("logit_bias", "prediction", "service_tier", "verbosity")
_WRITTEN_IMAGES: Final = "(See the next message for what else this tool returned.)"


def write_conversation(conversation: Conversation, model: str) -> dict[str, object]:
    """The body of the request as a provider gets it. Raises NotTranslatable for media no message can hold."""
    drawn, extras = conversation.sampling, conversation.extras
    body: dict[str, object] = {
        "model": model,
        "messages": list(_write_messages(conversation)),
        "max_completion_tokens": drawn.max_tokens,
        "temperature": drawn.temperature,
        "top_p": drawn.top_p,
        "stop": list(drawn.stop) or None,
        "seed": drawn.seed,
        "frequency_penalty": drawn.frequency_penalty,
        "presence_penalty": drawn.presence_penalty,
        "n": drawn.candidates,
        "logprobs": drawn.logprobs,
        "top_logprobs": drawn.top_logprobs,
        "reasoning_effort": _effort(conversation.reasoning),
        "response_format": _write_output(conversation.output),
        "user": conversation.user,
        **{name: extras.get(name) for name in _EXTRAS},
    }
    if conversation.tools:
        # Without tools OpenAI refuses both of the others.
        choice = conversation.tool_choice
        body["tools"] = [_write_tool(tool) for tool in conversation.tools]
        body["tool_choice"] = _write_tool_choice(choice)
        body["parallel_tool_calls"] = None if choice.one_at_a_time is None else not choice.one_at_a_time
    if conversation.streams:
        # Always with usage: a stream is metered by it, whether or not the client gets to see it.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in body.items() if value is not None}


def _write_messages(conversation: Conversation) -> Iterator[JsonObject]:
    if conversation.system:
        yield {"role": "system", "content": _write_texts(conversation.system)}
    for turn in conversation.turns:
        if turn.role == "assistant":
            yield from _write_assistant(turn)
        elif turn.is_instruction:
            yield {"role": "system", "content": _write_texts([part for part in turn.parts if isinstance(part, Text)])}
        else:
            yield from _write_user(turn)


def _write_user(turn: Turn) -> Iterator[JsonObject]:
    shown: list[Text | Media] = []
    said: list[Text | Media] = []
    has_results = False
    for part in turn.parts:
        match part:
            case ToolResult():
                has_results = True
                media = [one for one in part.parts if isinstance(one, Media)]
                shown += media
                yield {
                    "role": "tool",
                    "tool_call_id": part.call_id,
                    "content": _write_result(part, has_media=bool(media)),
                }
            case Text() | Media():
                said.append(part)
            case Refusal():
                said.append(Text(part.text))
            case ToolCall() | Thinking():
                pass  # nothing a user says
            case _:
                assert_never(part)
    if said or shown or not has_results:
        message: dict[str, object] = {"role": "user", "content": _write_content([*shown, *said])}
        yield message | ({"name": turn.name} if turn.name else {})


def _write_result(result: ToolResult, *, has_media: bool) -> str:
    """A tool message's text. The form has no flag for a failed call, so the text says it."""
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    if result.is_error:
        texts.insert(0, "Error:")
    if has_media:
        texts.append(_WRITTEN_IMAGES)
    return "\n".join(texts)


def _write_assistant(turn: Turn) -> Iterator[JsonObject]:
    texts, calls, refusals = [], [], []
    for part in turn.parts:
        match part:
            case Text():
                texts.append(part)
            case Refusal():
                refusals.append(part.text)
            case ToolCall():
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            case Media():
                raise NotTranslatable("an image in an assistant's turn", "openai_chat", None)
            case Thinking() | ToolResult():
                pass  # thoughts stay with the provider that had them; results are the user's
            case _:
                assert_never(part)
    if turn.parts and not (texts or calls or refusals):
        return
    message: dict[str, object] = {"role": "assistant", "content": None}
    if texts or not (calls or refusals):
        message["content"] = _write_texts(texts)
    if refusals:
        message["refusal"] = "".join(refusals)
    if calls:
        message["tool_calls"] = calls
    yield message | ({"name": turn.name} if turn.name else {})


def _write_texts(texts: "tuple[Text, ...] | list[Text]") -> object:
    """One text as a string, which every server takes; several as a list, so that they stay apart."""
    if len(texts) > 1:
        return [{"type": "text", "text": text.text} for text in texts]
    return texts[0].text if texts else ""


def _write_content(parts: list[Text | Media]) -> object:
    texts = [part for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return _write_texts(texts)
    return [{"type": "text", "text": part.text} if isinstance(part, Text) else _write_media(part) for part in parts]


def _write_media(media: Media) -> JsonObject:
    match media.kind:
        case "image":
            address = media.url or media.reference
            if media.data is not None:
                address = f"data:{media.media_type or 'image/png'};base64,{media.data}"
            if address is None:
                raise NotTranslatable("an image without data or address", "openai_chat", None)
            return {
                "type": "image_url",
                "image_url": {"url": address} | ({"detail": media.detail} if media.detail else {}),
            }
        case "audio":
            form = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}.get(
                media.media_type or ""
            )
            if media.data is None or form is None:
                raise NotTranslatable("a sound that is not inline wav or mp3", "openai_chat", None)
            return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
        case "document":
            return _write_document(media)
        case _:
            assert_never(media.kind)


def _write_document(media: Media) -> JsonObject:
    named = {"filename": media.name} if media.name else {}
    if media.data is not None and (media.media_type or "").startswith("text/"):
        # Servers take PDFs as files, and text only as text.
        text = base64.b64decode(media.data).decode("utf-8", "replace")
        return {"type": "text", "text": f"{media.name}:\n{text}" if media.name else text}
    if media.data is not None:
        media_type = media.media_type or "application/pdf"
        file = {"filename": "document.pdf", "file_data": f"data:{media_type};base64,{media.data}"} | named
        return {"type": "file", "file": file}
    if media.reference is not None:
        return {"type": "file", "file": {"file_id": media.reference} | named}
    raise NotTranslatable("a document at an address", "openai_chat", None)


def _write_tool(tool: Tool) -> JsonObject:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.is_strict,
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _write_tool_choice(choice: ToolChoice) -> object:
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _write_output(output: OutputForm) -> JsonObject | None:
    match output.kind:
        case "text":
            return None
        case "json":
            return {"type": "json_object"}
        case "schema":
            form = {
                "name": output.name or "answer",  # which the form requires and others do not have
                "schema": output.schema,
                "strict": output.is_strict,
                "description": output.description,
            }
            return {
                "type": "json_schema",
                "json_schema": {name: value for name, value in form.items() if value is not None},
            }
        case _:
            assert_never(output.kind)


def _effort(reasoning: Reasoning) -> str | None:
    """The effort as it was said, or the one for a budget of tokens. A budget of 0 is left out: "none" would make
    models without thinking refuse the request."""
    if reasoning.effort is not None:
        return reasoning.effort
    return effort_of(reasoning) if reasoning.budget_tokens else None
