"""The values that travel through the stages of one call. All frozen: a stage makes a new one, it changes none."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from trueport.detection.types import Category, Failure, Role, Side
from trueport.kit.errors import TrueportError
from trueport.kit.ids import InteractionId, KeyId, TenantId
from trueport.kit.tenancy import Environment

if TYPE_CHECKING:
    from trueport.detection.policy import Hit
    from trueport.detection.redact import Placeholders
    from trueport.gateway.dialects.base import Dialect
    from trueport.gateway.ports import OpenRecord
    from trueport.gateway.snapshot import Target, TenantSnapshot

HeaderList = list[tuple[bytes, bytes]]

End = Literal[
    "completed",  # the provider's answer was passed on whole, whatever its status
    "refused",  # the gateway said no before any upstream byte, or to an answer that policy blocks
    "client_closed",  # the client left first
    "upstream_failed",  # no usable answer, or one that broke off
    "key_revoked",  # the key lost its right while the call ran
    "gateway_failed",  # a defect of ours
]
Decision = Literal["allow", "flag", "redact", "block"]
UsageSource = Literal["provider", "estimated", "none"]


class Caller(msgspec.Struct, frozen=True):
    """The application behind a call: its key, and what that key may do."""

    tenant_id: TenantId
    key_id: KeyId
    environment: Environment
    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int
    may_use_model: Callable[[str], bool]
    is_live: Callable[[], bool]


class Call(msgspec.Struct, frozen=True):
    """What the client sent, read off the wire but not yet understood.

    `path` is the operation's path below the dialect's root, such as `chat/completions`; `query` the raw query
    string, in which Google's clients may send their key; header names in lower case; `peer` the client's IP address.
    """

    interaction_id: InteractionId
    request_id: str
    dialect: "Dialect"
    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    peer: str
    started_us: int
    started_s: float


Wire = Literal["openai", "anthropic", "google"]
"""The three families of wire formats. Azure and everything that copies OpenAI speak OpenAI's."""

Kind = Literal[
    "chat",  # generates an answer to a conversation, in one of the forms that translate into each other
    "text",  # generates in a form that has no counterpart elsewhere
    "embeddings",
    "count",  # counts tokens and generates nothing
    "models",  # lists or describes models
    "media",  # reads or makes images and sounds
    "state",  # an object kept at the provider: a file, a batch, a stored response
    "own",  # answered by the gateway itself, whoever's routes there are
    "other",
]


class Request(msgspec.Struct, frozen=True):
    """What the client wants, or what a provider is to be asked for.

    `operation` is the path below the API's root and version in the terms of its wire, such as `chat/completions`,
    `messages` or, where the path names a model, only its verb: `generateContent`. `version` is the API version a
    client put into its path, None where it has no choice. `members` are the parsed top-level members of a JSON body,
    None when the body is not JSON. `body` is what an upstream of the same wire receives: the client's bytes, except
    for members the gateway had to change; `query` goes along with it. `model` None means that the gateway cannot see
    which model is meant; `lists_models` that the answer names models. `account` is the provider account a client
    names in its path (Azure's resource). `user` is the tag a client gave for its own user.
    """

    operation: str
    model: str | None
    streams: bool
    wants_usage_event: bool
    body: bytes
    members: Mapping[str, object] | None
    content_type: str
    most_output_tokens: int | None
    lists_models: bool = False
    kind: Kind = "other"
    method: str = "POST"
    query: str = ""
    version: str | None = None
    account: str | None = None
    user: str | None = None
    candidates: int = 1
    streams_as: Literal["sse", "array"] = "sse"


class Usage(msgspec.Struct, frozen=True):
    """What one call used, in one shape for every provider.

    `input_tokens` is everything the model read and `output_tokens` everything billed as written. The others are parts
    of these two: cached, cache-write (kept for five minutes, or for an hour), audio and image tokens read; reasoning,
    audio and image tokens written. What is billed by the piece stands beside them: searches, images, milliseconds of
    audio. `service_tier` is the tier the provider says it served, which may set another price.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    images: int = 0
    audio_ms: int = 0
    service_tier: str | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Attempt(msgspec.Struct, frozen=True):
    """One try at one target. `status` is the provider's, `error` the machine code of a failure."""

    target: "Target"
    status: int | None
    error: str | None
    took_us: int


class Scored(msgspec.Struct, frozen=True):
    """What the detectors gave one text, so that other thresholds can be tried on it later. Never holds the text."""

    path: str
    role: Role
    scores: Mapping[Category, float]


class Judgement(msgspec.Struct, frozen=True):
    """What the policies made of the texts on one side of a call. Never holds a text.

    `policies` are the ids of those that held, named where a detector failed: they are asked again later.
    `reading` is everything that was found, acted on or not, in the form of records (detection.policy.replay).
    """

    side: Side
    decision: Decision
    hits: tuple["Hit", ...] = ()
    scores: tuple[Scored, ...] = ()
    failures: tuple[Failure, ...] = ()
    policies: tuple[str, ...] = ()
    took_us: int = 0
    reading: Mapping[str, object] | None = None


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended; everything billing, analytics and audit need to know about it.

    `repeats` is the interaction whose answer was given again instead of asking a provider. `charged_nano_usd` is what
    budgets count for a model without a price, whose cost is not known: the ceiling's. `judgements` are the policies',
    of the input before those of the output, and `decision` the most severe of them; `held_ms` is how long they held
    back an answer that was there.
    """

    end: End
    status: int
    error: str | None = None
    attempts: tuple[Attempt, ...] = ()
    served_by: "Target | None" = None
    model_served: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    usage_doubtful: bool = False
    cost_nano_usd: int | None = None
    charged_nano_usd: int | None = None
    price_version: str | None = None
    first_byte_us: int | None = None
    reply_bytes: int = 0
    upstream_request_id: str | None = None
    repeats: str | None = None
    content: bytes = b""
    decision: Decision = "allow"
    judgements: tuple[Judgement, ...] = ()
    held_ms: int = 0


class Reply(msgspec.Struct, frozen=True):
    """What goes back to the client: a whole body, or a stream of pieces each ready to be sent as it is."""

    status: int
    headers: HeaderList
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None


class Admitted(msgspec.Struct, frozen=True):
    """A call that may go on: who calls, what for, under which configuration.

    `model` is the one asked for, the model behind it where that was an alias; `model_counted`
    and `user` are those that limits and budgets count the call under, `input_tokens_estimate` about what its input is.
    `user_is_for_record` when the client sent that tag in the header made for it. `cache_s` is how long its answer may
    be given again, 0 for never. `keeps_content` is off where the record holds but a keyed digest of what was asked.
    """

    call: Call
    caller: Caller
    request: Request
    snapshot: "TenantSnapshot"
    targets: tuple["Target", ...]
    rate_headers: HeaderList
    model: str | None
    input_tokens_estimate: int
    model_counted: str | None = None
    user: str | None = None
    user_is_for_record: bool = False
    cache_s: int = 0
    keeps_content: bool = True


class Recorded(msgspec.Struct, frozen=True):
    """A call whose intent stands in the journal. Nothing is sent upstream without one of these."""

    admitted: Admitted
    record: "OpenRecord"


class Screened(msgspec.Struct, frozen=True):
    """A recorded call whose input the policies have seen, and what they decided.

    Its request is what the provider may see: where something was redacted, another than the client's. `refusal` is
    what the client gets instead when the decision is to block. `placeholders` know what stands behind the redactions.
    """

    recorded: Recorded
    decision: Decision
    judgement: Judgement | None = None
    refusal: TrueportError | None = None
    placeholders: "Placeholders | None" = None
