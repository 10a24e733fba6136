"""The front door of this domain: what the lifespan, other domains and the command line may use."""

from trueport.domains.analytics.contents import ContentUnreadable, ContentViewer, Said
from trueport.domains.analytics.events import RecordsStored, ViolationFound
from trueport.domains.analytics.models import (
    RETENTION,
    AuditRecord,
    AuditWriter,
    ContentReference,
    End,
    InteractionRow,
    Scan,
    ScanTask,
)
from trueport.domains.analytics.replays import (
    ContentReader,
    PoliciesRefused,
    Progress,
    diff_members,
    proposed_set,
    replay_policies,
)
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
    "AuditWriter",
    "Backlog",
    "ContentReader",
    "ContentReference",
    "ContentUnreadable",
    "ContentViewer",
    "End",
    "InteractionRow",
    "Interactions",
    "LogFilter",
    "MongoSink",
    "PoliciesRefused",
    "Progress",
    "RecordsStored",
    "Said",
    "Scan",
    "ScanQueue",
    "ScanResults",
    "ScanTask",
    "Scans",
    "Stats",
    "ViolationFound",
    "diff_members",
    "moment_of",
    "proposed_set",
    "replay_policies",
]
