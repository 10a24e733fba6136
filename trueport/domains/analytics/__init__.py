"""What went through the gateway: the interaction log, and sums over it."""

from litestar.di import Provide

from trueport.domains.analytics.controllers import AnalyticsController, provide_analytics
from trueport.domains.analytics.models import AuditRecord, InteractionRow
from trueport.web.domain import Domain

domain = Domain(
    name="analytics",
    controllers=(AnalyticsController,),
    dependencies={"analytics": Provide(provide_analytics, sync_to_thread=False)},
    documents=(AuditRecord, InteractionRow),
    permissions=frozenset({"logs:read", "analytics:read"}),
)
