"""Where the shipper's records go: ciphertexts to the content storage, then the record, then what is made from it.

This is the one writer across tenants, and on purpose no TenantRepository: a batch holds the records of whoever
called, each names its tenant, and a scope for each would have to be made up here. So nothing is read, every object,
document and filter carries the tenant of its own record, and nothing else is offered. It is handed to the shipper
and to nobody else.

The order is what makes a crash harmless: a record in the database always finds its ciphertexts, and the interaction's
row and violations, which anybody can make again from the record, come last. The shipper offers a batch again until all
of it is done.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pymongo.errors import BulkWriteError, PyMongoError

from trueport.audit.shipper import ShippedRecord
from trueport.domains.analytics.events import RecordsStored, ViolationFound
from trueport.domains.analytics.models import (
    RETENTION,
    AuditRecord,
    AuditWriter,
    InteractionRow,
    Scan,
    ScanTask,
    Violation,
)
from trueport.domains.analytics.projection import (
    RowWrite,
    audit_document,
    row_writes,
    scan_documents,
    violation_documents,
)
from trueport.domains.analytics.writers import writer_documents, writer_updates
from trueport.kit.clock import from_epoch_us
from trueport.kit.errors import Conflict
from trueport.kit.events import EventBus
from trueport.kit.logging import get_logger
from trueport.storage.documents import ContentStore, StorageUnavailable
from trueport.storage.mongo import Collection, Database, Document, StoreUnavailable

log = get_logger(__name__)

_DUPLICATE: Final = 11000
_OBJECTS_AT_ONCE: Final = 8
_WRITES_AT_ONCE: Final = 100
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class ContentObject:
    """The ciphertexts of some records of one tenant, and where each record's lie (a ContentReference, by record id)."""

    name: str
    data: bytes
    places: dict[str, Document]


class MongoSink:
    """Keeps shipped records in the database and their ciphertexts in `store`. A RecordSink."""

    def __init__(
        self,
        database: Database,
        store: ContentStore,
        *,
        retention: timedelta = RETENTION,
        events: EventBus | None = None,
    ) -> None:
        self._records = database[+AuditRecord]
        self._writers = database[+AuditWriter]
        self._rows = database[+InteractionRow]
        self._violations = database[+Violation]
        self._scans = database[+Scan]
        self._queue = database[+ScanTask]
        self._events = events
        self._store = store
        self._retention = retention

    async def store(self, batch: Sequence[ShippedRecord], *, placed: Mapping[str, int] | None = None) -> None:
        """Keep the records for good; known ids are no error. Raises StoreUnavailable and StorageUnavailable.

        placed: for records that come back from an archive, by id, where the batch begins that has given each its place.
        Nothing is read again for them, and nobody is told.
        """
        objects = content_objects(batch)
        await self._keep_content(objects)
        places = {record_id: place for each in objects for record_id, place in each.places.items()}
        documents = [audit_document(shipped, places.get(shipped.id)) for shipped in batch]
        if placed is not None:
            documents = [{**document, "batch": placed[document["_id"]]} for document in documents]
        writes = row_writes(batch, self._retention)
        violations = [each for shipped in batch for each in violation_documents(shipped.record, self._retention)]
        asking = batch if placed is None else ()
        scans = [found for shipped in asking if (found := scan_documents(shipped.record, self._retention))]
        try:
            for start in range(0, len(documents), _WRITES_AT_ONCE):
                await self._keep(self._records, documents[start : start + _WRITES_AT_ONCE])
            await self._keep(self._writers, writer_documents(batch))
            if changes := writer_updates(batch):
                await self._writers.bulk_write(changes, ordered=True)
            for start in range(0, len(writes), _WRITES_AT_ONCE):
                await self._project(writes[start : start + _WRITES_AT_ONCE])
            for start in range(0, len(violations), _WRITES_AT_ONCE):
                new = await self._keep(self._violations, violations[start : start + _WRITES_AT_ONCE])
                await self._tell(new)
            # The scan before its place in the queue: whoever finds the place finds the scan.
            if scans:
                await self._keep(self._scans, [scan for scan, _ in scans])
                await self._keep(self._queue, [task for _, task in scans])
        except PyMongoError as error:
            # Whatever the driver says, whether a write took place is not known, and repeating it does no harm.
            log.warning("records_not_stored", error_type=type(error).__name__, records=len(batch))
            raise StoreUnavailable from error
        if self._events is not None and batch:
            await self._events.tell(RecordsStored(frozenset(shipped.record["tenant"] for shipped in batch)))

    async def _keep_content(self, objects: Sequence[ContentObject]) -> None:
        turn = asyncio.Semaphore(_OBJECTS_AT_ONCE)

        async def put(each: ContentObject) -> None:
            async with turn:
                await self._store.put(each.name, each.data)

        results = await asyncio.gather(*map(put, objects), return_exceptions=True)
        for problem in filter(None, results):
            if isinstance(problem, Conflict):
                # The name holds a digest of the bytes, so other bytes under it are damage. A person has to look.
                log.error("content_object_damaged", error_type="Conflict")
                raise StorageUnavailable from problem
            raise problem

    async def _keep(self, collection: Collection, documents: list[Document]) -> list[Document]:
        """Insert those that are not there and give them back; the others stay as they are."""
        if not documents:
            return []
        try:
            await collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            known = set(_known_names(error))
            return [document for number, document in enumerate(documents) if number not in known]
        return documents

    async def _tell(self, violations: Sequence[Document]) -> None:
        if self._events is not None:
            for violation in violations:
                await self._events.tell(ViolationFound.of(violation))

    async def _project(self, writes: list[RowWrite]) -> None:
        new = [write for write in writes if write.row is not None]
        inserted = {id(row) for row in await self._keep(self._rows, [write.row for write in new if write.row])}
        lost = await self._upsert([write for write in writes if write.row is None or id(write.row) not in inserted])
        # Two processes that insert one row at the same time: the second finds it when it looks again.
        lost = await self._upsert([write for write in lost if not write.may_lose])
        if lost:
            log.error("interaction_name_taken", count=len(lost))

    async def _upsert(self, writes: list[RowWrite]) -> list[RowWrite]:
        """Do these; returns those whose row exists and does not match."""
        if not writes:
            return []
        try:
            await self._rows.bulk_write([write.update for write in writes], ordered=False)
        except BulkWriteError as error:
            return [writes[index] for index in _known_names(error)]
        return []


def content_objects(batch: Sequence[ShippedRecord]) -> list[ContentObject]:
    """One object per tenant and writer with the ciphertexts of these records, in the order of the batch.

    The same records give the same objects, so that a batch offered again writes nothing new. The name ends in a
    digest: whatever the bounds of a batch, different bytes never meet under one name.
    """
    groups: dict[tuple[str, str], list[ShippedRecord]] = {}
    for shipped in batch:
        if shipped.blobs:
            groups.setdefault((shipped.record["tenant"], shipped.record["writer"]), []).append(shipped)
    return [_content_object(tenant, writer, records) for (tenant, writer), records in groups.items()]


def _content_object(tenant: str, writer: str, records: Sequence[ShippedRecord]) -> ContentObject:
    data = b"".join(blob for shipped in records for blob in shipped.blobs)
    day = from_epoch_us(records[0].record["at"]).date().isoformat()
    first, last = records[0].record["wseq"], records[-1].record["wseq"]
    digest = hashlib.sha256(data).hexdigest()[:16]
    name = f"{tenant}/content/{day}/{first:010d}-{last:010d}-{_NOT_IN_NAMES.sub('-', writer)}-{digest}.bin"
    places: dict[str, Document] = {}
    offset = 0
    for shipped in records:
        length = sum(map(len, shipped.blobs))
        places[shipped.id] = {"object": name, "offset": offset, "length": length}
        offset += length
    return ContentObject(name, data, places)


def _known_names(error: BulkWriteError) -> list[int]:
    """The positions of documents whose name existed already, when nothing else went wrong. Raises the error if not."""
    details = error.details
    failures = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(failure["code"] != _DUPLICATE for failure in failures):
        raise error
    return [failure["index"] for failure in failures]
