"""What the engine needs from the house around it."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from trueport.gateway.call import Admitted, Call, Caller, Decision, Outcome, Recorded
from trueport.gateway.limits.base import Limits
from trueport.gateway.metrics import GatewayMetrics
from trueport.gateway.pricing import PriceBook
from trueport.gateway.providers.base import Provider
from trueport.gateway.snapshot import TenantSnapshot
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import Clock


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

    def intent(self, admitted: Admitted) -> OpenRecord:
        """Write what is about to happen. Raises a kit Unavailable when it cannot be written."""

    def refused(self, call: Call, caller: Caller, snapshot: TenantSnapshot, outcome: Outcome) -> str:
        """Write that a known caller was turned away before any upstream byte; returns the receipt, or ""."""


class Screener(Protocol):
    """Reads texts and decides by policy."""

    async def inspect_input(self, recorded: Recorded) -> Decision:
        """The decision on every text the model would read."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything a call needs beside itself."""

    callers: Callers
    limits: Limits
    recorder: Recorder
    screener: Screener
    upstream: Upstream
    providers: dict[str, Provider]
    prices: PriceBook
    metrics: GatewayMetrics
    clock: Clock
