"""What an event of each client form says: the pieces of texts in it, and which texts it ends.

Sources: the streaming references of the three wires, as gateway/translate/*_streams.py name them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from trueport.detection.types import Role
from trueport.gateway.call import Wire
from trueport.gateway.texts.model import Keys

ClientForm = Literal["openai_chat", "openai_completions", "openai_responses", "anthropic", "google_sse", "google_array"]
ChannelName = tuple[str | int, ...]
"""Such as ("choice", 0, "content"): what comes before tells whose it is."""

_REASONING: Final = frozenset({"reasoning", "reasoning_content", "thinking", "reasoning_text", "reasoning_details"})
_NO_TEXT: Final = frozenset({"role", "type", "id", "signature", "index"})


@dataclass(frozen=True, slots=True)
class Slot:
    """Where in an event a piece of a channel's text stands."""

    keys: Keys
    text: str
    channel: ChannelName
    role: Role = "assistant"
    is_json: bool = False
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """What the guard has to know about an event.

    Events of one lane keep their order among themselves; those without one keep it with all others. `ends` are
    beginnings of channel names: those channels are over behind this event's own pieces. `says_nothing` is an event
    that only keeps the line warm.
    """

    lane: int | None = None
    slots: Sequence[Slot] = ()
    ends: Sequence[ChannelName] = ()
    says_nothing: bool = False


Reader = Callable[[str, Mapping[str, Any]], Marks]


@dataclass(frozen=True, slots=True)
class Form:
    """`repeats` when whole texts come again at the end."""

    wire: Wire
    read: Reader
    is_array: bool = False
    repeats: bool = False


def _chat(name: str, chunk: Mapping[str, Any]) -> Marks:  # noqa: ARG001 - these events have no names
    slots: list[Slot] = []
    ends: list[ChannelName] = [()] if chunk.get("error") is not None else []
    lanes = set()
    for place, choice in enumerate(_objects(chunk.get("choices"))):
        index = _number(choice.get("index"))
        lanes.add(index)
        _chat_delta(choice.get("delta"), ("choices", place, "delta"), index, slots)
        if choice.get("finish_reason") is not None:
            ends.append(("choice", index))
    return Marks(lanes.pop() if len(lanes) == 1 else None, slots, ends)


def _chat_delta(delta: object, keys: Keys, index: int, slots: list[Slot]) -> None:
    for member, inner in delta.items() if isinstance(delta, dict) else ():
        channel = ("choice", index, member)
        role: Role = "reasoning" if member in _REASONING else "assistant"
        if member == "tool_calls":
            _chat_calls(inner, (*keys, member), index, slots)
        elif member == "function_call":
            _chat_function(inner, (*keys, member), channel, slots)
        elif isinstance(inner, str):
            if member not in _NO_TEXT:
                slots.append(Slot((*keys, member), inner, channel, role))
        elif isinstance(inner, dict) and isinstance(inner.get("transcript"), str):
            slots.append(Slot((*keys, member, "transcript"), inner["transcript"], (*channel, "transcript")))
        elif isinstance(inner, list):
            _content_parts(inner, (*keys, member), channel, role, slots)


def _content_parts(parts: list[Any], keys: Keys, channel: ChannelName, role: Role, slots: list[Slot]) -> None:
    """Content or reasoning as a list of typed parts, as some servers write it."""
    for place, part in enumerate(parts):
        for member, inner in part.items() if isinstance(part, dict) else ():
            own: Role = "reasoning" if member in _REASONING else role
            if isinstance(inner, str):
                if member in ("text", "thinking", "summary", "content"):
                    slots.append(Slot((*keys, place, member), inner, (*channel, member), own))
            elif isinstance(inner, list):
                _content_parts(inner, (*keys, place, member), (*channel, member), own, slots)


def _chat_calls(calls: object, keys: Keys, index: int, slots: list[Slot]) -> None:
    for place, call in enumerate(_objects(calls)):
        number = call.get("index")
        channel = ("choice", index, "call", number if type(number) is int else place)
        _chat_function(call.get("function"), (*keys, place, "function"), channel, slots)
        custom = call.get("custom")
        if isinstance(custom, dict) and isinstance(custom.get("input"), str):
            slots.append(Slot((*keys, place, "custom", "input"), custom["input"], (*channel, "input"), "tool_call"))


def _chat_function(function: object, keys: Keys, channel: ChannelName, slots: list[Slot]) -> None:
    if not isinstance(function, dict):
        return
    if isinstance(name := function.get("name"), str):
        slots.append(Slot((*keys, "name"), name, (*channel, "name"), "tool_call"))
    if isinstance(arguments := function.get("arguments"), str):
        slots.append(Slot((*keys, "arguments"), arguments, (*channel, "arguments"), "tool_call", is_json=True))


def _completions(name: str, chunk: Mapping[str, Any]) -> Marks:  # noqa: ARG001 - these events have no names
    slots: list[Slot] = []
    ends: list[ChannelName] = [()] if chunk.get("error") is not None else []
    lanes = set()
    for place, choice in enumerate(_objects(chunk.get("choices"))):
        index = _number(choice.get("index"))
        lanes.add(index)
        for member, inner in choice.items():
            if isinstance(inner, str) and member not in ("finish_reason", "index"):
                role: Role = "reasoning" if member in _REASONING else "assistant"
                slots.append(Slot(("choices", place, member), inner, ("choice", index, member), role))
        if choice.get("finish_reason") is not None:
            ends.append(("choice", index))
    return Marks(lanes.pop() if len(lanes) == 1 else None, slots, ends)


_LAST: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}
)
# Not `item_id`: some hosts give every event another one.
_PLACES: Final = ("content_index", "summary_index")


def _responses(name: str, event: Mapping[str, Any]) -> Marks:
    kind = _text(event.get("type")) or name
    place = event.get("output_index")
    item: ChannelName = ("item", place if type(place) is int else _text(event.get("item_id")))
    stem, _, what = kind.rpartition(".")
    own: ChannelName = (*item, stem, *(str(event.get(place)) for place in _PLACES))
    if what == "delta" and isinstance(event.get("delta"), str) and not stem.endswith("audio"):
        is_json = stem.endswith("_arguments")
        role: Role = "reasoning" if "reasoning" in stem else "tool_call" if is_json or "call" in stem else "assistant"
        return Marks(0, [Slot(("delta",), event["delta"], own, role, is_json=is_json)])
    if kind in _LAST or event.get("error") is not None:
        return Marks(0, ends=[()])
    if kind == "response.output_item.done":
        return Marks(0, ends=[item])
    return Marks(0, ends=[own] if what == "done" else ())


# One text may be spread over blocks: each that quotes something is one of its own.
_ANTHROPIC_TEXT: Final[ChannelName] = ("text",)


def _anthropic(name: str, event: Mapping[str, Any]) -> Marks:
    kind = name or _text(event.get("type"))
    said = _text(event.get("type")) or kind
    index = _number(event.get("index"))
    slots: list[Slot] = []
    ends: list[ChannelName] = []
    # The SDKs go by the event's name, others by what the data says.
    for one in {kind, said}:
        match one:
            case "ping":
                return Marks(0, says_nothing=set(event) == {"type"} and kind == said)
            case "content_block_start":
                block = event.get("content_block")
                _anthropic_texts(block, ("content_block",), index, slots)
                if not (isinstance(block, dict) and block.get("type") == "text"):
                    ends.append(_ANTHROPIC_TEXT)
            case "content_block_delta":
                _anthropic_texts(event.get("delta"), ("delta",), index, slots)
            case "content_block_stop":
                ends.append(("block", index))
            case "message_delta" | "message_stop" | "error":
                ends.append(())
    return Marks(0, slots, ends)


def _anthropic_texts(held: object, keys: Keys, index: int, slots: list[Slot]) -> None:
    for member, inner in held.items() if isinstance(held, dict) else ():
        # Of a block that begins, only what its deltas go on with; everything else stands in it whole.
        is_text = member in ("text", "thinking") or (keys == ("delta",) and member not in _NO_TEXT)
        if isinstance(inner, str) and is_text:
            is_thought, is_json = member == "thinking", member == "partial_json"
            role: Role = "reasoning" if is_thought else "tool_call" if is_json else "assistant"
            channel = _ANTHROPIC_TEXT if member == "text" else ("block", index, member)
            slots.append(Slot((*keys, member), inner, channel, role, is_json, is_thought))


def _google(name: str, chunk: Mapping[str, Any]) -> Marks:  # noqa: ARG001 - these events have no names
    slots: list[Slot] = []
    feedback = chunk.get("promptFeedback")
    is_blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
    ends: list[ChannelName] = [()] if is_blocked or chunk.get("error") is not None else []
    lanes = set()
    for place, candidate in enumerate(_objects(chunk.get("candidates"))):
        index = candidate.get("index")
        index = index if type(index) is int else place
        lanes.add(index)
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for number, part in enumerate(_objects(parts)):
            if isinstance(text := part.get("text"), str):
                is_thought = part.get("thought") is True
                is_signed = is_thought and ("thoughtSignature" in part or "thought_signature" in part)
                keys: Keys = ("candidates", place, "content", "parts", number, "text")
                channel = ("candidate", index, "thought" if is_thought else "text")
                slots.append(Slot(keys, text, channel, "reasoning" if is_thought else "assistant", False, is_signed))
        if candidate.get("finishReason") or candidate.get("finish_reason"):
            ends.append(("candidate", index))
    return Marks(lanes.pop() if len(lanes) == 1 else None, slots, ends)


def _objects(value: object) -> list[Any]:
    """A list whose elements can be asked for members; what is no object is one without any."""
    return [one if isinstance(one, dict) else {} for one in value] if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if type(value) is int else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


FORMS: Final[Mapping[ClientForm, Form]] = {
    "openai_chat": Form("openai", _chat),
    "openai_completions": Form("openai", _completions),
    "openai_responses": Form("openai", _responses, repeats=True),
    "anthropic": Form("anthropic", _anthropic),
    "google_sse": Form("google", _google),
    "google_array": Form("google", _google, is_array=True),
}
