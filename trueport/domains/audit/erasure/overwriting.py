"""Overwriting what an erasure has made unreadable, where the storage lets itself be overwritten."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from odmantic import query

from trueport.audit.canonical import parse
from trueport.audit.records import record_id
from trueport.domains.analytics.api import AuditRecord, InteractionRow, Interactions
from trueport.domains.audit.erasure.models import Erasure
from trueport.domains.audit.repository import OrderedRecords
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import Blanking, open_store
from trueport.web.domain import Resources

_CALLS_AT_ONCE: Final = 50


class Overwriting:
    """Finds a subject's sealed contents by its calls. Doing it again does no harm."""

    def __init__(self, resources: Resources, scope: TenantScope) -> None:
        self._store = open_store(resources.settings.storage_url, resources.settings.data_dir)
        self._rows = Interactions(resources.database, scope)
        self._records = OrderedRecords(resources.database, scope)

    async def run(self, erasure: Erasure, stay: Callable[[Erasure], Awaitable[None]]) -> int:
        """How many contents are zeros now; 0 where the storage keeps everything. `stay` is called between steps.

        What is sealed under a key that is not among the erased ones stays. Raises a kit Unavailable.
        """
        if not isinstance(self._store, Blanking) or not erasure.kids:
            return 0
        count, calls, kids = 0, list[str](), frozenset(erasure.kids)
        async for row in self._rows.each(query.eq(InteractionRow.subject, erasure.subject)):
            calls.append(row.id)
            if len(calls) == _CALLS_AT_ONCE:
                count += await self._blank(self._store, calls, kids)
                await stay(erasure)
                calls = []
        return count + await self._blank(self._store, calls, kids)

    async def _blank(self, store: Blanking, calls: Sequence[str], kids: Collection[str]) -> int:
        names = [record_id(call, kind) for call in calls for kind in ("intent", "outcome")]
        ranges: dict[str, list[tuple[int, int]]] = {}
        for record in (await self._records.named(names)).values():
            reference = record.content_reference
            if reference is not None and _kid_of(record) in kids:
                ranges.setdefault(reference.object, []).append((reference.offset, reference.length))
        for name, found in ranges.items():
            await store.blank(name, found)
        return sum(map(len, ranges.values()))


def _kid_of(record: AuditRecord) -> str | None:
    content = parse(record.canonical).get("content")
    return str(content["kid"]) if isinstance(content, dict) else None
