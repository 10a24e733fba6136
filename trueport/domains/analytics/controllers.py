"""The HTTP surface of the interaction log and its sums."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from trueport.domains.analytics.models import End
from trueport.domains.analytics.repository import GroupBy, LogFilter
from trueport.domains.analytics.schemas import (
    InteractionShown,
    StatsShown,
    moment_of,
    show_interaction,
    show_stats,
    status_range,
)
from trueport.domains.analytics.service import Analytics
from trueport.kit.tenancy import Environment
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed, PageRequest, listed

TheAnalytics = NamedDependency[Analytics]
Text = Annotated[str | None, QueryParameter(max_length=256)]
From = Annotated[str | None, QueryParameter(name="from", max_length=40, description="RFC 3339, included")]
To = Annotated[str | None, QueryParameter(name="to", max_length=40, description="RFC 3339, not included")]
Status = Annotated[str | None, QueryParameter(max_length=3, description="a status such as 404, or a class such as 4xx")]


def provide_analytics(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Analytics:
    # Not the dependency `principal`: the framework takes no subclass of the class it is declared with.
    return Analytics(resources.database, bound_tenant_principal(request).scope, resources.clock)


class AnalyticsController(Controller):
    """The interactions of a tenant: each of them, and sums."""

    path = "/trueportai-services/api/v1/analytics"
    tags: Sequence[str] = ("analytics",)

    @get("/logs", access=tenant("logs:read"))
    async def logs(
        self,
        analytics: TheAnalytics,
        page: NamedDependency[PageRequest],
        *,
        since: From = None,
        until: To = None,
        env: FromQuery[Environment | None] = None,
        key_id: Text = None,
        model: Text = None,
        provider: Text = None,
        status: Status = None,
        end: FromQuery[End | None] = None,
        decision: Text = None,
        request_id: Text = None,
    ) -> Listed[InteractionShown]:
        """List interactions, newest first."""
        wanted = LogFilter(
            since=moment_of(since, "from"),
            until=moment_of(until, "to"),
            env=env,
            key_id=key_id,
            model=model,
            provider=provider,
            status=status_range(status),
            end=end,
            decision=decision,
            request_id=request_id,
        )
        found = await analytics.logs(wanted, limit=page.limit, after=page.after)
        return listed(found.items, found.next, show_interaction)

    @get("/logs/{interaction_id:str}", access=tenant("logs:read"))
    async def interaction(self, analytics: TheAnalytics, interaction_id: FromPath[str]) -> InteractionShown:
        """Get one interaction."""
        return show_interaction(await analytics.interaction(interaction_id))

    @get("/stats", access=tenant("analytics:read"))
    async def stats(
        self, analytics: TheAnalytics, *, since: From = None, until: To = None, group_by: FromQuery[GroupBy] = "none"
    ) -> StatsShown:
        """Get sums over interactions, of the last 24 hours unless a period is given."""
        return show_stats(await analytics.stats(moment_of(since, "from"), moment_of(until, "to"), group_by))
