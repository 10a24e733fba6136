"""The front door of this domain: what the lifespan, other domains and the command line may use."""

from trueport.domains.analytics.models import RETENTION, AuditRecord, ContentReference, End, InteractionRow
from trueport.domains.analytics.repository import AuditRecords, Interactions, LogFilter
from trueport.domains.analytics.service import Analytics, Stats
from trueport.domains.analytics.sink import MongoSink

__all__ = [
    "RETENTION",
    "Analytics",
    "AuditRecord",
    "AuditRecords",
    "ContentReference",
    "End",
    "InteractionRow",
    "Interactions",
    "LogFilter",
    "MongoSink",
    "Stats",
]
