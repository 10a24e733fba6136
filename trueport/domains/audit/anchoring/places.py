"""The places that a checkpoint can be sent to, and how each takes it."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from yarl import URL

from trueport.audit.archive import checkpoint_object
from trueport.audit.cosignatures import WitnessKey
from trueport.audit.notes import NoteBroken, parse_note
from trueport.audit.witness import SIZE_TYPE, Request, answered
from trueport.domains.audit.anchoring.models import PlaceKind, Push
from trueport.domains.audit.anchoring.repository import Cosignatures
from trueport.domains.audit.models import AuditCheckpoint
from trueport.domains.audit.service import AuditLog
from trueport.gateway.egress import PoolKey, UrlRefused, parse_upstream_url
from trueport.gateway.upstream import Timeouts, Upstream, UpstreamFailure, UpstreamRequest
from trueport.kit.clock import Clock, rfc3339
from trueport.kit.errors import Conflict, InvalidRequest, TrueportError
from trueport.kit.ids import CredentialId, TenantId
from trueport.storage.documents import ContentStore, StorageUnavailable

PATIENCE: Final = Timeouts(connect_s=5.0, headers_s=10.0, event_s=10.0, total_s=10.0)
_MOST_ANSWER_BYTES: Final = 64 << 10
_TRIES: Final = 3


class AnchorFailed(TrueportError):
    """A place has not taken a checkpoint. `problem` is a stable code, shown to whoever looks after the log.

    is_away: the place as a whole does not answer, so that trying for another log is of no use now.
    """

    code = "anchor_failed"

    def __init__(self, problem: str, *, is_away: bool = False) -> None:
        super().__init__(f"The checkpoint was not taken: {problem}.")
        self.problem = problem
        self.is_away = is_away


@dataclass(frozen=True, slots=True)
class Sending:
    """A tenant's newest checkpoint on its way, and what may be needed to prove it. `known` is the size last taken."""

    log: AuditLog
    checkpoint: AuditCheckpoint
    cosignatures: Cosignatures
    known: int

    @property
    def tenant_id(self) -> TenantId:
        return self.cosignatures.scope.tenant_id


class Place(Protocol):
    """Somewhere that checkpoints are kept. `every` is how often one is sent at most; the newest wins."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> PlaceKind: ...
    @property
    def name(self) -> str: ...
    @property
    def every(self) -> timedelta: ...
    @property
    def origin(self) -> str:
        """What many places share that are away together; empty where there is nothing of the kind."""

    async def take(self, sending: Sending) -> None:
        """Returns once the place has it; the same one again does no harm. Raises AnchorFailed, a kit Unavailable."""


async def exchange(upstream: Upstream, request: UpstreamRequest) -> tuple[int, str, bytes]:
    """Status, media type and body. Raises AnchorFailed when there is no answer."""
    try:
        answer = await upstream.send(request)
        body = await answer.read(_MOST_ANSWER_BYTES)
    except UpstreamFailure as error:
        # The codes speak of providers; what is meant here is whoever was called.
        raise AnchorFailed(error.code.removeprefix("upstream_"), is_away=error.counts_as_failure) from error
    return answer.status, answer.headers.get("content-type", "").partition(";")[0].strip(), body


class WitnessPlace:
    """A witness: it cosigns what continues the tree it has seen last (C2SP tlog-witness)."""

    kind: PlaceKind = "witness"
    every = timedelta(minutes=1)

    def __init__(
        self, key: WitnessKey, url: URL, upstream: Upstream, clock: Clock, patience: Timeouts = PATIENCE
    ) -> None:
        self.id = f"witness-{key.key_id.hex()}"
        self.name = key.name
        self.origin = str(url.origin())
        self._key = key
        self._url = url.with_path(f"{url.path.rstrip('/')}/add-checkpoint", encoded=True)
        self._upstream = upstream
        self._clock = clock
        self._patience = patience

    async def take(self, sending: Sending) -> None:
        """Raises AnchorFailed: `fork` when the witness says that the log does not continue what it has seen."""
        note = parse_note(sending.checkpoint.note.encode())
        known = sending.known
        for _ in range(_TRIES):
            proof = await _proof(sending.log, known, sending.checkpoint.size)
            status, kind, body = await self._ask(bytes(Request(known, proof, note)))
            if status == 200:
                await self._keep(sending, note.text, body)
                return
            if status != 409 or kind != SIZE_TYPE:
                raise AnchorFailed(_PROBLEMS.get(status, f"http_{status}"), is_away=status >= 500)
            seen = _size_in(body)
            if seen > sending.checkpoint.size:
                raise AnchorFailed("rolled_back")
            if seen == known:
                raise AnchorFailed("fork")
            known = seen
        raise AnchorFailed("unsettled")

    async def _ask(self, body: bytes) -> tuple[int, str, bytes]:
        pool = PoolKey(TenantId("audit"), CredentialId(self.id))
        headers = (("content-type", "text/plain; charset=utf-8"),)
        return await exchange(
            self._upstream, UpstreamRequest("POST", self._url, headers, body, pool, timeouts=self._patience)
        )

    async def _keep(self, sending: Sending, text: str, body: bytes) -> None:
        try:
            line = answered(text, body, self._key)
            at_s = self._key.signed_at(text, line)
        except NoteBroken as error:
            raise AnchorFailed("cosignature_wrong") from error
        await sending.cosignatures.add(sending.checkpoint.size, line, at_s, self._clock)


_PROBLEMS: Final = {404: "log_unknown", 403: "key_unknown", 422: "fork"}


async def _proof(log: AuditLog, old: int, new: int) -> tuple[bytes, ...]:
    if old == new or not old:
        return ()
    try:
        return tuple(await log.consistency(old, new))
    except InvalidRequest as error:
        raise AnchorFailed("rolled_back") from error
    except LookupError as error:
        raise AnchorFailed("log_hole") from error


def _size_in(body: bytes) -> int:
    text = body.decode("ascii", "replace").rstrip("\n")
    if not text.isdecimal() or len(text) > 16:
        raise AnchorFailed("answer_wrong")
    return int(text)


class WebhookPlace:
    """A tenant's webhook: it gets the note in a signed body, and says with a status of 2xx that it has it."""

    kind: PlaceKind = "webhook"

    def __init__(
        self, push: Push, secret: str, upstream: Upstream, clock: Clock, patience: Timeouts = PATIENCE
    ) -> None:
        self.id = push.id
        self.name = push.name
        # Each is on its own: another tenant's webhook at the same address may have another fate.
        self.origin = ""
        self.every = timedelta(seconds=push.every_s)
        self._url = push.url
        self._secret = secret
        self._upstream = upstream
        self._clock = clock
        self._patience = patience

    async def take(self, sending: Sending) -> None:
        """Raises AnchorFailed, also for an address that this installation does not call any more."""
        try:
            url = parse_upstream_url(self._url, self._upstream.policy, query=True)
        except UrlRefused as error:
            raise AnchorFailed("egress_refused") from error
        now = self._clock.now()
        said = {
            "v": 1,
            "type": "audit.checkpoint",
            "tenant": sending.tenant_id,
            "size": sending.checkpoint.size,
            "root": sending.checkpoint.root,
            "signed_at": rfc3339(sending.checkpoint.created_at),
            "note": sending.checkpoint.note,
        }
        body = json.dumps(said, separators=(",", ":")).encode()
        headers = (
            ("content-type", "application/json"),
            ("x-trueport-event", "audit.checkpoint"),
            ("x-trueport-signature", body_signature(self._secret, int(now.timestamp()), body)),
        )
        pool = PoolKey(sending.tenant_id, CredentialId(self.id))
        request = UpstreamRequest("POST", url, headers, body, pool, timeouts=self._patience)
        status, _, _ = await exchange(self._upstream, request)
        if not 200 <= status < 300:
            raise AnchorFailed(f"http_{status}")


def body_signature(secret: str, at_s: int, body: bytes) -> str:
    """What stands in `x-trueport-signature`: the time, and HMAC-SHA256 (hex) over it, a full stop and the body.

    Whoever receives it makes the same of what came, compares in constant time, and refuses what is minutes old.
    """
    digest = hmac.digest(secret.encode(), f"{at_s}.".encode() + body, "sha256").hex()
    return f"t={at_s},v1={digest}"


class FolderPlace:
    """A folder or bucket elsewhere, best one where objects cannot be changed: a note for each checkpoint sent."""

    kind: PlaceKind = "folder"
    every = timedelta(minutes=15)

    def __init__(self, url: str, store: ContentStore) -> None:
        self.id = f"folder-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self.name = "checkpoints"
        self.origin = self.id
        self._store = store

    async def take(self, sending: Sending) -> None:
        note = checkpoint_object(sending.tenant_id, sending.checkpoint.size, sending.checkpoint.note)
        try:
            await self._store.put(note.name, note.data)
        except Conflict as error:
            # Another note of this size was sent there: two histories, or two installations with one folder.
            raise AnchorFailed("fork") from error
        except StorageUnavailable as error:
            raise AnchorFailed("storage_unavailable", is_away=True) from error
