"""Proof of tenancy. Data of a tenant cannot be named without one of these values.

Only authentication, jobs and tests may construct them (tests/architecture walks the syntax tree); everybody
else receives one as an argument and passes it on.
"""

from dataclasses import dataclass
from typing import Literal

from trueport.kit.ids import TenantId

Environment = Literal["prod", "staging", "dev"]
ENVIRONMENTS: tuple[Environment, ...] = ("prod", "staging", "dev")


@dataclass(frozen=True, slots=True)
class TenantScope:
    """Leave to read and write the data of exactly one tenant."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class PlatformScope:
    """Leave to read and write across tenants: who does it, and why. Each use is recorded."""

    operator: str
    reason: str
