"""What this domain stores: the batches that order a tenant's records, and the checkpoints signed over them."""

from datetime import datetime
from typing import Final

from odmantic import EmbeddedModel, Field, Index, Model

_DIGITS: Final = 16


def numbered(tenant_id: str, number: int) -> str:
    """The name of something at a place of a tenant's order. Names sort as their places do."""
    return f"{tenant_id}|{number:0{_DIGITS}d}"


class StoredBreak(EmbeddedModel):
    """Where a writer's chain does not hold."""

    writer: str
    wseq: int
    why: str


class AuditBatch(Model):
    """The records at the places [start, end) of a tenant's order. `id` is `numbered` by start: two cannot have one.

    `leaves` and `edge` are hashes of 32 bytes, one behind the other; `edge` is that of the tree of `end` leaves.
    `at_us` is when it was made.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    start: int
    end: int
    ids: list[str]
    leaves: bytes
    edge: bytes
    previous: str
    at_us: int
    breaks: list[StoredBreak] = []

    model_config = {"collection": "audit_batches", "indexes": lambda: [Index(AuditBatch.tenant_id, AuditBatch.id)]}


class AuditCheckpoint(Model):
    """A signed note over the first `size` records. `id` is `numbered` by size."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    size: int
    root: str
    note: str

    model_config = {
        "collection": "audit_checkpoints",
        "indexes": lambda: [
            Index(AuditCheckpoint.tenant_id, AuditCheckpoint.id),
            Index(AuditCheckpoint.tenant_id, AuditCheckpoint.created_at),
        ],
    }


class AuditTile(Model):
    """256 neighbouring hashes of one level, once all are known (C2SP tlog-tiles, height 8).

    Level 0 are leaves; a hash of the next level is over 256 of the one below. `root` is that over this tile.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    level: int
    index: int
    hashes: bytes
    root: bytes

    model_config = {"collection": "audit_tiles", "indexes": lambda: [Index(AuditTile.tenant_id, AuditTile.id)]}


class SigningKey(Model):
    """A key of this installation that signs for every log. `id` numbers them; `sealed` is its seed, and empty for one
    that signed in another installation, whose records were restored here.

    It signs from `begins_at` (the first one from when it was made) until `retires_at`; until then a newer one signs
    beside it. What it has signed stays valid. One that is `prepared` is being announced and signs nothing yet.
    """

    id: str = Field(primary_field=True)
    revision: int = 0
    created_at: datetime
    sealed: bytes
    public_key: str
    is_prepared: bool = False
    begins_at: datetime | None = None
    retires_at: datetime | None = None

    model_config = {"collection": "audit_signing_keys"}


class ArchivedSegment(Model):
    """The records at [start, end) of a tenant's order on their way to the archive. `id` is `numbered` by start.

    `announced` are the SHA-256 (hex) of all objects that were about to be written for it, so that a process that goes
    on after another knows that other's. `previous` and `manifest` are those of manifests; `objects` are the names in
    the order of writing. `retained_until` is until when they are locked, and the days are the retention that was
    promised when it was begun. Until `lease_until` one process works on it. `archived_at` is when all was written and
    read back; nothing is pruned before. `first_at` is the time of its oldest record, `pruned` how many have left the
    database (0: none), and `pruned_at` when the last of those that leave did. `place` is the tenant's own place that it
    lies in, empty for the installation's archive. `held_by` are the legal holds that are about a record in it, and
    `hold` is what the store does for them: "none", "on", "alone" (it has no holds), or "setting" and "lifting" while
    that is going on; `hold_failure` is why it did not get to its end.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    start: int
    end: int
    previous: str
    retained_until: datetime
    calls_days: int
    deeds_days: int
    lease_until: datetime
    place: str = ""
    announced: list[str] = []
    objects: list[str] = []
    manifest: str | None = None
    archived_at: datetime | None = None
    first_at: datetime | None = None
    pruned: int = 0
    pruned_at: datetime | None = None
    held_by: list[str] = []
    hold: str = "none"
    hold_failure: str | None = None

    model_config = {
        "collection": "audit_archived",
        "indexes": lambda: [
            Index(ArchivedSegment.tenant_id, ArchivedSegment.id),
            Index(ArchivedSegment.tenant_id, ArchivedSegment.held_by),
            Index(ArchivedSegment.tenant_id, ArchivedSegment.hold),
        ],
    }


class AuditRetention(Model):
    """Days for which a tenant keeps records of calls, and of what people did. `id` is the tenant's."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    calls_days: int
    deeds_days: int

    model_config = {"collection": "audit_retention", "indexes": lambda: [Index(AuditRetention.tenant_id)]}
