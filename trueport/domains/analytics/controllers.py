"""The HTTP surface of the interaction log and its sums."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, Request, get, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from trueport.detection.types import Category, Side
from trueport.domains.analytics.cases import CaseFilter, Cases
from trueport.domains.analytics.models import CaseStatus, End, Found, ScanState
from trueport.domains.analytics.repository import GroupBy, LogFilter
from trueport.domains.analytics.scans import Scans
from trueport.domains.analytics.schemas import (
    ChangeCase,
    InteractionShown,
    ScanShown,
    StatsShown,
    ViolationShown,
    moment_of,
    show_interaction,
    show_scan,
    show_stats,
    show_violation,
    status_range,
)
from trueport.domains.analytics.service import Analytics
from trueport.kit.errors import NotFound
from trueport.kit.ids import is_id
from trueport.kit.tenancy import Environment
from trueport.web.deeds import Deeds
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed, PageRequest, listed

TheAnalytics = NamedDependency[Analytics]
Text = Annotated[str | None, QueryParameter(max_length=256)]
From = Annotated[str | None, QueryParameter(name="from", max_length=40, description="RFC 3339, included")]
To = Annotated[str | None, QueryParameter(name="to", max_length=40, description="RFC 3339, not included")]
Status = Annotated[str | None, QueryParameter(max_length=3, description="a status such as 404, or a class such as 4xx")]

Amount = Annotated[int | None, QueryParameter(ge=0, le=2**53 - 1, description="nano-dollars, included")]
Type = Annotated[str | None, QueryParameter(name="type", max_length=256)]

# `state` is a name that the framework keeps for itself.
InState = Annotated[ScanState | None, QueryParameter(name="state")]


def provide_analytics(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Analytics:
    # Not the dependency `principal`: the framework takes no subclass of the class it is declared with.
    return Analytics(resources.database, bound_tenant_principal(request).scope, resources.clock)


TheCases = NamedDependency[Cases]


def provide_cases(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Cases:
    return Cases(resources.database, bound_tenant_principal(request).scope, resources.clock)


class ViolationsController(Controller):
    """What policies acted on, and the case made of each."""

    path = "/trueportai-services/api/v1/analytics/violations"
    tags: Sequence[str] = ("violations",)

    @get("/", access=tenant("violations:read"))
    async def list_violations(
        self,
        cases: TheCases,
        page: NamedDependency[PageRequest],
        *,
        since: From = None,
        until: To = None,
        status: FromQuery[CaseStatus | None] = None,
        category: FromQuery[Category | None] = None,
        side: FromQuery[Side | None] = None,
        found: FromQuery[Found | None] = None,
        env: FromQuery[Environment | None] = None,
        action: Text = None,
        mode: Text = None,
        policy: Text = None,
        key_id: Text = None,
        model: Text = None,
        assignee: Text = None,
        interaction_id: Text = None,
        user: Text = None,
        of_type: Type = None,
    ) -> Listed[ViolationShown]:
        """List violations, newest first."""
        equal = {
            "status": status, "category": category, "side": side, "env": env, "action": action, "mode": mode,
            "policy": policy, "key_id": key_id, "model": model, "assignee": assignee, "interaction_id": interaction_id,
            "found": found, "user": user, "type": of_type,
        }  # fmt: skip
        wanted = CaseFilter(moment_of(since, "from"), moment_of(until, "to"), equal)
        shown = await cases.page(wanted, limit=page.limit, after=page.after)
        return listed(shown.items, shown.next, show_violation)

    @get("/{violation_id:str}", access=tenant("violations:read"))
    async def violation(self, cases: TheCases, violation_id: FromPath[str]) -> ViolationShown:
        """Get one violation."""
        return show_violation(await cases.get(violation_id))

    @patch("/{violation_id:str}", access=tenant("violations:write"))
    async def change_case(
        self,
        request: Request[Any, Any, Any],
        cases: TheCases,
        violation_id: FromPath[str],
        data: JSONBody[ChangeCase],
        deeds: NamedDependency[Deeds],
    ) -> ViolationShown:
        """Change a case's status, assignee or labels, or add a note; what is absent stays as it is."""
        by = bound_tenant_principal(request).user_id
        return show_violation(await cases.change(violation_id, data.change(), by, deeds))


TheScans = NamedDependency[Scans]


def provide_scans(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Scans:
    return Scans(resources.database, bound_tenant_principal(request).scope)


class ScansController(Controller):
    """What is read of interactions after their end."""

    path = "/trueportai-services/api/v1/analytics/scans"
    tags: Sequence[str] = ("violations",)

    @get("/", access=tenant("violations:read"))
    async def list_scans(
        self, scans: TheScans, page: NamedDependency[PageRequest], *, in_state: InState = None
    ) -> Listed[ScanShown]:
        """List scans after the call, the newest call first."""
        found = await scans.list(in_state, limit=page.limit, after=page.after)
        return listed(found.items, found.next, show_scan)

    @get("/{interaction_id:str}", access=tenant("violations:read"))
    async def scan(self, scans: TheScans, interaction_id: FromPath[str]) -> ScanShown:
        """Get the scan of one interaction."""
        if not is_id(interaction_id, "int"):
            raise NotFound("There is no such scan.")
        return show_scan(await scans.get(interaction_id))


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
        user: Text = None,
        min_cost_nano_usd: Amount = None,
        max_cost_nano_usd: Amount = None,
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
            user=user,
            least_cost_nano_usd=min_cost_nano_usd,
            most_cost_nano_usd=max_cost_nano_usd,
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
