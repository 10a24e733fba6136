"""The front door of this domain: what the command line may use."""

from trueport.domains.audit.exporting import Export, LogHasHole
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.service import AuditLog, LogRolledBack

__all__ = ["AuditLog", "Export", "LogHasHole", "LogKeys", "LogRolledBack", "origin_of"]
