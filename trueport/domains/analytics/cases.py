"""Violations, and what people make of them: who looks at one, what it was, what it taught."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from odmantic import query

from trueport.domains.analytics.models import CaseEntry, CaseStatus, Violation
from trueport.domains.analytics.repository import Violations
from trueport.domains.auth.api import is_member
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import UserId, is_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.filters import Filter
from trueport.storage.mongo import Database
from trueport.storage.scoped import Page, StaleRevision
from trueport.web.deeds import Deeds, Thing

_TRIES: Final = 5
_MOST_ENTRIES: Final = 1_000


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which violations are wanted; None is "any". `equal` are members of Violation and their values."""

    since: datetime | None = None
    until: datetime | None = None
    equal: Mapping[str, str | None] | None = None

    def as_filters(self) -> list[Filter]:
        filters: list[Filter] = [{name: value for name, value in (self.equal or {}).items() if value is not None}]
        if self.since is not None:
            filters.append(query.gte(Violation.created_at, self.since))
        if self.until is not None:
            filters.append(query.lt(Violation.created_at, self.until))
        return filters


@dataclass(frozen=True, slots=True)
class CaseChange:
    """What somebody does with a case. `changes` are members of Violation; a note is kept beside them."""

    changes: Mapping[str, Any]
    note: str | None = None


class Cases:
    """The violations of one tenant."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock) -> None:
        self._database = database
        self._scope = scope
        self._violations = Violations(database, scope)
        self._clock = clock

    async def page(self, wanted: CaseFilter, *, limit: int, after: str | None) -> Page[Violation]:
        """Newest first. Raises InvalidRequest for a cursor of another list."""
        return await self._violations.page(*wanted.as_filters(), limit=limit, after=after)

    async def get(self, violation_id: str) -> Violation:
        """Raises NotFound."""
        if not is_id(violation_id, "vio"):
            raise NotFound("There is no such violation.")
        return await self._violations.get(violation_id)

    async def change(self, violation_id: str, change: CaseChange, by: UserId, deeds: Deeds) -> Violation:
        """The case as it is afterwards. Raises NotFound, InvalidRequest; StaleRevision when others keep at it.

        What others did at the same time stays: the change is made to what they left.
        """
        assignee = change.changes.get("assignee")
        if assignee is not None and not await is_member(self._database, self._scope, assignee):
            message = "The assignee is not a member of this tenant."
            raise InvalidRequest(message, errors=[{"field": "assignee", "message": "is not a member"}])
        for _ in range(_TRIES):
            violation = await self.get(violation_id)
            if len(violation.entries) >= _MOST_ENTRIES:
                raise InvalidRequest(f"A case holds at most {_MOST_ENTRIES} entries.")
            wanted = self._changed(violation, change, by)
            # A note is a text about what people wrote: a record says that there is one.
            said = {"note_chars": len(change.note)} if change.note is not None else {}
            thing = Thing("violation", violation_id, _told(violation), _told(wanted))
            try:
                async with deeds.doing(self._scope.tenant_id, "admin", "case_changed", thing, **said):
                    return await self._violations.replace(wanted)
            except StaleRevision:
                continue
        raise StaleRevision

    def _changed(self, violation: Violation, change: CaseChange, by: UserId) -> Violation:
        status: CaseStatus | None = change.changes.get("status")
        entry = CaseEntry(
            at=self._clock.now(), by=by, note=change.note, status=status if status != violation.status else None
        )
        has_news = entry.note is not None or entry.status is not None
        entries = [*violation.entries, entry] if has_news else violation.entries
        return violation.model_copy(update={**change.changes, "entries": entries})


def _told(violation: Violation) -> dict[str, Any]:
    """What a record says of a case, of several types."""
    return {"status": violation.status, "assignee": violation.assignee, "labels": violation.labels}
