"""Requests as Anthropic's clients send them, understood.

Source: https://platform.claude.com/docs/en/api/messages (POST /v1/messages).
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from trueport.gateway.translate.calls import json_text
from trueport.gateway.translate.model import (
    Conversation,
    Media,
    OutputForm,
    Part,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trueport.gateway.translate.openai_members import Members, Notes, check_base64
from trueport.gateway.translate.unknown import tellable
from trueport.kit.errors import InvalidRequest

_KNOWN: Final = frozenset(
    {
        "model", "stream", "messages", "system", "max_tokens", "stop_sequences", "temperature", "top_p", "top_k",
        "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier", "container",
        "mcp_servers", "context_management", "cache_control", "inference_geo", "speed",
    }
)  # fmt: skip

# Members that are a feature when they are there at all.
_FEATURES: Final = {
    "container": "container",
    "mcp_servers": "hosted_tool:mcp",
    "context_management": "context_management",
    "cache_control": "automatic_caching",
    "inference_geo": "inference_region",
}

# Blocks that only tools which run at Anthropic leave behind.
_HOSTED_BLOCKS: Final = frozenset({"server_tool_use", "mcp_tool_use", "mcp_tool_result", "container_upload"})

_BLOCK_MEMBERS: Final = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "cache_control", "title", "context", "citations"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}


def read_conversation(members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
    """What a request means. Raises InvalidRequest that names the member which cannot be understood."""
    request, notes = Members(members), Notes()
    request.note_others(_KNOWN, notes)
    notes.features.update(feature for name, feature in _FEATURES.items() if members.get(name) not in (None, []))
    if request.text("service_tier") not in (None, "auto") or request.text("speed") not in (None, "standard"):
        notes.features.add("service_tier")
    metadata = request.inner("metadata")
    if metadata is not None:
        metadata.note_others(frozenset({"user_id"}), notes)
    reader = _BlockReader(notes)
    instructions = tuple(_system(request, notes))
    return Conversation(
        model=model,
        turns=tuple(_turn(message, reader) for message in _messages(request)),
        system=instructions,
        tools=tuple(_tools(request, notes)),
        tool_choice=_tool_choice(request, notes),
        output=_output(request, notes),
        reasoning=_reasoning(request, notes),
        sampling=_sampling(request),
        streams=streams,
        user=None if metadata is None else metadata.text("user_id"),
        features=frozenset(notes.features),
        unknown=tellable(notes.unknown),
    )


def _messages(request: Members) -> list[Members]:
    messages = request.objects("messages")
    if not messages:
        raise InvalidRequest("messages must have at least one message.", param="messages")
    return messages


def _sampling(request: Members) -> Sampling:
    most = request.integer("max_tokens")
    if most is None or most < 1:
        raise request.wrong("max_tokens", "a whole number of at least 1")
    if not isinstance(request.values.get("stop_sequences"), list | None):
        raise request.wrong("stop_sequences", "a list of strings")
    return Sampling(
        max_tokens=most,
        temperature=request.number("temperature"),
        top_p=request.number("top_p"),
        top_k=request.count("top_k"),
        stop=request.texts("stop_sequences"),
    )


def _system(request: Members, notes: Notes) -> list[Text]:
    if isinstance(request.values.get("system"), str):
        return [Text(request.needed_text("system"))]
    found = []
    for block in request.objects("system"):
        if block.needed_text("type") != "text":
            raise block.wrong("type", "text")
        block.note_others(_BLOCK_MEMBERS["text"], notes)
        found.append(Text(block.needed_text("text"), cache=_cache(block)))
    return found


def _cache(block: Members) -> str | None:
    mark = block.inner("cache_control")
    if mark is None:
        return None
    if mark.needed_text("type") != "ephemeral":
        raise mark.wrong("type", "ephemeral")
    kept = mark.text("ttl") or "5m"
    if kept not in ("5m", "1h"):
        raise mark.wrong("ttl", "5m or 1h")
    return kept


def _turn(message: Members, reader: "_BlockReader") -> Turn:
    message.note_others(frozenset({"role", "content"}), reader.notes)
    role = message.needed_text("role")
    if role not in ("user", "assistant", "system"):
        raise message.wrong("role", "user or assistant")
    if isinstance(message.values.get("content"), str):
        parts: tuple[Part, ...] = (Text(message.needed_text("content")),)
    elif not message.has("content"):
        raise message.wrong("content", "a string or a list of blocks")
    else:
        parts = tuple(part for block in message.objects("content") for part in reader.read(block))
    return Turn("assistant" if role == "assistant" else "user", parts, is_instruction=role == "system")


class _BlockReader:
    """Reads content blocks, and remembers the calls among them for the results that answer them."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self._names: dict[str, str] = {}

    def read(self, block: Members) -> Sequence[Part]:
        """The parts of one block; none for one that `features` speaks of."""
        kind = block.needed_text("type")
        feature = _feature(kind)
        if feature is not None:
            self.notes.features.add(feature)
            return ()
        block.note_others(_BLOCK_MEMBERS.get(kind, frozenset(block.values)), self.notes)
        match kind:
            case "text" | "image" | "document":
                return self._content(block, kind)
            case "tool_use":
                return (self._call(block),)
            case "tool_result":
                return (self._result(block),)
            case "thinking":
                # An empty signature is what clients have of reasoning that another provider gave them through here.
                signature = block.text("signature") or None
                return (Thinking(block.needed_text("thinking"), signature, None, "anthropic" if signature else None),)
            case "redacted_thinking":
                return (Thinking("", redacted=block.needed_text("data"), signed_by="anthropic"),)
        raise block.wrong("type", "a kind of content block that can be carried over to another provider")

    def _content(self, block: Members, kind: str) -> "Sequence[Text | Media]":
        if kind == "text":
            return (Text(block.needed_text("text"), cache=_cache(block)),)
        source = block.needed_inner("source")
        if kind == "image":
            return (self._media(block, source, "image"),)
        return self._document(block, source)

    def _document(self, block: Members, source: Members) -> "Sequence[Text | Media]":
        citations = block.inner("citations")
        if citations is not None and citations.flag("enabled"):
            self.notes.features.add("citations")
        context = block.text("context")
        before = () if context is None else (Text(context),)
        match source.needed_text("type"):
            case "text":
                data = base64.b64encode(source.needed_text("data").encode("utf-8", "replace")).decode()
                plain = Media("document", "text/plain", data, name=block.text("title"), cache=_cache(block))
                return (*before, plain)
            case "content":
                return (*before, *self._contents(source, "content"))
        return (*before, self._media(block, source, "document"))

    def _media(self, block: Members, source: Members, kind: Literal["image", "document"]) -> Media:
        name, cache = block.text("title"), _cache(block)
        match source.needed_text("type"):
            case "base64":
                data = source.needed_text("data")
                check_base64(source, "data", data)
                return Media(kind, source.needed_text("media_type"), data, name=name, cache=cache)
            case "url":
                return Media(kind, url=source.needed_text("url"), name=name, cache=cache)
            case "file":
                self.notes.features.add("stored_file")
                return Media(kind, reference=source.needed_text("file_id"), name=name, cache=cache)
        raise source.wrong("type", "base64, url, file or, in a document, text or content")

    def _contents(self, block: Members, name: str) -> "tuple[Text | Media, ...]":
        """A string, or blocks that are text, images and documents."""
        if isinstance(block.values.get(name), str):
            return (Text(block.needed_text(name)),)
        found: list[Text | Media] = []
        for inner in block.objects(name):
            kind = inner.needed_text("type")
            if kind == "search_result":
                self.notes.features.add("search_results")
            elif kind in ("text", "image", "document"):
                inner.note_others(_BLOCK_MEMBERS[kind], self.notes)
                found.extend(self._content(inner, kind))
            else:
                raise inner.wrong("type", "text, image or document")
        return tuple(found)

    def _call(self, block: Members) -> ToolCall:
        call_id, name = block.needed_text("id"), block.needed_text("name")
        self._names[call_id] = name
        return ToolCall(call_id, name, json_text(block.json("input") or {}))

    def _result(self, block: Members) -> ToolResult:
        call_id = block.needed_text("tool_use_id")
        name = self._names.get(call_id)
        if name is None:
            raise block.wrong("tool_use_id", "the id of a tool_use block before it")
        parts = self._contents(block, "content")
        return ToolResult(call_id, name, parts, is_error=block.flag("is_error") or False, cache=_cache(block))


def _feature(kind: str) -> str | None:
    """The feature that a kind of block belongs to which is not part of the neutral form."""
    if kind in _HOSTED_BLOCKS or (kind.endswith("_tool_result") and kind != "tool_result"):
        return "hosted_tool_history"
    return "search_results" if kind == "search_result" else None


def _tools(request: Members, notes: Notes) -> list[Tool]:
    found = []
    for tool in request.objects("tools"):
        kind = tool.text("type") or "custom"
        if kind != "custom":
            notes.features.add(f"hosted_tool:{_hosted_kind(kind)}")
            continue
        tool.note_others(frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"}), notes)
        found.append(
            Tool(
                tool.needed_text("name"),
                tool.text("description"),
                tool.needed_inner("input_schema").values,
                tool.flag("strict"),
                _cache(tool),
            )
        )
    return found


def _hosted_kind(kind: str) -> str:
    for prefix, name in (
        ("web_search", "web_search"),
        ("code_execution", "code_interpreter"),
        ("computer", "computer"),
        ("mcp", "mcp"),
    ):
        if kind.startswith(prefix):
            return name
    return "other"


def _tool_choice(request: Members, notes: Notes) -> ToolChoice:
    choice = request.inner("tool_choice")
    if choice is None:
        return ToolChoice()
    choice.note_others(frozenset({"type", "name", "disable_parallel_tool_use"}), notes)
    one = choice.flag("disable_parallel_tool_use")
    match choice.needed_text("type"):
        case "auto":
            return ToolChoice("auto", one_at_a_time=one)
        case "any":
            return ToolChoice("required", one_at_a_time=one)
        case "tool":
            return ToolChoice("named", choice.needed_text("name"), one)
        case "none":
            return ToolChoice("none")
    raise choice.wrong("type", "auto, any, tool or none")


def _output(request: Members, notes: Notes) -> OutputForm:
    config = request.inner("output_config")
    form = request.inner("output_format")
    if config is not None:
        config.note_others(frozenset({"format", "effort"}), notes)
        form = config.inner("format") or form
    if form is None:
        return OutputForm()
    form.note_others(frozenset({"type", "schema"}), notes)
    if form.needed_text("type") != "json_schema":
        raise form.wrong("type", "json_schema")
    return OutputForm("schema", schema=form.needed_inner("schema").values, is_strict=True)


def _reasoning(request: Members, notes: Notes) -> Reasoning:
    """What `thinking` and `output_config.effort` ask for.

    Adaptive thinking without an effort is thinking at Anthropic's default effort, high.
    """
    config, thinking = request.inner("output_config"), request.inner("thinking")
    effort = None if config is None else config.text("effort")
    if effort in ("xhigh", "max"):
        effort = "high"
    if thinking is None:
        return Reasoning(effort)
    thinking.note_others(frozenset({"type", "budget_tokens", "display"}), notes)
    is_shown = thinking.text("display") != "omitted"
    match thinking.needed_text("type"):
        case "disabled":
            return Reasoning("none", is_shown=False)
        case "enabled":
            budget = thinking.integer("budget_tokens")
            if budget is None or budget < 1:
                raise thinking.wrong("budget_tokens", "a whole number of at least 1")
            return Reasoning(effort, budget, is_shown)
        case "adaptive" | "between_tools":
            return Reasoning(effort or "high", is_shown=is_shown)
    raise thinking.wrong("type", "enabled, adaptive or disabled")
