"""What was said in a recorded interaction: its shape for whoever may read the log, its words for who says why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from trueport.audit.canonical import parse
from trueport.audit.records import record_id
from trueport.detection.types import Side
from trueport.domains.analytics.repository import AuditRecords
from trueport.kit.errors import NotFound
from trueport.kit.ids import is_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database

SIDES: Final[tuple[Side, ...]] = ("input", "output")
_WRITTEN: Final = re.compile(r"\w")


class ContentUnreadable(Exception):
    """Recorded content cannot be read; `reason` is a word for it, such as `content_erased`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Said:
    """One text of an interaction, where it stands in the body, and who said it."""

    path: str
    role: str
    text: str

    @property
    def masked(self) -> str:
        """The same with an x for every letter, digit and underscore: offsets hold, words do not show."""
        return _WRITTEN.sub("x", self.text)


class ContentViewer(Protocol):
    """Opens recorded content. Lent as a part of the Resources by whoever has the keys and the storage."""

    async def texts(self, scope: TenantScope, outcome: Mapping[str, Any], side: Side) -> Sequence[Said]:
        """The texts of one side of an interaction. Raises ContentUnreadable and a kit Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class SideOfCall:
    """One side of an interaction. `state` is `kept`, or why there are no texts. `findings` are as records have them."""

    side: Side
    state: str
    texts: Sequence[Said]
    findings: Sequence[Sequence[Any]]


async def outcome_of(database: Database, scope: TenantScope, interaction_id: str) -> Mapping[str, Any]:
    """What the trail says of an interaction that has ended. Raises NotFound."""
    if not is_id(interaction_id, "int"):
        raise NotFound("There is no such interaction.")
    return parse((await AuditRecords(database, scope).get(record_id(interaction_id, "outcome"))).canonical)


async def both_sides(viewer: ContentViewer, scope: TenantScope, outcome: Mapping[str, Any]) -> list[SideOfCall]:
    """Raises a kit Unavailable."""
    found: list[SideOfCall] = []
    for side in SIDES:
        reading = (outcome.get("readings") or {}).get(side) or {}
        try:
            texts, state = await viewer.texts(scope, outcome, side), "kept"
        except ContentUnreadable as error:
            texts, state = (), error.reason
        found.append(SideOfCall(side, state, texts, reading.get("findings") or ()))
    return found
