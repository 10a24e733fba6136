"""Answers and errors of OpenAI's chat completions, read from providers and written for clients.

Thoughts are read from `reasoning_content` or `reasoning` and written as `reasoning_content`: OpenAI has no member for
them, but the servers that copy its API do, and its SDKs pass unknown members on.

Source: https://platform.openai.com/docs/api-reference/chat/object
"""

import time
from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from trueport.gateway.call import Usage
from trueport.gateway.translate.ids import answered_call_id
from trueport.gateway.translate.model import (
    Answer,
    Candidate,
    Failure,
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
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.usage import as_openai_chat, openai_usage
from trueport.kit.ids import new_id

_FINISH: Final[Mapping[object, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Not OpenAI's own words, but those of servers that copy its API.
    "max_tokens": "length",
    "model_length": "length",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "safety": "content_filter",
    "error": "error",
    "abort": "error",
}
_WRITTEN_FINISH: Final[Mapping[FinishReason, str]] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",  # unless the refusal's words are there, which OpenAI ends with "stop"
    "pause": "stop",
    # The form has no reason for an answer that went wrong; this one at least does not pass for whole.
    "error": "content_filter",
}
_STATUS_OF: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "server_error": 500,
    "overloaded_error": 529,
}
_TYPE_OF: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
_json: Final = msgspec.json.Decoder()


def unix_now() -> int:
    """The Unix time in seconds."""
    return int(time.time())


def new_number() -> str:
    """The unique part of an id, for answers whose provider gave none."""
    return new_id("x")[2:]


def text_or_none(value: object) -> str | None:
    """A string with something in it."""
    return value if isinstance(value, str) and value else None


def whole_or_zero(value: object) -> int:
    """A whole number that is neither negative nor absurd."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def objects_in(value: object) -> list[dict[str, object]]:
    """The objects in a list, however odd the rest of it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def object_or_empty(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


# Whole answers


def read_answer(body: Mapping[str, object]) -> Answer:
    """A `chat.completion` object. Raises UnreadableAnswer when it has no choices with messages."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise UnreadableAnswer("The provider's answer has no choices.")
    answer_id = text_or_none(body.get("id")) or ""
    return Answer(
        id=answer_id,
        model=text_or_none(body.get("model")) or "",
        candidates=tuple(_read_choice(answer_id, index, choice) for index, choice in enumerate(choices)),
        usage=read_usage(body),
        created=whole_or_zero(body.get("created")),
    )


def read_usage(body: Mapping[str, object]) -> Usage | None:
    """What an answer or a chunk says was used."""
    return openai_usage(body.get("usage"), body.get("service_tier")).usage


def write_usage(usage: Usage) -> dict[str, object]:
    """The members that tell what an answer used; the tier only when it is one of OpenAI's."""
    tier = {"service_tier": usage.service_tier} if usage.service_tier in _TIERS else {}
    return {**tier, "usage": as_openai_chat(usage)}


def _read_choice(answer_id: str, index: int, choice: object) -> Candidate:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UnreadableAnswer("The provider's answer has a choice without a message.")
    parts = tuple(_message_parts(answer_id, index, message))
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    has_refusal = any(isinstance(part, Refusal) for part in parts)
    return Candidate(parts, read_finish(choice.get("finish_reason"), has_calls=has_calls, has_refusal=has_refusal))


def _message_parts(answer_id: str, candidate: int, message: Mapping[str, object]) -> list[Part]:
    parts: list[Part] = []
    thought = text_or_none(message.get("reasoning_content")) or text_or_none(message.get("reasoning"))
    if thought is not None:
        parts.append(Thinking(thought))
    content = message.get("content")
    if isinstance(content, str):
        parts += [Text(content)] if content else []
    else:
        # Mistral's reasoning models answer in parts.
        parts += [part for item in objects_in(content) for part in content_part(item)]
    refusal = text_or_none(message.get("refusal"))
    if refusal is not None:
        parts.append(Refusal(refusal))
    calls = objects_in(message.get("tool_calls"))
    if isinstance(message.get("function_call"), dict):
        calls.append({"function": message["function_call"]})
    for number, call in enumerate(calls):
        function = object_or_empty(call.get("function"))
        name = text_or_none(function.get("name")) or ""
        call_id = text_or_none(call.get("id")) or answered_call_id(answer_id, candidate, number, name)
        parts.append(ToolCall(call_id, name, arguments_of(function.get("arguments")), signature_of(call)))
    return parts


def content_part(item: Mapping[str, object]) -> list[Text | Thinking]:
    """What a part of an answer's content says; nothing when it is of a kind nobody knows."""
    text = text_or_none(item.get("text"))
    if item.get("type") == "thinking":
        thoughts = [text_or_none(thought.get("text")) or "" for thought in objects_in(item.get("thinking"))]
        return [Thinking("".join(thoughts))]
    return [Text(text)] if text is not None else []


def arguments_of(value: object) -> str:
    """A call's arguments as text; some servers send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def signature_of(call: Mapping[str, object]) -> str | None:
    """Google's seal on a tool call, where its own OpenAI-compatible API puts it."""
    google = object_or_empty(object_or_empty(call.get("extra_content")).get("google"))
    return text_or_none(google.get("thought_signature"))


def read_finish(said: object, *, has_calls: bool, has_refusal: bool) -> FinishReason:
    """Why an answer ended; a word nobody knows counts as "stop"."""
    finish = _FINISH.get(said, "stop") if isinstance(said, str) else "stop"
    if finish == "stop" and has_calls:
        # Some servers end with "stop" all the same.
        return "tool_calls"
    return "refusal" if finish == "stop" and has_refusal else finish


def write_answer(answer: Answer, shape: Shape, created: int, number: str) -> dict[str, object]:
    """A `chat.completion` object, made at `created`; `number` is the answer's id or a fresh one."""
    candidates = answer.candidates
    if not candidates and answer.blocked is not None:
        candidates = (Candidate((Refusal(f"The provider refused the prompt: {answer.blocked}."),), "content_filter"),)
    body: dict[str, object] = {
        "id": completion_id(number, "chatcmpl-"),
        "object": "chat.completion",
        "created": created,
        "model": answer.model or shape.model,
        "choices": [_write_choice(index, candidate, shape) for index, candidate in enumerate(candidates)],
    }
    return body if answer.usage is None else body | write_usage(answer.usage)


def completion_id(number: str, prefix: str) -> str:
    """The provider's id when it looks like one of this form, else with the form's prefix before it."""
    return number if number.startswith(prefix) else prefix + number


def _write_choice(index: int, candidate: Candidate, shape: Shape) -> JsonObject:
    texts, refusals, thoughts, calls, images = [], [], [], [], []
    for part in candidate.parts:
        match part:
            case Text():
                texts.append(part.text)
            case Refusal():
                refusals.append(part.text)
            case Thinking():
                thoughts.append(part.text)
            case ToolCall():
                calls.append(part)
            case Media():
                images.append(part)
            case ToolResult():
                pass  # no model says one
            case _:
                assert_never(part)
    message: dict[str, object] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
        "annotations": [],
    }
    finish = written_finish(candidate.finish, has_refusal=bool(refusals))
    if calls and "functions" in shape.echo:
        message["function_call"] = _function(calls[0])
        finish = "function_call" if finish == "tool_calls" else finish
    elif calls:
        message["tool_calls"] = [_write_call(call) for call in calls]
    if any(thoughts) and shape.shows_thinking:
        message["reasoning_content"] = "".join(thoughts)
    if images:
        # Where OpenRouter puts the pictures of models that draw.
        message["images"] = [_write_image(image) for image in images if image.data or image.url]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


def written_finish(finish: FinishReason, *, has_refusal: bool) -> str:
    """The form's word for why an answer ended."""
    return "stop" if finish == "refusal" and has_refusal else _WRITTEN_FINISH[finish]


def _write_call(call: ToolCall) -> JsonObject:
    written = {"id": call.id, "type": "function", "function": _function(call)}
    return written | seal_of(call.signature)


def _function(call: ToolCall) -> JsonObject:
    # Clients parse the arguments as JSON; other providers say nothing for a call without any.
    return {"name": call.name, "arguments": call.arguments or "{}"}


def seal_of(signature: str | None) -> dict[str, object]:
    """The member that holds it."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature is not None else {}


def _write_image(image: Media) -> JsonObject:
    address = image.url if image.data is None else f"data:{image.media_type or 'image/png'};base64,{image.data}"
    return {"type": "image_url", "image_url": {"url": address}}


# Errors


def read_failure(status: int, body: bytes) -> Failure:
    """An error answer: `error` as an object or a sentence, or the bare members that other servers send."""
    try:
        value = _json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if isinstance(value, list) and value:
        # Google's OpenAI-compatible API wraps its errors in a list.
        value = value[0]
    return _failure(status, value.get("error", value)) if isinstance(value, dict) else _failure(status, None)


def _failure(status: int, error: object) -> Failure:
    said = error if isinstance(error, dict) else {"message": error}
    message = next((text for name in ("message", "detail") if (text := text_or_none(said.get(name)))), None)
    code = said.get("code")
    return Failure(
        status=status,
        message=message or f"The provider answered with status {status}.",
        kind=text_or_none(said.get("type")),
        code=str(code) if isinstance(code, str | int) and code != "" else None,
    )


def failure_in_stream(error: object) -> Failure:
    """An error inside a stream, its status taken from what it says of itself."""
    said = object_or_empty(error)
    numbers = (said.get("status"), said.get("code"), _STATUS_OF.get(str(said.get("type"))))
    status = next((number for number in numbers if isinstance(number, int) and 400 <= number <= 599), 500)
    return _failure(status, error)


def error_object(failure: Failure) -> dict[str, object]:
    """The `error` member of an error."""
    kind = _TYPE_OF.get(failure.status, "server_error" if failure.status >= 500 else "invalid_request_error")
    return {"message": failure.message, "type": kind, "param": None, "code": failure.code or failure.kind}
