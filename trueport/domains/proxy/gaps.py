"""What `best_effort` could not record: counted, told in the trail as soon as it takes records again, never silent."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter

from trueport.audit.journal import Journal, SpoolUnavailable
from trueport.kit.clock import Clock
from trueport.kit.ids import new_id
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_lost = Counter("trueport_records_lost", "Records of calls that were served and could not be recorded", ["kind"])

Missed = Literal["intent", "outcome"]


@dataclass(slots=True)
class _Gap:
    since_us: int
    intents: int = 0
    outcomes: int = 0


@dataclass(frozen=True, slots=True)
class _Owed:
    """The outcome of an intent that stands in the journal."""

    rid: str
    tenant: str
    fields: dict[str, object]


class Gaps:
    """Per tenant, what is missing from the trail and has not been told there yet."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._gaps: dict[str, _Gap] = {}
        # As many as there were calls under way when the journal failed: it takes no intents meanwhile.
        self._owed: deque[_Owed] = deque()

    def miss(self, tenant: str, kind: Missed) -> None:
        """A record was not written and never will be."""
        gap = self._gaps.setdefault(tenant, _Gap(self._clock.epoch_us()))
        if kind == "intent":
            gap.intents += 1
        else:
            gap.outcomes += 1
        _lost.labels(kind).inc()

    def owe(self, rid: str, tenant: str, fields: dict[str, object]) -> None:
        """An outcome could not be written, though its intent was: it is written later, without its content."""
        self._owed.append(_Owed(rid, tenant, {**fields, "content": None, "is_late": True}))

    def tell(self) -> None:
        """Write what is owed and what was missed, as far as the journal takes it."""
        try:
            while self._owed:
                owed = self._owed[0]
                self._journal.append("outcome", owed.rid, owed.tenant, owed.fields)
                self._owed.popleft()
            for tenant, gap in list(self._gaps.items()):
                self._journal.append("gap", new_id("rec"), tenant, self._told(gap))
                del self._gaps[tenant]
                log.warning("gap_recorded", tenant=tenant, intents=gap.intents, outcomes=gap.outcomes)
        except SpoolUnavailable:
            # The next call, or the next second, tries again.
            return

    def _told(self, gap: _Gap) -> dict[str, object]:
        return {
            "intents": gap.intents,
            "outcomes": gap.outcomes,
            "since": gap.since_us,
            "until": self._clock.epoch_us(),
            "why": SpoolUnavailable.code,
        }
