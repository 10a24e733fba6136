"""What is stored of tenants' own archives. Credentials are here sealed, and nowhere else."""

from datetime import datetime
from typing import ClassVar

from odmantic import Field, Index, Model
from odmantic.config import ODMConfigDict


class StoredPlace(Model):
    """A place that a tenant has chosen for its archive, now or once. It stays, since segments lie there.

    `region` is where the tenant says that it is, in the words of its configuration; the other members are those of
    ArchivePlace. `sealed` are the credentials, under the tenant's key.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    created_by: str
    provider: str
    bucket: str
    prefix: str
    location: str
    endpoint: str
    account: str
    region: str
    sealed: bytes

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_archive_places",
        "indexes": lambda: [Index(StoredPlace.tenant_id, StoredPlace.id)],
    }


class ArchiveChoice(Model):
    """Which of its places a tenant's next segment goes to; empty: the installation's archive. `id` is the tenant's."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    place: str

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "audit_archive_choices",
        "indexes": lambda: [Index(ArchiveChoice.tenant_id)],
    }
