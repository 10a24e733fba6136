"""What the engine needs from the house around it."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING, Protocol

from trueport.gateway.breaker.base import Breakers
from trueport.gateway.breaker.retries import RetryBudget
from trueport.gateway.cache import AnswerCache
from trueport.gateway.call import Admitted, Call, Caller, Judgement, Outcome, Recorded, Screened, Wire
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.limits.base import Limits
from trueport.gateway.metrics import GatewayMetrics
from trueport.gateway.objects.base import ProviderObjects
from trueport.gateway.observed import Observed
from trueport.gateway.pricing import PriceBook
from trueport.gateway.providers.base import Provider
from trueport.gateway.repeats import Repeats
from trueport.gateway.routing import Draw
from trueport.gateway.snapshot import Target, TenantSnapshot
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import Clock
from trueport.kit.errors import TrueportError

if TYPE_CHECKING:
    from trueport.detection.engine import Engine
    from trueport.detection.redact import Placeholders
    from trueport.gateway.screening import Inspected


class Callers(Protocol):
    """Knows API keys and their tenants' configuration."""

    async def authenticate(self, call: Call) -> tuple[Caller, TenantSnapshot]:
        """Who is calling, and under which configuration.

        Raises a kit Unauthenticated, Forbidden or Unavailable.
        """


class OpenRecord(Protocol):
    """An interaction whose intent is written and whose outcome is owed."""

    @property
    def receipt(self) -> str:
        """What proves to the client that the intent stands in the journal."""

    def durable(self) -> Awaitable[None]:
        """Done once the intent would survive a power loss."""

    def close(self, outcome: Outcome) -> None:
        """Write the outcome. Synchronous: it has to work while the task is being cancelled."""


class Recorder(Protocol):
    """The journal every call goes through."""

    @property
    def waits_before_upstream(self) -> bool:
        """Whether the intent has to be durable before the provider is called, not only before the answer leaves."""

    async def intent(self, admitted: Admitted) -> OpenRecord:
        """Write what is about to happen. Raises a kit Unavailable when it cannot be written.

        Waits only for the key of a person who has not been met before.
        """

    def refused(self, call: Call, caller: Caller, snapshot: TenantSnapshot, outcome: Outcome) -> str:
        """Write that a known caller was turned away before any upstream byte; returns the receipt, or ""."""

    async def settled(self) -> None:
        """Done when what was written may be relied on although this process never runs again after its answer.

        Raises a kit Unavailable.
        """


class Screener(Protocol):
    """Reads texts and decides by policy."""

    async def inspect_input(self, recorded: Recorded) -> Screened:
        """The call with the policies' decision on every text the model would read, and the request it leaves.

        Raises a kit InvalidRequest for a body whose texts cannot be told for certain.
        """

    async def inspect_output(
        self,
        admitted: Admitted,
        target: Target | None,
        body: bytes,
        content_type: str,
        placeholders: "Placeholders | None" = None,
    ) -> "Inspected":
        """What of a whole answer, in the client's own form, may leave.

        `target` gave it, None for one that is given again. `placeholders` are those of the call's own input.
        """

    def guard(
        self, admitted: Admitted, target: Target, placeholders: "Placeholders | None" = None
    ) -> "StreamGuard | None":
        """What stands between a stream and its client; None where nothing has to."""


class StreamGuard(Protocol):
    """Lets of one stream, in the client's own form, only leave what policy has seen and allows."""

    @property
    def judgement(self) -> Judgement | None:
        """What has been decided so far."""

    @property
    def refusal(self) -> TrueportError | None:
        """What the stream ends with behind what has left; None as long as it may go on."""

    @property
    def held_ms(self) -> int:
        """The longest that something which was there has waited."""

    async def feed(self, piece: bytes) -> bytes:
        """What may leave now. Raises the TrueportError that the stream ends with when that is nothing."""

    async def finish(self) -> bytes:
        """What may leave once the stream is over, or has broken off. Raises as `feed` does."""

    async def observe(self) -> None:
        """Read for the record what nothing waits for."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything a call needs beside itself.

    `wires` has a dialect for each wire, to read what its providers answer; `wire_of` the wire of each provider by
    name; `draw` the random numbers that spread load; `engine` reads for what the gateway answers itself.
    """

    callers: Callers
    limits: Limits
    recorder: Recorder
    screener: Screener
    upstream: Upstream
    breakers: Breakers
    retries: RetryBudget
    observed: Observed
    cache: AnswerCache
    repeats: Repeats
    objects: ProviderObjects
    providers: Mapping[str, Provider]
    wires: Mapping[Wire, Dialect]
    wire_of: Mapping[str, Wire]
    prices: PriceBook
    metrics: GatewayMetrics
    clock: Clock
    draw: Draw = random
    engine: "Engine | None" = None
