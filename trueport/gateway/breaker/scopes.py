"""Which calls share a circuit, and under which names it lies in Redis. Pure."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_DIGITS: Final = 16


def scope_of(
    provider: str, credential_id: str, tenant_id: str, origin: str, *, is_custom: bool, region: str | None
) -> str:
    """The circuit of an account at a provider: `openai:crd_…`, or `openai@eu:crd_…` where it is bound to a region.

    A tenant's own account has its own circuit, so that what one tenant does to its account opens nobody else's.
    Without a credential it is the view of the whole provider, `openai`. At any host but the vendor's own (`is_custom`)
    the tenant decides what answers, so the circuit is the tenant's alone, whatever provider the host claims to be:
    `custom:` and 16 hex digits of the SHA-256 of tenant and `origin` (`https://host:port`).
    """
    if is_custom:
        return f"custom:{sha256((tenant_id + origin.lower()).encode()).hexdigest()[:_DIGITS]}"
    place = provider if region is None else f"{provider}@{region}"
    return f"{place}:{credential_id}" if credential_id else place


@dataclass(frozen=True, slots=True)
class ScopeKeys:
    """The names of a circuit's keys in Redis; they are built here and nowhere else.

    `circuit_breaker:openai:state` is the plain text closed, open or half_open, so that an operator can read it; `:meta`
    a hash with everything else the machine knows, `:window` a hash of the outcomes in each bucket of time. With
    `cluster` the scope stands in literal braces, which keeps the three in one slot.
    """

    state: str
    meta: str
    window: str

    @classmethod
    def of(cls, scope: str, *, cluster: bool = False) -> "ScopeKeys":
        stem = f"circuit_breaker:{{{scope}}}" if cluster else f"circuit_breaker:{scope}"
        return cls(f"{stem}:state", f"{stem}:meta", f"{stem}:window")


ALIVE_KEY: Final = "circuit_breaker:alive"
"""Written to see whether Redis takes writes again; no scope can have this name, because theirs go on after it."""
