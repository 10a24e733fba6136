"""What a tenant has spent, for budgets whose counters are gone: read from the interaction log."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from trueport.domains.analytics.api import Interactions, LogFilter
from trueport.domains.proxy.callers import KeyRing
from trueport.domains.proxy.events import BudgetShareReached
from trueport.domains.proxy.user_tags import UserTags
from trueport.gateway.limits.base import Budget, BudgetAlert
from trueport.gateway.limits.periods import period_of
from trueport.gateway.snapshot import BudgetRule, ModelPattern
from trueport.kit.clock import from_epoch_us
from trueport.kit.errors import Unavailable
from trueport.kit.events import EventBus
from trueport.kit.ids import KeyId, TenantId
from trueport.kit.logging import get_logger
from trueport.storage.mongo import Database

log = get_logger(__name__)

_A_MOMENT_US: Final = 1_000


class LoggedSpending:
    """A SpentSource over the interaction log. Calls whose records are still in the journal are not in it yet."""

    def __init__(self, database: Database, callers: KeyRing, tags: UserTags) -> None:
        self._database = database
        self._callers = callers
        self._tags = tags

    async def spent(self, tenant_id: TenantId, budget: Budget) -> int:
        """Nano-dollars spent under `budget` in its period. Raises a kit Unavailable when the log does not answer."""
        known = self._callers.known(tenant_id)
        if known is None:
            raise Unavailable("What was spent so far cannot be read right now.")
        scope, snapshot = known
        rule = next((rule for rule in snapshot.budgets if rule.name == budget.name), None)
        kind = rule.period if rule else ("month" if len(budget.period) == len("2026-11") else "day")
        _, begins, ends = period_of(kind, from_epoch_us(budget.ends_us - _A_MOMENT_US))
        rows = Interactions(self._database, scope)
        wanted = _filter(budget, rule, begins, ends)
        total = 0
        # A user's calls are recorded under the tag, or under its digest where it came in a request's body.
        for user in (wanted.user,) if wanted.user is None else (wanted.user, self._tags.digest(tenant_id, wanted.user)):
            by_model = await rows.spent(replace(wanted, user=user))
            total += sum(cost for model, cost in by_model.items() if _counts(model, budget, rule))
        return total


def _filter(budget: Budget, rule: BudgetRule | None, begins: datetime, ends: datetime) -> LogFilter:
    key_id = rule.key if rule else None
    user = rule.user if rule else None
    if budget.scope == "key":
        key_id = KeyId(budget.subject)
    if budget.scope == "user":
        user = budget.subject
    return LogFilter(since=begins.astimezone(UTC), until=ends.astimezone(UTC), key_id=key_id, user=user)


def _counts(model: str | None, budget: Budget, rule: BudgetRule | None) -> bool:
    if budget.scope == "model" and model != budget.subject:
        return False
    if rule is None or rule.model is None:
        return True
    return model is not None and ModelPattern.of(rule.model).matches(model)


class BudgetAlerts:
    """Tells the rest of the house, once for each budget, period and share, that the share has been spent."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._told: set[asyncio.Task[None]] = set()

    def __call__(self, alert: BudgetAlert) -> None:
        """Synchronous, because a settlement may run while its call is being cancelled."""
        log.warning(
            "budget_share_reached",
            tenant_id=alert.tenant_id,
            scope=alert.scope,
            period=alert.period,
            share=alert.share,
        )
        task = asyncio.get_running_loop().create_task(self._events.tell(BudgetShareReached(alert)))
        self._told.add(task)
        task.add_done_callback(self._told.discard)
