"""Legal holds: what they are about is neither pruned nor erased until two people have ended them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from odmantic import query

from trueport.domains.analytics.api import InteractionRow, Interactions
from trueport.domains.audit.erasure.models import Hold
from trueport.domains.audit.erasure.repository import Holds
from trueport.kit.clock import Clock, from_epoch_us, rfc3339
from trueport.kit.errors import Conflict, InvalidRequest
from trueport.kit.ids import new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.filters import Filter
from trueport.storage.mongo import Database
from trueport.storage.scoped import Page
from trueport.web.trail import Trail


class SecondPersonNeeded(Conflict):
    """Whoever asked for a hold's release cannot be the one who agrees."""

    code = "second_person_needed"

    def __init__(self) -> None:
        super().__init__("You have asked for this release yourself: another person has to agree to it.")


class HoldReleased(Conflict):
    """The hold has ended already."""

    code = "hold_released"

    def __init__(self) -> None:
        super().__init__("This hold has been released already.")


@dataclass(frozen=True, slots=True)
class RecordMetadata:
    """What of a record a hold can be about. None is what the record does not say."""

    at: datetime
    interaction_id: str | None = None
    subject: str | None = None
    key_id: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "RecordMetadata":
        """Of a parsed record of the trail. The time of a call's records is the call's start."""
        return cls(
            at=from_epoch_us(record.get("started_at", record["at"])),
            interaction_id=record["rid"],
            subject=record.get("subject"),
            key_id=record.get("key_id"),
        )


def is_held(record: RecordMetadata, holds: Iterable[Hold]) -> bool:
    """Whether one of these holds is about the record.

    A condition on something the record does not say counts as met: what cannot be told is kept.
    """
    return any(_is_about(hold, record) for hold in holds)


def _is_about(hold: Hold, record: RecordMetadata) -> bool:
    if hold.since is not None and record.at < hold.since:
        return False
    if hold.until is not None and record.at >= hold.until:
        return False
    if hold.subject is not None and record.subject not in (None, hold.subject):
        return False
    if hold.key_id is not None and record.key_id not in (None, hold.key_id):
        return False
    return not hold.interaction_ids or record.interaction_id in (None, *hold.interaction_ids)


@dataclass(frozen=True, slots=True)
class HoldScope:
    """What a new hold is to be about: whatever meets every condition given."""

    subject: str | None = None
    key_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    interaction_ids: Sequence[str] = ()


class Holding:
    """The holds of one tenant."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock) -> None:
        self._scope = scope
        self._holds = Holds(database, scope)
        self._rows = Interactions(database, scope)
        self._clock = clock

    async def create(self, trail: Trail, scope: HoldScope, reason: str, by: str) -> Hold:
        """A hold from now on. Raises InvalidRequest for a period that is none, and SpoolUnavailable."""
        if scope.since is not None and scope.until is not None and scope.since >= scope.until:
            raise InvalidRequest("until is after since.", param="until")
        hold = Hold(
            id=new_id("hld"),
            tenant_id=self._scope.tenant_id,
            created_at=self._clock.now(),
            reason=reason,
            created_by=by,
            subject=scope.subject,
            key_id=scope.key_id,
            since=scope.since,
            until=scope.until,
            interaction_ids=list(scope.interaction_ids),
        )
        await self._record(trail, hold, "create", by)
        return await self._holds.insert(hold)

    async def get(self, hold_id: str) -> Hold:
        """Raises NotFound."""
        return await self._holds.get(hold_id)

    async def page(self, *, limit: int, after: str | None) -> Page[Hold]:
        """Newest first, the released ones too."""
        return await self._holds.page(limit=limit, after=after)

    async def in_force(self) -> list[Hold]:
        """What to give `is_held`."""
        return await self._holds.in_force()

    async def release(self, trail: Trail, hold_id: str, by: str) -> Hold:
        """Ask for the release, or agree to what another person has asked for.

        Raises NotFound, HoldReleased, SecondPersonNeeded, which is recorded too, and SpoolUnavailable.
        """
        hold = await self.get(hold_id)
        match hold.state:
            case "released":
                raise HoldReleased
            case "active":
                await self._record(trail, hold, "ask_release", by)
                asked = {"state": "release_asked", "release_asked_by": by}
                changed = await self._holds.update(hold.id, asked, query.eq(Hold.state, "active"))
            case "release_asked":
                if hold.release_asked_by == by:
                    await self._record(trail, hold, "refuse_release", by)
                    raise SecondPersonNeeded
                await self._record(trail, hold, "release", by)
                done = {"state": "released", "released_by": by, "released_at": self._clock.now()}
                changed = await self._holds.update(hold.id, done, query.eq(Hold.state, "release_asked"))
        # Somebody else was quicker: what they did is what this request comes after.
        return changed or await self.release(trail, hold_id, by)

    async def of_subject(self, subject: str) -> list[Hold]:
        """Those in force that are about anything this subject has said."""
        return [hold for hold in await self.in_force() if await self._touches(hold, subject)]

    async def _touches(self, hold: Hold, subject: str) -> bool:
        if hold.subject not in (None, subject):
            return False
        conditions: list[Filter] = []
        if hold.key_id is not None:
            conditions.append(query.eq(InteractionRow.key_id, hold.key_id))
        if hold.since is not None:
            conditions.append(query.gte(InteractionRow.created_at, hold.since))
        if hold.until is not None:
            conditions.append(query.lt(InteractionRow.created_at, hold.until))
        if hold.interaction_ids:
            conditions.append(query.in_(InteractionRow.id, hold.interaction_ids))
        if not conditions:
            return True
        return await self._rows.find_one(query.eq(InteractionRow.subject, subject), *conditions) is not None

    async def _record(self, trail: Trail, hold: Hold, action: str, by: str) -> None:
        said: dict[str, object] = {"hold": hold.id, "action": action, "by": by, "reason": hold.reason}
        conditions: dict[str, object] = {
            "subject": hold.subject,
            "key_id": hold.key_id,
            "since": None if hold.since is None else rfc3339(hold.since),
            "until": None if hold.until is None else rfc3339(hold.until),
            "interaction_ids": list(hold.interaction_ids),
        }
        await trail.record(self._scope.tenant_id, "hold", {**said, "scope": conditions})
