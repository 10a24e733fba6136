"""Legal holds in the archive: where a store has holds of its own, they are set on what ours are about.

Ours forbid pruning and erasing by themselves. The store's also keep everybody else from deleting an object once its
lock ends, until the hold is released here. A store that is away, or does not allow it, is asked again by the job.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import msgspec
import zstandard

from trueport.audit.archive import NamedObject, digest_of
from trueport.audit.canonical import parse
from trueport.domains.audit.archiving import ArchiveTampered
from trueport.domains.audit.erasure.holding import RecordMetadata, is_held
from trueport.domains.audit.erasure.models import Hold
from trueport.domains.audit.erasure.repository import Holds
from trueport.domains.audit.models import ArchivedSegment
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.repository import ArchivedSegments
from trueport.kit.errors import NotFound
from trueport.kit.tenancy import TenantScope
from trueport.storage.archives import ArchiveUnavailable
from trueport.storage.mongo import Database

_MOST_BYTES: Final = 1 << 30


class HeldInArchive(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a hold in the archive, in segments.

    `touched` is how many it is about; of these the store holds the objects of `held`, has no holds of its own for those
    that are `alone`, and `waiting` ones are not yet set or lifted. `unread` have not been looked at yet. `failure` is
    why the store did not do what it was asked to.
    """

    touched: int
    held: int
    alone: int
    waiting: int
    unread: int
    failure: str | None


class ArchiveHolds:
    """Holds on the archive of one tenant."""

    def __init__(self, database: Database, scope: TenantScope, stores: Stores) -> None:
        self._holds = Holds(database, scope)
        self._segments = ArchivedSegments(database, scope)
        self._stores = stores

    async def reconcile(self) -> None:
        """Have the stores hold what the holds in force are about, and nothing else.

        Raises ArchiveTampered, and a kit Unavailable once everything else is done, after which it can be run again.
        """
        in_force = await self._holds.in_force()
        failures: dict[str, str] = {}
        for hold in in_force:
            await self._find_touched(hold, failures)
        ids = [hold.id for hold in in_force]
        for segment in await self._segments.to_hold(ids):
            await self._settle(segment, failures, is_held=True)
        for segment in await self._segments.to_let_go(ids):
            await self._settle(segment, failures, is_held=False)
        if failures:
            raise ArchiveUnavailable("; ".join(sorted(set(failures.values()))))

    async def _find_touched(self, hold: Hold, failures: dict[str, str]) -> None:
        """Note with each archived segment that it holds a record of this hold; in their order, so that none is left."""
        for segment in await self._segments.archived_from(hold.examined_to):
            try:
                is_touched = await self._is_touched(segment, hold)
            except (ArchiveUnavailable, NotFound) as error:
                failures[segment.place] = _reason(error)
                return
            if is_touched:
                await self._segments.note_hold(segment, hold.id)
            await self._holds.update(hold.id, {"examined_to": segment.end})

    async def _is_touched(self, segment: ArchivedSegment, hold: Hold) -> bool:
        if not (hold.since or hold.until or hold.subject or hold.key_id or hold.interaction_ids):
            return True
        name = next(each for each in segment.objects if each.endswith(".jsonl.zst"))
        # From the archive: records may have left the database before the hold began.
        stored = NamedObject(name, await self._stores.at(segment.place).get(name))
        return await asyncio.to_thread(_holds_any, stored, hold, segment.announced)

    async def _settle(self, segment: ArchivedSegment, failures: dict[str, str], *, is_held: bool) -> None:
        """Set or lift the holds on a segment's objects; what is begun is noted first, so that none is forgotten."""
        if segment.place in failures:
            return
        await self._segments.update(segment.id, {"hold": "setting" if is_held else "lifting"})
        try:
            store = self._stores.at(segment.place)
            kept = [await store.hold(name, is_held=is_held) for name in segment.objects]
        except (ArchiveUnavailable, NotFound) as error:
            failures[segment.place] = _reason(error)
            await self._segments.update(segment.id, {"hold_failure": _reason(error)})
            return
        state = ("on" if all(kept) else "alone") if is_held else "none"
        await self._segments.update(segment.id, {"hold": state, "hold_failure": None})

    async def of(self, hold: Hold) -> HeldInArchive:
        """What has become of a hold."""
        touched = await self._segments.touched_by(hold.id)
        states = [segment.hold for segment in touched]
        is_over = hold.state == "released"
        others = {each.id for each in await self._holds.in_force()} - {hold.id}
        lifted = [segment for segment in touched if is_over and segment.hold == "none"]
        kept = [segment for segment in touched if is_over and others & set(segment.held_by)]
        return HeldInArchive(
            touched=len(touched),
            held=states.count("on"),
            alone=states.count("alone"),
            waiting=len(touched) - len(lifted) - len(kept) if is_over else sum(each in _WAITING for each in states),
            unread=0 if is_over else len(await self._segments.archived_from(hold.examined_to)),
            failure=next((segment.hold_failure for segment in touched if segment.hold_failure), None),
        )


_WAITING: Final = ("none", "setting", "lifting")


def _holds_any(stored: NamedObject, hold: Hold, announced: Collection[str]) -> bool:
    # What was restored is announced nowhere: the verifier has looked at it.
    if announced and digest_of(stored) not in announced:
        raise ArchiveTampered(f"The archive holds another {stored.name} than was written.")
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stored.data) as reader:
        lines = reader.read(_MOST_BYTES).split(b"\n")
    return any(is_held(RecordMetadata.of(parse(line)), [hold]) for line in lines if line)


def _reason(error: ArchiveUnavailable | NotFound) -> str:
    return error.reason if isinstance(error, ArchiveUnavailable) else "an object is missing"
