"""What finished calls still have to tell Redis, added up until the next flush."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from trueport.gateway.limits.base import MOST_BUDGET_NANO_USD, Ask, Budget, Reservation
from trueport.gateway.limits.budgets import BudgetKey, charged_for, held_for, key_of, thresholds
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.resp import pack
from trueport.gateway.limits.scripts import Script

CAPACITY: Final = 50_000
_MINUTES_COUNTED: Final = 2
# An error that stays with one charge, such as a foreign value under its key, must not be tried for ever.
_MOST_REFUSALS: Final = 100

# What Redis frees in one go, while everybody else waits.
_MEMBERS_AT_ONCE: Final = 500

Label = str


@dataclass(slots=True)
class Charge:
    """What calls have cost one budget, and the members of those that hold something of it.

    number: set when it is first sent; it is then sent as it is until Redis has answered, because only the same charge
    again is recognised. What comes later waits in another.
    """

    key: BudgetKey
    budget: Budget
    cost_nano_usd: int = 0
    members: list[str] = field(default_factory=list)
    number: int = 0
    refusals: int = 0


class Backlog:
    """Token corrections by counter, places to free by subject, and charges by budget.

    Bounded: what does not fit is dropped and counted. A dropped correction leaves the higher estimate standing until
    its minute has passed, a dropped place is free when it expires, and so is what a call held of a budget; all err on
    the side of the limit. Costs are added up, so only those of budgets beyond the capacity are dropped.
    """

    def __init__(self, names: KeyNames, settle: Script, charge: Script, worker: str) -> None:
        self._names = names
        self._settle_sha = settle.sha
        self._charge_sha = charge.sha
        self._worker = worker
        self._charges: dict[BudgetKey, Charge] = {}
        self._sent: dict[BudgetKey, Charge] = {}  # whose answer is still to come
        self._waiting_members = 0
        self._last_number = 0
        self._corrections: dict[tuple[Label, int], int] = {}
        self._places: defaultdict[Label, list[str]] = defaultdict(list)
        self._waiting_places = 0
        self.dropped = 0

    def __len__(self) -> int:
        return (
            len(self._corrections) + self._waiting_places + len(self._charges) + len(self._sent) + self._waiting_members
        )

    def settle(self, reservation: Reservation, tokens: int, cost_nano_usd: int | None) -> None:
        """Settle a call that Redis has counted."""
        ask = reservation.ask
        self.charge(ask, charged_for(ask, cost_nano_usd), holds=True)
        change = tokens - ask.tokens
        for limit in ask.limits:
            if not (limit.concurrency or (change and limit.tokens_per_minute)):
                continue
            label = self._names.label(ask.tenant_id, limit.scope, limit.subject)
            if limit.concurrency:
                self.free(label, ask.call_id)
            if change and limit.tokens_per_minute:
                self._correct((label, reservation.minute), change)

    def free(self, label: Label, call_id: str) -> None:
        """Give back the place of a call, whether it got one or not."""
        if len(self) >= CAPACITY:
            self.dropped += 1
            return
        self._places[label].append(call_id)
        self._waiting_places += 1

    def charge(self, ask: Ask, cost_nano_usd: int, *, holds: bool) -> None:
        """Charge every budget of a call, and free what it holds of them in Redis."""
        for budget in ask.budgets:
            amount = held_for(ask, budget) if holds else 0
            if cost_nano_usd or amount:
                self._add(
                    key_of(ask.tenant_id, budget), budget, cost_nano_usd, f"{amount}:{ask.call_id}" if amount else ""
                )

    def charges(self) -> list[Charge]:
        """What to send now: at most one charge for each budget, first those whose answer never came."""
        for key in [key for key in self._charges if key not in self._sent]:
            charge = self._sent[key] = self._charges.pop(key)
            self._last_number += 1
            charge.number = self._last_number
            if len(charge.members) > _MEMBERS_AT_ONCE:
                self._charges[key] = Charge(key, charge.budget, members=charge.members[_MEMBERS_AT_ONCE:])
                del charge.members[_MEMBERS_AT_ONCE:]
        return list(self._sent.values())

    def command(self, charge: Charge) -> bytes:
        key, amounts = charge.key, thresholds(charge.budget.limit_nano_usd, charge.budget.alert_at)
        label = self._names.budget_label(key.tenant_id, key.name, key.scope, key.subject)
        return pack(
            "EVALSHA",
            self._charge_sha,
            2,
            self._names.purse(label, key.period),
            self._names.holding(label, key.period),
            self._worker,
            charge.number,
            charge.cost_nano_usd,
            len(amounts),
            *amounts,
            *charge.members,
        )

    def told(self, charge: Charge) -> bool:
        """Redis has answered; whether this is the first answer to the charge."""
        if self._sent.get(charge.key) is not charge:
            return False
        del self._sent[charge.key]
        self._waiting_members -= len(charge.members)
        return True

    def refused(self, charge: Charge) -> None:
        """Redis answered with an error; after many of them the charge is given up."""
        charge.refusals += 1
        if charge.refusals >= _MOST_REFUSALS and self.told(charge):
            self.dropped += 1

    def take(self, minute: int) -> tuple[list[bytes], dict[Label, list[str]]]:
        """Empty the backlog into commands; corrections to counters that are gone by `minute` are left out.

        The second part is the freed places again: freeing twice does no harm, so after an unknown outcome they can be
        put back. Correcting twice would, so corrections are told at most once.
        """
        commands = [
            pack("EVALSHA", self._settle_sha, 1, self._names.tokens(label, counted_in), change)
            for (label, counted_in), change in self._corrections.items()
            if change and counted_in > minute - _MINUTES_COUNTED - 1
        ]
        places = dict(self._places)
        commands += [pack("ZREM", self._names.calls(label), *calls) for label, calls in places.items()]
        self._corrections.clear()
        self._places.clear()
        self._waiting_places = 0
        return commands, places

    def put_back(self, places: dict[Label, list[str]]) -> None:
        for label, calls in places.items():
            for call in calls:
                self.free(label, call)

    def _add(self, key: BudgetKey, budget: Budget, cost_nano_usd: int, member: str) -> None:
        is_full = len(self) >= CAPACITY
        charge = self._charges.get(key)
        if charge is None:
            if is_full:
                self.dropped += 1
                return
            charge = self._charges[key] = Charge(key, budget)
        charge.budget = budget
        charge.cost_nano_usd = min(charge.cost_nano_usd + cost_nano_usd, MOST_BUDGET_NANO_USD)
        if member and is_full:
            self.dropped += 1
        elif member:
            charge.members.append(member)
            self._waiting_members += 1

    def _correct(self, counter: tuple[Label, int], change: int) -> None:
        if counter not in self._corrections and len(self) >= CAPACITY:
            self.dropped += 1
            return
        self._corrections[counter] = self._corrections.get(counter, 0) + change
