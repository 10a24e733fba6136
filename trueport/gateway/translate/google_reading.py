"""Requests as Google's clients send them, understood.

Members are read in camelCase and in snake_case, as Google's own JSON parser does.

Source: https://ai.google.dev/api/generate-content and Vertex AI's GenerateContentRequest.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from trueport.gateway.translate.calls import json_text
from trueport.gateway.translate.ids import counted_call_id
from trueport.gateway.translate.model import (
    Conversation,
    JsonObject,
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
from trueport.gateway.translate.schema import from_openapi
from trueport.gateway.translate.unknown import tellable
from trueport.kit.errors import InvalidRequest

_SNAKE: Final = re.compile(r"_([a-z0-9])")
_KNOWN: Final = frozenset(
    {
        "model", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings",
        "cachedContent", "labels", "serviceTier",
    }
)  # fmt: skip
_KNOWN_CONFIG: Final = frozenset(
    {
        "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "seed", "frequencyPenalty",
        "presencePenalty", "candidateCount", "responseMimeType", "responseSchema", "responseJsonSchema",
        "responseLogprobs", "logprobs", "thinkingConfig", "responseModalities", "speechConfig", "imageConfig",
        "mediaResolution",
    }
)  # fmt: skip
_FEATURES: Final = {
    "safetySettings": "safety_settings",
    "cachedContent": "stored_state",
    "labels": "labels",
    "serviceTier": "service_tier",
}
_CONFIG_FEATURES: Final = {
    "speechConfig": "audio_output",
    "imageConfig": "image_output",
    "mediaResolution": "media_resolution",
}
_HOSTED: Final = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "enterpriseWebSearch": "web_search",
    "codeExecution": "code_interpreter",
    "computerUse": "computer",
    "mcpServers": "mcp",
}
# Parts that only tools which run at Google leave behind.
_HOSTED_PARTS: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
_IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".heic", ".heif")
_NOTHING: Final[tuple[object, ...]] = (None, [], {}, "")
_EFFORTS: Final = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "high"}


def camel(members: Members) -> Members:
    """The members under their names in camelCase; the same member in snake_case counts where that is missing."""
    names = {_SNAKE.sub(lambda found: found[1].upper(), name): value for name, value in members.values.items()}
    return Members(names | {name: members.values[name] for name in names if name in members.values}, members.path)


def read_conversation(members: Mapping[str, object], model: str, *, streams: bool) -> Conversation:
    """What a request means. Raises InvalidRequest that names the member which cannot be understood."""
    request, notes = camel(Members(members)), Notes()
    request.note_others(_KNOWN, notes)
    config = _inner(request, "generationConfig") or Members({}, "generationConfig")
    config.note_others(_KNOWN_CONFIG, notes)
    notes.features.update(feature for name, feature in _FEATURES.items() if request.values.get(name) not in _NOTHING)
    notes.features.update(
        feature for name, feature in _CONFIG_FEATURES.items() if config.values.get(name) not in _NOTHING
    )
    notes.features.update(_modalities(config))
    contents = [camel(content) for content in request.objects("contents")]
    if not contents:
        raise InvalidRequest("contents must have at least one content.", param="contents")
    reader = _PartReader(contents, notes)
    tools = tuple(_tools(request, notes))
    choice, allowed = _tool_choice(request, notes)
    return Conversation(
        model=model,
        turns=tuple(reader.turn(content) for content in contents),
        system=tuple(_system(request)),
        tools=tuple(tool for tool in tools if not allowed or tool.name in allowed),
        tool_choice=choice,
        output=_output(config, notes),
        reasoning=_reasoning(config, notes),
        sampling=_sampling(config),
        streams=streams,
        features=frozenset(notes.features),
        unknown=tellable(notes.unknown),
    )


def _inner(members: Members, name: str) -> Members | None:
    found = members.inner(name)
    return None if found is None else camel(found)


def _needed(members: Members, name: str) -> Members:
    return camel(members.needed_inner(name))


def _sampling(config: Members) -> Sampling:
    top_k = config.number("topK")
    if top_k is not None and (top_k < 0 or top_k != int(top_k)):
        raise config.wrong("topK", "a whole number of at least 0")
    return Sampling(
        max_tokens=config.count("maxOutputTokens"),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=None if top_k is None else int(top_k),
        stop=config.texts("stopSequences"),
        seed=config.integer("seed"),
        frequency_penalty=config.number("frequencyPenalty"),
        presence_penalty=config.number("presencePenalty"),
        candidates=config.count("candidateCount"),
        logprobs=config.flag("responseLogprobs"),
        top_logprobs=config.count("logprobs"),
    )


def _modalities(config: Members) -> Iterator[str]:
    for modality in config.texts("responseModalities"):
        if modality.upper() not in ("TEXT", "MODALITY_UNSPECIFIED"):
            yield "audio_output" if modality.upper() == "AUDIO" else "image_output"


def _output(config: Members, notes: Notes) -> OutputForm:
    kind = config.text("responseMimeType")
    openapi, schema = config.json("responseSchema"), config.json("responseJsonSchema")
    if openapi is not None and schema is None:
        schema = from_openapi(openapi)
    if kind not in (None, "", "text/plain", "application/json"):
        notes.features.add("output_media_type")
    if schema is not None:
        return OutputForm("schema", schema=schema, is_strict=True)
    return OutputForm("json") if kind == "application/json" else OutputForm()


def _reasoning(config: Members, notes: Notes) -> Reasoning:
    thinking = _inner(config, "thinkingConfig")
    if thinking is None:
        return Reasoning()
    thinking.note_others(frozenset({"thinkingBudget", "thinkingLevel", "includeThoughts"}), notes)
    budget = thinking.integer("thinkingBudget")
    if budget is not None and budget < 0:
        budget = None  # -1: as much as the model thinks fit, which is what it does unasked
    effort = _EFFORTS.get((thinking.text("thinkingLevel") or "").upper())
    return Reasoning(effort, budget, thinking.flag("includeThoughts"))


def _system(request: Members) -> Iterator[Text]:
    if isinstance(request.values.get("systemInstruction"), str):
        yield Text(request.needed_text("systemInstruction"))
        return
    instruction = _inner(request, "systemInstruction")
    if instruction is not None:
        for part in instruction.objects("parts"):
            yield Text(part.needed_text("text"))


# Tools


def _tools(request: Members, notes: Notes) -> Iterator[Tool]:
    for listed in request.objects("tools"):
        tool = camel(listed)
        for name, value in tool.values.items():
            if name != "functionDeclarations" and value is not None:
                notes.features.add(f"hosted_tool:{_HOSTED.get(name, 'other')}")
        for declared in tool.objects("functionDeclarations"):
            function = camel(declared)
            function.note_others(frozenset({"name", "description", "parameters", "parametersJsonSchema"}), notes)
            yield Tool(function.needed_text("name"), function.text("description"), _parameters(function))


def _parameters(function: Members) -> JsonObject | None:
    schema, openapi = function.json("parametersJsonSchema"), function.json("parameters")
    if schema is None and openapi is not None:
        return from_openapi(openapi)
    return schema


def _tool_choice(request: Members, notes: Notes) -> tuple[ToolChoice, tuple[str, ...]]:
    """What may be called, and the names of the functions that it is limited to; none of them for all."""
    settings = _inner(request, "toolConfig")
    if settings is None:
        return ToolChoice(), ()
    settings.note_others(frozenset({"functionCallingConfig"}), notes)
    calling = _inner(settings, "functionCallingConfig")
    if calling is None:
        return ToolChoice(), ()
    allowed = calling.texts("allowedFunctionNames")
    match (calling.text("mode") or "AUTO").upper():
        case "ANY":
            return (ToolChoice("named", allowed[0]) if len(allowed) == 1 else ToolChoice("required")), allowed
        case "NONE":
            return ToolChoice("none"), ()
        case "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED":
            return ToolChoice("auto"), allowed
    raise calling.wrong("mode", "AUTO, ANY, NONE or VALIDATED")


# Contents


class _PartReader:
    """Reads contents in order, and keeps the calls in them that no response has answered yet."""

    def __init__(self, contents: Sequence[Members], notes: Notes) -> None:
        self._notes = notes
        self._taken = frozenset(_call_ids(contents))
        self._calls = 0
        self._unanswered: list[list[ToolCall]] = []

    def turn(self, content: Members) -> Turn:
        content.note_others(frozenset({"role", "parts"}), self._notes)
        role = content.text("role") or "user"
        if role not in ("user", "model", "function"):
            raise content.wrong("role", "user or model")
        if role == "model":
            self._unanswered.append([])
        parts = [part for listed in content.objects("parts") for part in self._parts(camel(listed), role)]
        return Turn("assistant" if role == "model" else "user", tuple(parts))

    def _parts(self, part: Members, role: str) -> Iterator[Part]:
        if any(part.has(name) for name in _HOSTED_PARTS):
            self._notes.features.add("hosted_tool_history")
        if part.has("videoMetadata"):
            self._notes.features.add("video_input")
        if part.has("functionCall"):
            yield self._call(part, role)
        elif part.has("functionResponse"):
            yield from self._result(_needed(part, "functionResponse"))
        elif part.has("inlineData") or part.has("fileData"):
            media = self._media(part)
            if media is not None:
                yield media
        elif part.has("text"):
            yield _text(part)

    def _call(self, part: Members, role: str) -> ToolCall:
        call = _needed(part, "functionCall")
        if role != "model":
            raise part.wrong("functionCall", "in a content of the model")
        call_id = call.text("id") or counted_call_id(self._calls, self._taken)
        self._calls += 1
        arguments = json_text(call.json("args") or {})
        found = ToolCall(call_id, call.needed_text("name"), arguments, part.text("thoughtSignature"))
        self._unanswered[-1].append(found)
        return found

    def _result(self, response: Members) -> Iterator[Part]:
        name = response.needed_text("name")
        call = self._answered(response.text("id"), name)
        if call is None:
            raise response.wrong("name", "the name of a function that the model called before and has no answer yet")
        text, is_error = _response_text(response.json("response") or {})
        media = tuple(found for part in response.objects("parts") if (found := self._media(camel(part))) is not None)
        yield ToolResult(call.id, name, (Text(text), *media), is_error)

    def _answered(self, call_id: str | None, name: str) -> ToolCall | None:
        """The call that is answered: by its id, else the first of the name in the latest turn that has one."""
        for calls in reversed(self._unanswered):
            for by_id in (True, False):
                for call in calls:
                    if call.id == call_id if by_id else call.name == name:
                        calls.remove(call)
                        return call
        return None

    def _media(self, part: Members) -> Media | None:
        """The media in a part; None for a video, which is a feature."""
        inline = _inner(part, "inlineData")
        if inline is not None:
            data = inline.needed_text("data").replace("-", "+").replace("_", "/")
            data += "=" * (-len(data) % 4)
            check_base64(inline, "data", data)
            media_type = inline.needed_text("mimeType")
            kind = _kind(media_type)
            if kind is not None:
                return Media(kind, media_type, data, name=inline.text("displayName"))
        elif part.has("fileData"):
            return self._file(_needed(part, "fileData"))
        self._notes.features.add("video_input")
        return None

    def _file(self, file: Members) -> Media | None:
        uri, media_type, name = file.needed_text("fileUri"), file.text("mimeType"), file.text("displayName")
        looks_like_image = uri.lower().partition("?")[0].endswith(_IMAGE_SUFFIXES)
        kind = _kind(media_type or ("image/*" if looks_like_image else "application/*"))
        host = _host(uri)
        if kind is None or host.endswith(("youtube.com", "youtu.be")):
            self._notes.features.add("video_input")
            return None
        if not host or host.endswith("generativelanguage.googleapis.com"):
            self._notes.features.add("stored_file")
            return Media(kind, media_type, reference=uri, name=name)
        return Media(kind, media_type, url=uri, name=name)


def _call_ids(contents: Sequence[Members]) -> Iterator[str]:
    for content in contents:
        for part in content.objects("parts"):
            call = camel(part).values.get("functionCall")
            if isinstance(call, dict) and isinstance(call_id := call.get("id"), str):
                yield call_id


def _text(part: Members) -> Part:
    text = part.needed_text("text")
    if not part.flag("thought"):
        return Text(text)
    signature = part.text("thoughtSignature")
    return Thinking(text, signature, None, "google" if signature else None)


def _response_text(response: JsonObject) -> tuple[str, bool]:
    """What a function answered as text, and whether that is an error.

    A single text under one of the names that Google's documentation and libraries use stands for itself; anything
    else is its own JSON.
    """
    if len(response) == 1:
        ((name, value),) = response.items()
        if isinstance(value, str) and name in ("result", "output", "error"):
            return value, name == "error"
    return json_text(response), False


def _kind(media_type: str) -> Literal["image", "audio", "document"] | None:
    match media_type.partition("/")[0].lower():
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return None
    return "document"


def _host(uri: str) -> str:
    """The host of an http(s) address, empty for any other kind of reference."""
    try:
        parts = urlsplit(uri)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""
