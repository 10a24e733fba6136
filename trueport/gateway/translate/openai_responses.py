"""OpenAI's Responses API: what clients of that form ask, read into the neutral form.

Instructions (system and developer messages) before the first other item stand above the conversation; later ones stay
in their place as turns marked `is_instruction`. Neighbouring items of the model (its reasoning, messages and calls)
are one turn, and so are neighbouring outputs of tools.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from trueport.gateway.translate.model import (
    Answer,
    Conversation,
    Format,
    Media,
    OutputForm,
    Part,
    Reasoning,
    Refusal,
    Shape,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trueport.gateway.translate.openai_chat_answers import new_number, unix_now
from trueport.gateway.translate.openai_chat_reading import add_result, note_features, note_reference, read_schema
from trueport.gateway.translate.openai_members import Members, Notes, document, image, sampling, sound
from trueport.gateway.translate.openai_responses_answers import write_answer
from trueport.gateway.translate.openai_responses_streams import ResponsesEncoder
from trueport.gateway.translate.openai_seal import unsealed
from trueport.gateway.translate.unknown import tellable

_HOSTED: Final = frozenset(
    {
        "web_search", "file_search", "computer", "mcp", "code_interpreter", "image_generation", "local_shell", "shell",
        "apply_patch", "tool_search", "programmatic_tool_calling", "other",
    }
)  # fmt: skip
FEATURE_NAMES: Final = frozenset(
    {
        "allowed_tools", "compacted_context", "context_management", "custom_tool", "late_instructions",
        "max_tool_calls", "metadata", "moderation", "prompt_cache", "service_tier", "store", "stored_file",
        "stored_state", "tool_namespace", "truncation", "unknown_item", "verbosity",
        *(f"hosted_tool:{name}" for name in _HOSTED),
    }
)  # fmt: skip
"""Every name that reading a Responses request may put into `Conversation.features`."""

_PLAIN: Final = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls",
        "text", "reasoning", "max_output_tokens", "temperature", "top_p", "top_logprobs", "include", "user",
        "safety_identifier",
    }
)  # fmt: skip
# Members that are features, and what they are when they ask for nothing. That answers are kept unless `store` says
# otherwise is not counted as asked for: a client that wants one back by its id is refused for that (stored_state).
_FEATURES: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "store": ("store", (False,)),
    "previous_response_id": ("stored_state", ()),
    "conversation": ("stored_state", ()),
    "prompt": ("stored_state", ()),
    "background": ("stored_state", (False,)),
    "metadata": ("metadata", ({},)),
    "service_tier": ("service_tier", ("auto", "default")),
    "prompt_cache_key": ("prompt_cache", ("",)),
    "prompt_cache_retention": ("prompt_cache", ("in_memory",)),
    "prompt_cache_options": ("prompt_cache", ({},)),
    "moderation": ("moderation", ()),
    "truncation": ("truncation", ("disabled",)),
    "max_tool_calls": ("max_tool_calls", ()),
    "context_management": ("context_management", ([],)),
}
_EXTRAS: Final = frozenset({"service_tier"})
_KNOWN: Final = _PLAIN | _FEATURES.keys()
# Items in which OpenAI has packed up a conversation's past, so that nobody else can read it.
_COMPACTED: Final = frozenset({"compaction", "compaction_summary", "compaction_trigger", "context_compaction"})
_ITEM: Final = frozenset({"type", "id", "status"})
_ECHOED: Final = (
    "instructions", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "top_p", "max_output_tokens",
    "max_tool_calls", "reasoning", "text", "truncation", "user", "safety_identifier", "prompt_cache_key",
    "top_logprobs", "include",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The Responses API, for clients.

    `now` gives the Unix time in seconds for answers that have none, `number` a fresh text for ids of such as have none.
    """

    now: Callable[[], int] = unix_now
    number: Callable[[], str] = new_number
    name: Format = "openai_responses"

    def read_request(self, members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
        """What a Responses request means. Raises InvalidRequest that names what cannot be understood."""
        top, notes = Members(members), Notes()
        top.note_others(_KNOWN, notes)
        extras = note_features(top, _FEATURES, _EXTRAS, notes)
        instructions = top.text("instructions")
        system, turns = _Items(notes).read(top)
        output, verbosity = _read_text(top, notes)
        most_logprobs = top.count("top_logprobs")
        asks_logprobs = "message.output_text.logprobs" in top.texts("include") or bool(most_logprobs)
        drawn = sampling(top, max_tokens=("max_output_tokens",), logprobs=True if asks_logprobs else None)
        return Conversation(
            model=model,
            turns=turns,
            system=((Text(instructions), *system) if instructions else system),
            tools=_read_tools(top, notes),
            tool_choice=_read_tool_choice(top, notes),
            output=output,
            reasoning=_read_reasoning(top, notes),
            # The other form's members are no part of this one, and stand among the unknown.
            sampling=replace(drawn, stop=(), seed=None, frequency_penalty=None, presence_penalty=None, candidates=None),
            streams=streams,
            user=top.text("safety_identifier") or top.text("user"),
            features=frozenset(notes.features),
            unknown=tellable(notes.unknown),
            extras=extras | verbosity,
        )

    def shape(self, members: Mapping[str, object], conversation: Conversation) -> Shape:
        """What answers repeat: most of the request, as the official SDKs' types require it."""
        echo = {name: members[name] for name in _ECHOED if members.get(name) is not None}
        tools = members.get("tools")
        if isinstance(tools, list):
            echo["tools"] = tools
        return Shape(
            model=str(members.get("model") or conversation.model),
            streams=conversation.streams,
            wants_usage=True,
            shows_thinking=conversation.reasoning.is_shown is True,
            echo=echo,
        )

    def write_answer(self, answer: Answer, shape: Shape) -> dict[str, object]:
        """A `response` object."""
        return write_answer(answer, shape, answer.created or self.now(), answer.id or self.number())

    def stream_encoder(self, shape: Shape) -> ResponsesEncoder:
        return ResponsesEncoder(shape, now=self.now, number=self.number)


class _Items:
    """Reads the input's items in order, and remembers the calls that later outputs answer."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._names: dict[str, str] = {}
        self._system: list[Text] = []
        self._turns: list[Turn] = []

    def read(self, top: Members) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
        said = top.values.get("input")
        if isinstance(said, str):
            return (), (Turn("user", (Text(said),) if said else ()),)
        items = top.objects("input")
        if not items and "stored_state" not in self._notes.features:
            raise top.wrong("input", "a string or a list of at least one item")
        for item in items:
            self._item(item)
        return tuple(self._system), tuple(self._turns)

    def _item(self, item: Members) -> None:
        kind = item.text("type") or ("message" if item.has("role") else "item_reference")
        if kind == "message":
            self._message(item)
        elif kind == "function_call":
            item.note_others(_ITEM | {"call_id", "name", "arguments"}, self._notes)
            call_id, name = item.needed_text("call_id"), item.needed_text("name")
            self._names[call_id] = name
            self._assistant(ToolCall(call_id, name, item.text("arguments") or ""))
        elif kind == "function_call_output":
            item.note_others(_ITEM | {"call_id", "name", "output"}, self._notes)
            call_id = item.needed_text("call_id")
            name = self._names.get(call_id) or item.text("name") or ""
            add_result(self._turns, ToolResult(call_id, name, self._output(item)))
        elif kind == "reasoning":
            self._reasoning(item)
        elif kind == "item_reference":
            self._notes.features.add("stored_state")
        elif kind in _COMPACTED:
            self._notes.features.add("compacted_context")
        elif kind.startswith("custom_tool_call"):
            self._notes.features.add("custom_tool")
        else:
            self._notes.features.add(_hosted(kind, otherwise="unknown_item"))

    def _message(self, item: Members) -> None:
        item.note_others(_ITEM | {"role", "content", "phase"}, self._notes)
        role = item.needed_text("role")
        if role in ("system", "developer"):
            texts = tuple(part for part in self._content(item, "content") if isinstance(part, Text))
            if self._turns:
                self._notes.features.add("late_instructions")
                self._turns.append(Turn("user", texts, is_instruction=True))
            else:
                self._system += texts
        elif role == "user":
            self._turns.append(Turn("user", self._content(item, "content")))
        elif role == "assistant":
            self._assistant(*self._said(item))
        else:
            raise item.wrong("role", "user, assistant, system or developer")

    def _assistant(self, *parts: Part) -> None:
        """Add to what the model said last, when nobody has said anything since."""
        if self._turns and self._turns[-1].role == "assistant":
            parts = (*self._turns.pop().parts, *parts)
        self._turns.append(Turn("assistant", parts))

    def _content(self, item: Members, name: str) -> tuple[Text | Media, ...]:
        said = item.values.get(name)
        if isinstance(said, str):
            return (Text(said),) if said else ()
        return tuple(part for member in item.objects(name) if (part := self._part(member)) is not None)

    def _part(self, part: Members) -> Text | Media | None:
        kind = part.needed_text("type")
        if kind in ("input_text", "output_text", "text"):
            text = part.needed_text("text")
            return Text(text) if text else None
        if kind == "input_image":
            part.note_others(frozenset({"type", "image_url", "file_id", "detail"}), self._notes)
            address, reference = part.text("image_url"), part.text("file_id")
            if address is not None:
                return note_reference(image(part, "image_url", address, part.text("detail")), self._notes)
            if reference is None:
                raise part.wrong("image_url", "given, or file_id")
            return note_reference(Media("image", reference=reference, detail=part.text("detail")), self._notes)
        if kind == "input_file":
            return note_reference(document(part), self._notes)
        if kind == "input_audio":
            return sound(part)
        raise part.wrong("type", "input_text, input_image, input_file or input_audio")

    def _said(self, item: Members) -> tuple[Part, ...]:
        said = item.values.get("content")
        if isinstance(said, str):
            return (Text(said),) if said else ()
        found: list[Text | Refusal] = []
        for part in item.objects("content"):
            kind = part.needed_text("type")
            if kind == "refusal":
                found.append(Refusal(part.needed_text("refusal")))
            elif kind in ("output_text", "input_text", "text"):
                found.append(Text(part.needed_text("text")))
            else:
                raise part.wrong("type", "output_text or refusal")
        return tuple(part for part in found if part.text)

    def _output(self, item: Members) -> tuple[Text | Media, ...]:
        if not item.has("output"):
            raise item.wrong("output", "a string or a list of content")
        return self._content(item, "output")

    def _reasoning(self, item: Members) -> None:
        item.note_others(_ITEM | {"summary", "content", "encrypted_content"}, self._notes)
        texts = [part.needed_text("text") for name in ("content", "summary") for part in item.objects(name)]
        self._assistant(unsealed(item.text("encrypted_content"), "".join(texts)))


def _hosted(kind: str, *, otherwise: str) -> str:
    """The feature that a tool of this type is, or a call or output of one: their types begin like the tool's own."""
    if kind.startswith("mcp_"):
        kind = "mcp"
    for name in sorted(_HOSTED, key=len, reverse=True):
        if kind == name or kind.startswith(f"{name}_"):
            return f"hosted_tool:{name}"
    return otherwise


def _read_tools(top: Members, notes: Notes) -> tuple[Tool, ...]:
    tools = []
    for tool in top.objects("tools"):
        kind = tool.needed_text("type")
        if kind == "custom":
            notes.features.add("custom_tool")
        elif kind == "namespace":
            notes.features.add("tool_namespace")
        elif kind != "function":
            notes.features.add(_hosted(kind, otherwise="hosted_tool:other"))
        else:
            tool.note_others(frozenset({"type", "name", "description", "parameters", "strict"}), notes)
            tools.append(
                Tool(
                    name=tool.needed_text("name"),
                    description=tool.text("description"),
                    parameters=tool.json("parameters"),
                    is_strict=tool.flag("strict"),
                )
            )
    return tuple(tools)


def _read_tool_choice(top: Members, notes: Notes) -> ToolChoice:
    parallel = top.flag("parallel_tool_calls")
    one_at_a_time = None if parallel is None else not parallel
    said = top.values.get("tool_choice")
    match said:
        case None:
            return ToolChoice(one_at_a_time=one_at_a_time)
        case "auto" | "none" | "required":
            mode: Literal["auto", "none", "required"] = said
            return ToolChoice(mode, one_at_a_time=one_at_a_time)
        case {"type": "function", "name": str(name)}:
            return ToolChoice("named", name, one_at_a_time)
        case {"type": "allowed_tools"}:
            feature = "allowed_tools"
        case {"type": "custom"}:
            feature = "custom_tool"
        case {"type": str(kind)} if kind != "function":
            feature = _hosted(kind, otherwise="hosted_tool:other")
        case _:
            raise top.wrong("tool_choice", "auto, none, required or a tool in an object")
    notes.features.add(feature)
    return ToolChoice(one_at_a_time=one_at_a_time)


def _read_text(top: Members, notes: Notes) -> tuple[OutputForm, dict[str, object]]:
    """The output's form, and how wordy it is to be under the name that chat completions have for it."""
    text = top.inner("text")
    if text is None:
        return OutputForm(), {}
    text.note_others(frozenset({"format", "verbosity"}), notes)
    verbosity = text.text("verbosity")
    extras: dict[str, object] = {}
    if verbosity not in (None, "medium"):
        notes.features.add("verbosity")
        extras["verbosity"] = verbosity
    form = text.inner("format")
    kind = "text" if form is None else form.needed_text("type")
    if form is None or kind == "text":
        return OutputForm(), extras
    if kind == "json_object":
        return OutputForm("json"), extras
    if kind != "json_schema":
        raise form.wrong("type", "text, json_object or json_schema")
    return read_schema(form), extras


def _read_reasoning(top: Members, notes: Notes) -> Reasoning:
    reasoning = top.inner("reasoning")
    if reasoning is None:
        return Reasoning()
    reasoning.note_others(frozenset({"effort", "summary", "generate_summary"}), notes)
    summary = reasoning.text("summary") or reasoning.text("generate_summary")
    return Reasoning(effort=reasoning.text("effort"), is_shown=summary is not None)
