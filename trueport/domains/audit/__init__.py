"""The trail that can be proved: one order for each tenant's records, signed checkpoints, proofs and receipts."""

from litestar.di import Provide

from trueport.domains.audit.anchoring.anchoring import job as send_checkpoints
from trueport.domains.audit.anchoring.anchoring import listener as hear_of_checkpoints
from trueport.domains.audit.anchoring.anchoring import open_anchoring
from trueport.domains.audit.anchoring.controllers import AnchorController, provide_pushing
from trueport.domains.audit.anchoring.models import AnchorState, AuditCosignature, Push
from trueport.domains.audit.archive_controllers import (
    ArchiveController,
    provide_placing,
    provide_retention,
    provide_segments,
)
from trueport.domains.audit.archive_job import job as archive_records
from trueport.domains.audit.archive_job import open_archives
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
from trueport.domains.audit.lost_writers import job as find_lost_writers
from trueport.domains.audit.models import (
    ArchivedSegment,
    AuditBatch,
    AuditCheckpoint,
    AuditRetention,
    AuditTile,
    SigningKey,
)
from trueport.domains.audit.placing.models import ArchiveChoice, StoredPlace
from trueport.domains.audit.sequencing import job, listener, open_backlog
from trueport.web.domain import Domain

domain = Domain(
    name="audit",
    controllers=(
        AuditController,
        AnchorController,
        ArchiveController,
        DisclosureController,
        ErasureController,
        HoldController,
    ),
    dependencies={
        "audit_log": Provide(provide_audit_log, sync_to_thread=False),
        "pushing": Provide(provide_pushing, sync_to_thread=False),
        "disclosing": Provide(provide_disclosing),
        "erasing": Provide(provide_erasing, sync_to_thread=False),
        "placing": Provide(provide_placing, sync_to_thread=False),
        "kept_for": Provide(provide_retention, sync_to_thread=False),
        "archived_segments": Provide(provide_segments, sync_to_thread=False),
        "holding": Provide(provide_holding, sync_to_thread=False),
    },
    documents=(
        AuditBatch,
        AuditCheckpoint,
        AuditTile,
        ArchivedSegment,
        StoredPlace,
        ArchiveChoice,
        AuditRetention,
        SigningKey,
        SubjectKey,
        Erasure,
        Hold,
        AuditCosignature,
        AnchorState,
        Push,
    ),
    lifespan=(open_anchoring, open_backlog, open_archives),
    listeners=(listener, hear_of_checkpoints),
    jobs=(job, finish_erasures, send_checkpoints, archive_records, find_lost_writers),
    permissions=frozenset(
        {"audit:read", "audit:export", "audit:push", "subjects:erase", "holds:write", "storage:write"}
    ),
)
