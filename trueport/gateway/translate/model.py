"""What a chat-like call means, whichever wire format it came in.

Every format reads its requests, answers and stream events into these values and writes them from these values, so
that each format is written down once and not once per pair. What a format cannot say is decided in rules.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trueport.gateway.call import Usage

Format = Literal["openai_chat", "openai_responses", "openai_completions", "anthropic", "google"]
"""The forms a chat-like call can have. A client may speak any; a provider is asked in chat, anthropic or google."""

JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text. `cache` is the kept time of a cache mark behind it ("5m", "1h"), None without one."""

    text: str
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a document: `data` in base64 with its `media_type`, or where it lies.

    `url` is http(s), or a provider's own reference (gs://…, a file id) named by `reference`.
    """

    kind: Literal["image", "audio", "document"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    reference: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool called; `arguments` is the JSON text it wrote, whole or not.

    `signature` is a provider's seal on the call (Google's thoughtSignature), valid only for its own format.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered. `name` is filled in from the call it answers where the format does not repeat it."""

    call_id: str
    name: str
    parts: tuple["Text | Media", ...]
    is_error: bool = False
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """A model's reasoning. Signed reasoning is passed on whole or not at all, and only to the format that signed it.

    `redacted` is an encrypted block in place of text.
    """

    text: str
    signature: str | None = None
    redacted: str | None = None
    signed_by: Format | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model's own words for not answering, where the format tells them from text."""

    text: str


Part = Text | Media | ToolCall | ToolResult | Thinking | Refusal


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. `name` is the participant's, where a format has one.

    `is_instruction` marks a turn in the user's place that the application spoke (a system message in the midst of a
    conversation); formats that have no such thing say it as the user's.
    """

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]
    name: str | None = None
    is_instruction: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is a JSON schema, None for a function without any."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    is_strict: bool | None = None
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`named` means the tool `name`; `one_at_a_time` forbids parallel calls (None: not said)."""

    mode: Literal["auto", "none", "required", "named"] | None = None
    name: str | None = None
    one_at_a_time: bool | None = None


@dataclass(frozen=True, slots=True)
class OutputForm:
    """Free text, any JSON object, or JSON after a schema."""

    kind: Literal["text", "json", "schema"] = "text"
    name: str | None = None
    schema: JsonObject | None = None
    is_strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model may think, as an effort ("none", "minimal", "low", "medium", "high") or in tokens.

    `is_shown`: whether thoughts (or a summary of them) are wanted in the answer. None is "not said".
    """

    effort: str | None = None
    budget_tokens: int | None = None
    is_shown: bool | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is drawn. None is "not said"."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    candidates: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole request. `system` is what stands above all turns, in order.

    `features` names what the request uses beyond these members, each a name in rules.FEATURES (such as "logit_bias",
    "web_search_tool", "stored_state"); `unknown` the members no reader knows, by their path. `extras` holds the values
    of some features under the names that chat completions have for them, for a provider that speaks OpenAI's API.
    """

    model: str
    turns: tuple[Turn, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output: OutputForm = OutputForm()
    reasoning: Reasoning = Reasoning()
    sampling: Sampling = Sampling()
    streams: bool = False
    wants_usage: bool = True
    user: str | None = None
    features: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    extras: JsonObject = field(default_factory=dict)


FinishReason = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer. `stop_sequence` is the text that ended it, where the format says so."""

    parts: tuple[Part, ...]
    finish: FinishReason
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `created` is Unix time in seconds, 0 where the format has none.

    `blocked` says why the provider refused the prompt itself, None when it did not.
    """

    id: str
    model: str
    candidates: tuple[Candidate, ...]
    usage: Usage | None
    created: int = 0
    blocked: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as providers tell it: HTTP status, a sentence, the provider's own kind and code for it."""

    status: int
    message: str
    kind: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


# A stream, piece by piece. `candidate` counts answers from 0; `block` counts the parts of one answer from 0.


@dataclass(frozen=True, slots=True)
class Started:
    """The answer has begun. `usage` is what is known of its input so far."""

    id: str
    model: str
    created: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class TextPiece:
    """More text (or, with `is_refusal`, more of the model's own refusal)."""

    candidate: int
    block: int
    text: str
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class ThinkingPiece:
    """More reasoning; `signature` arrives once, at the end of its block, and `redacted` alone."""

    candidate: int
    block: int
    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    signed_by: Format | None = None


@dataclass(frozen=True, slots=True)
class CallPiece:
    """More of a tool call: the first piece of a block has id and name, later ones only `arguments`."""

    candidate: int
    block: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A candidate has ended."""

    candidate: int
    finish: FinishReason
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """The provider's numbers so far; the last ones count."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider reported an error inside the stream; nothing follows."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is complete, with its format's end mark where it has one."""


Piece = Started | TextPiece | ThinkingPiece | CallPiece | Finished | Counted | Failed | Ended


@dataclass(frozen=True, slots=True)
class Shape:
    """What a writer of answers needs to know about the request it answers.

    `echo` holds request members that a format repeats in its answers (the Responses API does).
    """

    model: str
    streams: bool
    wants_usage: bool
    shows_thinking: bool = True
    echo: JsonObject = field(default_factory=dict)
