"""The HTTP surface of replays of policies."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from trueport.domains.analytics.models import PolicyReplay, ReplayState
from trueport.domains.analytics.replay_runs import NothingToReadWith, ReplayRunner, Replays, Rereading
from trueport.domains.analytics.replays import ContentReader
from trueport.domains.analytics.schemas import moment_of
from trueport.kit.clock import rfc3339
from trueport.kit.errors import InvalidRequest
from trueport.web.domain import Resources
from trueport.web.guards import PermissionMissing, bound_tenant_principal, tenant
from trueport.web.idempotency import Idempotency
from trueport.web.pagination import Listed, PageRequest, listed
from trueport.web.trail import Trail

REVEAL: Final = "content:reveal"
Moment = Annotated[str, Meta(max_length=40)]


class StartReplay(msgspec.Struct, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """A period, its end excluded, in RFC 3339, and the whole proposed set, written like in the configuration file.

    With `reread` recorded content is read again by the detectors of today, for a `reason` that is recorded.
    """

    since: Moment
    until: Moment
    policies: Annotated[list[dict[str, Any]], Meta(max_length=200)]
    reread: bool = False
    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"[^\s]")] | None = None


class ReplayShown(msgspec.Struct, kw_only=True, rename={"since": "from", "until": "to"}):
    """A replay: `done` of `total` calls so far, and the `result` once it is done. `problem` says why it failed."""

    id: str
    created_at: str
    created_by: str
    since: str
    until: str
    reread: bool
    state: ReplayState
    done: int
    total: int | None
    ended_at: str | None
    problem: str | None


class WholeReplayShown(ReplayShown, kw_only=True, rename={"since": "from", "until": "to"}):
    policies: list[dict[str, Any]]
    reason: str | None
    result: dict[str, Any] | None


TheReplays = NamedDependency[Replays]


def provide_replays(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Replays:
    scope = bound_tenant_principal(request).scope
    return Replays(resources.database, scope, resources.clock, resources.part(ReplayRunner))


class ReplaysController(Controller):
    """What proposed policies would have decided about recorded calls."""

    path = "/trueportai-services/api/v1/policies/replays"
    tags: Sequence[str] = ("policies",)

    @post("/", access=tenant("policies:write"))
    async def start_replay(
        self,
        request: Request[Any, Any, Any],
        resources: NamedDependency[Resources],
        replays: TheReplays,
        data: JSONBody[StartReplay],
        idempotency: NamedDependency[Idempotency],
    ) -> Response[WholeReplayShown]:
        """Replay recorded calls with other policies. Changes nothing; ask for the replay to see how far it is."""
        member = bound_tenant_principal(request)
        rereading = None
        if data.reread:
            if REVEAL not in member.permissions:
                raise PermissionMissing(REVEAL)
            rereading = _rereading(resources, data.reason)

        async def start() -> WholeReplayShown:
            since, until = moment_of(data.since, "from"), moment_of(data.until, "to")
            if since is None or until is None:
                raise InvalidRequest("A replay has a beginning and an end.", param="from")
            return show_whole_replay(await replays.start((since, until), data.policies, member.user_id, rereading))

        return await idempotency.once(request, f"{member.scope.tenant_id} {member.user_id}", start)

    @get("/", access=tenant("policies:read"))
    async def list_replays(self, replays: TheReplays, page: NamedDependency[PageRequest]) -> Listed[ReplayShown]:
        """List replays of the last 30 days, newest first."""
        found = await replays.page(limit=page.limit, after=page.after)
        return listed(found.items, found.next, show_replay)

    @get("/{replay_id:str}", access=tenant("policies:read"))
    async def replay(self, replays: TheReplays, replay_id: FromPath[str]) -> WholeReplayShown:
        """Get one replay: how far it is, and what came of it."""
        return show_whole_replay(await replays.get(replay_id))


def _rereading(resources: Resources, reason: str | None) -> Rereading:
    """Raises InvalidRequest without a reason, NothingToReadWith where nobody reads."""
    if reason is None:
        message = "Whoever has content read again says why."
        raise InvalidRequest(message, errors=[{"field": "reason", "message": "is required with reread"}])
    if ContentReader not in resources.parts or Trail not in resources.parts:
        raise NothingToReadWith
    reader = cast(ContentReader, resources.parts[ContentReader])
    return Rereading(reader, resources.part(Trail), reason)


def show_replay(replay: PolicyReplay) -> ReplayShown:
    return ReplayShown(**_members(replay))


def show_whole_replay(replay: PolicyReplay) -> WholeReplayShown:
    return WholeReplayShown(**_members(replay), policies=replay.policies, reason=replay.reason, result=replay.result)


def _members(replay: PolicyReplay) -> dict[str, Any]:  # members of ReplayShown, of several types
    same = ("id", "created_by", "reread", "state", "done", "total", "problem")
    moments = ("created_at", "since", "until")
    ended_at = None if replay.ended_at is None else rfc3339(replay.ended_at)
    return {
        **{name: getattr(replay, name) for name in same},
        **{name: rfc3339(getattr(replay, name)) for name in moments},
        "ended_at": ended_at,
    }
