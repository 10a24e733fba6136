"""The front door of this domain: what the gateway and the command line may use."""

from trueport.domains.audit.archive_job import Archives, archives_of
from trueport.domains.audit.archiving import Archiver, ArchiveTampered, MutableArchive
from trueport.domains.audit.erasure.erasing import Erasing, LegalHold
from trueport.domains.audit.erasure.holding import Holding, HoldScope, RecordMetadata, is_held
from trueport.domains.audit.erasure.keys import ContentErased, Person, Sealer, Sealing, SubjectKeys
from trueport.domains.audit.exporting import Export, LogHasHole
from trueport.domains.audit.keys import LogKeys, Validity, origin_of
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.restoring import LogNotEmpty, Restore
from trueport.domains.audit.service import AuditLog, LogRolledBack

__all__ = [
    "ArchiveTampered",
    "Archiver",
    "Archives",
    "AuditLog",
    "ContentErased",
    "Erasing",
    "Export",
    "HoldScope",
    "Holding",
    "LegalHold",
    "LogHasHole",
    "LogKeys",
    "LogNotEmpty",
    "LogRolledBack",
    "MutableArchive",
    "Person",
    "RecordMetadata",
    "Restore",
    "Sealer",
    "Sealing",
    "Stores",
    "SubjectKeys",
    "Validity",
    "archives_of",
    "is_held",
    "origin_of",
]
