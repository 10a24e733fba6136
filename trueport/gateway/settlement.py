"""Closing a call exactly once, whatever happens to it."""

from typing import Final

from msgspec.structs import replace

from trueport.gateway.breaker.base import Permit, Verdict
from trueport.gateway.cache import KeptAnswer
from trueport.gateway.call import (
    Attempt,
    Call,
    Caller,
    Decision,
    HeaderList,
    Judgement,
    Outcome,
    Request,
    Usage,
    UsageSource,
)
from trueport.gateway.limits.base import Reservation
from trueport.gateway.ports import OpenRecord, Tools
from trueport.gateway.pricing import cost_nano_usd, worst_case_nano_usd
from trueport.gateway.repeats import Claim
from trueport.gateway.snapshot import Target, TenantSnapshot
from trueport.gateway.tokens import CAREFUL, estimate_input_tokens

_METERED: Final = frozenset({"chat", "text", "embeddings"})
_KEPT_HEADERS: Final = frozenset({b"content-type", b"x-trueport-dropped"})
_SEVERITY: Final[tuple[Decision, ...]] = ("allow", "flag", "redact", "block")
_VERDICTS: Final[dict[str, Verdict]] = {"completed": "ok", "key_revoked": "ok", "upstream_failed": "fail"}


class Settlement:
    """What is owed for one call: its reservation, its permits and its outcome record.

    The stages fill in what they learn; `close` is synchronous and works during cancellation. The first closing
    counts and later ones do nothing.
    """

    __slots__ = ("_asked", "_call", "_caller", "_head", "_judgements", "_permit", "_snapshot", "_tools", "attempts",
                 "claim", "is_closed", "keeps_as", "keeps_s", "receipt", "record", "request", "reservation",
                 "served_by")  # fmt: skip

    def __init__(self, call: Call, caller: Caller, snapshot: TenantSnapshot, tools: Tools) -> None:
        self._call = call
        self._caller = caller
        self._snapshot = snapshot
        self._tools = tools
        self._asked: Request | None = None
        self._permit: Permit | None = None
        self._judgements: list[Judgement] = []
        self.request: Request | None = None
        self.reservation: Reservation | None = None
        self.record: OpenRecord | None = None
        self._head: HeaderList = []
        self.attempts: list[Attempt] = []
        self.claim: Claim | None = None
        self.served_by: Target | None = None
        self.is_closed = False
        self.keeps_as: bytes | None = None
        self.keeps_s = 0
        self.receipt = ""

    @property
    def snapshot(self) -> TenantSnapshot:
        return self._snapshot

    @property
    def policy_version(self) -> int:
        return self._snapshot.policy_version

    @property
    def decision(self) -> Decision:
        """The most severe of what the policies have decided so far."""
        if not self._judgements:
            return "allow"
        return max([one.decision for one in self._judgements], key=_SEVERITY.index)

    def judged(self, judgement: Judgement | None) -> None:
        """The policies have seen one side of the call; None where there are none."""
        if judgement is not None:
            self._judgements.append(judgement)

    def asks(self, target: Target, request: Request) -> None:
        """`target` is now asked this; it is the one that serves until another is asked."""
        self.served_by, self._asked = target, request

    def holds(self, permit: Permit) -> None:
        """The circuit's verdict on the present attempt is still to come: with the end of the answer."""
        if permit.kind == "probe":
            # Others wait for this one: that an answer has begun has to do, the rest of a stream may take minutes.
            self._tools.breakers.report(permit, "ok")
        else:
            self._permit = permit

    def answers_with(self, head: HeaderList) -> None:
        """The headers of the answer that is about to leave."""
        self._head = head

    def keep(self, head: HeaderList, body: bytes, *, is_stream: bool) -> None:
        """Keep a whole answer for the next call of its name, where the route allows that."""
        target = self.served_by
        if self.keeps_as is None or target is None:
            return
        own = [pair for pair in head if pair[0] in _KEPT_HEADERS]
        self._tools.cache.keep(
            self.keeps_as,
            KeptAnswer(
                interaction_id=self._call.interaction_id,
                status=200,
                headers=own,
                body=body,
                is_stream=is_stream,
                provider=target.credential.provider,
                model=target.model or (self.request.model if self.request else None) or "",
                expires_s=self._tools.clock.monotonic() + self.keeps_s,
            ),
        )

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
            charged_nano_usd=self._ceiling(outcome.usage) if outcome.usage is not None and cost is None else None,
            price_version=price_version,
            decision=self.decision,
            judgements=tuple(self._judgements),
        )
        try:
            if self.record is not None:
                self.record.close(outcome)
            else:
                self.receipt = self._tools.recorder.refused(self._call, self._caller, self._snapshot, outcome)
        finally:
            if self._permit is not None:
                # An answer that policy keeps back says nothing against its provider.
                verdict = "ok" if outcome.decision == "block" else _VERDICTS.get(outcome.end, "void")
                self._tools.breakers.report(self._permit, verdict)
            if self.reservation is not None:
                used = outcome.usage.total_tokens if outcome.usage else 0
                self._tools.limits.settle(self.reservation, used, cost or outcome.charged_nano_usd or 0)
            if self.claim is not None:
                self._tools.repeats.settle(self.claim, outcome, self._head)
            took_us = int((self._tools.clock.monotonic() - self._call.started_s) * 1e6)
            self._tools.metrics.count(self._call.dialect.name, outcome, took_us)

    def metered(
        self, reported: Usage | None, *, output_tokens: int, is_whole: bool = True
    ) -> tuple[Usage | None, UsageSource]:
        """The provider's numbers, else a stand-in with an estimate of the output, and which of the two it is.

        is_whole: whether the answer came to its end. The numbers of one that did not are those of its beginning, or
        of wherever they were told last.
        """
        if reported is not None and is_whole:
            return reported, "provider"
        if reported is not None:
            return replace(reported, output_tokens=max(reported.output_tokens, output_tokens)), "estimated"
        estimate = self._estimated(output_tokens)
        return estimate, "none" if estimate is None else "estimated"

    def _estimated(self, output_tokens: int) -> Usage | None:
        """A stand-in for operations that are metered in tokens; None for the others."""
        request = self._asked or self.request
        if request is None or request.kind not in _METERED:
            return None
        return Usage(
            estimate_input_tokens(request.members, request.body, request.model or "", counter=CAREFUL), output_tokens
        )

    def _ceiling(self, usage: Usage) -> int:
        """Nano-dollars that budgets count for what a model without a price used."""
        ceiling = (self._snapshot.prices or self._tools.prices).ceiling
        return worst_case_nano_usd(ceiling, usage.input_tokens, usage.output_tokens, usage.service_tier)

    def _price(self, outcome: Outcome) -> tuple[int | None, str | None]:
        """Nano-dollars, None for a model without a price, and the version of the book that was looked into."""
        if outcome.cost_nano_usd is not None:
            return outcome.cost_nano_usd, None
        if outcome.usage is None or self.served_by is None or self.request is None:
            return None, None
        book = self._snapshot.prices or self._tools.prices
        provider, now = self.served_by.credential.provider, self._tools.clock.now()
        asked = (self._asked or self.request).model or ""
        names = (outcome.model_served, self.served_by.model, asked)
        # Whoever runs a server of his own could let it name a cheaper model than it was asked for.
        for model in names[1:] if provider == "openai_compatible" else names:
            price = book.price_of(provider, model, now) if model else None
            if price is not None:
                return cost_nano_usd(outcome.usage, price), book.version
        return None, book.version
