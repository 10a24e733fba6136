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
    """A key of this installation that signs for every log. `id` numbers them; `sealed` is its seed.

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
