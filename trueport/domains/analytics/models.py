"""What this domain stores: the records of the trail as they arrived, and what is made from them.

A row for each interaction, and a violation for each finding that a policy had something to say about.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from odmantic import EmbeddedModel, Field, Index, Model
from pymongo import IndexModel

from trueport.gateway.call import UsageSource
from trueport.kit.tenancy import Environment

End = Literal[
    "in_progress",  # begun, and not known to have ended
    "completed",
    "refused",
    "client_closed",
    "upstream_failed",
    "key_revoked",
    "gateway_failed",
    "abandoned",  # its process died; what became of the call is not known
]

RETENTION: Final = timedelta(days=400)
"""How long rows of the interaction log are kept. The trail has its own retention."""


@dataclass(frozen=True, slots=True)
class ContentReference:
    """Where a record's ciphertexts lie in the tenant's storage: `length` bytes from `offset` of an object."""

    object: str
    offset: int
    length: int


class AuditRecord(Model):
    """A record of the trail. `canonical` are the exact bytes that `leaf` (hex) is the hash of.

    Times are in `canonical` as microseconds; `created_at` is the record's `at`, cut to milliseconds. `batch` is
    the first place of the batch that gave it a place in the order of the whole tenant, None until one has. `content`
    says where the ciphertexts of the record lie (the members of ContentReference), one behind the other in the order
    the record describes them.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    batch: int | None = None
    kind: str
    rid: str
    writer: str
    wseq: int
    leaf: str
    canonical: bytes
    # odmantic has no embedded model that may be absent.
    content: dict[str, str | int] | None = None

    model_config = {
        "collection": "audit_records",
        "indexes": lambda: [
            Index(AuditRecord.tenant_id, AuditRecord.batch),
            # Not unique: the name is what tells a repeated record from a new one, nothing else may.
            Index(AuditRecord.tenant_id, AuditRecord.writer, AuditRecord.wseq),
        ],
    }

    @property
    def content_reference(self) -> ContentReference | None:
        content: Any = self.content
        return None if content is None else ContentReference(**content)


class AuditWriter(Model):
    """A chain of records that promises heartbeats: one writer's for one tenant. `id` is `writer_id`.

    `created_at` is its first record's time. `ended_at` is None until its records, or others, say that nothing more is
    to come. `suspected_at` is since when it has been watched in case more comes than `suspected_wseq`, its newest
    record then. Until `lease_until` one process has it in hand to record it as lost.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    writer: str
    suspected_wseq: int = -1
    suspected_at: datetime
    lease_until: datetime
    ended_at: datetime | None = None

    model_config = {
        "collection": "audit_writers",
        "indexes": lambda: [Index(AuditWriter.tenant_id, AuditWriter.ended_at)],
    }


class AttemptRow(EmbeddedModel):
    """One try at one target."""

    target: str
    status: int | None = None
    error: str | None = None
    took_us: int | None = None


class InteractionRow(Model):
    """One call through the gateway, without its content. `id` is the interaction's id, `created_at` its start.

    `model` is what the client asked for, `model_counted` what limits and budgets counted, `model_served` what
    answered. `subject` is whose key seals its content. `repeats` is the interaction whose answer was given again.
    `charged_nano_usd` is what budgets counted where the cost is not known. `receipt` is the leaf (hex) the client was
    given. `ended_at` and `latency_ms` are None while the call runs, and for an abandoned one, whose end nobody saw.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    ended_at: datetime | None = None
    expires_at: datetime
    request_id: str | None = None
    receipt: str | None = None
    key_id: str | None = None
    env: Environment | None = None
    dialect: str | None = None
    method: str | None = None
    operation: str | None = None
    model: str | None = None
    model_counted: str | None = None
    model_served: str | None = None
    user: str | None = None
    subject: str | None = None
    repeats: str | None = None
    provider: str | None = None
    target: str | None = None
    stream: bool = False
    status: int | None = None
    end: End
    error: str | None = None
    decision: str | None = None
    policy_version: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    images: int = 0
    audio_ms: int = 0
    service_tier: str | None = None
    total_tokens: int = 0
    usage_source: UsageSource = "none"
    usage_doubtful: bool = False
    cost_nano_usd: int | None = None
    charged_nano_usd: int = 0
    price_version: str | None = None
    latency_ms: int | None = None
    first_byte_ms: int | None = None
    request_bytes: int = 0
    reply_bytes: int = 0
    attempts: list[AttemptRow] = []

    model_config = {
        "collection": "interactions",
        "indexes": lambda: [
            # Ascending, and read backwards: over a descending one the embedded server's `$gte` leaves out what is
            # equal (and its `$lte` over an ascending one).
            Index(InteractionRow.tenant_id, InteractionRow.created_at, InteractionRow.id),
            Index(InteractionRow.tenant_id, InteractionRow.key_id, InteractionRow.created_at, InteractionRow.id),
            Index(InteractionRow.tenant_id, InteractionRow.user, InteractionRow.created_at, InteractionRow.id),
            Index(InteractionRow.tenant_id, InteractionRow.model, InteractionRow.created_at, InteractionRow.id),
            Index(InteractionRow.tenant_id, InteractionRow.subject, InteractionRow.created_at, InteractionRow.id),
            Index(InteractionRow.tenant_id, InteractionRow.request_id),
            IndexModel([("expires_at", 1)], expireAfterSeconds=0),
        ],
    }


Found = Literal["during", "after"]
"""When something was seen: while the call ran, or when its recorded content was read again."""

CaseStatus = Literal["open", "confirmed", "false_positive", "dismissed"]


class CaseEntry(EmbeddedModel):
    """Something that was done with a case: who, when, a note, and what the status became where it changed."""

    at: datetime
    by: str
    note: str | None = None
    status: CaseStatus | None = None


class Violation(Model):
    """A finding that a policy acted on, or in mode `shadow` would have, and the case made of it. Never the text.

    `start` and `end` count code points of the text at `path`, which names a place in the client's request (`side`
    input) or in the answer (output). Scores are in basis points, ten thousandths of one: records hold no fractions.
    `detector_version` names the exact model or rule pack. `created_at` is when the
    call ended, `expires_at` when its row does. `found_at` is set for one found after the call.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    expires_at: datetime
    interaction_id: str
    env: Environment | None = None
    key_id: str | None = None
    user: str | None = None
    model: str | None = None
    provider: str | None = None
    side: str
    policy_id: str | None = None
    policy: str
    policy_version: int | None = None
    action: str
    mode: str
    category: str
    type: str
    path: str
    start: int = 0
    end: int = 0
    score_bp: int | None = None
    threshold_bp: int | None = None
    detector: str | None = None
    detector_version: str | None = None
    found: Found = "during"
    found_at: datetime | None = None
    status: CaseStatus = "open"
    assignee: str | None = None
    labels: list[str] = []
    entries: list[CaseEntry] = []

    model_config = {
        "collection": "violations",
        "indexes": lambda: [
            Index(Violation.tenant_id, Violation.id),
            Index(Violation.tenant_id, Violation.status, Violation.id),
            Index(Violation.tenant_id, Violation.category, Violation.id),
            Index(Violation.tenant_id, Violation.interaction_id),
            IndexModel([("expires_at", 1)], expireAfterSeconds=0),
        ],
    }


ScanState = Literal[
    "waiting",
    "done",
    "not_scannable",  # some of the content was not kept, or is kept no more; what was there has been read
    "given_up",  # the detectors did not answer for as long as it was tried
]


class Scan(Model):
    """What is to be read, or was read, of an interaction after its end. `id` is the interaction's.

    `wanted` holds for each side the members `side`, `reason` (`policy`: a policy reads after the call;
    `detector_loss`: a detector gave no answer during it), `policies` (the ids that held then) and `categories` (those
    that were not read; empty for all that the policies look for). `problems` are codes with their side, such as
    `output: content_not_kept`. `violations` counts what was found.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    expires_at: datetime
    policy_version: int = 0
    wanted: list[dict[str, Any]] = []
    state: ScanState = "waiting"
    problems: list[str] = []
    violations: int = 0
    tries: int = 0
    ended_at: datetime | None = None

    model_config = {
        "collection": "scans",
        "indexes": lambda: [
            Index(Scan.tenant_id, Scan.state, Scan.id),
            IndexModel([("expires_at", 1)], expireAfterSeconds=0),
        ],
    }


class ScanTask(Model):
    """A place in the queue of scans, gone once the scan has ended. `id` is the interaction's, `tenant` whose it is.

    Whoever moves `due_at` ahead holds the task until then, and `claimed_by` is theirs. It belongs to the platform, for
    the workers of all tenants look for what is due next, and it says nothing of a call.
    """

    id: str = Field(primary_field=True)
    tenant: str
    revision: int = 0
    created_at: datetime
    due_at: datetime
    tries: int = 0
    claimed_by: str = ""

    model_config = {"collection": "scan_queue", "indexes": lambda: [Index(ScanTask.due_at)]}


ReplayState = Literal["waiting", "running", "done", "failed"]


class PolicyReplay(Model):
    """A replay somebody asked for: recorded calls of a period under proposed policies, and what came of it.

    The period is `since` up to, not including, `until`. `done` of `total` calls have been replayed. `beat_at` is when
    the process that works on it last said so. `problem` says why it failed: `interrupted` (its process ended),
    `unavailable` (the database was away) or `failed`. `result` holds the members of diff_members. With `reread`
    recorded content is read again, for the `reason` given.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    expires_at: datetime
    created_by: str
    since: datetime
    until: datetime
    policies: list[dict[str, Any]]
    reread: bool = False
    reason: str | None = None
    state: ReplayState = "waiting"
    beat_at: datetime
    done: int = 0
    total: int | None = None
    ended_at: datetime | None = None
    problem: str | None = None
    result: dict[str, Any] | None = None

    model_config = {
        "collection": "policy_replays",
        "indexes": lambda: [
            Index(PolicyReplay.tenant_id, PolicyReplay.id),
            Index(PolicyReplay.tenant_id, PolicyReplay.state),
            IndexModel([("expires_at", 1)], expireAfterSeconds=0),
        ],
    }
