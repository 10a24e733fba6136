"""The HTTP surface of policies: parse, call, show."""

import re
from collections.abc import Container, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from trueport.detection.embedding import gives_embeddings
from trueport.detection.policy import PolicyDocument, presets
from trueport.domains.config.policies import Policies, StoredPolicy
from trueport.domains.config.schemas import (
    ChangePolicy,
    FromPreset,
    PolicyShown,
    PresetShown,
    PresetTaken,
    VersionShown,
    WholeVersionShown,
    show_policy,
    show_version,
    show_whole_version,
)
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.web.deeds import Deeds
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.idempotency import Idempotency
from trueport.web.pagination import Listed, PageRequest

_DIGITS: Final = 9
_TAG: Final = re.compile(r'"(\d{1,9})"')
ThePolicies = NamedDependency[Policies]


def provide_policies(
    request: Request[Any, Any, Any], resources: NamedDependency[Resources], deeds: NamedDependency[Deeds]
) -> Policies:
    settings = resources.settings
    tells_topics = partial(gives_embeddings, settings.detection_url, settings.data_dir)
    return Policies(resources.database, bound_tenant_principal(request).scope, resources.clock, tells_topics, deeds)


class PoliciesController(Controller):
    """What a tenant allows in the calls of its applications."""

    path = "/trueportai-services/api/v1/policies"
    tags: Sequence[str] = ("policies",)

    @get("/", access=tenant("policies:read"))
    async def list_policies(self, policies: ThePolicies) -> Listed[PolicyShown]:
        """List the policies, in the order they were made; a tenant has few enough for one page."""
        return Listed([show_policy(policy) for policy in await policies.all()], has_more=False, next=None)

    @get("/presets", access=tenant("policies:read"))
    async def list_presets(self) -> Listed[PresetShown]:
        """List the presets, each with the policies it stands for."""
        shown = [
            PresetShown(preset.name, preset.description, msgspec.to_builtins(preset.unfolded({})))
            for preset in presets().values()
        ]
        return Listed(shown, has_more=False, next=None)

    @post("/presets/{preset:str}", access=tenant("policies:write"))
    async def take_preset(
        self,
        request: Request[Any, Any, Any],
        preset: FromPath[str],
        data: JSONBody[FromPreset],
        policies: ThePolicies,
        idempotency: NamedDependency[Idempotency],
    ) -> Response[PresetTaken]:
        """Create the policies of a preset, with members of your own over its own."""
        member = bound_tenant_principal(request)

        async def create() -> PresetTaken:
            made = await policies.create_from(preset, data.changes(), member.user_id)
            return PresetTaken(preset, [show_policy(policy) for policy in made])

        return await idempotency.once(request, f"{member.scope.tenant_id} {member.user_id}", create)

    @get("/versions", access=tenant("policies:read"))
    async def list_versions(self, policies: ThePolicies, page: NamedDependency[PageRequest]) -> Listed[VersionShown]:
        """List the versions of all policies, newest first: when, by whom, and what was changed."""
        if page.after is not None and not (page.after.isdecimal() and len(page.after) <= _DIGITS):
            raise InvalidRequest("`after` is the `next` of the page before.", param="after")
        before = int(page.after) if page.after is not None else None
        found = await policies.versions(page.limit, before)
        following = str(found[-1].version) if found and found[-1].version > 1 else None
        return Listed([show_version(one) for one in found], has_more=following is not None, next=following)

    @get("/versions/{version:str}", access=tenant("policies:read"))
    async def get_version(self, policies: ThePolicies, version: FromPath[str]) -> WholeVersionShown:
        """Get all policies as they were in one version."""
        return show_whole_version(await policies.version(_number(version)))

    @post("/versions/{version:str}/restore", access=tenant("policies:write"), status_code=200)
    async def restore_version(
        self, request: Request[Any, Any, Any], policies: ThePolicies, version: FromPath[str]
    ) -> WholeVersionShown:
        """Make all policies what they were in a version. That is a new version; nothing is lost."""
        return show_whole_version(await policies.restore(_number(version), bound_tenant_principal(request).user_id))

    @get("/{policy_id:str}", access=tenant("policies:read"))
    async def get_policy(self, policies: ThePolicies, policy_id: FromPath[str]) -> Response[PolicyShown]:
        """Get one policy. Its `ETag` is what `If-Match` takes."""
        return _shown(await policies.get(policy_id))

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
    ) -> Response[PolicyShown]:
        """Change a policy; what is absent stays as it is. With `If-Match`, only if nobody else changed it."""
        by = bound_tenant_principal(request).user_id
        return _shown(await policies.change(policy_id, data.changes(), by, _expected(request)))

    @put("/{policy_id:str}", access=tenant("policies:write"))
    async def put_policy(
        self,
        request: Request[Any, Any, Any],
        policies: ThePolicies,
        policy_id: FromPath[str],
        data: JSONBody[PolicyDocument],
    ) -> Response[PolicyShown]:
        """Replace a policy; what is absent gets its default. With `If-Match`, only if nobody else changed it."""
        by = bound_tenant_principal(request).user_id
        return _shown(await policies.put(policy_id, data, by, _expected(request)))

    @delete("/{policy_id:str}", access=tenant("policies:write"))
    async def delete_policy(
        self, request: Request[Any, Any, Any], policies: ThePolicies, policy_id: FromPath[str]
    ) -> None:
        """Delete a policy. With `If-Match`, only if nobody else changed it."""
        await policies.delete(policy_id, bound_tenant_principal(request).user_id, _expected(request))


def _shown(policy: StoredPolicy) -> Response[PolicyShown]:
    return Response(show_policy(policy), headers={"etag": f'"{policy.version}"'})


def _expected(request: Request[Any, Any, Any]) -> Container[int] | None:
    """The versions that `If-Match` names, None where it is absent or takes any."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    return {int(number) for number in _TAG.findall(header)}


def _number(version: str) -> int:
    """A version in a path. Raises NotFound for what is no whole number."""
    if not (version.isascii() and version.isdecimal() and len(version) < 16):
        raise NotFound("There is no such version.")
    return int(version)
