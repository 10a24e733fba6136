"""The HTTP surface of recorded content."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from trueport.detection.types import Side
from trueport.domains.analytics.contents import ContentViewer, SideOfCall, both_sides, outcome_of
from trueport.domains.analytics.replay_runs import NothingToReadWith
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant

Here = NamedDependency[Resources]
TheDeeds = NamedDependency[Deeds]
AnyRequest = Request[Any, Any, Any]


class Reveal(msgspec.Struct, forbid_unknown_fields=True):
    """Why somebody wants to see what was said."""

    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]


class FindingShown(msgspec.Struct):
    """Where something was found: offsets count code points of the text at `path`, or of the texts joined from there."""

    path: str
    category: str
    type: str
    start: int
    end: int


class TextShown(msgspec.Struct):
    """One text of the body and who said it."""

    path: str
    role: str
    text: str


class SideShown(msgspec.Struct):
    """One side of an interaction. `state` is `kept`, or says why there are no texts."""

    side: Side
    state: str
    texts: list[TextShown]
    findings: list[FindingShown]


class ContentShown(msgspec.Struct):
    """What was said. Where it `is_masked`, every letter and digit is an x."""

    id: str
    is_masked: bool
    sides: list[SideShown]


class ContentController(Controller):
    """What was said in interactions."""

    path = "/trueportai-services/api/v1/analytics/logs"
    tags: Sequence[str] = ("analytics",)

    @get("/{interaction_id:str}/content", access=tenant("logs:read"))
    async def content(self, request: AnyRequest, resources: Here, interaction_id: FromPath[str]) -> ContentShown:
        """Get the shape of what was said, with the places of findings; no word of it."""
        scope = bound_tenant_principal(request).scope
        outcome = await outcome_of(resources.database, scope, interaction_id)
        return _shown(interaction_id, await both_sides(_viewer(resources), scope, outcome), is_masked=True)

    @post("/{interaction_id:str}/reveal", access=tenant("content:reveal"), status_code=200)
    async def reveal(
        self,
        request: AnyRequest,
        resources: Here,
        deeds: TheDeeds,
        interaction_id: FromPath[str],
        data: JSONBody[Reveal],
    ) -> ContentShown:
        """Get what was said, for a reason. That is recorded before anything is opened."""
        scope, viewer = bound_tenant_principal(request).scope, _viewer(resources)
        outcome = await outcome_of(resources.database, scope, interaction_id)
        thing = Thing("interaction", interaction_id)
        await deeds.tell(scope.tenant_id, "access", "content_revealed", thing, reason=data.reason)
        return _shown(interaction_id, await both_sides(viewer, scope, outcome), is_masked=False)


def _viewer(resources: Resources) -> ContentViewer:
    if ContentViewer not in resources.parts:
        raise NothingToReadWith
    return cast(ContentViewer, resources.parts[ContentViewer])


def _shown(interaction_id: str, sides: Iterable[SideOfCall], *, is_masked: bool) -> ContentShown:
    shown = [
        SideShown(
            one.side,
            one.state,
            [TextShown(said.path, said.role, said.masked if is_masked else said.text) for said in one.texts],
            # A finding begins with a number of its text, then its place and kind.
            [FindingShown(*finding[1:6]) for finding in one.findings],
        )
        for one in sides
    ]
    return ContentShown(interaction_id, is_masked, shown)
