"""Trying an archive: write, read back, compare, try to replace, look at the lock; and say in words what is missing."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from trueport.kit.clock import Clock, rfc3339
from trueport.kit.errors import NotFound
from trueport.kit.randomness import random_bytes
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable, Located

_PATIENCE_S: Final = 30.0
_LOCKED_FOR: Final = timedelta(days=1)
_DATA: Final = b"An archive was tried with this object. It holds nothing, and may go when its lock ends.\n"
_OTHER: Final = b"This must never be found.\n"

_WORDS: Final = {
    "InvalidAccessKeyId": ("wrong_key", "The store does not know this access key."),
    "SignatureDoesNotMatch": ("wrong_key", "The secret does not belong to this access key."),
    "ExpiredToken": ("wrong_key", "These credentials have run out."),
    "UnauthenticatedError": ("wrong_key", "The store does not accept these credentials."),
    "InvalidPathError": ("no_bucket", "The store takes no such name."),
    "NoSuchBucket": ("no_bucket", "There is no bucket of this name."),
    "NotFoundError": ("no_bucket", "There is no bucket or container of this name."),
    "RequestTimeTooSkewed": ("clock", "The clock of this server and that of the store are too far apart."),
    "AuthorizationHeaderMalformed": ("region", "The bucket is in another region than `location` says."),
    "IllegalLocationConstraintException": ("region", "The bucket is in another region than `location` says."),
    "PermanentRedirect": ("region", "The bucket is in another region, or at another endpoint."),
    "AccessDenied": ("not_allowed", "These credentials may not do this."),
    "PermissionDeniedError": ("not_allowed", "These credentials may not do this."),
    "address_refused": ("address", "The endpoint leads to an address that this installation does not connect to."),
    "gaierror": ("address", "No address is known for the host of the endpoint."),
}
_BY_STATUS: Final = {
    "301": ("region", "The bucket is in another region, or at another endpoint."),
    "307": ("region", "The bucket is in another region, or at another endpoint."),
    "401": ("wrong_key", "The store does not accept these credentials."),
    "403": ("not_allowed", "The store refuses these credentials, or what they ask for."),
    "404": ("no_bucket", "There is no bucket of this name."),
}


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that keeps an archive from doing what it is for. `code` is for programs, `said` for people."""

    code: str
    said: str


@dataclass(frozen=True, slots=True)
class Probed:
    """What trying an archive has shown. `left` says what it left behind."""

    worm: bool
    why: str
    lacks: tuple[Lack, ...]
    left: str


async def probe(store: ArchiveStore, tenant_id: str, location: str, clock: Clock, *, allows_mutable: bool) -> Probed:
    """Write an object and look at what becomes of it.

    location: what the store is to say of where it is; empty: anything. One that can be changed lacks something unless
    `allows_mutable`. Where the store locks, the object stays, locked for a day.
    """
    trial = _Trial(store, f"probe/t={tenant_id}/{random_bytes(12).hex()}.txt", clock)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await trial.run(location)
    except ArchiveUnavailable as error:
        trial.lack(*lack_of(error.reason, trial.doing))
    except TimeoutError:
        trial.lack("no_answer", f"{trial.doing}: the store did not answer within {_PATIENCE_S:.0f} s.")
    if trial.why and not trial.worm and not allows_mutable:
        trial.lack(
            "mutable",
            f"Objects there can be changed: {trial.why}. The operator has to allow that (ALLOW_MUTABLE_ARCHIVE).",
        )
    return Probed(trial.worm, trial.why, tuple(trial.lacks), trial.left)


class _Trial:
    """One attempt, and how far it came."""

    def __init__(self, store: ArchiveStore, name: str, clock: Clock) -> None:
        self._store = store
        self._name = name
        self._until = clock.now().replace(microsecond=0) + _LOCKED_FOR
        self.doing = "Asking for Object Lock"
        self.worm = False
        self.why = ""
        self.left = "nothing"
        self.lacks: list[Lack] = []

    def lack(self, code: str, said: str) -> None:
        self.lacks.append(Lack(code, said))

    async def run(self, location: str) -> None:
        """Raises ArchiveUnavailable at the first thing that the store does not do."""
        promise = await self._store.immutability()
        self.worm, self.why = promise.worm, promise.why
        if location and isinstance(self._store, Located):
            self.doing = "Asking where the bucket is"
            found = await self._store.location()
            if found != location:
                self.lack("region", f"The bucket is in {found}, not in {location}.")
        self.doing = "Writing"
        self.left = f"perhaps {self._name}"
        await self._store.put_if_absent(self._name, _DATA, self._until)
        self.left = self._name
        await self._compare("Reading back")
        self.doing = "Writing again under the same name"
        await self._store.put_if_absent(self._name, _OTHER, self._until)
        await self._compare("Reading back once more")
        await (self._look_at_lock() if self.worm else self._clear_away())

    async def _compare(self, doing: str) -> None:
        self.doing = doing
        try:
            found = await self._store.get(self._name)
        except NotFound:
            found = b""
        if found != _DATA:
            self.lack("not_kept", f"{doing}: what the store gave is not what was written.")

    async def _look_at_lock(self) -> None:
        self.doing = "Looking at the lock"
        locked_until = (await self._store.head(self._name)).locked_until
        if locked_until is None or locked_until < self._until:
            self.lack("not_locked", "The store says that it locks objects, but this one is not locked for its time.")
            return
        self.left = f"{self._name}, locked until {rfc3339(locked_until)}"
        self.doing = "Setting a legal hold and lifting it again (s3:PutObjectLegalHold)"
        await self._store.hold(self._name, is_held=True)
        await self._store.hold(self._name, is_held=False)

    async def _clear_away(self) -> None:
        self.doing = "Removing the object again"
        try:
            await self._store.remove(self._name)
        except ArchiveUnavailable:
            # It may well be forbidden, and nothing but this object is ever to be removed.
            self.left = f"{self._name}, which these credentials may not remove"
        else:
            self.left = "nothing"


def lack_of(reason: str, doing: str) -> tuple[str, str]:
    """A code and a sentence for what kept the store from answering well, as ArchiveUnavailable says it."""
    status, _, code = reason.rpartition(" ")
    known = _WORDS.get(code) or _BY_STATUS.get(status or code)
    if known is not None:
        return known[0], f"{doing}: {known[1]} ({reason})"
    return "no_answer", f"{doing}: the store does not answer as it should ({reason})."
