"""What a record says and how it is named."""

from collections.abc import Mapping
from typing import Any, Final, Literal

DeedKind = Literal["admin", "auth", "policy", "erasure", "hold", "export", "access"]
"""What people do, apart from calls."""
Kind = Literal["intent", "attempt", "outcome", "abandoned", DeedKind, "gap", "heartbeat", "lost_writer"]

VERSION: Final = 1
HEARTBEAT_S: Final = 60
"""How long after a record its writer says at the latest how its chain stands."""
OWN_FIELDS: Final = frozenset({"v", "kind", "rid", "tenant", "writer", "wseq", "prev", "at", "heartbeat_s"})
"""What the journal itself writes into each record; everything else is the caller's."""
FIRST_PREV: Final = "0" * 64
"""`prev` of a writer's first record for a tenant."""


def record_id(rid: str, kind: Kind, number: int = 0) -> str:
    """The record's name in every store: `int_…#intent`, `int_…#attempt#0`. The same record always has the same.

    Only attempts are numbered; whatever else happens twice has a `rid` of its own. Two records under one name would
    be stored as one, and leave a hole in their writer's chain.
    """
    return f"{rid}#attempt#{number}" if kind == "attempt" else f"{rid}#{kind}"


def number_of(kind: str, fields: Mapping[str, Any]) -> int:
    """An attempt's number, its field `n`; 0 for every other kind. Raises ValueError for an attempt without one."""
    if kind != "attempt":
        return 0
    number = fields.get("n")
    if type(number) is not int:
        raise ValueError("an attempt has a number, `n`")
    return number
