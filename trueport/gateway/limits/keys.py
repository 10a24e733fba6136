"""The names of every Redis key the limiter uses. They are built here and nowhere else.

A counter is called `rate_limit:{kh_…}:YYYY-MM-DD-HH-MM`, its tokens the same with `:tok`, the calls in flight
`conc:{kh_…}`. `kh_…` is a keyed digest of tenant, scope and subject, in that order: no counter can be named without its
tenant, two tenants never meet in one, and neither a key nor an id shows up in MONITOR, the slow log, a dump or a
replica. The braces are meant literally: to Redis Cluster they are the hash tag.

A budget's counters are called `budget:{kh_…}:2026-11` and `budget:{kh_…}:2026-11:calls`, the period behind a digest
of tenant, scope, the budget's name and subject.

All keys of a script have to live in one slot of a cluster, and a call is bound by limits of its key, its user and its
tenant at once. With `cluster` the tag is therefore the tenant's digest and the subject follows it:
`rate_limit:{kh_<tenant>}:kh_<subject>:YYYY-MM-DD-HH-MM`.
"""

import hmac
from base64 import b32encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NewType

from trueport.kit.ids import TenantId

Pepper = NewType("Pepper", bytes)
"""The secret key of the digests; changing it makes every counter start anew."""

_SHORTEST_PEPPER_BYTES: Final = 16
_REMEMBERED: Final = 50_000


class KeyNames:
    """Names under one pepper. A `label` stands for one (tenant, scope, subject); the rest is built from it."""

    def __init__(self, pepper: Pepper, *, cluster: bool = False) -> None:
        if len(pepper) < _SHORTEST_PEPPER_BYTES:
            raise ValueError(f"the limiter's pepper has at least {_SHORTEST_PEPPER_BYTES} bytes")
        self._pepper = pepper
        self._cluster = cluster
        # A digest costs more than everything else about a name, and the same few subjects call again and again.
        self.label = lru_cache(_REMEMBERED)(self._label)
        self.budget_label = lru_cache(_REMEMBERED)(self._budget_label)

    def _label(self, tenant_id: TenantId, scope: str, subject: str) -> str:
        return self._tagged(tenant_id, self._digest(tenant_id, scope, subject))

    def _budget_label(self, tenant_id: TenantId, name: str, scope: str, subject: str) -> str:
        # The length keeps name and subject apart: either may hold a NUL.
        return self._tagged(tenant_id, self._digest(tenant_id, "budget", scope, str(len(name)), name, subject))

    def _tagged(self, tenant_id: TenantId, digest: str) -> str:
        if self._cluster:
            return f"{{{self._digest(tenant_id)}}}:{digest}"
        return f"{{{digest}}}"

    def requests(self, label: str, minute: int) -> str:
        """The count of requests in a minute, given as Unix time // 60 s."""
        return f"rate_limit:{label}:{minute_name(minute)}"

    def tokens(self, label: str, minute: int) -> str:
        """The count of tokens in a minute, reservations included."""
        return f"rate_limit:{label}:{minute_name(minute)}:tok"

    def calls(self, label: str) -> str:
        """The calls in flight: a sorted set of call id -> moment of expiry on Redis's clock."""
        return f"conc:{label}"

    def purse(self, budget_label: str, period: str) -> str:
        """The hash of one period of a budget; its fields are explained in `scripts`."""
        return f"budget:{budget_label}:{period}"

    def holding(self, budget_label: str, period: str) -> str:
        """The calls that hold money of the budget: a sorted set of `amount:call id` -> moment of expiry."""
        return f"budget:{budget_label}:{period}:calls"

    def workers(self) -> str:
        """The processes alive: a sorted set of worker -> moment of expiry on Redis's clock."""
        return f"rate_limit:{{{self._digest('workers')}}}:workers"

    def _digest(self, *parts: str) -> str:
        # NUL cannot occur in a tenant id or a scope, so different parts never join to the same text.
        digest = hmac.digest(self._pepper, "\0".join(parts).encode(), "sha256")
        return f"kh_{b32encode(digest)[:26].decode().lower()}"


@lru_cache(16)
def minute_name(minute: int) -> str:
    """`2026-11-23-09-30` for a minute given as Unix time // 60 s."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d-%H-%M")
