"""The trail that can be proved: one order for each tenant's records, signed checkpoints, proofs and receipts."""

from litestar.di import Provide

from trueport.domains.audit.anchoring.anchoring import job as send_checkpoints
from trueport.domains.audit.anchoring.anchoring import listener as hear_of_checkpoints
from trueport.domains.audit.anchoring.anchoring import open_anchoring
from trueport.domains.audit.anchoring.controllers import AnchorController, provide_pushing
from trueport.domains.audit.anchoring.models import AnchorState, AuditCosignature, Push
from trueport.domains.audit.controllers import AuditController, provide_audit_log
from trueport.domains.audit.disclosure_controllers import DisclosureController, provide_disclosing
from trueport.domains.audit.erasure.controllers import (
    ErasureController,
    HoldController,
    provide_erasing,
    provide_holding,
)
from trueport.domains.audit.erasure.erasing import job as finish_erasures
from trueport.domains.audit.erasure.models import Erasure, Hold, SubjectKey
from trueport.domains.audit.models import AuditBatch, AuditCheckpoint, AuditTile, SigningKey
from trueport.domains.audit.sequencing import job, listener, open_backlog
from trueport.web.domain import Domain

domain = Domain(
    name="audit",
    controllers=(AuditController, AnchorController, DisclosureController, ErasureController, HoldController),
    dependencies={
        "audit_log": Provide(provide_audit_log, sync_to_thread=False),
        "pushing": Provide(provide_pushing, sync_to_thread=False),
        "disclosing": Provide(provide_disclosing, sync_to_thread=False),
        "erasing": Provide(provide_erasing, sync_to_thread=False),
        "holding": Provide(provide_holding, sync_to_thread=False),
    },
    documents=(
        AuditBatch,
        AuditCheckpoint,
        AuditTile,
        SigningKey,
        SubjectKey,
        Erasure,
        Hold,
        AuditCosignature,
        AnchorState,
        Push,
    ),
    lifespan=(open_anchoring, open_backlog),
    listeners=(listener, hear_of_checkpoints),
    jobs=(job, finish_erasures, send_checkpoints),
    permissions=frozenset({"audit:read", "audit:export", "audit:push", "subjects:erase", "holds:write"}),
)
