"""What a message holds and what it is billed, before it is written down or streamed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from trueport.simulator.anthropic.requests import MessageRequest, cached_prefixes
from trueport.simulator.script import Script, ToolCall
from trueport.simulator.text import digest_of, json_answer, sentence, words
from trueport.simulator.usage import Usage, UsageForm, corrected, count_tokens, pieces

_THINKING_CHOICE: Final = 7

# OpenAI's finish reasons in Anthropic's words.
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def _cache_members(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": max(usage.prompt - usage.cached - usage.cache_write, 0),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
    }


def _tool_members(usage: Usage) -> dict[str, object]:
    searches = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    return {"server_tool_use": searches} if usage.web_searches else {}


def _thinking_members(usage: Usage) -> dict[str, object]:
    return {"output_tokens_details": {"thinking_tokens": usage.reasoning}} if usage.reasoning else {}


def usage_object(usage: Usage) -> dict[str, object]:
    """`usage` as a message's `usage` object: the input without what came from or went to the cache."""
    return {
        **_cache_members(usage),
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write - usage.cache_write_1h,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.completion,
        **_thinking_members(usage),
        **_tool_members(usage),
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def _delta_usage(usage: Usage) -> dict[str, object]:
    """The cumulative `usage` of a `message_delta` event, which lacks some members."""
    return {
        **_cache_members(usage),
        "output_tokens": usage.completion,
        **_thinking_members(usage),
        **_tool_members(usage),
    }


WHOLE_FORM: Final = UsageForm(usage_object, "input_tokens", "output_tokens")
DELTA_FORM: Final = UsageForm(_delta_usage, "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Content:
    """What an answer holds: thoughts, then text in tokens, then tool calls, and why it ended."""

    thoughts: list[str]
    tokens: list[str]
    tools: tuple[ToolCall, ...]
    stop_reason: str
    stop_sequence: str | None = None
    stop_details: Mapping[str, object] | None = None

    def ending(self) -> dict[str, object]:
        """How the message tells why it ended."""
        told: dict[str, object] = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        return told if self.stop_details is None else {**told, "stop_details": self.stop_details}

    def count(self) -> int:
        """The output tokens."""
        called = sum(count_tokens(tool.name) + count_tokens(tool.arguments) for tool in self.tools)
        return len(self.thoughts) + len(self.tokens) + called


def compose(request: MessageRequest, script: Script) -> Content:
    """What the answer to `request` holds."""
    digest = digest_of("\n".join(request.texts()))
    if script.filtered is not None:
        details = {"type": "refusal", "category": script.filtered, "explanation": "The simulated filter objects."}
        return Content([], [], (), "refusal", None, details)
    thoughts = pieces(script.think or sentence(digest, _THINKING_CHOICE)) if request.is_thinking() else []
    tools = _tools(request, script, digest)
    if tools:
        said = pieces(script.say) if script.say is not None else []
        return Content(thoughts, said, tools, _reason(script, "tool_use"))
    tokens = _tokens(request, script, digest)
    limit = max(request.max_tokens - len(thoughts), 0)
    found = _first_stop("".join(tokens), request.stop_sequences or [])
    if found is not None:
        before = pieces("".join(tokens)[: found[0]])
        if len(before) <= limit:
            return Content(thoughts, before, (), _reason(script, "stop_sequence"), found[1])
    if len(tokens) > limit:
        return Content(thoughts, tokens[:limit], (), _reason(script, "max_tokens"))
    return Content(thoughts, tokens, (), _reason(script, "end_turn"))


def _reason(script: Script, usual: str) -> str:
    return usual if script.finish is None else _STOP_REASONS.get(script.finish, script.finish)


def _tools(request: MessageRequest, script: Script, digest: bytes) -> tuple[ToolCall, ...]:
    if not request.may_call_tools():
        return ()
    forced = request.forced_tool()
    if script.tools:
        single = request.tool_choice is not None and request.tool_choice.disable_parallel_tool_use
        return script.tools[:1] if single else script.tools
    return (ToolCall(forced.name, json_answer(digest, 0, forced.input_schema or {"type": "object"})),) if forced else ()


def _tokens(request: MessageRequest, script: Script, digest: bytes) -> list[str]:
    if script.say is not None:
        return pieces(script.say)
    if script.tokens is not None:
        return words(digest, 0, script.tokens)
    schema = request.schema()
    return pieces(sentence(digest, 0) if schema is None else json_answer(digest, 0, schema))


def _first_stop(text: str, sequences: list[str]) -> tuple[int, str] | None:
    found = [(text.find(sequence), sequence) for sequence in sequences if sequence and sequence in text]
    return min(found, default=None)


def counted(
    request: MessageRequest, content: Content, script: Script, has_seen: Callable[[str], bool] = lambda _: False
) -> Usage:
    """The usage of an answer: counted, with what the cache was read and written for, unless the script states it."""
    usage = Usage(request.tokens(), content.count(), reasoning=len(content.thoughts))
    read = 0
    for prefix in cached_prefixes(request):
        if has_seen(prefix.digest):
            read = prefix.tokens
        else:
            more = prefix.tokens - usage.cache_write - read
            for_an_hour = more if prefix.for_an_hour else 0
            usage = usage._replace(
                cache_write=usage.cache_write + more, cache_write_1h=usage.cache_write_1h + for_an_hour
            )
    return corrected(usage._replace(cached=read), script.usage)
