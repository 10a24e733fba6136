"""Token counts: how they are counted, what an answer is billed, and the shapes in which a reply can misreport it."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

# A token is a run of word characters or one other visible character, with the white space before it.
_TOKEN: Final = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


class Usage(NamedTuple):
    """What an answer is billed, in tokens; `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


NO_USAGE: Final = Usage()


def pieces(text: str) -> list[str]:
    """The tokens of `text`, in order; joined they give the text again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens `text` has."""
    return len(_TOKEN.findall(text))


def corrected(counted: Usage, stated: Mapping[str, int]) -> Usage:
    """`counted` with the numbers a usage directive states instead.

    A stated `reasoning` or `cached` beyond its whole is kept: saying so is what the directive is for.
    """
    return counted._replace(**stated) if stated else counted


def usage_object(usage: Usage) -> dict[str, object]:
    """`usage` as the `usage` object of a chat or text completion."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def usage_json(usage: Usage) -> bytes:
    """The `usage` object as JSON text."""
    return msgspec.json.encode(usage_object(usage))


def _rewritten(
    usage: Usage, *, prompt: bytes | None = None, completion: bytes | None = None, total: bytes | None = None
) -> bytes:
    """A bare usage object whose numbers are replaced by the JSON texts given."""
    return b'{"prompt_tokens":%b,"completion_tokens":%b,"total_tokens":%b}' % (
        prompt or b"%d" % usage.prompt,
        completion or b"%d" % usage.completion,
        total or b"%d" % (usage.prompt + usage.completion),
    )


# The `usage` values to send, in order, for each way to misreport. More than one value means one chunk each in a
# stream, and a repeated key in a plain body. The earlier values of `growing` ride on the stream's other chunks.
_SHAPES: Final[Mapping[str, Callable[[Usage], tuple[bytes, ...]]]] = {
    "missing": lambda _: (),
    "null": lambda _: (b"null",),
    "duplicate": lambda usage: (usage_json(usage), usage_json(usage)),
    "decreasing": lambda usage: (usage_json(usage), usage_json(usage._replace(completion=usage.completion // 2))),
    "growing": lambda usage: (usage_json(usage),),
    "negative": lambda usage: (_rewritten(usage, prompt=b"-5", completion=b"-7", total=b"-12"),),
    "nan": lambda usage: (_rewritten(usage, completion=b"NaN", total=b"NaN"),),
    "huge": lambda usage: (_rewritten(usage, completion=b"%d" % 10**18, total=b"%d" % 10**18),),
    "string": lambda usage: (_rewritten(usage, prompt=b'"%d"' % usage.prompt, completion=b'"%d"' % usage.completion),),
    "float": lambda usage: (_rewritten(usage, prompt=b"%d.5" % usage.prompt, completion=b"%d.5" % usage.completion),),
    "wrong-total": lambda usage: (_rewritten(usage, total=b"1"),),
    "cached-over-prompt": lambda usage: (usage_json(usage._replace(cached=usage.prompt + 1000)),),
}

SHAPES: Final = tuple(_SHAPES)


def reported(usage: Usage, shape: str | None) -> tuple[bytes, ...]:
    """The `usage` values to send, in order, as JSON texts: the truth, or one of SHAPES."""
    return (usage_json(usage),) if shape is None else _SHAPES[shape](usage)
