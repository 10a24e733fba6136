"""What this domain stores. Users, sessions and tenants belong to no tenant; memberships and API keys to exactly one."""

from datetime import datetime
from typing import ClassVar, Literal

from odmantic import Field, Index, Model
from odmantic.config import ODMConfigDict
from pymongo import IndexModel

from trueport.kit.principal import Role
from trueport.kit.tenancy import Environment

TenantStatus = Literal["active", "suspended", "archived"]
KeyStatus = Literal["active", "disabled"]


class User(Model):
    """A person. `email` is normalised (see accounts.normalise_email) and unique."""

    id: str = Field(primary_field=True)
    email: str
    password_hash: str
    first_name: str
    last_name: str
    is_platform_admin: bool = False
    is_active: bool = True
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {"collection": "users", "indexes": lambda: [Index(User.email, unique=True)]}


class Session(Model):
    """One sign-in and all the tokens that came of it. It lives as long as its last refresh token."""

    id: str = Field(primary_field=True)
    user_id: str
    revoked_at: datetime | None = None
    expires_at: datetime
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "sessions",
        "indexes": lambda: [Index(Session.user_id), IndexModel([("expires_at", 1)], expireAfterSeconds=0)],
    }


class RefreshToken(Model):
    """One refresh token of a session, by its id; the token itself is kept as a digest only."""

    id: str = Field(primary_field=True)
    session_id: str
    user_id: str
    digest: str
    used_at: datetime | None = None
    expires_at: datetime
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "refresh_tokens",
        "indexes": lambda: [IndexModel([("expires_at", 1)], expireAfterSeconds=0)],
    }


class Tenant(Model):
    """An organisation. `wrapped_key` is its own 256-bit key, wrapped under the platform's key-encryption key, or by
    what the URL `wrapped_by` names."""

    id: str = Field(primary_field=True)
    name: str
    slug: str
    status: TenantStatus = "active"
    wrapped_key: bytes
    wrapped_by: str = ""
    created_by: str
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "tenants",
        "indexes": lambda: [Index(Tenant.slug, unique=True)],
    }


class Membership(Model):
    """A person's role in one tenant."""

    id: str = Field(primary_field=True)
    tenant_id: str
    user_id: str
    role: Role
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "memberships",
        "indexes": lambda: [
            Index(Membership.tenant_id, Membership.user_id, unique=True),
            # A person's own tenants are listed across tenants.
            Index(Membership.user_id),
        ],
    }


class ApiKey(Model):
    """An application's credential. The key itself is stored nowhere: `digest` is its HMAC, `prefix` is for people.

    During a rotation `previous_digest` still admits, until `previous_expires_at`.
    Limits: 0 tokens per minute or concurrent calls mean no such limit. Empty lists allow everything.
    """

    id: str = Field(primary_field=True)
    tenant_id: str
    name: str
    env: Environment
    prefix: str
    digest: str
    previous_digest: str | None = None
    previous_expires_at: datetime | None = None
    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int
    allowed_models: list[str]
    allowed_cidrs: list[str]
    expires_at: datetime | None = None
    status: KeyStatus = "active"
    created_by: str
    created_at: datetime
    revision: int = 0

    model_config: ClassVar[ODMConfigDict] = {
        "collection": "api_keys",
        "indexes": lambda: [
            Index(ApiKey.tenant_id, ApiKey.digest, unique=True),
            Index(ApiKey.tenant_id, ApiKey.previous_digest),
        ],
    }
