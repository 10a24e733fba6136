"""Refused sign-ins on their way to the trail: the first at once, those like it as one count at the end of the minute.

Whoever guesses passwords, or only wants to bury other records, could otherwise write a record with each request.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from trueport.audit.journal import SpoolUnavailable
from trueport.kit.clock import Clock
from trueport.kit.ids import UserId
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Job, Resources

EVERY_S: Final = 5.0
_MINUTE_S: Final = 60.0
_MOST_MINUTES: Final = 10_000
_MOST_USERS: Final = 20


class _Alike(NamedTuple):
    """What refusals have in common that are counted together."""

    tenant_id: str
    address: str
    action: str
    by: str
    session: str

    @property
    def said(self) -> dict[str, str]:
        """What their records say of it beside who, what and where."""
        return {"session": self.session} if self.session else {}


@dataclass(slots=True)
class _Minute:
    """The refusals behind a first one: `since` when, and whom they concerned (`users`, at most 20)."""

    deeds: Deeds
    ends_at_s: float
    count: int = 0
    since: datetime | None = None
    users: list[UserId] = field(default_factory=list)


class Refusals:
    """Counts in process memory. Bounded: where too many minutes are under way, the oldest ends early."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minutes: OrderedDict[_Alike, _Minute] = OrderedDict()

    async def note(self, deeds: Deeds, tenant_id: str, action: str, user_id: UserId, session: str = "") -> None:
        """Record a refusal, or count it. Raises SpoolUnavailable; it is then told with those that follow."""
        alike = _Alike(tenant_id, deeds.actor.address, action, deeds.actor.by, session)
        minute = self._minutes.get(alike)
        if minute is not None:
            self._count(minute, user_id)
            return
        # Before the first one is recorded, so that those sent together with it are counted.
        minute = self._minutes[alike] = _Minute(deeds, self._clock.monotonic() + _MINUTE_S)
        try:
            await deeds.tell(tenant_id, "auth", action, Thing("user", user_id), **alike.said)
        except SpoolUnavailable:
            self._count(minute, user_id)
            raise
        if len(self._minutes) > _MOST_MINUTES:
            await self._tell(next(iter(self._minutes)))

    async def tell(self, *, everything: bool = False) -> None:
        """Record what was counted in minutes that are over, or in all of them. Raises SpoolUnavailable."""
        now_s = self._clock.monotonic()
        for alike in [alike for alike, minute in self._minutes.items() if everything or minute.ends_at_s <= now_s]:
            await self._tell(alike)

    def _count(self, minute: _Minute, user_id: UserId) -> None:
        minute.count += 1
        minute.since = minute.since or self._clock.now()
        if user_id not in minute.users and len(minute.users) < _MOST_USERS:
            minute.users.append(user_id)

    async def _tell(self, alike: _Alike) -> None:
        minute = self._minutes.pop(alike, None)
        if minute is None or not minute.count:
            return
        whom = Thing("user", minute.users[0] if len(minute.users) == 1 else "")
        try:
            await minute.deeds.unasked().tell(
                alike.tenant_id, "auth", alike.action, whom,
                count=minute.count, since=minute.since, users=minute.users, **alike.said,
            )  # fmt: skip
        except SpoolUnavailable:
            self._keep(alike, minute)
            raise

    def _keep(self, alike: _Alike, minute: _Minute) -> None:
        """Have what could not be recorded told the next time, with what was counted meanwhile."""
        newer = self._minutes.get(alike)
        if newer is None:
            self._minutes[alike] = minute
            return
        newer.count += minute.count
        newer.since = minute.since
        newer.users = list(dict.fromkeys([*minute.users, *newer.users]))[:_MOST_USERS]


@asynccontextmanager
async def open_refusals(resources: Resources) -> AsyncIterator[None]:
    resources.parts[Refusals] = Refusals(resources.clock)
    yield


async def _tell(resources: Resources) -> None:
    await resources.part(Refusals).tell()


async def _tell_everything(resources: Resources) -> None:
    with suppress(SpoolUnavailable):
        await resources.part(Refusals).tell(everything=True)


job = Job("tell refusals", EVERY_S, _tell, at_end=_tell_everything)
