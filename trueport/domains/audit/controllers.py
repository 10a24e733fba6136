"""The HTTP surface of the trail: checkpoints, keys, proofs, receipts."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, MediaType, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from trueport.audit.records import DeedKind
from trueport.domains.analytics.api import moment_of
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.repository import DeedRecords
from trueport.domains.audit.schemas import (
    CheckpointShown,
    DeedShown,
    KeysShown,
    ProofShown,
    ReceiptShown,
    show_checkpoint,
    show_deed,
    show_keys,
    show_proof,
    show_receipt,
)
from trueport.domains.audit.service import AuditLog
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.pagination import Listed, PageRequest, listed

TheLog = NamedDependency[AuditLog]
From = Annotated[str | None, QueryParameter(name="from", max_length=40, description="RFC 3339, included")]
To = Annotated[str | None, QueryParameter(name="to", max_length=40, description="RFC 3339, not included")]
Place = Annotated[int, QueryParameter(ge=0, le=2**53 - 1)]
Size = Annotated[int | None, QueryParameter(ge=0, le=2**53 - 1)]
Witnessed = Annotated[bool, QueryParameter(description="only one that a witness has signed too")]
Older = Annotated[int, QueryParameter(name="from", ge=0, le=2**53 - 1, description="size of the older tree")]
Newer = Annotated[int, QueryParameter(name="to", ge=0, le=2**53 - 1, description="size of the newer tree")]


def provide_audit_log(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> AuditLog:
    keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
    return AuditLog(resources.database, bound_tenant_principal(request).scope, keys, resources.clock)


class AuditController(Controller):
    """What the trail says of itself, for whoever checks it."""

    path = "/trueportai-services/api/v1/audit"
    tags: Sequence[str] = ("audit",)

    @get("/checkpoint", access=tenant("audit:read"))
    async def checkpoint(self, audit_log: TheLog, size: Size = None, witnessed: Witnessed = False) -> CheckpointShown:
        """Get the newest signed checkpoint, the newest that a witness has signed, or that over `size` records."""
        found = await (audit_log.witnessed() if witnessed else audit_log.checkpoint(size))
        return show_checkpoint(found, await audit_log.note_of(found))

    @get("/checkpoint.note", access=tenant("audit:read"), media_type=MediaType.TEXT)
    async def note(self, audit_log: TheLog, witnessed: Witnessed = False) -> str:
        """Get the newest checkpoint, or the newest that a witness has signed, as the note that verifiers read."""
        found = await (audit_log.witnessed() if witnessed else audit_log.checkpoint())
        return await audit_log.note_of(found)

    @get("/keys", access=tenant("audit:read"))
    async def keys(self, request: Request[Any, Any, Any], audit_log: TheLog) -> KeysShown:
        """Get the public keys that verify this log's checkpoints, and when each of them signs."""
        tenant_id = bound_tenant_principal(request).scope.tenant_id
        return show_keys(origin_of(tenant_id), await audit_log.key_validity())

    @get("/proofs/inclusion", access=tenant("audit:read"))
    async def inclusion(self, audit_log: TheLog, seq: Place, size: Place) -> ProofShown:
        """Get the proof that the record at a place is in the tree of a size."""
        return show_proof(await audit_log.inclusion(seq, size))

    @get("/proofs/consistency", access=tenant("audit:read"))
    async def consistency(self, audit_log: TheLog, older: Older, newer: Newer) -> ProofShown:
        """Get the proof that a newer tree begins with an older one."""
        return show_proof(await audit_log.consistency(older, newer))

    @get("/records", access=tenant("audit:read"))
    async def records(
        self,
        request: Request[Any, Any, Any],
        resources: NamedDependency[Resources],
        page: NamedDependency[PageRequest],
        *,
        kind: FromQuery[DeedKind | None] = None,
        since: From = None,
        until: To = None,
    ) -> Listed[DeedShown]:
        """List what people did, newest first: changes, sign-ins, exports, reads of content, holds, erasures."""
        found = await DeedRecords(resources.database, bound_tenant_principal(request).scope).newest(
            kind, moment_of(since, "from"), moment_of(until, "to"), limit=page.limit, after=page.after
        )
        return listed(found.items, found.next, show_deed)

    @get("/receipts/{interaction_id:str}", access=tenant("audit:read"))
    async def receipt(self, audit_log: TheLog, interaction_id: FromPath[str]) -> ReceiptShown:
        """Get the first record of a call, whose hash its answer carried as `x-trueport-receipt`, with its proof."""
        return show_receipt(await audit_log.receipt_of(interaction_id))
