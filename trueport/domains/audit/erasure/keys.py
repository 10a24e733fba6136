"""A key for what each person says in each month, so that a person is erased by destroying a few keys.

A person is known here as a subject: a pseudonym, under the tenant's own key, of the tag by which an application names
its user, or of the API key where it names none. Nobody without the tenant's key can tell whose a subject is, and with
it only by guessing the tag.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from trueport.domains.audit.erasure.models import SubjectKey
from trueport.domains.audit.erasure.repository import SubjectKeyRows
from trueport.domains.auth.api import tenant_key, work_scope
from trueport.domains.config.api import content_key_named
from trueport.kit.clock import to_epoch_us
from trueport.kit.crypto import DataKey
from trueport.kit.errors import NotFound, Unavailable
from trueport.kit.ids import TenantId, new_id
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Duplicate
from trueport.web.domain import Resources

log = get_logger(__name__)

STALE_S: Final = 900.0
"""How long an opened key is used when it cannot be read again because the database is away."""
_MOST: Final = 50_000


class Person(msgspec.Struct, frozen=True):
    """Whose words are sealed. `user` is the application's own name for them, None where it gave none."""

    tenant_id: TenantId
    key_id: str
    user: str | None = None

    @property
    def name(self) -> str:
        return f"key:{self.key_id}" if self.user is None else f"user:{self.user}"


class Sealing(msgspec.Struct, frozen=True):
    """A subject and its key of this month."""

    subject: str
    key: DataKey


@dataclass(frozen=True, slots=True)
class _Kept:
    sealing: Sealing
    revision: int
    ends_us: int
    read_s: float


class Sealer(Protocol):
    """Who says under which key a person's words are sealed."""

    async def sealing(self, person: Person, revision: int) -> Sealing:
        """See SubjectKeys."""


class SubjectKeys:
    """The keys in use in this process. One look-up per call; the database is asked for those not met before."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._clock = resources.clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._pending: dict[tuple[str, str, int], asyncio.Future[Sealing]] = {}
        self._fresh_s = resources.settings.key_cache_s

    async def sealing(self, person: Person, revision: int) -> Sealing:
        """The key for what this person says now. It is stored before it is given out.

        `revision` is that of the tenant's configuration as the caller knows it: an erasure makes a higher one, and
        with it no process uses a key that it kept. Raises a kit Unavailable.
        """
        name = (person.tenant_id, person.name)
        kept = self._kept.get(name)
        if kept is not None and kept.revision == revision and self._clock.epoch_us() < kept.ends_us:
            age_s = self._clock.monotonic() - kept.read_s
            if age_s < self._fresh_s:
                return kept.sealing
        else:
            kept = None
        return await self._read_once(name, person, revision, kept)

    async def _read_once(self, name: tuple[str, str], person: Person, revision: int, kept: _Kept | None) -> Sealing:
        """Read once however many calls ask at the same moment, as they do when a revision changes."""
        wanted = (*name, revision)
        pending = self._pending.get(wanted)
        if pending is None:
            pending = asyncio.ensure_future(self._read(name, person, revision, kept))
            self._pending[wanted] = pending
            pending.add_done_callback(lambda _: self._pending.pop(wanted, None))
            # A failure is told to every waiter; with none left it must not be reported as forgotten.
            pending.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(pending)

    async def _read(self, name: tuple[str, str], person: Person, revision: int, kept: _Kept | None) -> Sealing:
        now = self._clock.now()
        read_s = self._clock.monotonic()
        try:
            own_key = await self.tenant_key(person.tenant_id)
            subject = subject_of(own_key, person.name)
            key = await self._stored(work_scope(person.tenant_id), own_key, subject, now)
        except Unavailable:
            if kept is not None and read_s - kept.read_s < STALE_S:
                return kept.sealing
            raise
        sealing = Sealing(subject, key)
        self._kept[name] = _Kept(sealing, revision, _month_after(now), read_s)
        self._kept.move_to_end(name)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return sealing

    async def _stored(self, scope: TenantScope, own_key: DataKey, subject: str, now: datetime) -> DataKey:
        keys, month = SubjectKeyRows(self._resources.database, scope), now.strftime("%Y-%m")
        found = await keys.of_month(subject, month)
        if found is None:
            fresh = DataKey.generate(new_id("dek"))
            found = SubjectKey(
                id=fresh.kid,
                tenant_id=scope.tenant_id,
                created_at=now,
                subject=subject,
                month=month,
                wrapped=own_key.wrap(fresh, _place(scope, subject, month, fresh.kid)),
            )
            try:
                await keys.insert(found)
            except Duplicate:
                found = await keys.of_month(subject, month)
                if found is None:
                    raise Unavailable("The key of this month is being changed: ask again.") from None
        return unwrapped(found, scope, own_key)

    async def tenant_key(self, tenant_id: TenantId) -> DataKey:
        """The tenant's own key. Raises NotFound, SealBroken, KeyRefused, and a kit Unavailable."""
        return await tenant_key(self._resources, tenant_id)

    async def opening(self, scope: TenantScope, kid: str) -> DataKey:
        """The key that sealed something. Raises ContentErased, SealBroken, and a kit Unavailable."""
        own_key = await self.tenant_key(scope.tenant_id)
        try:
            stored = await SubjectKeyRows(self._resources.database, scope).get(kid)
        except NotFound:
            pass
        else:
            return unwrapped(stored, scope, own_key)
        try:
            # What was recorded when a tenant had one key a month.
            return await content_key_named(self._resources.database, scope, own_key, kid)
        except NotFound as error:
            raise ContentErased from error


class ContentErased(NotFound):
    """The key of this content has been destroyed."""

    code = "content_erased"

    def __init__(self) -> None:
        super().__init__("The key of this content has been destroyed, so nobody can read it any more.")


def subject_of(own_key: DataKey, name: str) -> str:
    """The pseudonym of a Person's name."""
    return f"sub_{own_key.pseudonym(name)}"


def unwrapped(stored: SubjectKey, scope: TenantScope, own_key: DataKey) -> DataKey:
    """The data key in a document. Raises SealBroken for one that was put in another's place."""
    return own_key.unwrap(stored.id, stored.wrapped, _place(scope, stored.subject, stored.month, stored.id))


def _place(scope: TenantScope, subject: str, month: str, kid: str) -> str:
    return f"{scope.tenant_id}|subject-key|{subject}|{month}|{kid}"


def _month_after(now: datetime) -> int:
    """The first moment of the next month, in microseconds."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return to_epoch_us(datetime(year, month, 1, tzinfo=UTC))
