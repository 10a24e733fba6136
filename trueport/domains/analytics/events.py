"""What happens in this domain that others want to hear of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trueport.domains.analytics.models import Found
from trueport.kit.events import Event
from trueport.storage.mongo import Document


@dataclass(frozen=True, slots=True)
class ViolationFound(Event):
    """A new violation stands in the list. Where and what it is, never the text; `found` says when it was seen.

    Told once the write has succeeded, by the process that made it. A process that dies in between tells nothing: the
    list is what is complete.
    """

    tenant_id: str
    violation_id: str
    interaction_id: str
    at: datetime
    env: str | None
    key_id: str | None
    side: str
    policy_id: str | None
    policy: str
    policy_version: int | None
    action: str
    mode: str
    category: str
    type: str
    found: Found

    @classmethod
    def of(cls, violation: Document) -> "ViolationFound":
        """From the stored members of a Violation."""
        same: dict[str, Any] = {name: violation.get(name) for name in _SAME}
        at = violation.get("found_at") or violation["created_at"]
        found: Found = "after" if violation.get("found") == "after" else "during"
        return cls(violation_id=violation["_id"], at=at, found=found, **same)


@dataclass(frozen=True, slots=True)
class RecordsStored(Event):
    """New records of these tenants are in the database."""

    tenant_ids: frozenset[str]


_SAME = ("tenant_id", "interaction_id", "env", "key_id", "side", "policy_id", "policy", "policy_version", "action",
         "mode", "category", "type")  # fmt: skip
