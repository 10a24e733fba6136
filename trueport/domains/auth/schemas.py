"""The bodies of this domain's HTTP surface. Unknown fields are refused; times are RFC 3339 with milliseconds."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trueport.domains.auth.accounts import TokenPair
from trueport.domains.auth.keys import (
    DEFAULT_OVERLAP_S,
    DEFAULT_REQUESTS_PER_MINUTE,
    LONGEST_OVERLAP_S,
    KeyOptions,
    NewKey,
)
from trueport.domains.auth.members import Member
from trueport.domains.auth.models import ApiKey, KeyStatus, TenantStatus, User
from trueport.domains.auth.tenants import OwnTenant
from trueport.domains.auth.tokens import LIFETIME_S
from trueport.kit.clock import rfc3339
from trueport.kit.principal import Role
from trueport.kit.tenancy import Environment

# Ends patterns: unlike `$`, it does not let a line break follow; unlike `\Z`, browsers know it too.
_END: Final = r"(?![\s\S])"
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s][^\x00-\x1f\x7f]*" + _END
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=_NO_CONTROLS)]
Email = Annotated[str, Meta(min_length=3, max_length=300)]
Password = Annotated[str, Meta(min_length=1, max_length=1_000)]
Token = Annotated[str, Meta(min_length=1, max_length=4_096)]
Slug = Annotated[str, Meta(min_length=1, max_length=100)]
Glob = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._:/@*?+-]+" + _END)]
Network = Annotated[str, Meta(min_length=2, max_length=64)]
Moment = Annotated[datetime, Meta(tz=True)]
RequestsPerMinute = Annotated[int, Meta(ge=0, le=10_000_000)]
TokensPerMinute = Annotated[int, Meta(ge=0, le=10_000_000_000)]
Concurrency = Annotated[int, Meta(ge=0, le=1_000_000)]
Globs = Annotated[list[Glob], Meta(max_length=100)]
Networks = Annotated[list[Network], Meta(max_length=100)]


class Register(msgspec.Struct, forbid_unknown_fields=True):
    email: Email
    password: Password
    first_name: Name
    last_name: Name


class Login(msgspec.Struct, forbid_unknown_fields=True):
    email: Email
    password: Password


class Refresh(msgspec.Struct, forbid_unknown_fields=True):
    refresh_token: Token


class Logout(msgspec.Struct, forbid_unknown_fields=True):
    """With a refresh token, its session ends as well, should it be another."""

    refresh_token: Token | None = None


class PasswordChange(msgspec.Struct, forbid_unknown_fields=True):
    current_password: Password
    new_password: Password


class SelectTenant(msgspec.Struct, forbid_unknown_fields=True):
    tenant_id: Annotated[str, Meta(pattern="^ten_[0-9a-v]{26}" + _END)]


class CreateTenant(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    slug: Slug


class SwitchEnvironment(msgspec.Struct, forbid_unknown_fields=True):
    env: Environment


class AddMember(msgspec.Struct, forbid_unknown_fields=True):
    email: Email
    role: Role


class ChangeMember(msgspec.Struct, forbid_unknown_fields=True):
    role: Role


class CreateKey(msgspec.Struct, forbid_unknown_fields=True):
    """`env` defaults to the environment of the token. 0 tokens or concurrent calls mean no such limit."""

    name: Name
    env: Environment | None = None
    requests_per_minute: RequestsPerMinute = DEFAULT_REQUESTS_PER_MINUTE
    tokens_per_minute: TokensPerMinute = 0
    concurrency: Concurrency = 0
    allowed_models: Globs = []
    allowed_cidrs: Networks = []
    expires_at: Moment | None = None

    def options(self, present: Environment) -> KeyOptions:
        return KeyOptions(
            name=self.name,
            env=self.env or present,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrency=self.concurrency,
            allowed_models=tuple(self.allowed_models),
            allowed_cidrs=tuple(self.allowed_cidrs),
            expires_at=self.expires_at,
        )


class ChangeKey(msgspec.Struct, forbid_unknown_fields=True):
    """What is absent stays; `expires_at: null` takes the end away."""

    name: Name | UnsetType = UNSET
    requests_per_minute: RequestsPerMinute | UnsetType = UNSET
    tokens_per_minute: TokensPerMinute | UnsetType = UNSET
    concurrency: Concurrency | UnsetType = UNSET
    allowed_models: Globs | UnsetType = UNSET
    allowed_cidrs: Networks | UnsetType = UNSET
    expires_at: Moment | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:  # values of several types, by field
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}


class RotateKey(msgspec.Struct, forbid_unknown_fields=True):
    overlap_s: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP_S)] = DEFAULT_OVERLAP_S


class UserShown(msgspec.Struct):
    id: str
    email: str
    first_name: str
    last_name: str
    created_at: str


class Tokens(msgspec.Struct):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int


class ScopedToken(msgspec.Struct):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    tenant_id: str
    role: Role
    env: Environment


class TenantShown(msgspec.Struct):
    id: str
    name: str
    slug: str
    status: TenantStatus
    role: Role
    created_at: str


class SlugAnswer(msgspec.Struct):
    """`reason` says why not: `malformed`, `reserved` or `taken`."""

    slug: str
    available: bool
    reason: str | None


class Info(msgspec.Struct):
    """Where somebody is, and what they may do there."""

    tenant: TenantShown
    user_id: str
    role: Role
    env: Environment
    permissions: list[str]


class MemberShown(msgspec.Struct):
    id: str
    user_id: str
    email: str | None
    first_name: str | None
    last_name: str | None
    role: Role
    created_at: str


class KeyShown(msgspec.Struct, kw_only=True):
    id: str
    name: str
    env: Environment
    prefix: str
    status: KeyStatus
    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int
    allowed_models: list[str]
    allowed_cidrs: list[str]
    expires_at: str | None
    previous_expires_at: str | None
    created_by: str
    created_at: str


class KeyCreated(KeyShown, kw_only=True):
    """With `key`, which is shown this once."""

    key: str


def show_user(user: User) -> UserShown:
    return UserShown(user.id, user.email, user.first_name, user.last_name, rfc3339(user.created_at))


def show_tokens(pair: TokenPair) -> Tokens:
    return Tokens(pair.access, pair.refresh, "bearer", LIFETIME_S["global"])


def show_tenant(own: OwnTenant) -> TenantShown:
    tenant = own.tenant
    return TenantShown(tenant.id, tenant.name, tenant.slug, tenant.status, own.role, rfc3339(tenant.created_at))


def show_member(member: Member) -> MemberShown:
    user = member.user
    return MemberShown(
        id=member.membership.id,
        user_id=member.membership.user_id,
        email=user.email if user else None,
        first_name=user.first_name if user else None,
        last_name=user.last_name if user else None,
        role=member.membership.role,
        created_at=rfc3339(member.membership.created_at),
    )


def show_key(key: ApiKey) -> KeyShown:
    return KeyShown(**_key_members(key))


def show_new_key(new: NewKey) -> KeyCreated:
    return KeyCreated(key=new.text, **_key_members(new.stored))


def _key_members(key: ApiKey) -> dict[str, Any]:  # members of KeyShown, of several types
    return {
        "id": key.id,
        "name": key.name,
        "env": key.env,
        "prefix": key.prefix,
        "status": key.status,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "concurrency": key.concurrency,
        "allowed_models": key.allowed_models,
        "allowed_cidrs": key.allowed_cidrs,
        "expires_at": rfc3339(key.expires_at) if key.expires_at else None,
        "previous_expires_at": rfc3339(key.previous_expires_at) if key.previous_expires_at else None,
        "created_by": key.created_by,
        "created_at": rfc3339(key.created_at),
    }
