"""What went through the gateway: the interaction log, sums over it, and violations."""

from litestar.di import Provide

from trueport.domains.analytics.controllers import (
    AnalyticsController,
    ViolationsController,
    provide_analytics,
    provide_cases,
)
from trueport.domains.analytics.models import AuditRecord, InteractionRow, Violation
from trueport.web.domain import Domain

domain = Domain(
    name="analytics",
    controllers=(AnalyticsController, ViolationsController),
    dependencies={
        "analytics": Provide(provide_analytics, sync_to_thread=False),
        "cases": Provide(provide_cases, sync_to_thread=False),
    },
    documents=(AuditRecord, InteractionRow, Violation),
    permissions=frozenset({"logs:read", "analytics:read", "violations:read", "violations:write"}),
)
