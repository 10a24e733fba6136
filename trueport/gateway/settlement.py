"""Closing a call exactly once, whatever happens to it."""

from dataclasses import replace

from trueport.gateway.admission import estimated_input_tokens
from trueport.gateway.call import Attempt, Call, Caller, Outcome, Request, Usage, UsageSource
from trueport.gateway.limits.base import Reservation
from trueport.gateway.ports import OpenRecord, Tools
from trueport.gateway.pricing import cost_nano_usd
from trueport.gateway.snapshot import Target, TenantSnapshot

_METERED = frozenset({"chat/completions", "completions", "embeddings"})


class Settlement:
    """What is owed for one call: its reservation and its outcome record.

    The stages fill in what they learn; `close` is synchronous and works during cancellation. The first closing
    counts and later ones do nothing.
    """

    __slots__ = ("_call", "_caller", "_snapshot", "_tools", "attempts", "is_closed", "receipt", "record", "request",
                 "reservation", "served_by")  # fmt: skip

    def __init__(self, call: Call, caller: Caller, snapshot: TenantSnapshot, tools: Tools) -> None:
        self._call = call
        self._caller = caller
        self._snapshot = snapshot
        self._tools = tools
        self.request: Request | None = None
        self.reservation: Reservation | None = None
        self.record: OpenRecord | None = None
        self.attempts: list[Attempt] = []
        self.served_by: Target | None = None
        self.is_closed = False
        self.receipt = ""

    @property
    def policy_version(self) -> int:
        return self._snapshot.policy_version

    def close(self, outcome: Outcome) -> None:
        """Price and record the outcome, give back what was reserved and not used, and count the call."""
        if self.is_closed:
            return
        self.is_closed = True
        cost, price_version = self._price(outcome)
        outcome = replace(
            outcome,
            attempts=tuple(self.attempts),
            served_by=self.served_by,
            cost_nano_usd=cost,
            price_version=price_version,
        )
        try:
            if self.record is not None:
                self.record.close(outcome)
            else:
                self.receipt = self._tools.recorder.refused(self._call, self._caller, self._snapshot, outcome)
        finally:
            if self.reservation is not None:
                used = outcome.usage.total_tokens if outcome.usage else 0
                self._tools.limits.settle(self.reservation, used)
            took_us = int((self._tools.clock.monotonic() - self._call.started_s) * 1e6)
            self._tools.metrics.count(self._call.dialect.name, outcome, took_us)

    def metered(self, reported: Usage | None, *, output_tokens: int) -> tuple[Usage | None, UsageSource]:
        """The provider's numbers, else a stand-in with an estimate of the output, and which of the two it is."""
        if reported is not None:
            return reported, "provider"
        estimate = self._estimated(output_tokens)
        return estimate, "none" if estimate is None else "estimated"

    def _estimated(self, output_tokens: int) -> Usage | None:
        """A stand-in for operations that are metered in tokens; None for the others."""
        if self.request is None or self.request.operation not in _METERED:
            return None
        return Usage(estimated_input_tokens(self.request.body), output_tokens)

    def _price(self, outcome: Outcome) -> tuple[int | None, str | None]:
        """Nano-dollars, None for a model without a price, and the version of the book that was looked into."""
        if outcome.usage is None or self.served_by is None or self.request is None:
            return None, None
        book = self._tools.prices
        model = outcome.model_served or self.served_by.model or self.request.model or ""
        provider = self.served_by.credential.provider
        price = book.price_of(provider, model) or book.price_of(provider, self.request.model or "")
        return (cost_nano_usd(outcome.usage, price) if price else None), book.version
