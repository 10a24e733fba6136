"""What is stored of places that checkpoints are sent to, and what witnesses have signed."""

from datetime import datetime
from typing import ClassVar, Literal

from odmantic import Field, Index, Model
from odmantic.config import ODMConfigDict

PlaceKind = Literal["witness", "folder", "webhook"]


class AuditCosignature(Model):
    """The line that a witness has added to the checkpoint over the first `size` records.

    `id` is the checkpoint's and the witness's key id, so that each has one there. `at_s` is the witness's own clock.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    size: int
    witness: str
    at_s: int
    line: str

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_cosignatures",
        "indexes": lambda: [Index(AuditCosignature.tenant_id, AuditCosignature.id)],
    }


class AnchorState(Model):
    """How far a place is. `size` is that of the newest checkpoint it has, 0 for none.

    Until `due_at` nothing is sent to it: because it was sent something lately, because it failed, or because a process
    is at it. `problem` is a stable code while its last attempt has failed, and `failures` counts these.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    kind: str
    place: str
    size: int = 0
    reached_at: datetime | None = None
    due_at: datetime
    failures: int = 0
    problem: str | None = None
    failing_since: datetime | None = None

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_anchors",
        "indexes": lambda: [Index(AnchorState.tenant_id, AnchorState.id)],
    }


class Push(Model):
    """A webhook of a tenant that gets its checkpoints. `sealed` is the secret that signs what is sent to it."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    created_by: str
    name: str
    url: str
    every_s: int
    sealed: bytes

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_pushes",
        "indexes": lambda: [Index(Push.tenant_id, Push.id)],
    }
