"""Token counts: how they are counted, what an answer is billed, and the shapes in which a reply can misreport it."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

# A token is a run of word characters or one other visible character, with the white space before it.
_TOKEN: Final = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


class Usage(NamedTuple):
    """What an answer is billed, in tokens unless the name says otherwise.

    `prompt` is all input: `cached` (read from a cache), `cache_write` and `tool_prompt` (what a tool of the
    provider's put in) are parts of it, and `cache_write_1h` is part of `cache_write`. `completion` is all output,
    `reasoning` part of it. `images` are images made, `audio_ms` is the length of audio heard or spoken.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    tool_prompt: int = 0
    audio_ms: int = 0
    images: int = 0
    web_searches: int = 0


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
    read = {"cached_tokens": usage.cached, "audio_tokens": 0}
    if usage.cache_write:
        read["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": read,
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


class UsageForm(NamedTuple):
    """How a dialect words a usage: the whole object, and the names of its three sums (no `total`: it has none)."""

    whole: Callable[[Usage], Mapping[str, object]]
    prompt: str
    completion: str
    total: str = ""

    def json(self, usage: Usage) -> bytes:
        return msgspec.json.encode(self.whole(usage))

    def rewritten(
        self, usage: Usage, *, prompt: bytes | None = None, completion: bytes | None = None, total: bytes | None = None
    ) -> bytes:
        """A bare usage object whose numbers are replaced by the JSON texts given."""
        told = [
            (self.prompt, prompt or b"%d" % usage.prompt),
            (self.completion, completion or b"%d" % usage.completion),
        ]
        if self.total or total:
            told.append((self.total or "total_tokens", total or b"%d" % (usage.prompt + usage.completion)))
        return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), number) for name, number in told)


OPENAI_FORM: Final = UsageForm(usage_object, "prompt_tokens", "completion_tokens", "total_tokens")

Shape = Callable[[UsageForm, Usage], tuple[bytes, ...]]

# The `usage` values to send, in order, for each way to misreport. More than one value means one event each in a
# stream, and a repeated key in a plain body. The earlier values of `growing` ride on the stream's other events.
_SHAPES: Final[Mapping[str, Shape]] = {
    "missing": lambda _, __: (),
    "null": lambda _, __: (b"null",),
    "duplicate": lambda form, usage: (form.json(usage), form.json(usage)),
    "decreasing": lambda form, usage: (
        form.json(usage),
        form.json(usage._replace(completion=usage.completion // 2, reasoning=usage.reasoning // 2)),
    ),
    "growing": lambda form, usage: (form.json(usage),),
    "negative": lambda form, usage: (form.rewritten(usage, prompt=b"-5", completion=b"-7", total=b"-12"),),
    "nan": lambda form, usage: (form.rewritten(usage, completion=b"NaN", total=b"NaN"),),
    "huge": lambda form, usage: (form.rewritten(usage, completion=b"%d" % 10**18, total=b"%d" % 10**18),),
    "string": lambda form, usage: (
        form.rewritten(usage, prompt=b'"%d"' % usage.prompt, completion=b'"%d"' % usage.completion),
    ),
    "float": lambda form, usage: (
        form.rewritten(usage, prompt=b"%d.5" % usage.prompt, completion=b"%d.5" % usage.completion),
    ),
    "wrong-total": lambda form, usage: (form.rewritten(usage, total=b"1"),),
    "cached-over-prompt": lambda form, usage: (form.json(usage._replace(cached=usage.prompt + 1000)),),
}

SHAPES: Final = tuple(_SHAPES)


def reported(usage: Usage, shape: str | None, form: UsageForm = OPENAI_FORM) -> tuple[bytes, ...]:
    """The `usage` values to send, in order, as JSON texts: the truth, or one of SHAPES."""
    return (form.json(usage),) if shape is None else _SHAPES[shape](form, usage)
