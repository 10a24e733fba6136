"""What clients ask in chat completions.

Instructions (system and developer messages) before the first other message stand above the conversation; later ones
stay in their place as turns marked `is_instruction`. Consecutive tool messages are one turn.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from trueport.gateway.translate.model import (
    Conversation,
    Media,
    OutputForm,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trueport.gateway.translate.openai_chat_answers import signature_of
from trueport.gateway.translate.openai_members import Members, Notes, document, image, sampling, sound
from trueport.gateway.translate.unknown import tellable

FEATURE_NAMES: Final = frozenset(
    {
        "allowed_tools", "audio_output", "custom_tool", "hosted_tool:web_search", "late_instructions", "logit_bias",
        "metadata", "moderation", "prediction", "prompt_cache", "service_tier", "store", "stored_file", "verbosity",
    }
)  # fmt: skip
"""Every name that reading a chat completion may put into `Conversation.features`."""

_PLAIN: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "functions",
        "function_call", "response_format", "reasoning_effort", "max_tokens", "max_completion_tokens", "temperature",
        "top_p", "stop", "seed", "frequency_penalty", "presence_penalty", "n", "logprobs", "top_logprobs", "user",
        "safety_identifier", "modalities",
    }
)  # fmt: skip
# Members that are features, and what they are when they ask for nothing.
_FEATURES: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "logit_bias": ("logit_bias", ({},)),
    "verbosity": ("verbosity", ("medium",)),
    "store": ("store", (False,)),
    "metadata": ("metadata", ({},)),
    "prediction": ("prediction", ()),
    "service_tier": ("service_tier", ("auto", "default")),
    "prompt_cache_key": ("prompt_cache", ("",)),
    "prompt_cache_retention": ("prompt_cache", ("in_memory",)),
    "prompt_cache_options": ("prompt_cache", ({},)),
    "moderation": ("moderation", ()),
    "web_search_options": ("hosted_tool:web_search", ()),
    "audio": ("audio_output", ()),
}
_EXTRAS: Final = frozenset({"logit_bias", "verbosity", "service_tier", "prediction"})
_KNOWN: Final = _PLAIN | _FEATURES.keys()
_MESSAGE: Final = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset(
        {
            "role", "content", "name", "refusal", "tool_calls", "function_call", "audio", "annotations",
            "reasoning_content", "reasoning",
        }
    ),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
    "function": frozenset({"role", "content", "name"}),
}  # fmt: skip


def read_conversation(members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
    """What a chat completion request means. Raises InvalidRequest that names what cannot be understood."""
    top, notes = Members(members), Notes()
    system, turns = _Messages(notes).read(top)
    top.note_others(_KNOWN, notes)
    extras = note_features(top, _FEATURES, _EXTRAS, notes)
    if "audio" in top.texts("modalities"):
        notes.features.add("audio_output")
    options = top.inner("stream_options")
    return Conversation(
        model=model,
        turns=turns,
        system=system,
        tools=_read_tools(top, notes),
        tool_choice=_read_tool_choice(top, notes),
        output=_read_output(top),
        reasoning=Reasoning(effort=top.text("reasoning_effort")),
        sampling=sampling(top, max_tokens=("max_completion_tokens", "max_tokens"), logprobs=top.flag("logprobs")),
        streams=streams,
        wants_usage=not streams or (options is not None and options.flag("include_usage") is True),
        user=top.text("safety_identifier") or top.text("user"),
        features=frozenset(notes.features),
        unknown=tellable(notes.unknown),
        extras=extras,
    )


def note_features(
    top: Members,
    features: Mapping[str, tuple[str, tuple[object, ...]]],
    extras: frozenset[str],
    notes: Notes,
) -> dict[str, object]:
    """Note the features among the request's members; returns those of `extras` that are used, with their values."""
    used = {}
    for name, (feature, idle) in features.items():
        value = top.values.get(name)
        if value is None or any(value == one and type(value) is type(one) for one in idle):
            continue
        notes.features.add(feature)
        if name in extras:
            used[name] = value
    return used


class _Messages:
    """Reads the messages in order, and remembers the calls that later results answer."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._names: dict[str, str] = {}
        self._legacy: dict[str, str] = {}

    def read(self, top: Members) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
        messages = top.objects("messages")
        if not messages:
            raise top.wrong("messages", "a list of at least one message")
        system: list[Text] = []
        turns: list[Turn] = []
        for number, message in enumerate(messages):
            role = message.needed_text("role")
            if role not in _MESSAGE:
                raise message.wrong("role", "one of " + ", ".join(_MESSAGE))
            message.note_others(_MESSAGE[role], self._notes)
            if role in ("system", "developer"):
                texts = self._texts(message)
                if not turns:
                    system += texts
                    continue
                self._notes.features.add("late_instructions")
                turns.append(Turn("user", texts, is_instruction=True))
            elif role == "user":
                turns.append(Turn("user", self._user_parts(message), name=message.text("name")))
            elif role == "assistant":
                turns.append(Turn("assistant", tuple(self._assistant_parts(message, number)), message.text("name")))
            else:
                add_result(turns, self._result(message, role))
        return tuple(system), tuple(turns)

    def _user_parts(self, message: Members) -> tuple[Part, ...]:
        if isinstance(message.values.get("content"), str):
            return self._texts(message)
        return tuple(part for member in message.objects("content") if (part := self._user_part(member)))

    def _user_part(self, part: Members) -> Text | Media | None:
        kind = part.needed_text("type")
        if kind == "text":
            part.note_others(frozenset({"type", "text"}), self._notes)
            text = part.needed_text("text")
            return Text(text) if text else None
        if kind == "image_url":
            part.note_others(frozenset({"type", "image_url"}), self._notes)
            address = part.needed_inner("image_url")
            return self._noted(image(address, "url", address.needed_text("url"), address.text("detail")))
        if kind == "input_audio":
            return sound(part)
        if kind == "file":
            return self._noted(document(part.needed_inner("file")))
        raise part.wrong("type", "text, image_url, input_audio or file")

    def _noted(self, media: Media) -> Media:
        return note_reference(media, self._notes)

    def _texts(self, message: Members) -> tuple[Text, ...]:
        """The content of a message that holds nothing but text. Empty texts say nothing and are left out."""
        content = message.values.get("content")
        if isinstance(content, str):
            return (Text(content),) if content else ()
        found = []
        for part in message.objects("content"):
            if part.needed_text("type") != "text":
                raise part.wrong("type", "text")
            part.note_others(frozenset({"type", "text"}), self._notes)
            found.append(Text(part.needed_text("text")))
        return tuple(text for text in found if text.text)

    def _assistant_parts(self, message: Members, number: int) -> Iterator[Part]:
        thought = message.text("reasoning_content") or message.text("reasoning")
        if thought:
            yield Thinking(thought)
        if message.has("audio"):
            # It names a sound kept at the provider that made it.
            self._notes.features.add("audio_output")
        content = message.values.get("content")
        if isinstance(content, str):
            yield from self._texts(message)
        else:
            for part in message.objects("content"):
                kind = part.needed_text("type")
                if kind not in ("text", "refusal"):
                    raise part.wrong("type", "text or refusal")
                said = part.needed_text(kind)
                if said:
                    yield Text(said) if kind == "text" else Refusal(said)
        refusal = message.text("refusal")
        if refusal:
            yield Refusal(refusal)
        yield from self._calls(message, number)

    def _calls(self, message: Members, number: int) -> Iterator[ToolCall]:
        for call in message.objects("tool_calls"):
            call.note_others(frozenset({"id", "type", "index", "function", "custom", "extra_content"}), self._notes)
            if call.text("type") == "custom":
                self._notes.features.add("custom_tool")
                continue
            function, call_id = call.needed_inner("function"), call.needed_text("id")
            self._names[call_id] = function.needed_text("name")
            yield ToolCall(call_id, self._names[call_id], function.text("arguments") or "", signature_of(call.values))
        legacy = message.inner("function_call")
        if legacy is not None:
            name = legacy.needed_text("name")
            # Such calls have no id; the message's place makes one that is the same each time.
            self._legacy[name] = f"call_{number}"
            yield ToolCall(self._legacy[name], name, legacy.text("arguments") or "")

    def _result(self, message: Members, role: str) -> ToolResult:
        texts = self._texts(message)
        if role == "function":
            name = message.needed_text("name")
            return ToolResult(self._legacy.get(name, f"call_{name}"), name, texts)
        call_id = message.needed_text("tool_call_id")
        return ToolResult(call_id, self._names.get(call_id) or message.text("name") or "", texts)


def note_reference(media: Media, notes: Notes) -> Media:
    """The same media, noted when they are kept at a provider and no other can get at them."""
    if media.reference is not None:
        notes.features.add("stored_file")
    return media


def add_result(turns: list[Turn], result: ToolResult) -> None:
    """Add what a tool answered: to the turn before, when that holds nothing but results, or as a turn of its own."""
    last = turns[-1] if turns else None
    if last is not None and last.parts and all(isinstance(part, ToolResult) for part in last.parts):
        turns[-1] = Turn("user", (*last.parts, result))
    else:
        turns.append(Turn("user", (result,)))


def _read_tools(top: Members, notes: Notes) -> tuple[Tool, ...]:
    tools = [_read_function(function, notes) for function in top.objects("functions")]
    for tool in top.objects("tools"):
        kind = tool.needed_text("type")
        if kind == "custom":
            notes.features.add("custom_tool")
            continue
        if kind != "function":
            raise tool.wrong("type", "function or custom")
        tool.note_others(frozenset({"type", "function"}), notes)
        tools.append(_read_function(tool.needed_inner("function"), notes))
    return tuple(tools)


def _read_function(function: Members, notes: Notes) -> Tool:
    function.note_others(frozenset({"name", "description", "parameters", "strict"}), notes)
    return Tool(
        name=function.needed_text("name"),
        description=function.text("description"),
        parameters=function.json("parameters"),
        is_strict=function.flag("strict"),
    )


def _read_tool_choice(top: Members, notes: Notes) -> ToolChoice:
    parallel = top.flag("parallel_tool_calls")
    one_at_a_time = None if parallel is None else not parallel
    name = "tool_choice"
    if top.has("functions") and not top.has("tools"):
        # The older form has room for one call in an answer.
        name, one_at_a_time = "function_call", True
    said = top.values.get(name)
    match said:
        case None:
            return ToolChoice(one_at_a_time=one_at_a_time)
        case "auto" | "none" | "required":
            mode: Literal["auto", "none", "required"] = said
            return ToolChoice(mode, one_at_a_time=one_at_a_time)
        case {"type": "allowed_tools"}:
            notes.features.add("allowed_tools")
            return ToolChoice(one_at_a_time=one_at_a_time)
        case {"type": "custom"}:
            notes.features.add("custom_tool")
            return ToolChoice(one_at_a_time=one_at_a_time)
        case {"type": "function", "function": {"name": str(tool)}}:
            return ToolChoice("named", tool, one_at_a_time)
        case {"name": str(tool)} if name == "function_call":
            return ToolChoice("named", tool, one_at_a_time)
    raise top.wrong(name, "auto, none, required or a function's name in an object")


def _read_output(top: Members) -> OutputForm:
    form = top.inner("response_format")
    if form is None:
        return OutputForm()
    kind = form.needed_text("type")
    if kind == "text":
        return OutputForm()
    if kind == "json_object":
        return OutputForm("json")
    if kind != "json_schema":
        raise form.wrong("type", "text, json_object or json_schema")
    return read_schema(form.needed_inner("json_schema"))


def read_schema(form: Members) -> OutputForm:
    """The schema an answer has to follow, as both chat completions and responses describe it."""
    return OutputForm(
        "schema",
        name=form.text("name"),
        schema=form.json("schema"),
        is_strict=form.flag("strict"),
        description=form.text("description"),
    )
