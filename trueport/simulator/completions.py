"""Text completions, the older kind: whole and streamed."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

import msgspec

from trueport.simulator.answers import CREATED, FINGERPRINT, Choice, Meter, Wanted, compose, counted
from trueport.simulator.chat import with_usage
from trueport.simulator.reply import Event, Reply
from trueport.simulator.requests import CompletionRequest
from trueport.simulator.script import Script
from trueport.simulator.streams import ChunkStart, stream_reply
from trueport.simulator.text import digest_of
from trueport.simulator.usage import count_tokens

_encode: Final = msgspec.json.encode


def answer(request: CompletionRequest, prompts: list[str], script: Script, body_digest: str) -> Reply:
    """The reply to `prompts`, each answered `n` times; `body_digest` is hexadecimal and decides the id."""
    wanted = Wanted(choices=request.n or 1, limit=request.max_tokens)
    choices = [choice for prompt in prompts for choice in compose(script, wanted, digest_of(prompt))]
    usage = counted(sum(map(count_tokens, prompts)), choices, script)
    if request.stream:
        start = ChunkStart(
            b'{"id":"cmpl-%b","object":"text_completion","created":%d,"model":%b,"system_fingerprint":"%b",'
            % (body_digest[:24].encode(), CREATED, _encode(request.model), FINGERPRINT.encode()),
            with_usage=bool(request.stream_options and request.stream_options.include_usage),
            with_fields="fields" in script.extra,
        )
        return stream_reply(start, lambda start, meter: _chunks(start, meter, choices), usage, script)
    body = _encode(
        {
            "id": f"cmpl-{body_digest[:24]}",
            "object": "text_completion",
            "created": CREATED,
            "model": request.model,
            "choices": [
                {"text": choice.text, "index": index, "logprobs": None, "finish_reason": choice.finish}
                for index, choice in enumerate(choices)
            ],
            "system_fingerprint": FINGERPRINT,
        }
    )
    return Reply(body=with_usage(body, usage, script), usage=usage)


def _chunks(start: ChunkStart, meter: Meter, choices: list[Choice]) -> Iterator[Event]:
    for turn in zip_longest(*(choice.tokens for choice in choices)):
        for index, token in enumerate(turn):
            if token is not None:
                yield start.event(_piece(index, token), None, meter.take_reasoning() + meter.take(1))
    for index, choice in enumerate(choices):
        is_last = index == len(choices) - 1
        yield start.event(_piece(index, "", choice.finish), None, meter.take_rest() if is_last else 0)


def _piece(index: int, text: str, finish: str | None = None) -> bytes:
    return b'{"text":%b,"index":%d,"logprobs":null,"finish_reason":%b}' % (_encode(text), index, _encode(finish))
