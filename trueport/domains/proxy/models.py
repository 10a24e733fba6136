"""What this domain stores."""

from datetime import datetime
from typing import ClassVar, Literal

from odmantic import Field, Model
from odmantic.config import ODMConfigDict
from pymongo import IndexModel


class UsedKey(Model):
    """An Idempotency-Key of one tenant. `id` is a digest of the key, `body_digest` one of what was asked under it."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    interaction_id: str
    body_digest: str
    state: Literal["running", "done", "unknown"] = "running"
    status: int = 0
    content_type: str = ""
    is_stream: bool = False
    reply_bytes: int = 0
    provider: str = ""
    model: str = ""
    lease_until: datetime
    expires_at: datetime

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "gateway_idempotency",
        "indexes": lambda: [IndexModel([("expires_at", 1)], expireAfterSeconds=0)],
    }


class KeptObject(Model):
    """An object at a provider. `id` is a digest of tenant, environment, wire and the object's own id."""

    id: str = Field(primary_field=True)
    tenant_id: str
    revision: int = 0
    created_at: datetime
    env: str
    wire: str
    kind: str
    object_id: str
    credential_id: str
    expires_at: datetime

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "provider_objects",
        "indexes": lambda: [IndexModel([("expires_at", 1)], expireAfterSeconds=0)],
    }
