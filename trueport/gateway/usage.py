"""What providers say a call used, read into one shape and written back in each provider's own.

Providers count differently: OpenAI's cached tokens are part of its input, Anthropic's stand beside it; reasoning is
part of OpenAI's output and of Anthropic's, and stands beside Google's. Here everything read is one number, everything
written another, and all the rest are parts of the two, so that nothing is paid twice or not at all.

A number that no honest meter shows (negative, no integer, above a billion, a part larger than its whole) is not
believed. When it is one of the two wholes there is no usage; when it is a part, the part is left out, which bills its
tokens at the plain price. Either way the reading is doubtful. What a provider adds to its format is ignored.

Sources: https://platform.openai.com/docs/api-reference (objects CompletionUsage, ResponseUsage, ImageUsage,
TranscriptTextUsage), https://docs.anthropic.com/en/api/messages (Usage), https://ai.google.dev/api/generate-content
(UsageMetadata) and Vertex AI's GenerateContentResponse.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from msgspec.structs import replace

from trueport.gateway.call import Usage

_MOST: Final = 1_000_000_000
_LONGEST_TIER: Final = 64
_NOTHING: Final[Mapping[str, object]] = {}

# Vertex AI tells the tier by the traffic it counted the call to.
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_TRAFFIC_OF: Final = {tier: traffic for traffic, tier in _TRAFFIC.items()}
_ANTHROPIC_TIERS: Final = {"standard": "standard", "default": "standard", "priority": "priority", "batch": "batch"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be believed of a usage object, and whether it held numbers that cannot be."""

    usage: Usage | None
    is_doubtful: bool


_NO_READING: Final = Reading(None, False)
_UNBELIEVABLE: Final = Reading(None, True)


def openai_usage(value: object, tier: object = None) -> Reading:
    """The usage object of any operation of OpenAI's wire: chat, completions, embeddings, Responses, images, speech.

    value: the parsed object, None where an answer has none. tier: `service_tier`, which stands beside it.
    Chat says prompt and completion, the newer operations input and output; transcriptions may be billed by the second
    of sound instead of in tokens.
    """
    if value is None:
        return _NO_READING
    if not isinstance(value, dict):
        return _UNBELIEVABLE
    if value.get("type") == "duration":
        return _duration(value.get("seconds"), tier)
    read = _first(value, "prompt_tokens", "input_tokens")
    written = _first(value, "completion_tokens", "output_tokens", default=0)
    if not _is_count(read) or not _is_count(written):
        return _UNBELIEVABLE
    parts = _Parts()
    into = parts.details(value, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = parts.details(value, "completion_tokens_details", "output_tokens_details", "output_token_details")
    reasoning = parts.count(out.get("reasoning_tokens"))
    if reasoning and _says(value.get("total_tokens"), read + written + reasoning):
        # Some providers that copy the format (xAI, Google) count reasoning beside the completion, as the total shows.
        written += reasoning
    # DeepSeek and Moonshot tell cached tokens outside of the details.
    cached = parts.count(
        _first(into, "cached_tokens", default=_first(value, "prompt_cache_hit_tokens", "cached_tokens"))
    )
    write, write_1h = _openai_cache_writes(parts, into)
    return parts.reading(
        Usage(
            read,
            written,
            cached,
            write,
            write_1h,
            parts.count(into.get("audio_tokens")),
            parts.count(into.get("image_tokens")),
            reasoning,
            parts.count(out.get("audio_tokens")),
            parts.count(out.get("image_tokens")),
            service_tier=_tier(tier),
        )
    )


def anthropic_usage(value: object, start: object = None, tier: object = None) -> Reading:
    """The usage object of a message; of a stream, the one of `message_delta` over the one of `message_start`.

    value: the parsed object, None while only `start` is known. Its members win where they are not null; they are
    cumulative, so a smaller count does not. tier: for callers that know the tier from elsewhere.

    Anthropic's input stands without the tokens its cache took or gave; here it is everything read. The work of a
    compaction is listed under `iterations` and left out of Anthropic's totals, but billed.
    """
    if value is None and start is None:
        return _NO_READING
    if not isinstance(value, dict | None) or not isinstance(start, dict | None):
        return _UNBELIEVABLE
    said = _over(start or {}, value or {})
    parts = _Parts()
    fresh, written = said.get("input_tokens"), _first(said, "output_tokens", default=0)
    if not _is_count(fresh) or not _is_count(written):
        return _UNBELIEVABLE
    cached = parts.count(said.get("cache_read_input_tokens"))
    write, write_1h = _anthropic_cache_writes(parts, said)
    thinking = parts.count(parts.details(said, "output_tokens_details").get("thinking_tokens"))
    total = Usage(
        fresh + cached + write + write_1h,
        written,
        cached,
        write,
        write_1h,
        reasoning_tokens=thinking,
        web_searches=parts.count(parts.details(said, "server_tool_use").get("web_search_requests")),
        service_tier="fast" if said.get("speed") == "fast" else _tier(_first(said, "service_tier", default=tier)),
    )
    return parts.reading(_with_compactions(parts, total, said.get("iterations")))


def google_usage(value: object, tier: object = None) -> Reading:
    """The `usageMetadata` of an answer or of a chunk; None where there is none.

    Numbers that are zero are left out on this wire, and chunks under way may hold none at all. The prompt includes
    what came from the cache; what tools put into the prompt and what the model thought stand beside.
    """
    if value is None:
        return _NO_READING
    if not isinstance(value, dict):
        return _UNBELIEVABLE
    prompt, tools = value.get("promptTokenCount"), value.get("toolUsePromptTokenCount")
    candidates, thoughts = value.get("candidatesTokenCount"), value.get("thoughtsTokenCount")
    wholes = [number for number in (prompt, tools, candidates, thoughts) if number is not None]
    if not wholes:
        return _NO_READING
    if not all(map(_is_count, wholes)):
        return _UNBELIEVABLE
    parts = _Parts()
    into = _modalities(parts, value, "promptTokensDetails", "toolUsePromptTokensDetails")
    out = _modalities(parts, value, "candidatesTokensDetails")
    reasoning = parts.count(thoughts)
    return parts.reading(
        Usage(
            parts.count(prompt) + parts.count(tools),
            parts.count(candidates) + reasoning,
            parts.count(value.get("cachedContentTokenCount")),
            audio_input_tokens=into.get("AUDIO", 0),
            image_input_tokens=into.get("IMAGE", 0),
            reasoning_tokens=reasoning,
            audio_output_tokens=out.get("AUDIO", 0),
            image_output_tokens=out.get("IMAGE", 0),
            service_tier=_google_tier(value, tier),
        )
    )


def later(known: Usage | None, new: Usage) -> Usage:
    """Which of two readings of one call counts, when numbers are cumulative: the newer, unless its total is smaller.

    A tier that was told once stays.
    """
    if known is None:
        return new
    if new.total_tokens < known.total_tokens:
        return known
    if new.service_tier is None and known.service_tier is not None:
        return replace(new, service_tier=known.service_tier)
    return new


def asked_tier(members: Mapping[str, object]) -> str | None:
    """The tier a request asks for, in the words of Usage.service_tier; None when it leaves that to the provider."""
    if members.get("speed") == "fast":
        return "fast"
    tier = _tier(_first(members, "service_tier", "serviceTier"))
    return None if tier in (None, "auto", "standard_only", "unspecified") else tier


def as_openai_chat(usage: Usage) -> dict[str, object]:
    """The `usage` object of a chat completion."""
    into: dict[str, object] = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.audio_input_tokens}
    out: dict[str, object] = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.audio_output_tokens,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": into | _openai_writes(usage) | _unless_zero(image_tokens=usage.image_input_tokens),
        "completion_tokens_details": out | _unless_zero(image_tokens=usage.image_output_tokens),
    }


def as_openai_responses(usage: Usage) -> dict[str, object]:
    """The `usage` object of the Responses API."""
    into: dict[str, object] = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0}
    out: dict[str, object] = {"reasoning_tokens": usage.reasoning_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": into
        | _openai_writes(usage)
        | _unless_zero(audio_tokens=usage.audio_input_tokens, image_tokens=usage.image_input_tokens),
        "output_tokens": usage.output_tokens,
        "output_tokens_details": out
        | _unless_zero(audio_tokens=usage.audio_output_tokens, image_tokens=usage.image_output_tokens),
        "total_tokens": usage.total_tokens,
    }


def as_anthropic(usage: Usage) -> dict[str, object]:
    """The `usage` object of a message. It has no place for sounds and images, which stay in the totals."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    said: dict[str, object] = {
        "input_tokens": usage.input_tokens - usage.cached_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        said["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if usage.web_searches:
        said["server_tool_use"] = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    if usage.service_tier == "fast":
        said["service_tier"], said["speed"] = "standard", "fast"
    elif usage.service_tier in _ANTHROPIC_TIERS:
        said["service_tier"] = _ANTHROPIC_TIERS[usage.service_tier]
    return said


def as_google(usage: Usage) -> dict[str, object]:
    """The `usageMetadata` of an answer. What tools put into the prompt is counted as prompt."""
    candidates = usage.output_tokens - usage.reasoning_tokens
    said: dict[str, object] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": candidates,
        "totalTokenCount": usage.total_tokens,
    }
    said |= _unless_zero(cachedContentTokenCount=usage.cached_tokens, thoughtsTokenCount=usage.reasoning_tokens)
    into = _token_details(usage.input_tokens, usage.audio_input_tokens, usage.image_input_tokens)
    out = _token_details(candidates, usage.audio_output_tokens, usage.image_output_tokens)
    if into:
        said["promptTokensDetails"] = into
    if out:
        said["candidatesTokensDetails"] = out
    if usage.service_tier in _TRAFFIC_OF:
        said["trafficType"] = _TRAFFIC_OF[usage.service_tier]
    return said


class _Parts:
    """Reads the parts of a usage object and remembers whether one of them could not be."""

    __slots__ = ("is_doubtful",)

    def __init__(self) -> None:
        self.is_doubtful = False

    def count(self, value: object) -> int:
        """The number; 0 for none, and for one that cannot be."""
        if value is None:
            return 0
        if _is_count(value):
            return value
        self.is_doubtful = True
        return 0

    def details(self, said: Mapping[str, object], *names: str) -> Mapping[str, object]:
        """The first of these objects that is there."""
        found = _first(said, *names, default=_NOTHING)
        if isinstance(found, dict) or found is _NOTHING:
            return found
        self.is_doubtful = True
        return _NOTHING

    def reading(self, usage: Usage) -> Reading:
        """The reading of `usage`, without parts that together are larger than what they are part of."""
        if max(usage.input_tokens, usage.output_tokens) > _MOST:
            return _UNBELIEVABLE
        if usage.cached_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens > usage.input_tokens:
            usage = replace(usage, cached_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
            self.is_doubtful = True
        if usage.audio_input_tokens + usage.image_input_tokens > usage.input_tokens:
            usage = replace(usage, audio_input_tokens=0, image_input_tokens=0)
            self.is_doubtful = True
        if usage.reasoning_tokens + usage.audio_output_tokens + usage.image_output_tokens > usage.output_tokens:
            usage = replace(usage, reasoning_tokens=0, audio_output_tokens=0, image_output_tokens=0)
            self.is_doubtful = True
        return Reading(usage, self.is_doubtful)


def _is_count(value: object) -> TypeGuard[int]:
    # A bool is an int to isinstance.
    return type(value) is int and 0 <= value <= _MOST


def _says(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _first(said: Mapping[str, object], *names: str, default: object = None) -> object:
    """The first of these members that is there and not null."""
    for name in names:
        value = said.get(name)
        if value is not None:
            return value
    return default


def _tier(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_TIER and value.isprintable() else None


def _unless_zero(**numbers: int) -> dict[str, object]:
    return {name: number for name, number in numbers.items() if number}


def _duration(seconds: object, tier: object) -> Reading:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return _UNBELIEVABLE
    if not 0 <= seconds <= _MOST // 1000:
        return _UNBELIEVABLE
    return Reading(Usage(0, 0, audio_ms=int(seconds * 1000 + 0.5), service_tier=_tier(tier)), False)


def _openai_cache_writes(parts: _Parts, into: Mapping[str, object]) -> tuple[int, int]:
    """Tokens written to the cache for a short and for a long time: half an hour or twelve hours."""
    total = parts.count(into.get("cache_write_tokens"))
    split = parts.details(into, "cache_write_tokens_details")
    return _split(parts, total, parts.count(split.get("ttl_30m_tokens")), parts.count(split.get("ttl_12h_tokens")))


def _openai_writes(usage: Usage) -> dict[str, object]:
    """The members of the details about cache writes, where there were any."""
    said = _unless_zero(cache_write_tokens=usage.cache_write_tokens + usage.cache_write_1h_tokens)
    if usage.cache_write_1h_tokens:
        short, long = usage.cache_write_tokens, usage.cache_write_1h_tokens
        said["cache_write_tokens_details"] = {"ttl_30m_tokens": short, "ttl_12h_tokens": long}
    return said


def _anthropic_cache_writes(parts: _Parts, said: Mapping[str, object]) -> tuple[int, int]:
    """Tokens written to the cache for five minutes and for an hour."""
    split = parts.details(said, "cache_creation")
    short = parts.count(split.get("ephemeral_5m_input_tokens"))
    long = parts.count(split.get("ephemeral_1h_input_tokens"))
    total = said.get("cache_creation_input_tokens")
    return (short, long) if total is None else _split(parts, parts.count(total), short, long)


def _split(parts: _Parts, total: int, short: int, long: int) -> tuple[int, int]:
    """`total` shared out. The end of a stream tells a larger total and not how it is split."""
    if short + long > total:
        parts.is_doubtful = True
        return total, 0
    rest = total - short - long
    return (short, long + rest) if long and not short else (short + rest, long)


def _over(start: Mapping[str, object], end: Mapping[str, object]) -> Mapping[str, object]:
    """The members of both; of two the one of `end`, unless it is null or a smaller count."""
    said = dict(start)
    for name, value in end.items():
        before = said.get(name)
        if value is None or (_is_count(value) and _is_count(before) and value < before):
            continue
        said[name] = value
    return said


def _with_compactions(parts: _Parts, total: Usage, iterations: object) -> Usage:
    if not isinstance(iterations, list):
        return total
    for iteration in iterations:
        if isinstance(iteration, dict) and iteration.get("type") == "compaction":
            cached = parts.count(iteration.get("cache_read_input_tokens"))
            write, write_1h = _anthropic_cache_writes(parts, iteration)
            total = replace(
                total,
                input_tokens=total.input_tokens
                + parts.count(iteration.get("input_tokens"))
                + (cached + write + write_1h),
                output_tokens=total.output_tokens + parts.count(iteration.get("output_tokens")),
                cached_tokens=total.cached_tokens + cached,
                cache_write_tokens=total.cache_write_tokens + write,
                cache_write_1h_tokens=total.cache_write_1h_tokens + write_1h,
            )
    return total


def _modalities(parts: _Parts, said: Mapping[str, object], *names: str) -> dict[str, int]:
    """Tokens by modality, over all of these lists."""
    found: dict[str, int] = {}
    for name in names:
        listed = said.get(name)
        if not isinstance(listed, list):
            parts.is_doubtful = parts.is_doubtful or listed is not None
            continue
        for entry in listed:
            if isinstance(entry, dict) and isinstance(modality := entry.get("modality"), str):
                found[modality] = found.get(modality, 0) + parts.count(entry.get("tokenCount"))
    return found


def _token_details(total: int, audio: int, image: int) -> list[dict[str, object]]:
    numbers = {"TEXT": total - audio - image, "AUDIO": audio, "IMAGE": image}
    return [{"modality": modality, "tokenCount": number} for modality, number in numbers.items() if number]


def _google_tier(said: Mapping[str, object], tier: object) -> str | None:
    traffic = said.get("trafficType")
    told = _TRAFFIC.get(traffic) if isinstance(traffic, str) else None
    if told is None:
        told = _tier(_first(said, "serviceTier", default=tier))
    return told.lower() if told else None
