"""The request bodies the simulator understands, and OpenAI's complaints about those it does not.

Unknown members are ignored, as the simulator needs few of the known ones.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from trueport.simulator.errors import Refused, error_reply

Positive = Annotated[int, msgspec.Meta(ge=1)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]


class Part(msgspec.Struct):
    """One part of a message that is not plain text: text, an image, audio, a file."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class JsonSchema(msgspec.Struct):
    name: str
    schema: dict[str, object] | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class OfferedFunction(msgspec.Struct):
    name: str
    parameters: dict[str, object] | None = None


class OfferedTool(msgspec.Struct):
    """A tool as far as it is read; the kinds that are no functions have no `function`."""

    function: OfferedFunction | None = None


_TOOL: Final = msgspec.json.Decoder(OfferedTool)


class ChatRequest(msgspec.Struct):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | dict[str, object] | None = None
    response_format: ResponseFormat | None = None

    def texts(self) -> Iterator[str]:
        """Every text of every message, in order."""
        for message in self.messages:
            content = message.content
            if isinstance(content, str):
                yield content
            elif content is not None:
                yield from (part.text for part in content if part.text is not None)

    def limit(self) -> int | None:
        """The most tokens an answer may have."""
        return self.max_completion_tokens or self.max_tokens

    def may_call_tools(self) -> bool:
        """Whether tools are offered and this is not the turn that reads their results."""
        return bool(self.tools) and self.tool_choice != "none" and self.messages[-1].role not in ("tool", "function")

    def forced_function(self) -> OfferedFunction | None:
        """The function that the request insists on. Raises Refused when the tools cannot be read."""
        choice = self.tool_choice
        if choice != "required" and not (isinstance(choice, dict) and choice.get("type") == "function"):
            return None
        named = choice.get("function") if isinstance(choice, dict) else None
        wanted = named.get("name") if isinstance(named, dict) else None
        offered = [decode(bytes(tool), _TOOL).function for tool in self.tools or ()]
        return next((one for one in offered if one is not None and wanted in (None, one.name)), None)


class CompletionRequest(msgspec.Struct):
    model: str
    prompt: msgspec.Raw = msgspec.Raw(b'""')
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None


class EmbeddingRequest(msgspec.Struct):
    model: str
    input: msgspec.Raw
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=16384)] | None = None


class ModerationRequest(msgspec.Struct):
    input: str | Annotated[list[str | Part], msgspec.Meta(min_length=1)]
    model: str = "omni-moderation-latest"


Body = TypeVar("Body", bound=msgspec.Struct)

_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_PLACE: Final = re.compile(r"`\$\.?([^`]*)`$")


def decode(body: bytes, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """`body` as a request. Raises Refused with OpenAI's 400 when it is no JSON or no such request."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _complaint(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
        raise Refused(error_reply(400, message)) from error


def inputs(raw: msgspec.Raw, param: str) -> list[str]:
    """The texts of a prompt or an embedding input; a list of token ids counts as the text of its numbers.

    Raises Refused when it is anything else, or empty.
    """
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise _invalid_input(param) from error
    match value:
        case str():
            return [value]
        case [int(), *_]:
            return [_as_text(value, param)]
        case [_, *_]:
            return [_as_text(one, param) for one in value]
        case _:
            raise _invalid_input(param)


def _as_text(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(type(token) is int for token in value):
        return " ".join(map(str, value))
    raise _invalid_input(param)


def _invalid_input(param: str) -> Refused:
    return Refused(error_reply(400, f"Invalid '{param}': expected text or token ids.", param=param))


def _complaint(message: str) -> Refused:
    missing = _MISSING.match(message)
    place = _PLACE.search(message)
    inside = place[1] if place else ""
    if missing is None:
        return Refused(error_reply(400, f"Invalid value: {message}.", param=inside or None, code="invalid_value"))
    param = f"{inside}.{missing[1]}" if inside else missing[1]
    return Refused(
        error_reply(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    )
