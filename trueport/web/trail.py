"""Records of what people do to a tenant: who changed, signed in, read, exported, held or erased something.

They stand in the same journal, chain and tree as those of calls.
"""

from collections.abc import Mapping

from trueport.audit.journal import Journal
from trueport.audit.records import DeedKind
from trueport.kit.ids import new_id


class Trail:
    """Writes records of deeds to the journal of this process. Lent to domains as a part of the Resources."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> str:
        """Write one record; returns its id once it would survive a loss of power.

        Called before the deed, so that nothing is done that is not recorded. `fields` holds JSON without floats, and
        never a secret or a text of a call. Raises SpoolUnavailable, and the deed is then not to be done.
        """
        appended = self._journal.append(kind, new_id("rec"), tenant_id, dict(fields))
        await self._journal.durable(appended.position)
        return appended.record_id
