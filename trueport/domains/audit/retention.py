"""How long a tenant's records are kept: in the database, and locked in the archive."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from trueport.domains.audit.models import AuditRetention
from trueport.domains.audit.repository import Retentions
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest
from trueport.kit.tenancy import TenantScope
from trueport.settings import SHORTEST_RETENTION_DAYS, ArchiveSettings
from trueport.storage.mongo import Database

_CALLS: Final = frozenset({"intent", "attempt", "outcome", "abandoned", "gap", "heartbeat", "lost_writer"})
_LONGEST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class KeptFor:
    """Days for which records of calls are kept, and records of what people did."""

    calls: int
    deeds: int

    @property
    def longest(self) -> int:
        return max(self.calls, self.deeds)

    @property
    def shortest(self) -> timedelta:
        return timedelta(days=min(self.calls, self.deeds))

    def of(self, record: Mapping[str, Any]) -> timedelta:
        """How long a parsed record is kept."""
        return timedelta(days=self.calls if record["kind"] in _CALLS else self.deeds)

    def at_least(self, other: "KeptFor") -> "KeptFor":
        return KeptFor(max(self.calls, other.calls), max(self.deeds, other.deeds))


class Retention:
    """The retention of one tenant; what was never set is that of the installation."""

    def __init__(self, database: Database, scope: TenantScope, rules: ArchiveSettings, clock: Clock) -> None:
        self._scope = scope
        self._stored = Retentions(database, scope)
        self._default = KeptFor(rules.retention_days, rules.retention_days)
        self._clock = clock

    async def now(self) -> KeptFor:
        found = await self._stored.find_one({"_id": self._scope.tenant_id})
        return self._default if found is None else KeptFor(found.calls_days, found.deeds_days)

    async def change(self, kept: KeptFor) -> KeptFor:
        """Keep what is archived from now on for so long. What is longer than before counts for all that is there.

        What is shorter counts only for what is not archived yet: a promise that was made is kept. Raises
        InvalidRequest for less than SHORTEST_RETENTION_DAYS.
        """
        for name, days in (("calls_days", kept.calls), ("deeds_days", kept.deeds)):
            if not SHORTEST_RETENTION_DAYS <= days <= _LONGEST_DAYS:
                raise InvalidRequest(f"{name} is from {SHORTEST_RETENTION_DAYS} to {_LONGEST_DAYS}.", param=name)
        changes = {"calls_days": kept.calls, "deeds_days": kept.deeds}
        if await self._stored.update(self._scope.tenant_id, changes) is None:
            await self._stored.insert_missing(
                [
                    AuditRetention(
                        id=self._scope.tenant_id,
                        tenant_id=self._scope.tenant_id,
                        created_at=self._clock.now(),
                        **changes,
                    )
                ]
            )
            await self._stored.update(self._scope.tenant_id, changes)
        return kept
