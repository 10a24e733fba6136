"""Streams in every form a client can ask for, written from texts, and the texts that such streams add up to."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trueport.detection.engine import Engine
from trueport.detection.patterns.pack import PatternDetector
from trueport.detection.policy import ActivePolicies, Context, PolicySet, compile_policy, read_policy
from trueport.detection.types import Category, Passage, Reading
from trueport.gateway.guard.base import Judge
from trueport.gateway.guard.forms import ClientForm
from trueport.gateway.guard.judge import NoJudge, PolicyJudge, acting, rhythm_of, watching
from trueport.gateway.guard.stream import GuardedStream
from trueport.gateway.guard.watch import Watch
from trueport.kit.clock import ManualClock
from trueport.kit.errors import TrueportError

TEXT: Final = "text"
THOUGHT: Final = "thought"
CALL: Final = "call"
CHANNELS: Final[Mapping[ClientForm, tuple[str, ...]]] = {
    "openai_chat": (TEXT, THOUGHT, CALL),
    "openai_completions": (TEXT,),
    "openai_responses": (TEXT, THOUGHT, CALL),
    "anthropic": (TEXT, THOUGHT, CALL),
    "google_sse": (TEXT, THOUGHT),
    "google_array": (TEXT, THOUGHT),
}
Piece = tuple[str, str]
_HALF: Final = re.compile("[\ud800-\udfff]")
_MARK: Final = "\ue000"


_RULES: Final = PatternDetector()  # compiling them takes longer than most streams


class CountingEngine:
    """The rule pack, with an account of what it was given to read."""

    def __init__(self) -> None:
        self.detectors = (_RULES,)
        self._engine = Engine(self.detectors, ManualClock())
        self.reads = 0
        self.code_points = 0

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        self.reads += 1
        self.code_points += sum(len(passage.text) for passage in passages)
        return await self._engine.read(passages, wanted, timeout_s=timeout_s)


def policies(*documents: Mapping[str, Any]) -> ActivePolicies:
    """Policies over output, as a tenant writes them."""
    compiled = tuple(
        compile_policy(f"pol_{number}", 1, read_policy({"name": f"p{number}", **document}))
        for number, document in enumerate(documents)
    )
    return PolicySet(compiled, 1).for_call("output", Context("prod", "key"))


def guard(
    form: ClientForm,
    active: ActivePolicies | None,
    *,
    engine: Any = None,
    restore: Any = None,
    clock: ManualClock | None = None,
    models: frozenset[Category] = frozenset(),
) -> GuardedStream:
    clock = clock or ManualClock()
    engine = engine or CountingEngine()

    def judge(chosen: ActivePolicies) -> Judge:
        return PolicyJudge(engine, chosen, rhythm_of(chosen, PatternDetector.longest_match, models), clock.monotonic)

    front = acting(active) if active else None
    behind = watching(active) if active else None
    return GuardedStream(
        form,
        judge(front) if front else NoJudge(),
        clock.monotonic,
        restore=restore,
        watch=Watch(judge(behind)) if behind else None,
    )


@dataclass
class Passed:
    """What left a guard: the bytes, the error it ended with, and the guard itself."""

    stream: GuardedStream
    body: bytes = b""
    error: TrueportError | None = None
    after_each: list[bytes] = field(default_factory=list)


async def passed(stream: GuardedStream, reads: Sequence[bytes], *, is_finished: bool = True) -> Passed:
    """Feed the guard, read by read, and finish it."""
    found = Passed(stream)
    try:
        for read in reads:
            found.after_each.append(await stream.feed(read))
        if is_finished:
            found.after_each.append(await stream.finish())
            # What ends a stream may be told behind the last that was free.
            await stream.observe()
            await stream.feed(b"")
    except TrueportError as error:
        found.error = error
    found.body = b"".join(found.after_each)
    return found


def cut_bytes(body: bytes, draw: random.Random, pieces: int) -> list[bytes]:
    """The bytes in reads, cut anywhere: in the middle of a code point too."""
    places = sorted(draw.randrange(len(body) + 1) for _ in range(pieces))
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


def cut_text(text: str, draw: random.Random, pieces: int) -> list[str]:
    places = sorted(draw.randrange(len(text) + 1) for _ in range(pieces))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def sse(value: Any, name: str = "", end: str = "\n\n") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}{end}".encode()


def written_in_halves(form: ClientForm, pieces: Sequence[Piece]) -> list[bytes]:
    """The events of a stream with these pieces, in which halves of characters stand as escapes."""
    marked = [(channel, _HALF.sub(lambda found: f"{_MARK}{ord(found[0]):04x}", text)) for channel, text in pieces]
    return [event.decode().replace(_MARK, "\\u").encode() for event in written(form, marked)]


def written(form: ClientForm, pieces: Sequence[Piece], *, is_whole: bool = True) -> list[bytes]:
    """The events of a stream with these pieces, in order; without its end when it is not `is_whole`."""
    match form:
        case "openai_chat":
            return _chat(pieces, is_whole=is_whole)
        case "openai_completions":
            events = [_completion(text, None) for _, text in pieces]
            return events + ([_completion("", "stop"), b"data: [DONE]\n\n"] if is_whole else [])
        case "openai_responses":
            return _responses(pieces, is_whole=is_whole)
        case "anthropic":
            return _anthropic(pieces, is_whole=is_whole)
        case "google_sse":
            return [sse(chunk, end="\r\n\r\n") for chunk in _google(pieces, is_whole=is_whole)]
        case "google_array":
            chunks = [json.dumps(chunk, ensure_ascii=False).encode() for chunk in _google(pieces, is_whole=is_whole)]
            return [(b",\r\n" if number else b"[") + chunk for number, chunk in enumerate(chunks)] + (
                [b"]"] if is_whole else []
            )


def chat_chunk(delta: Mapping[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def _chat(pieces: Sequence[Piece], *, is_whole: bool) -> list[bytes]:
    events = [chat_chunk({"role": "assistant", "content": "", "refusal": None})]
    has_called = False
    for channel, text in pieces:
        if channel == CALL:
            head = {} if has_called else {"id": "call_1", "type": "function"}
            name = {} if has_called else {"name": "send"}
            has_called = True
            events.append(chat_chunk({"tool_calls": [{"index": 0, **head, "function": {**name, "arguments": text}}]}))
        else:
            events.append(chat_chunk({"content" if channel == TEXT else "reasoning_content": text}))
    if is_whole:
        usage = {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        events += [chat_chunk({}, finish="stop"), sse(usage), b"data: [DONE]\n\n"]
    return events


def _completion(text: str, finish: str | None) -> bytes:
    return sse({"id": "cmpl-1", "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]})


def _google(pieces: Sequence[Piece], *, is_whole: bool) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = []
    for channel, text in pieces:
        part: dict[str, Any] = {"text": text} if channel == TEXT else {"text": text, "thought": True}
        content = {"parts": [part], "role": "model"}
        chunks.append({"candidates": [{"content": content, "index": 0}], "usageMetadata": {"totalTokenCount": 3}})
    if is_whole:
        chunks.append({"candidates": [{"content": {"parts": [{"text": ""}]}, "index": 0, "finishReason": "STOP"}]})
    return chunks


def _anthropic(pieces: Sequence[Piece], *, is_whole: bool) -> list[bytes]:
    events: list[bytes] = []

    def say(name: str, **members: Any) -> None:
        events.append(sse({"type": name, **members}, name))

    say("message_start", message={"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 3}})
    say("ping")
    empty = {
        TEXT: {"type": "text", "text": ""},
        THOUGHT: {"type": "thinking", "thinking": "", "signature": ""},
        CALL: {"type": "tool_use", "id": "toolu_1", "name": "send", "input": {}},
    }
    deltas = {TEXT: ("text_delta", "text"), THOUGHT: ("thinking_delta", "thinking"),
              CALL: ("input_json_delta", "partial_json")}  # fmt: skip
    blocks = list(dict.fromkeys(channel for channel, _ in pieces))
    for index, block in enumerate(blocks):
        say("content_block_start", index=index, content_block=empty[block])
        for channel, text in pieces:
            if channel == block:
                kind, member = deltas[block]
                say("content_block_delta", index=index, delta={"type": kind, member: text})
        if block == THOUGHT:
            say("content_block_delta", index=index, delta={"type": "signature_delta", "signature": "c2ln"})
        if is_whole or index < len(blocks) - 1:
            say("content_block_stop", index=index)
    if is_whole:
        say("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 9})
        say("message_stop")
    return events


def _responses(pieces: Sequence[Piece], *, is_whole: bool) -> list[bytes]:
    events: list[bytes] = []

    def say(name: str, **members: Any) -> None:
        events.append(sse({"type": name, "sequence_number": len(events), **members}, name))

    say("response.created", response={"id": "resp_1", "status": "in_progress", "output": []})
    output: list[dict[str, Any]] = []
    items = list(dict.fromkeys(channel for channel, _ in pieces))
    for index, channel in enumerate(items):
        texts = [text for own, text in pieces if own == channel]
        whole = "".join(texts)
        place: dict[str, Any] = {"item_id": f"it_{index}", "output_index": index}
        if channel == TEXT:
            place["content_index"] = 0
            stem, member, part = "response.output_text", "text", {"type": "output_text", "text": whole}
            item = {"id": f"it_{index}", "type": "message", "role": "assistant", "content": [part]}
        elif channel == THOUGHT:
            place["summary_index"] = 0
            stem, member, part = "response.reasoning_summary_text", "text", {"type": "summary_text", "text": whole}
            item = {"id": f"it_{index}", "type": "reasoning", "summary": [part]}
        else:
            stem, member, part = "response.function_call_arguments", "arguments", {}
            item = {"id": f"it_{index}", "type": "function_call", "name": "send", "call_id": "c1", "arguments": whole}
        say("response.output_item.added", output_index=index, item={"id": f"it_{index}", "type": item["type"]})
        for text in texts:
            say(f"{stem}.delta", **place, delta=text, obfuscation="x8Kq")
        if is_whole or index < len(items) - 1:
            say(f"{stem}.done", **place, **{member: whole})
            if channel == TEXT:
                say("response.content_part.done", **place, part=part)
            say("response.output_item.done", output_index=index, item=item)
        output.append(item)
    if is_whole:
        say("response.completed", response={"id": "resp_1", "status": "completed", "output": output})
    return events


def documents(form: ClientForm, body: bytes) -> list[Any]:
    """The JSON of every event."""
    if form == "google_array":
        text = body.decode().strip()
        closed = text if text.endswith("]") or not text else text + "]"
        return list(json.loads(closed)) if closed else []
    lines = body.decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def texts(form: ClientForm, body: bytes) -> dict[str, str]:
    """What a client puts together of each channel, by `text`, `thought` and `call`; of choice 0 alone."""
    found = {TEXT: "", THOUGHT: "", CALL: ""}
    for document in documents(form, body):
        for channel, text in _said(form, document):
            found[channel] += text
    return found


def _said(form: ClientForm, document: Any) -> list[Piece]:
    match form:
        case "openai_chat":
            said = []
            for choice in document.get("choices", []):
                delta = choice["delta"] if choice["index"] == 0 else {}
                said += [(TEXT, delta.get("content") or ""), (THOUGHT, delta.get("reasoning_content") or "")]
                said += [(CALL, call["function"].get("arguments", "")) for call in delta.get("tool_calls", [])]
            return said
        case "openai_completions":
            return [(TEXT, choice["text"]) for choice in document.get("choices", []) if choice["index"] == 0]
        case "openai_responses":
            kinds = {"response.output_text.delta": TEXT, "response.reasoning_summary_text.delta": THOUGHT,
                     "response.function_call_arguments.delta": CALL}  # fmt: skip
            kind = document.get("type")
            return [(kinds[kind], document["delta"])] if kind in kinds else []
        case "anthropic":
            delta = document.get("delta", {})
            members = {"text": TEXT, "thinking": THOUGHT, "partial_json": CALL}
            return [(members[name], text) for name, text in delta.items() if name in members]
        case "google_sse" | "google_array":
            parts = [part for one in document.get("candidates", []) for part in one.get("content", {}).get("parts", [])]
            return [(THOUGHT if part.get("thought") else TEXT, part["text"]) for part in parts if "text" in part]
