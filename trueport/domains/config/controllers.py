"""The HTTP surface of policies: parse, call, show."""

from collections.abc import Sequence
from typing import Any

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from trueport.detection.policy import PolicyDocument
from trueport.domains.config.policies import Policies
from trueport.domains.config.schemas import ChangePolicy, PolicyShown, show_policy
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.idempotency import Idempotency
from trueport.web.pagination import Listed

ThePolicies = NamedDependency[Policies]


def provide_policies(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Policies:
    return Policies(resources.database, bound_tenant_principal(request).scope, resources.clock)


class PoliciesController(Controller):
    """What a tenant allows in the calls of its applications."""

    path = "/trueportai-services/api/v1/policies"
    tags: Sequence[str] = ("policies",)

    @get("/", access=tenant("policies:read"))
    async def list_policies(self, policies: ThePolicies) -> Listed[PolicyShown]:
        """List the policies, in the order they were made; a tenant has few enough for one page."""
        return Listed([show_policy(policy) for policy in await policies.all()], has_more=False, next=None)

    @get("/{policy_id:str}", access=tenant("policies:read"))
    async def get_policy(self, policies: ThePolicies, policy_id: FromPath[str]) -> PolicyShown:
        """Get one policy."""
        return show_policy(await policies.get(policy_id))

    @post("/", access=tenant("policies:write"))
    async def create_policy(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[PolicyDocument],
        policies: ThePolicies,
        idempotency: NamedDependency[Idempotency],
    ) -> Response[PolicyShown]:
        """Create a policy. It holds in every process within a second."""
        member = bound_tenant_principal(request)

        async def create() -> PolicyShown:
            return show_policy(await policies.create(data, member.user_id))

        return await idempotency.once(request, f"{member.scope.tenant_id} {member.user_id}", create)

    @patch("/{policy_id:str}", access=tenant("policies:write"))
    async def change_policy(
        self,
        request: Request[Any, Any, Any],
        policies: ThePolicies,
        policy_id: FromPath[str],
        data: JSONBody[ChangePolicy],
    ) -> PolicyShown:
        """Change a policy; what is absent stays as it is."""
        by = bound_tenant_principal(request).user_id
        return show_policy(await policies.change(policy_id, data.changes(), by))

    @delete("/{policy_id:str}", access=tenant("policies:write"))
    async def delete_policy(
        self, request: Request[Any, Any, Any], policies: ThePolicies, policy_id: FromPath[str]
    ) -> None:
        """Delete a policy."""
        await policies.delete(policy_id, bound_tenant_principal(request).user_id)
