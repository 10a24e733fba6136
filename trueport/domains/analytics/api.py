"""The front door of this domain: what the lifespan, other domains and the command line may use."""

from trueport.domains.analytics.events import RecordsStored, ViolationFound
from trueport.domains.analytics.models import (
    RETENTION,
    AuditRecord,
    ContentReference,
    End,
    InteractionRow,
    Scan,
    ScanTask,
)
from trueport.domains.analytics.replays import Progress, replay_policies
from trueport.domains.analytics.repository import AuditRecords, Interactions, LogFilter
from trueport.domains.analytics.scans import Backlog, ScanQueue, ScanResults, Scans
from trueport.domains.analytics.schemas import moment_of
from trueport.domains.analytics.service import Analytics, Stats
from trueport.domains.analytics.sink import MongoSink

__all__ = [
    "RETENTION",
    "Analytics",
    "AuditRecord",
    "AuditRecords",
    "Backlog",
    "ContentReference",
    "End",
    "InteractionRow",
    "Interactions",
    "LogFilter",
    "MongoSink",
    "Progress",
    "RecordsStored",
    "Scan",
    "ScanQueue",
    "ScanResults",
    "ScanTask",
    "Scans",
    "Stats",
    "ViolationFound",
    "moment_of",
    "replay_policies",
]
