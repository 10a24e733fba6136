"""Chat completions: whole and streamed."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

import msgspec

from trueport.simulator.answers import (
    CREATED,
    EXTRA_FIELDS,
    FINGERPRINT,
    Choice,
    Meter,
    Wanted,
    compose,
    counted,
)
from trueport.simulator.errors import Refused, error_reply
from trueport.simulator.reply import Event, Reply
from trueport.simulator.requests import ChatRequest
from trueport.simulator.script import Script, ToolCall
from trueport.simulator.streams import ChunkStart, stream_reply
from trueport.simulator.text import digest_of, json_answer
from trueport.simulator.usage import Usage, count_tokens, pieces, reported, usage_json

_encode: Final = msgspec.json.encode

# OpenAI adds these to a chat prompt: per message, and for the start of the answer.
_TOKENS_PER_MESSAGE: Final = 3
_TOKENS_PER_ANSWER: Final = 3


def check(request: ChatRequest) -> None:
    """Raise Refused for what the types of a request cannot say."""
    if request.stream_options is not None and not request.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(error_reply(400, message, param="stream_options"))
    for number, message_ in enumerate(request.messages):
        if message_.content is None and message_.role != "assistant":
            param = f"messages.[{number}].content"
            raise Refused(error_reply(400, f"Invalid value for '{param}': expected text, got null.", param=param))


def answer(request: ChatRequest, script: Script, body_digest: str) -> Reply:
    """The reply to a checked request; `body_digest` is hexadecimal and decides the ids."""
    texts = list(request.texts())
    prompt = "\n".join(texts)
    digest = digest_of(prompt)
    choices = compose(script, _wanted(request, script, digest), digest)
    prompt_tokens = count_tokens(prompt) + _TOKENS_PER_MESSAGE * len(request.messages) + _TOKENS_PER_ANSWER
    usage = counted(prompt_tokens, choices, script)
    if request.stream:
        return _streamed(request, choices, usage, script, body_digest)
    return _whole(request, choices, usage, script, body_digest)


def _wanted(request: ChatRequest, script: Script, digest: bytes) -> Wanted:
    form = request.response_format
    return Wanted(
        choices=request.n or 1,
        limit=request.limit(),
        tools=_tools(request, script, digest) if request.tools else (),
        is_json=form is not None and form.type != "text",
        schema=form.json_schema.schema if form is not None and form.json_schema is not None else None,
    )


def _tools(request: ChatRequest, script: Script, digest: bytes) -> tuple[ToolCall, ...]:
    """The script's calls; without any, one of the function that the request insists on."""
    if not request.may_call_tools():
        return ()
    forced = None if script.tools else request.forced_function()
    if forced is None:
        return script.tools
    return (ToolCall(forced.name, json_answer(digest, 0, forced.parameters or {"type": "object"})),)


def _whole(request: ChatRequest, choices: list[Choice], usage: Usage, script: Script, body_digest: str) -> Reply:
    body = _encode(
        {
            "id": f"chatcmpl-{body_digest[:24]}",
            "object": "chat.completion",
            "created": CREATED,
            "model": request.model,
            "choices": [
                {
                    "index": index,
                    "message": _message(choice, index, body_digest),
                    "logprobs": None,
                    "finish_reason": choice.finish,
                }
                for index, choice in enumerate(choices)
            ],
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
    )
    return Reply(body=with_usage(body, usage, script), usage=usage)


def with_usage(body: bytes, usage: Usage, script: Script) -> bytes:
    """The JSON object `body` with its usage as the script wants it told, and the extra members it wants."""
    if not script.faults and not script.extra:
        return b'%b,"usage":%b}' % (body[:-1], usage_json(usage))
    told = reported(usage, script.usage_shape)
    more = EXTRA_FIELDS if "fields" in script.extra else b""
    return b"%b%b%b}" % (body[:-1], b"".join(b',"usage":%b' % one for one in told), more)


def _message(choice: Choice, index: int, body_digest: str) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if choice.tools else choice.text,
        "refusal": None,
        "annotations": [],
    }
    if choice.tools:
        message["tool_calls"] = [
            {"id": _call_id(body_digest, index, number), "type": "function", "function": _function(tool)}
            for number, tool in enumerate(choice.tools)
        ]
    return message


def _function(tool: ToolCall) -> dict[str, object]:
    return {"name": tool.name, "arguments": tool.arguments}


def _call_id(body_digest: str, choice: int, number: int) -> str:
    return f"call_{body_digest[:20]}{choice}{number}"


def _streamed(request: ChatRequest, choices: list[Choice], usage: Usage, script: Script, body_digest: str) -> Reply:
    start = ChunkStart(
        b'{"id":"chatcmpl-%b","object":"chat.completion.chunk","created":%d,"model":%b,'
        b'"service_tier":"default","system_fingerprint":"%b",'
        % (body_digest[:24].encode(), CREATED, _encode(request.model), FINGERPRINT.encode()),
        with_usage=bool(request.stream_options and request.stream_options.include_usage),
        with_fields="fields" in script.extra,
    )
    return stream_reply(start, lambda start, meter: _chunks(start, meter, choices, body_digest), usage, script)


def _chunks(start: ChunkStart, meter: Meter, choices: list[Choice], body_digest: str) -> Iterator[Event]:
    """The roles, then the choices' deltas taking turns, then the finish reasons."""
    for index, choice in enumerate(choices):
        opening = b'{"role":"assistant","content":%b,"refusal":null}' % (b"null" if choice.tools else b'""')
        yield start.event(_delta(index, opening), None, meter.take_reasoning())
    deltas = [_deltas(choice, index, body_digest) for index, choice in enumerate(choices)]
    for turn in zip_longest(*deltas):
        for index, delta in enumerate(turn):
            if delta is not None:
                yield start.event(_delta(index, delta), None, meter.take(1))
    for index, choice in enumerate(choices):
        is_last = index == len(choices) - 1
        yield start.event(_delta(index, b"{}", _encode(choice.finish)), None, meter.take_rest() if is_last else 0)


def _delta(index: int, delta: bytes, finish: bytes = b"null") -> bytes:
    return b'{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}' % (index, delta, finish)


def _deltas(choice: Choice, index: int, body_digest: str) -> Iterator[bytes]:
    for token in choice.tokens:
        yield b'{"content":%b}' % _encode(token)
    for number, tool in enumerate(choice.tools):
        yield _encode(
            {
                "tool_calls": [
                    {
                        "index": number,
                        "id": _call_id(body_digest, index, number),
                        "type": "function",
                        "function": {"name": tool.name, "arguments": ""},
                    }
                ]
            }
        )
        for fragment in pieces(tool.arguments):
            yield _encode({"tool_calls": [{"index": number, "function": {"arguments": fragment}}]})
