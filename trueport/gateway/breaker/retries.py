"""How many further attempts a tenant's calls may make, so that retries never turn a bad minute into a storm.

Every call pays a tenth of an attempt into its tenant's purse, and asking the same target again takes a whole one out.
A provider that fails everything is therefore asked at most 1.1 times as often as clients ask (with the minimum below).

Going on to another target is always allowed: each target of a call is gone to at most once, so no provider is asked
more often than clients ask, a provider that keeps failing has its circuit opened, and a client whose first target just
died should get its answer from the second even from a process that has only started. It does empty the purse, though:
while calls need failover, there is nothing left for retries.

A tenant with two calls a minute would save for five minutes to retry one. Beside the purses there is therefore a
minimum of three retries a second for the whole process (Envoy's budget has a minimum of three, too), of which one
tenant takes no more than one a second: many small tenants cannot multiply it, and a large one does not use it up.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from trueport.kit.clock import Clock

SHARE: Final = 0.1
MOST_SAVED: Final = 100.0
MINIMUM_PER_S: Final = 3.0
TENANT_MINIMUM_EVERY_S: Final = 1.0
CAPACITY: Final = 10_000
# Ten tenths are a whole, though not to a float.
_ROUNDING: Final = 1e-6


@dataclass(slots=True)
class _Purse:
    saved: float = 0.0
    minimum_at_s: float = float("-inf")


class RetryBudget:
    """The budget of this process. Beyond `capacity` the purses of tenants that have not called for longest are lost.

    allowed, refused: further attempts, for the metrics; they only grow.
    """

    def __init__(
        self, clock: Clock, *, share: float = SHARE, minimum_per_s: float = MINIMUM_PER_S, capacity: int = CAPACITY
    ) -> None:
        self._clock = clock
        self._share = share
        self._minimum_per_s = minimum_per_s
        self._capacity = capacity
        self._purses: OrderedDict[str, _Purse] = OrderedDict()
        self._common = minimum_per_s
        self._filled_at_s = clock.monotonic()
        self.allowed = self.refused = 0

    def note_call(self, tenant_id: str) -> None:
        """A call makes its first attempt."""
        purse = self._purse(tenant_id)
        purse.saved = min(purse.saved + self._share, MOST_SAVED)

    def may_retry(self, tenant_id: str, *, is_other_target: bool) -> bool:
        """Whether a call may make a further attempt; if so it counts as made.

        is_other_target: it goes to the next target instead of the one that failed.
        """
        purse = self._purse(tenant_id)
        if is_other_target or purse.saved + _ROUNDING >= 1.0:
            purse.saved = max(0.0, purse.saved - 1.0)
            is_allowed = True
        else:
            is_allowed = self._takes_of_minimum(purse)
        self.allowed += is_allowed
        self.refused += not is_allowed
        return is_allowed

    def _takes_of_minimum(self, purse: _Purse) -> bool:
        now = self._clock.monotonic()
        self._common = min(self._common + (now - self._filled_at_s) * self._minimum_per_s, self._minimum_per_s)
        self._filled_at_s = now
        if self._common + _ROUNDING < 1.0 or now - purse.minimum_at_s + _ROUNDING < TENANT_MINIMUM_EVERY_S:
            return False
        self._common -= 1.0
        purse.minimum_at_s = now
        return True

    def _purse(self, tenant_id: str) -> _Purse:
        purse = self._purses.get(tenant_id)
        if purse is None:
            purse = self._purses[tenant_id] = _Purse()
            if len(self._purses) > self._capacity:
                self._purses.popitem(last=False)
        else:
            self._purses.move_to_end(tenant_id)
        return purse
