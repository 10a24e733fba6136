"""The HTTP surface of disclosures and evidence packs. Both answer with a zip of the files."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta

from trueport.audit.disclosure import Files, Format, Wanted
from trueport.audit.evidence.frameworks import FRAMEWORKS, FrameworkName
from trueport.domains.audit.archive_job import archives_of
from trueport.domains.audit.disclosing import Asking, Disclosing, zipped
from trueport.domains.audit.keys import LogKeys
from trueport.kit.errors import InvalidRequest
from trueport.storage.documents import open_store
from trueport.web.domain import Resources
from trueport.web.guards import bound_tenant_principal, tenant
from trueport.web.trail import trail_of

AnyRequest = Request[Any, Any, Any]
Here = NamedDependency[Resources]
TheDisclosing = NamedDependency[Disclosing]
Moment = Annotated[datetime, Meta(tz=True)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
AskedFormat = Annotated[
    Format, QueryParameter(name="format", description="`parquet` adds the records as a table, which proves nothing.")
]
RecordKind = Literal[
    "intent", "attempt", "outcome", "abandoned", "admin", "auth", "policy", "erasure", "hold", "export", "access",
    "heartbeat", "gap", "lost_writer",
]  # fmt: skip
_FILTERS = ("key_id", "user", "model", "decision", "env")


class AskDisclosure(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which records, and why. `to` is not included; what is absent is "any"."""

    reason: Reason
    since: Moment | None = msgspec.field(name="from", default=None)
    until: Moment | None = msgspec.field(name="to", default=None)
    kinds: Annotated[list[RecordKind], Meta(max_length=20)] = []
    interaction_id: Text | None = None
    key_id: Text | None = None
    user: Text | None = None
    model: Text | None = None
    decision: Text | None = None
    env: Text | None = None

    def wanted(self) -> Wanted:
        fields = [(name, value) for name in _FILTERS if (value := getattr(self, name)) is not None]
        if self.interaction_id is not None:
            fields.append(("rid", self.interaction_id))
        return Wanted(_cut(self.since), _cut(self.until), tuple(self.kinds), tuple(fields))


class AskEvidence(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which framework and period, and why. `organisation` is what the pack calls the tenant."""

    framework: FrameworkName
    reason: Reason
    since: Moment = msgspec.field(name="from")
    until: Moment = msgspec.field(name="to")
    organisation: Text | None = None


async def provide_disclosing(request: AnyRequest, resources: Here) -> Disclosing:
    settings, scope = resources.settings, bound_tenant_principal(request).scope
    return Disclosing(
        resources.database,
        scope,
        LogKeys(resources.database, settings.keys, resources.clock),
        open_store(settings.storage_url, settings.data_dir),
        resources.clock,
        await archives_of(resources).stores(scope),
    )


class DisclosureController(Controller):
    """Parts of the trail to hand out."""

    path = "/trueportai-services/api/v1/audit"
    tags: Sequence[str] = ("audit",)

    @post("/exports", access=tenant("audit:export"))
    async def export(
        self,
        request: AnyRequest,
        resources: Here,
        disclosing: TheDisclosing,
        data: JSONBody[AskDisclosure],
        extra: AskedFormat = "jsonl",
    ) -> Response[bytes]:
        """Get some records with the proof of each, as a zip that `verifier.py` in it checks."""
        asking = Asking(bound_tenant_principal(request).user_id, data.reason)
        return _packed(await disclosing.bundle(trail_of(resources), data.wanted(), asking, extra), "disclosure")

    @post("/evidence", access=tenant("audit:export"))
    async def evidence(
        self, request: AnyRequest, resources: Here, disclosing: TheDisclosing, data: JSONBody[AskEvidence]
    ) -> Response[bytes]:
        """Get an evidence pack for a framework and a period, as a zip."""
        since, until = _cut(data.since), _cut(data.until)
        if since is None or until is None or since >= until:
            raise InvalidRequest("to is behind from.", param="to")
        asking = Asking(bound_tenant_principal(request).user_id, data.reason)
        framework = FRAMEWORKS[data.framework]
        files = await disclosing.pack(trail_of(resources), framework, since, until, asking, data.organisation)
        return _packed(files, data.framework)


def _packed(files: Files, name: str) -> Response[bytes]:
    headers = {"content-disposition": f'attachment; filename="{name}.zip"', "cache-control": "no-store"}
    return Response(zipped(files), media_type="application/zip", headers=headers, status_code=200)


def _cut(moment: datetime | None) -> datetime | None:
    """To the milliseconds that moments have, in UTC."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1_000 * 1_000)
