"""The bodies of Anthropic's requests, and its complaints about those that are none."""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from trueport.simulator.anthropic.errors import error_reply
from trueport.simulator.errors import Refused
from trueport.simulator.signing import is_genuine
from trueport.simulator.usage import count_tokens

# What stands for an image or a document whose text cannot be read, in tokens.
_TOKENS_PER_PICTURE: Final = 1_500
_TOKENS_PER_MESSAGE: Final = 3
_TOKENS_FOR_TOOLS: Final = 30
_LEAST_THINKING: Final = 1_024


class CacheControl(msgspec.Struct):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(msgspec.Struct):
    """One block of content; members the simulator does not read are ignored."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    content: "str | list[Block] | dict[str, object] | None" = None
    source: dict[str, object] | None = None
    cache_control: CacheControl | None = None

    def texts(self) -> Iterator[str]:
        """The texts in this block and those inside it; thoughts are not among them."""
        if self.text is not None:
            yield self.text
        if isinstance(self.content, str):
            yield self.content
        elif isinstance(self.content, list):
            for inner in self.content:
                yield from inner.texts()
        if self.source is not None and self.source.get("type") == "text":
            yield str(self.source.get("data", ""))

    def tokens(self) -> int:
        """The tokens of the texts, of a tool call's arguments, and of pictures."""
        total = sum(map(count_tokens, self.texts()))
        if self.type == "tool_use":
            total += count_tokens(self.name or "") + count_tokens(bytes(self.input).decode("utf-8", "replace"))
        return total + _TOKENS_PER_PICTURE * self._pictures()

    def _pictures(self) -> int:
        inner = sum(block._pictures() for block in self.content) if isinstance(self.content, list) else 0
        has_text = self.source is not None and self.source.get("type") == "text"
        return inner + (self.type in ("image", "document") and not has_text)


class Message(msgspec.Struct):
    role: Literal["user", "assistant"]
    content: str | list[Block]

    def blocks(self) -> list[Block]:
        return [Block("text", text=self.content)] if isinstance(self.content, str) else self.content


class Tool(msgspec.Struct):
    name: str
    type: str | None = None
    input_schema: dict[str, object] | None = None
    cache_control: CacheControl | None = None


class ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(msgspec.Struct):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: str | None = None


class Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: dict[str, object]


class OutputConfig(msgspec.Struct):
    format: Format | None = None


class CountRequest(msgspec.Struct):
    """What can be counted: everything a model reads."""

    model: str
    messages: list[Message]
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None

    def system_blocks(self) -> list[Block]:
        if self.system is None:
            return []
        return [Block("text", text=self.system)] if isinstance(self.system, str) else self.system

    def blocks(self) -> Iterator[Block]:
        """Every block in the order the model reads them: the system prompt, then the messages."""
        yield from self.system_blocks()
        for message in self.messages:
            yield from message.blocks()

    def texts(self) -> Iterator[str]:
        """Every text, in order."""
        for block in self.blocks():
            yield from block.texts()

    def tokens(self) -> int:
        """All input tokens."""
        blocks = sum(block.tokens() for block in self.blocks())
        return blocks + _TOKENS_PER_MESSAGE * len(self.messages) + sum(map(_tool_tokens, self.tools or ()))

    def is_thinking(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"

    def may_call_tools(self) -> bool:
        """Whether tools are offered and this is not the turn that reads their results."""
        if not self.tools or (self.tool_choice is not None and self.tool_choice.type == "none"):
            return False
        return not any(block.type == "tool_result" for block in self.messages[-1].blocks())

    def forced_tool(self) -> Tool | None:
        """The tool that the request insists on."""
        choice = self.tool_choice
        if choice is None or choice.type not in ("any", "tool"):
            return None
        return next((tool for tool in self.tools or () if choice.name in (None, tool.name)), None)

    def schema(self) -> Mapping[str, object] | None:
        """The JSON schema that the answer is to follow."""
        form = self.output_format or (self.output_config and self.output_config.format)
        return form.schema if form else None


class MessageRequest(CountRequest, kw_only=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    service_tier: str | None = None

    def check(self) -> None:
        """Raise Refused for what the types of a request cannot say."""
        check_messages(self)
        thinking = self.thinking
        if thinking is None or thinking.type != "enabled":
            return
        if thinking.budget_tokens is None:
            raise _invalid("thinking.enabled.budget_tokens: Field required")
        if thinking.budget_tokens < _LEAST_THINKING:
            raise _invalid(
                f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_THINKING}"
            )
        if thinking.budget_tokens >= self.max_tokens:
            raise _invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


class Prefix(msgspec.Struct):
    """The part of a prompt up to a cache breakpoint: which it is, how long, and for how long it is to be kept."""

    digest: str
    tokens: int
    for_an_hour: bool


def cached_prefixes(request: CountRequest) -> list[Prefix]:
    """The prefixes that end in a `cache_control`, in order; the digest covers the model as well."""
    running = sha256(request.model.encode("utf-8", "surrogatepass"))
    prefixes: list[Prefix] = []
    tokens = 0

    def read(text: str, more: int, control: CacheControl | None) -> None:
        nonlocal tokens
        running.update(b"\0" + text.encode("utf-8", "surrogatepass"))
        tokens += more
        if control is not None:
            prefixes.append(Prefix(running.hexdigest(), tokens, control.ttl == "1h"))

    for tool in request.tools or ():
        read(tool.name, _tool_tokens(tool), tool.cache_control)
    for block in request.system_blocks():
        read("\n".join(block.texts()), block.tokens(), block.cache_control)
    for message in request.messages:
        tokens += _TOKENS_PER_MESSAGE
        for block in message.blocks():
            read("\n".join(block.texts()), block.tokens(), block.cache_control)
    return prefixes


def _tool_tokens(tool: Tool) -> int:
    return _TOKENS_FOR_TOOLS + count_tokens(msgspec.json.encode(tool.input_schema or {}).decode())


def check_messages(request: CountRequest) -> None:
    """Raise Refused for a conversation Anthropic would not read."""
    if not request.messages:
        raise _invalid("messages: at least one message is required")
    called: set[str | None] = set()
    for number, message in enumerate(request.messages):
        for place, block in enumerate(message.blocks()):
            where = f"messages.{number}.content.{place}"
            if block.type == "text" and not block.text:
                raise _invalid(f"messages.{number}: text content blocks must be non-empty")
            if block.type == "tool_result" and block.tool_use_id not in called:
                raise _invalid(
                    f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                    "`tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
            if block.type == "thinking" and not is_genuine(block.thinking or "", block.signature):
                raise _invalid(f"{where}: Invalid `signature` in `thinking` block")
        called = {block.id for block in message.blocks() if block.type == "tool_use"}


Body = TypeVar("Body", bound=msgspec.Struct)

_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_PLACE: Final = re.compile(r"`\$\.?([^`]*)`$")


def decode(body: bytes, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """`body` as a request. Raises Refused with Anthropic's 400 when it is no JSON or no such request."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _complaint(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid("The request body is not valid JSON") from error


def _complaint(message: str) -> Refused:
    missing = _MISSING.match(message)
    place = _PLACE.search(message)
    inside = place[1].replace("[", ".").replace("]", "") if place else ""
    if missing is None:
        return _invalid(f"{inside or 'body'}: {message.partition(' - at')[0]}")
    return _invalid(f"{inside}.{missing[1]}: Field required".lstrip("."))


def _invalid(message: str) -> Refused:
    return Refused(error_reply(400, message))
