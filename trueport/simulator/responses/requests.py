"""The bodies of requests to the responses API."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from trueport.simulator.requests import Positive
from trueport.simulator.usage import count_tokens

_TOKENS_PER_ITEM = 3
_TOKENS_PER_ANSWER = 3
_TOKENS_PER_PICTURE = 765


class Part(msgspec.Struct):
    type: str
    text: str | None = None


class Item(msgspec.Struct):
    """One item of the input: a message (`type` may be missing), a function call or its output, reasoning, others."""

    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    def texts(self) -> Iterator[str]:
        """Every text in this item."""
        for content in (self.content, self.output):
            if isinstance(content, str):
                yield content
            elif content is not None:
                yield from (part.text for part in content if part.text is not None)

    def tokens(self) -> int:
        """The tokens of the texts, of a call's arguments, and of pictures and files."""
        called = count_tokens(self.name or "") + count_tokens(self.arguments or "")
        parts = self.content if isinstance(self.content, list) else ()
        pictures = sum(part.type in ("input_image", "input_file") for part in parts)
        return sum(map(count_tokens, self.texts())) + called + _TOKENS_PER_PICTURE * pictures + _TOKENS_PER_ITEM


class TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema: dict[str, object] | None = None


class TextOptions(msgspec.Struct):
    format: TextFormat | None = None


class Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class Tool(msgspec.Struct):
    type: str
    name: str | None = None
    parameters: dict[str, object] | None = None


class InputRequest(msgspec.Struct):
    """What can be counted: everything a model reads."""

    model: str
    input: str | Annotated[list[Item], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, object] | None = None

    def items(self) -> list[Item]:
        return [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input

    def texts(self) -> Iterator[str]:
        """Every text of this request, in order; what an earlier response left is not among them."""
        if self.instructions is not None:
            yield self.instructions
        for item in self.items():
            yield from item.texts()

    def tokens(self, history: list[Item]) -> int:
        """All input tokens, with those of the items that came before."""
        items = sum(item.tokens() for item in (*history, *self.items()))
        return items + count_tokens(self.instructions or "") + _TOKENS_PER_ANSWER

    def may_call_tools(self) -> bool:
        """Whether functions are offered and this is not the turn that reads their results."""
        is_offered = any(tool.type == "function" for tool in self.tools or ())
        return is_offered and self.tool_choice != "none" and self.items()[-1].type != "function_call_output"

    def forced_tool(self) -> Tool | None:
        """The function that the request insists on."""
        choice = self.tool_choice
        if choice != "required" and not (isinstance(choice, dict) and choice.get("type") == "function"):
            return None
        name = choice.get("name") if isinstance(choice, dict) else None
        return next((tool for tool in self.tools or () if tool.type == "function" and name in (None, tool.name)), None)


class ResponseRequest(InputRequest, kw_only=True):
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: Positive | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None

    def schema(self) -> dict[str, object] | None:
        form = self.text.format if self.text is not None else None
        return form.schema if form is not None else None

    def wants_json(self) -> bool:
        form = self.text.format if self.text is not None else None
        return form is not None and form.type != "text"


# Members of a response that repeat those of its request, and what they are when it has none.
ECHOED: dict[str, object] = {
    "background": False,
    "conversation": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def echoed(body: bytes) -> dict[str, object]:
    """The members of the request in `body` that its response repeats."""
    given = msgspec.json.decode(body)
    told = {name: usual if given.get(name) is None else given[name] for name, usual in ECHOED.items()}
    if told["service_tier"] == "auto":
        told["service_tier"] = "default"
    return told
