"""The trail that can be proved: one order for each tenant's records, signed checkpoints, proofs and receipts."""

from litestar.di import Provide

from trueport.domains.audit.controllers import AuditController, provide_audit_log
from trueport.domains.audit.models import AuditBatch, AuditCheckpoint, AuditTile, SigningKey
from trueport.domains.audit.sequencing import job, listener, open_backlog
from trueport.web.domain import Domain

domain = Domain(
    name="audit",
    controllers=(AuditController,),
    dependencies={"audit_log": Provide(provide_audit_log, sync_to_thread=False)},
    documents=(AuditBatch, AuditCheckpoint, AuditTile, SigningKey),
    lifespan=(open_backlog,),
    listeners=(listener,),
    jobs=(job,),
    permissions=frozenset({"audit:read"}),
)
