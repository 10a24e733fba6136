"""What is stored of people's keys, of erasures, and of legal holds. Nothing here names a person."""

from datetime import datetime
from typing import ClassVar, Literal

from odmantic import Field, Index, Model
from odmantic.config import ODMConfigDict

ErasureState = Literal["asked", "held", "recorded", "done"]
HoldState = Literal["active", "release_asked", "released"]


class SubjectKey(Model):
    """The key that seals what one subject says in one month, wrapped under the tenant's key.

    `id` is what records call `kid`. `subject` is a pseudonym under the tenant's key (keys.py).
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    subject: str
    month: str
    wrapped: bytes

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_keys",
        "indexes": lambda: [Index(SubjectKey.tenant_id, SubjectKey.subject, SubjectKey.month, unique=True)],
    }


class Erasure(Model):
    """The erasure of a subject and how far it has come.

    `kids` are the keys that its record names and that are gone once it is `done`; `record` is that record's name, and
    `certificate` the signed note about it; `overwritten` is how many sealed contents were, too. While a legal hold
    forbids it, it is `held`. Until `lease_until` one process works on it, and no other.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    subject: str
    requester: str
    legal_basis: str
    state: ErasureState = "asked"
    lease_until: datetime
    kids: list[str] = []
    record: str | None = None
    overwritten: int = 0
    done_at: datetime | None = None
    certificate: str | None = None

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_erasures",
        "indexes": lambda: [Index(Erasure.tenant_id, Erasure.state)],
    }


class Hold(Model):
    """A legal hold. What it is about is what meets every condition it has; one without conditions is about everything.

    `since` is included, `until` is not. Two people end it: `release_asked_by` and `released_by`.
    `examined_to`: which records of the archive, up to this place of the order, have been looked at for it.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    reason: str
    created_by: str
    subject: str | None = None
    key_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    interaction_ids: list[str] = []
    state: HoldState = "active"
    release_asked_by: str | None = None
    released_by: str | None = None
    released_at: datetime | None = None
    examined_to: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_holds",
        "indexes": lambda: [Index(Hold.tenant_id, Hold.state)],
    }
