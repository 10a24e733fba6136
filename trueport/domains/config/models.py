"""What this domain stores. A configuration is never changed: each change is a new version, the highest one counts."""

from datetime import datetime
from typing import Any

from odmantic import EmbeddedModel, Field, Index, Model


class StoredTarget(EmbeddedModel):
    """A target as configured; names its credential, not its id."""

    credential: str
    model: str | None = None
    timeout_s: float | None = None
    weight: int | None = None
    priority: int | None = None
    retries: int = 0


class StoredRoute(EmbeddedModel):
    """A route as configured."""

    model: str | None = None
    dialect: str | None = None
    targets: list[StoredTarget]
    choose: str = "weight"
    cache_s: int = 0


class StoredAlias(EmbeddedModel):
    """A model name that stands for another. A list, because a document's member names take no dots."""

    alias: str
    model: str


class StoredCredential(Model):
    """An account at a provider. `secret` is sealed under the tenant's key, `secret_hint` its last four characters.

    `secret_source` is where the secret was taken from, such as `env:OPENAI_API_KEY`, for export.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    name: str
    provider: str
    base_url: str
    secret: bytes | None = None
    secret_hint: str | None = None
    secret_source: str | None = None
    region: str | None = None
    deployments: list[StoredAlias] = []
    api_version: str | None = None
    quirks: list[str] = []
    created_at: datetime
    revision: int = 0

    model_config = {
        "collection": "credentials",
        "indexes": lambda: [Index(StoredCredential.tenant_id, StoredCredential.name, unique=True)],
    }


class Configuration(Model):
    """One version of a tenant's routes, limits, budgets and policies.

    `model_limits`, `budgets` and `prices` hold what the file says, in its own terms; `policies` the members `id`,
    `version` and `document` of each. `policy_version` grows with each change of one of them.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    version: int
    routes: list[StoredRoute] = []
    aliases: list[StoredAlias] = []
    regions: list[str] = []
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0
    user_limits: dict[str, int] = {}
    model_limits: list[dict[str, Any]] = []
    budgets: list[dict[str, Any]] = []
    prices: list[dict[str, Any]] = []
    policies: list[dict[str, Any]] = []
    policy_version: int = 0
    moderations: str = "provider"
    changed_by: str
    created_at: datetime
    revision: int = 0

    model_config = {
        "collection": "configurations",
        "indexes": lambda: [Index(Configuration.tenant_id, Configuration.version, unique=True)],
    }


class ContentKey(Model):
    """A data key for content of everybody in a month, wrapped under the tenant's key. No new ones are made: what was
    sealed with them stays readable."""

    id: str = Field(primary_field=True)
    tenant_id: str
    month: str
    wrapped: bytes
    created_at: datetime
    revision: int = 0

    model_config = {
        "collection": "content_keys",
        "indexes": lambda: [Index(ContentKey.tenant_id, ContentKey.month, unique=True)],
    }
