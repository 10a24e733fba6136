"""The job that sends checkpoints out: soon for tenants that got one here, later for all.

It runs in every process. A place gets the newest checkpoint of a log at least once; those in between are left out,
because the newest covers them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Final

from prometheus_client import Counter
from yarl import URL

from trueport.audit.cosignatures import WitnessKey
from trueport.audit.notes import NoteBroken
from trueport.domains.audit.anchoring.models import AnchorState
from trueport.domains.audit.anchoring.places import (
    AnchorFailed,
    FolderPlace,
    Place,
    Sending,
    WebhookPlace,
    WitnessPlace,
)
from trueport.domains.audit.anchoring.pushing import opened
from trueport.domains.audit.anchoring.repository import AnchorStates, Cosignatures, Pushes
from trueport.domains.audit.events import CheckpointSigned
from trueport.domains.audit.keys import LogKeys
from trueport.domains.audit.models import AuditCheckpoint
from trueport.domains.audit.service import AuditLog
from trueport.domains.auth.api import tenant_key, work_scope, work_scopes
from trueport.gateway.egress import Egress, EgressPolicy, UrlRefused, parse_upstream_url
from trueport.gateway.upstream import Upstream
from trueport.kit.errors import NotFound, TrueportError
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.settings import Settings
from trueport.storage.documents import UnknownStorage, open_store
from trueport.web.domain import Job, Listener, Resources, StartupRefused

log = get_logger(__name__)

EVERY_S: Final = 5.0
_SWEEP_S: Final = 300.0
_AT_ONCE: Final = 8
_CLAIM: Final = timedelta(seconds=60)
_FIRST_RETRY: Final = timedelta(seconds=10)
_LAST_RETRY: Final = timedelta(hours=1)
_REST_S: Final = 30.0
_LEAST_S: Final = 15.0

_sent = Counter("trueport_audit_checkpoints_sent", "Checkpoints taken by a place outside", ["kind"])
_failed = Counter(
    "trueport_audit_checkpoints_refused", "Attempts to send a checkpoint that failed", ["kind", "problem"]
)
_ALARMING: Final = frozenset({"fork", "rolled_back"})


def egress_policy(settings: Settings) -> EgressPolicy:
    """What witnesses and webhooks this installation may reach: the same as providers."""
    return EgressPolicy(allow=settings.egress_allow, requires_tls=not settings.allows_plain_http)


def retry_after(failures: int, draw: Random) -> timedelta:
    """How long to wait after so many failures in a row: twice as long each time, up to an hour, spread by a third."""
    longest = min(_LAST_RETRY, _FIRST_RETRY * (1 << min(failures - 1, 20)))
    return longest * (1 - draw.random() / 3)


class Anchoring:
    """Sends checkpoints of all tenants to the places of this installation, and of each tenant to its own."""

    def __init__(self, resources: Resources, upstream: Upstream, places: Sequence[Place]) -> None:
        self._resources = resources
        self.upstream = upstream
        self._places = places
        self._keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
        self._waiting: dict[str, float] = {}
        self._served: dict[str, float] = {}
        self._resting: dict[str, float] = {}
        self._sweep_at_s = 0.0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._draw = Random()  # noqa: S311 - it spreads retries

    def note(self, tenant_id: str) -> None:
        """Look at a tenant soon: at once, or a while after it was looked at last."""
        at_s = self._served.get(tenant_id, -_LEAST_S) + _LEAST_S
        self._waiting[tenant_id] = min(self._waiting.get(tenant_id, at_s), at_s)

    async def work_off(self) -> None:
        """Send what is due. What fails is tried again by a later run."""
        now_s = self._resources.clock.monotonic()
        if now_s >= self._sweep_at_s:
            # Checkpoints of processes that died, and places that had to wait.
            async for scope in work_scopes(self._resources, "audit anchors"):
                self.note(scope.tenant_id)
            self._sweep_at_s = now_s + _SWEEP_S
        due = [tenant_id for tenant_id, at_s in self._waiting.items() if at_s <= now_s]
        async with asyncio.TaskGroup() as tasks:
            for tenant_id in due:
                tasks.create_task(self._in_turn(work_scope(tenant_id), now_s))

    async def _in_turn(self, scope: TenantScope, now_s: float) -> None:
        tenant_id = scope.tenant_id
        async with self._turns:
            del self._waiting[tenant_id]
            self._served[tenant_id] = now_s
            try:
                wait_s = await self._serve(scope)
            except TrueportError as error:
                # The database or the tenant's key is away.
                log.warning("checkpoints_not_sent", tenant=tenant_id, code=error.code)
                wait_s = _REST_S
            if wait_s is not None:
                self._waiting[tenant_id] = min(self._waiting.get(tenant_id, now_s + wait_s), now_s + wait_s)

    async def _serve(self, scope: TenantScope) -> float | None:
        """Send one tenant's newest checkpoint where it is due; in how many seconds to look again, None: when asked."""
        resources = self._resources
        audit_log = AuditLog(resources.database, scope, self._keys, resources.clock)
        try:
            newest = await audit_log.checkpoint()
        except NotFound:
            return None
        waits: list[float] = []
        for place in await self.places_of(scope):
            wait_s = await self._send(place, audit_log, newest, scope)
            if wait_s is not None:
                waits.append(wait_s)
        return min(waits, default=None)

    async def places_of(self, scope: TenantScope) -> list[Place]:
        """The installation's places, and the tenant's own as far as its key is at hand."""
        pushes = await Pushes(self._resources.database, scope).find()
        if not pushes:
            return list(self._places)
        try:
            key = await tenant_key(self._resources, scope.tenant_id)
            own = [WebhookPlace(push, opened(push, key), self.upstream, self._resources.clock) for push in pushes]
        except TrueportError as error:
            log.warning("webhooks_not_opened", tenant=scope.tenant_id, code=error.code)
            own = []
        return [*self._places, *own]

    async def _send(
        self, place: Place, audit_log: AuditLog, newest: AuditCheckpoint, scope: TenantScope
    ) -> float | None:
        states = AnchorStates(self._resources.database, scope)
        clock = self._resources.clock
        now = clock.now()
        state = await states.of(place.id, place.kind, place.name, now)
        if state.size >= newest.size and state.problem is None:
            return None
        rests_until_s = self._resting.get(place.origin, 0.0)
        if now < state.due_at or clock.monotonic() < rests_until_s:
            return max((state.due_at - now).total_seconds(), rests_until_s - clock.monotonic())
        claimed = await states.claim(state, now + _CLAIM)
        if claimed is None:
            return EVERY_S
        cosignatures = Cosignatures(self._resources.database, scope)
        try:
            await place.take(Sending(audit_log, newest, cosignatures, state.size))
        except TrueportError as error:
            failed = error if isinstance(error, AnchorFailed) else AnchorFailed(error.code)
            due_at = now + retry_after(state.failures + 1, self._draw)
            await states.update(state.id, _as_failed(state, failed.problem, now, due_at))
            self._tell(place, scope, failed)
            return (due_at - now).total_seconds()
        await states.update(state.id, _as_taken(newest.size, clock.now(), now + place.every))
        _sent.labels(place.kind).inc()
        return place.every.total_seconds()

    def _tell(self, place: Place, scope: TenantScope, error: AnchorFailed) -> None:
        _failed.labels(place.kind, error.problem).inc()
        if error.is_away and place.origin:
            self._resting[place.origin] = self._resources.clock.monotonic() + _REST_S
        tell = log.error if error.problem in _ALARMING else log.warning
        tell("checkpoint_not_taken", tenant=scope.tenant_id, kind=place.kind, place=place.id, problem=error.problem)


def _as_taken(size: int, now: datetime, due_at: datetime) -> dict[str, object]:
    return {
        "size": size,
        "reached_at": now,
        "due_at": due_at,
        "failures": 0,
        "problem": None,
        "failing_since": None,
    }


def _as_failed(state: AnchorState, problem: str, now: datetime, due_at: datetime) -> dict[str, object]:
    return {
        "due_at": due_at,
        "failures": state.failures + 1,
        "problem": problem,
        "failing_since": state.failing_since or now,
    }


def places_in(settings: Settings, upstream: Upstream, resources: Resources) -> list[Place]:
    """The places of the settings. Raises StartupRefused for those that make no sense."""
    found: list[Place] = []
    policy = egress_policy(settings)
    for key, url in settings.witnesses:
        try:
            witness: URL = parse_upstream_url(url, policy)
            found.append(WitnessPlace(WitnessKey.parse(key), witness, upstream, resources.clock))
        except (NoteBroken, UrlRefused) as error:
            raise StartupRefused([f"TRUEPORT_WITNESSES: {error.message}"]) from error
    if settings.checkpoints_url:
        try:
            store = open_store(settings.checkpoints_url, settings.data_dir)
        except UnknownStorage as error:
            raise StartupRefused([f"TRUEPORT_CHECKPOINTS_URL: {error.message}"]) from error
        found.append(FolderPlace(settings.checkpoints_url, store))
    return found


@asynccontextmanager
async def open_anchoring(resources: Resources) -> AsyncIterator[None]:
    """Lifespan hook: opens the way out, and closes it."""
    egress = Egress(egress_policy(resources.settings))
    upstream = Upstream(egress)
    places = places_in(resources.settings, upstream, resources)
    resources.parts[Anchoring] = Anchoring(resources, upstream, places)
    try:
        yield
    finally:
        await egress.close()


async def _work_off(resources: Resources) -> None:
    await resources.part(Anchoring).work_off()


async def _note(resources: Resources, signed: CheckpointSigned) -> None:
    resources.part(Anchoring).note(signed.tenant_id)


job = Job("send checkpoints", EVERY_S, _work_off)
listener = Listener(CheckpointSigned, _note)
