"""What went through the gateway: the interaction log, sums over it, and violations."""

from litestar.di import Provide

from trueport.domains.analytics.content_controllers import ContentController
from trueport.domains.analytics.controllers import (
    AnalyticsController,
    ScansController,
    ViolationsController,
    provide_analytics,
    provide_cases,
    provide_scans,
)
from trueport.domains.analytics.models import (
    AuditRecord,
    AuditWriter,
    InteractionRow,
    PolicyReplay,
    Scan,
    ScanTask,
    Violation,
)
from trueport.domains.analytics.replay_controllers import ReplaysController, provide_replays
from trueport.domains.analytics.replay_runs import beat, open_runner
from trueport.web.domain import Domain

domain = Domain(
    name="analytics",
    controllers=(AnalyticsController, ContentController, ViolationsController, ScansController, ReplaysController),
    dependencies={
        "analytics": Provide(provide_analytics, sync_to_thread=False),
        "cases": Provide(provide_cases, sync_to_thread=False),
        "scans": Provide(provide_scans, sync_to_thread=False),
        "replays": Provide(provide_replays, sync_to_thread=False),
    },
    documents=(AuditRecord, AuditWriter, InteractionRow, Violation, Scan, ScanTask, PolicyReplay),
    lifespan=(open_runner,),
    jobs=(beat,),
    permissions=frozenset(
        {
            "logs:read",
            "analytics:read",
            "violations:read",
            "violations:write",
            "policies:read",
            "policies:write",
            "content:reveal",
        }
    ),
)
