"""What generated content holds and what it is billed, before it is written down or streamed."""

from dataclasses import dataclass
from typing import Final

import msgspec

from trueport.simulator.google.requests import (
    Members,
    allowed_function,
    calling_mode,
    items,
    may_call_functions,
    member,
    members,
    texts,
    whole_number,
)
from trueport.simulator.script import Script, ToolCall
from trueport.simulator.text import digest_of, json_answer, sentence, words
from trueport.simulator.usage import Usage, UsageForm, count_tokens, pieces

_MOST_CANDIDATES: Final = 8
_THINKING_CHOICE: Final = 7

# OpenAI's finish reasons in Google's words.
_FINISH_REASONS: Final = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def usage_object(usage: Usage) -> dict[str, object]:
    """`usage` as `usageMetadata`: the prompt with what was cached, the candidates without the thoughts."""
    prompt, candidates = usage.prompt - usage.tool_prompt, max(usage.completion - usage.reasoning, 0)
    told: dict[str, object] = {"promptTokenCount": prompt}
    if candidates:
        told["candidatesTokenCount"] = candidates
    told["totalTokenCount"] = usage.prompt + usage.completion
    if usage.cached:
        told["cachedContentTokenCount"] = usage.cached
        told["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached}]
    told["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    if usage.tool_prompt:
        told["toolUsePromptTokenCount"] = usage.tool_prompt
        told["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.tool_prompt}]
    if usage.reasoning:
        told["thoughtsTokenCount"] = usage.reasoning
    return told


FORM: Final = UsageForm(usage_object, "promptTokenCount", "candidatesTokenCount", "totalTokenCount")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer: thoughts, then text in tokens, then function calls, and why it ended."""

    thoughts: list[str]
    tokens: list[str]
    calls: tuple[ToolCall, ...]
    finish: str

    def count(self) -> int:
        """The output tokens."""
        called = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in self.calls)
        return len(self.thoughts) + len(self.tokens) + called


def compose(request: Members, script: Script) -> list[Candidate]:
    """The candidates that answer `request`."""
    digest = digest_of("\n".join(texts(request)))
    number = whole_number(members(request, "generationConfig"), "candidateCount") or 1
    return [_candidate(request, script, digest, index) for index in range(min(number, _MOST_CANDIDATES))]


def _candidate(request: Members, script: Script, digest: bytes, index: int) -> Candidate:
    config = members(request, "generationConfig")
    thoughts = _thoughts(config, script, digest, index)
    calls = _calls(request, script, digest)
    if calls:
        said = pieces(script.say) if script.say is not None else []
        if all(arguments_of(call) is not None for call in calls):
            return Candidate(thoughts, said, calls, _reason(script, "STOP"))
        return Candidate(thoughts, said, (), _reason(script, "MALFORMED_FUNCTION_CALL"))
    given = _tokens(config, script, digest, index)
    text = "".join(given)
    stops = [text.find(stop) for stop in map(str, items(config, "stopSequences")) if stop and stop in text]
    if stops:
        given = pieces(text[: min(stops)])
    limit = whole_number(config, "maxOutputTokens")
    left = len(given) if limit is None else max(limit - len(thoughts), 0)
    return Candidate(thoughts, given[:left], (), _reason(script, "MAX_TOKENS" if left < len(given) else "STOP"))


def _thoughts(config: Members, script: Script, digest: bytes, index: int) -> list[str]:
    thinking = members(config, "thinkingConfig")
    if not member(thinking, "includeThoughts") or whole_number(thinking, "thinkingBudget") == 0:
        return []
    return pieces(script.think or sentence(digest, _THINKING_CHOICE + index))


def _reason(script: Script, usual: str) -> str:
    return usual if script.finish is None else _FINISH_REASONS.get(script.finish, script.finish)


def _calls(request: Members, script: Script, digest: bytes) -> tuple[ToolCall, ...]:
    if not may_call_functions(request):
        return ()
    if script.tools or calling_mode(request) != "ANY":
        return script.tools
    function = allowed_function(request)
    if function is None:
        return ()
    schema = member(function, "parameters") or member(function, "parametersJsonSchema") or {"type": "object"}
    return (ToolCall(str(function.get("name")), _instance_of(schema, digest, 0)),)


def _tokens(config: Members, script: Script, digest: bytes, index: int) -> list[str]:
    if script.say is not None:
        return pieces(script.say)
    if script.tokens is not None:
        return words(digest, index, script.tokens)
    if member(config, "responseMimeType") != "application/json":
        return pieces(sentence(digest, index))
    schema = member(config, "responseJsonSchema") or member(config, "responseSchema")
    return pieces(_instance_of(schema, digest, index))


def _instance_of(schema: object, digest: bytes, index: int) -> str:
    return json_answer(digest, index, schema if isinstance(schema, dict) else None)


def arguments_of(call: ToolCall) -> object:
    """The arguments as an object, or None when they are none."""
    try:
        value = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None
