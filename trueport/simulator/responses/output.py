"""What a response holds and what it is billed, before it is written down or streamed."""

from dataclasses import dataclass
from typing import Final

from trueport.simulator.responses.requests import Item, ResponseRequest
from trueport.simulator.script import Script, ToolCall
from trueport.simulator.signing import signature_of
from trueport.simulator.text import digest_of, json_answer, sentence, words
from trueport.simulator.usage import Usage, UsageForm, corrected, count_tokens, pieces

_THINKING_CHOICE: Final = 7
INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def usage_object(usage: Usage) -> dict[str, object]:
    """`usage` as the `usage` object of a response."""
    read: dict[str, int] = {"cached_tokens": usage.cached}
    if usage.cache_write:
        read["cache_write_tokens"] = usage.cache_write
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": read,
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


FORM: Final = UsageForm(usage_object, "input_tokens", "output_tokens", "total_tokens")


@dataclass(frozen=True, slots=True)
class Output:
    """A response's content: a reasoning summary, then text or function calls; `digest` (hexadecimal) decides the ids.

    `finish` is `stop`, `length`, `content_filter` or `failed`.
    """

    digest: str
    summary: list[str]
    tokens: list[str]
    calls: tuple[ToolCall, ...]
    finish: str
    is_encrypted: bool = False

    @property
    def status(self) -> str:
        if self.finish == "failed":
            return "failed"
        return "incomplete" if self.finish in INCOMPLETE else "completed"

    def count(self) -> int:
        """The output tokens."""
        called = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in self.calls)
        return len(self.summary) + len(self.tokens) + called

    def items(self) -> list[dict[str, object]]:
        """The output items, complete."""
        found: list[dict[str, object]] = []
        if self.summary:
            summary = [{"type": "summary_text", "text": "".join(self.summary)}]
            found.append({**self.reasoning_item(), "summary": summary})
        if self.tokens or not self.calls:
            status = "incomplete" if self.finish in INCOMPLETE else "completed"
            found.append({**self.message_item(status), "content": [text_part("".join(self.tokens))]})
        for number, call in enumerate(self.calls):
            found.append({**self.call_item(number, "completed"), "arguments": call.arguments})
        return found

    def reasoning_item(self) -> dict[str, object]:
        item: dict[str, object] = {"id": f"rs_{self.digest[:32]}", "type": "reasoning", "summary": []}
        if self.is_encrypted:
            item["encrypted_content"] = signature_of("".join(self.summary))
        return item

    def message_item(self, status: str) -> dict[str, object]:
        return {
            "id": f"msg_{self.digest[:32]}",
            "type": "message",
            "status": status,
            "content": [],
            "role": "assistant",
        }

    def call_item(self, number: int, status: str) -> dict[str, object]:
        return {
            "id": f"fc_{self.digest[:30]}{number:02d}",
            "type": "function_call",
            "status": status,
            "arguments": "",
            "call_id": f"call_{self.digest[:20]}{number:02d}",
            "name": self.calls[number].name,
        }


def text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def compose(request: ResponseRequest, history: list[Item], script: Script, body_digest: str) -> Output:
    """What the response to `request` holds."""
    before = [text for item in history for text in item.texts()]
    digest = digest_of("\n".join([*before, *request.texts()]))
    summary = _summary(request, script, digest)
    is_encrypted = "reasoning.encrypted_content" in (request.include or ())
    calls = _calls(request, script, digest)
    if calls:
        said = pieces(script.say) if script.say is not None else []
        return Output(body_digest, summary, said, calls, script.finish or "stop", is_encrypted)
    tokens = _tokens(request, script, digest)
    limit = len(tokens)
    if request.max_output_tokens is not None:
        limit = max(request.max_output_tokens - len(summary), 0)
    usual = "length" if limit < len(tokens) else "stop"
    return Output(body_digest, summary, tokens[:limit], (), script.finish or usual, is_encrypted)


def _summary(request: ResponseRequest, script: Script, digest: bytes) -> list[str]:
    is_asked_for = request.reasoning is not None and request.reasoning.summary is not None
    if script.think is None and not is_asked_for:
        return []
    return pieces(script.think or sentence(digest, _THINKING_CHOICE))


def _calls(request: ResponseRequest, script: Script, digest: bytes) -> tuple[ToolCall, ...]:
    if not request.may_call_tools():
        return ()
    forced = request.forced_tool()
    if script.tools or forced is None or forced.name is None:
        return script.tools
    return (ToolCall(forced.name, json_answer(digest, 0, forced.parameters or {"type": "object"})),)


def _tokens(request: ResponseRequest, script: Script, digest: bytes) -> list[str]:
    if script.say is not None:
        return pieces(script.say)
    if script.tokens is not None:
        return words(digest, 0, script.tokens)
    if request.wants_json():
        return pieces(json_answer(digest, 0, request.schema()))
    return pieces(sentence(digest, 0))


def counted(request: ResponseRequest, history: list[Item], output: Output, script: Script) -> Usage:
    """The usage of an answer: tokens counted, unless the script states others."""
    plain = Usage(request.tokens(history), output.count(), reasoning=len(output.summary))
    return corrected(plain, script.usage)
