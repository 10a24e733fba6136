"""What this process may spend of budgets while Redis is away."""

from typing import Final, NamedTuple

from trueport.gateway.limits.base import Ask, Budget, LimiterUnavailable
from trueport.gateway.limits.budgets import BudgetKey, Ledger, Purses, Stake, key_of
from trueport.kit.clock import Clock

NEWS_LAST_S: Final = 60.0
_MOST_REMEMBERED: Final = 50_000


class _News(NamedTuple):
    """What a budget had left, and when Redis said so, on the monotonic clock."""

    left_nano_usd: int
    at_s: float


class Shares:
    """One share for each blocking budget, and what calls decided here have spent and hold of it.

    A share is settled with the first call that needs it, and stands until Redis speaks of that budget again.
    """

    def __init__(self, clock: Clock, ledger: Ledger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._news: dict[BudgetKey, _News] = {}
        self._shares: dict[BudgetKey, int] = {}
        self._purses = Purses()

    def hear(self, key: BudgetKey, left_nano_usd: int) -> None:
        """Redis says what a blocking budget has left for all processes."""
        if len(self._news) >= _MOST_REMEMBERED:
            self._news.clear()
        self._news[key] = _News(left_nano_usd, self._clock.monotonic())
        if self._shares.pop(key, None) is not None and (purse := self._purses.get(key)) is not None:
            purse.spent = 0  # the next share is one of what is left now

    def end(self) -> None:
        """Redis is back."""
        self._shares.clear()
        self._purses = Purses()

    async def stakes(self, ask: Ask, workers: int) -> list[Stake]:
        """What this process, one of so many, may spend of the blocking budgets of `ask`.

        Raises LimiterUnavailable if neither Redis ever said what is left of one, nor the ledger does.
        """
        shares = []
        for budget in ask.budgets:
            if budget.blocks:
                key = key_of(ask.tenant_id, budget)
                share = self._shares.get(key)
                if share is None:
                    left = await self._left_of(key, budget)
                    share = self._shares.setdefault(key, max(0, left) // workers)
                shares.append((key, budget, share))
        # Only now, as purses may come and go while the ledger is waited for.
        return [
            Stake(budget, self._purses.get(key) or self._purses.begin(key, budget), share)
            for key, budget, share in shares
        ]

    def settle(self, ask: Ask, cost_nano_usd: int) -> None:
        for budget in ask.budgets:
            if (purse := self._purses.get(key_of(ask.tenant_id, budget))) is not None:
                purse.settle(ask.call_id, cost_nano_usd)

    async def _left_of(self, key: BudgetKey, budget: Budget) -> int:
        """What was left for all processes when Redis was lost, as far as it can be known."""
        news = self._news.get(key)
        if news is None or self._clock.monotonic() - news.at_s > NEWS_LAST_S:
            spent = await self._ledger.spent(key, budget)
            if spent is not None:
                return budget.limit_nano_usd - spent
            if news is None:
                raise LimiterUnavailable
        return news.left_nano_usd
