"""Who acts, and what they may do."""

from dataclasses import dataclass
from typing import Literal

from trueport.kit.ids import UserId
from trueport.kit.tenancy import Environment, TenantScope

Role = Literal["viewer", "member", "admin", "owner"]
ROLES: tuple[Role, ...] = ("viewer", "member", "admin", "owner")


@dataclass(frozen=True, slots=True)
class GlobalPrincipal:
    """A person who is logged in and has not chosen a tenant."""

    user_id: UserId
    is_platform_admin: bool


@dataclass(frozen=True, slots=True)
class TenantPrincipal:
    """A person at work in one tenant, with the role they hold there at this moment."""

    user_id: UserId
    scope: TenantScope
    role: Role
    environment: Environment
    permissions: frozenset[str]
    is_platform_admin: bool
