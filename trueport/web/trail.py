"""Records of what people do to a tenant: who changed, signed in, read, exported, held or erased something.

They stand in the same journal, chain and tree as those of calls.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from trueport.audit.direct import DirectJournal
from trueport.audit.journal import Journal, SpoolUnavailable
from trueport.audit.records import DeedKind
from trueport.audit.shipper import RecordSink, Shipper
from trueport.audit.spool import Spool
from trueport.kit.clock import Clock
from trueport.kit.deadline import Deadline
from trueport.kit.ids import new_id
from trueport.kit.logging import get_logger
from trueport.kit.tasks import ended
from trueport.settings import Settings
from trueport.web.domain import Resources

log = get_logger(__name__)

# Deeds are few: a command that writes one record need not fill 64 MiB with zeros first.
_SEGMENT_BYTES: Final = 1 << 20
_DRAIN_S: Final = 5.0


class Trail:
    """Writes records of deeds to the journal of this process. Lent to domains as a part of the Resources."""

    def __init__(self, journal: Journal) -> None:
        self._opened = journal

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> str:
        """Write one record; returns its id once it would survive a loss of power.

        Called before the deed, so that nothing is done that is not recorded. `fields` holds JSON without floats, and
        never a secret or a text of a call. Raises SpoolUnavailable, and the deed is then not to be done.
        """
        journal = self._journal()
        appended = journal.append(kind, new_id("rec"), tenant_id, dict(fields))
        await journal.durable(appended.position)
        return appended.record_id

    def add(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> None:
        """Write one record of what has happened already; it survives this process. Raises SpoolUnavailable."""
        self._journal().append(kind, new_id("rec"), tenant_id, dict(fields))

    async def note_lost_writer(self, tenant_id: str, fields: Mapping[str, object]) -> None:
        """Record that a writer has fallen silent for good; it survives a loss of power. Raises SpoolUnavailable."""
        journal = self._journal()
        # Not `rec_…`, which are names of what people did.
        appended = journal.append("lost_writer", new_id("los"), tenant_id, dict(fields))
        await journal.durable(appended.position)

    def _journal(self) -> Journal:
        return self._opened


class _LateTrail(Trail):
    """One whose journal is opened by its first record: most commands write none."""

    def __init__(self, open_journal: Callable[[], Spool | DirectJournal]) -> None:
        self._make = open_journal
        self.opened: Spool | DirectJournal | None = None

    def _journal(self) -> Spool | DirectJournal:
        if self.opened is None:
            try:
                self.opened = self._make()
            except OSError as error:
                log.error("journal_not_opened", error_type=type(error).__name__)
                raise SpoolUnavailable from error
        return self.opened


def trail_of(resources: Resources) -> Trail:
    """The trail of this process. Raises SpoolUnavailable where it keeps none: what cannot be recorded is not done."""
    trail = resources.parts.get(Trail)
    if not isinstance(trail, Trail):
        raise SpoolUnavailable
    return trail


@asynccontextmanager
async def open_trail(
    settings: Settings, clock: Clock, make_sink: Callable[[], RecordSink], *, ships_meanwhile: bool = False
) -> AsyncIterator[Trail]:
    """A trail for a process that serves no calls: a command, or a server that hosts only the management API.

    Its journal lies beside those of the servers and is opened by the first record. At the end it is shipped to the
    sink; what cannot be is left, and a server that uses the same folder adopts it. ships_meanwhile: for a process
    that lives long.
    """
    root = settings.spool.directory

    def open_journal() -> Spool | DirectJournal:
        if settings.spool.is_bypassed:
            return DirectJournal(make_sink(), clock)
        return Spool(
            root,
            clock=clock,
            segment_bytes=min(settings.spool.segment_bytes, _SEGMENT_BYTES),
            capacity_bytes=settings.spool.capacity_bytes,
            second_root=settings.spool.second_directory,
        )

    trail = _LateTrail(open_journal)
    shipper: Shipper | None = None
    shipping: asyncio.Task[None] | None = None
    if ships_meanwhile:
        trail.opened = journal = open_journal()
        if isinstance(journal, Spool):
            shipper = Shipper(journal, root, make_sink())
            shipping = asyncio.create_task(shipper.run(), name="shipper")
    try:
        yield trail
    finally:
        if shipping is not None:
            await ended([shipping])
        if trail.opened is not None:
            if shipper is None and isinstance(trail.opened, Spool):
                shipper = Shipper(trail.opened, root, make_sink())
            trail.opened.close(is_shipped=await _is_shipped(trail.opened, shipper))


async def _is_shipped(journal: Journal, shipper: Shipper | None) -> bool:
    if shipper is None:
        with suppress(SpoolUnavailable):
            await journal.settled()
            return True
        return False
    is_shipped = await shipper.finish(Deadline.after(_DRAIN_S))
    if not is_shipped:
        log.warning("journal_not_drained", reason="left for a server to adopt")
    return is_shipped
