"""A trail that remembers what it is told, for services tested without a journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trueport.audit.canonical import canonical, parse
from trueport.audit.records import DeedKind
from trueport.kit.ids import new_id
from trueport.web.deeds import Actor, Deeds
from trueport.web.trail import Trail


@dataclass(frozen=True)
class Told:
    """One record, without what the journal adds."""

    tenant_id: str
    kind: DeedKind
    fields: dict[str, Any]


@dataclass
class ToldTrail(Trail):
    """Takes whatever a journal would take."""

    records: list[Told] = field(default_factory=list)

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> str:
        self.add(tenant_id, kind, fields)
        return f"{new_id('rec')}#{kind}"

    def add(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> None:
        self.records.append(Told(tenant_id, kind, parse(canonical(fields))))


def told_deeds(trail: ToldTrail | None = None) -> Deeds:
    """Deeds of one person, which nobody need read."""
    return Deeds(trail if trail is not None else ToldTrail(), Actor("usr_1", "203.0.113.9", "req_1"))
