"""What happened in this domain, told after the write."""

from dataclasses import dataclass

from trueport.kit.events import Event
from trueport.kit.ids import KeyId, TenantId, UserId
from trueport.kit.principal import Role


@dataclass(frozen=True, slots=True)
class UserRegistered(Event):
    user_id: UserId


@dataclass(frozen=True, slots=True)
class TenantCreated(Event):
    tenant_id: TenantId
    slug: str
    created_by: UserId


@dataclass(frozen=True, slots=True)
class MemberChanged(Event):
    """Somebody joined, changed role, or left (`role` is None)."""

    tenant_id: TenantId
    user_id: UserId
    role: Role | None


@dataclass(frozen=True, slots=True)
class KeyChanged(Event):
    """An API key was created, changed, rotated, enabled, disabled or deleted."""

    tenant_id: TenantId
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class KeyRevoked(Event):
    """An API key no longer admits anybody."""

    tenant_id: TenantId
    key_id: KeyId
