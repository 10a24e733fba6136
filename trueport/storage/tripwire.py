"""Notices commands on tenant collections that name no tenant, as they leave for the database.

The last of three rings: repositories make such a command impossible to write, types make it visible, this one sees
what reaches the wire all the same. Under tests a noted command fails the test, in production it raises a metric.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

PLATFORM_MARK: Final = "trueport-platform"
_FAR_STAGES: Final = frozenset({"$lookup", "$graphLookup", "$unionWith", "$out", "$merge"})
_MOST_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Noted:
    """A command that named no tenant. Its values are not kept."""

    collection: str
    command: str


class Tripwire(CommandListener):
    """Listens to a client's commands and keeps the latest of those that named no tenant in `noted`.

    `on_note` is called from the driver as well; it must be quick and not raise.
    """

    def __init__(self, tenant_collections: Container[str], on_note: Callable[[Noted], None] | None = None) -> None:
        self._watched = tenant_collections
        self._on_note = on_note
        self.noted: deque[Noted] = deque(maxlen=_MOST_KEPT)

    def started(self, event: CommandStartedEvent) -> None:
        command: Mapping[str, Any] = event.command
        if command.get("comment") == PLATFORM_MARK:
            return
        for collection in _touched(event.command_name, command):
            if collection in self._watched and not _is_scoped(event.command_name, command):
                noted = Noted(collection, event.command_name)
                self.noted.append(noted)
                if self._on_note is not None:
                    self._on_note(noted)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to do: what matters is what was asked."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to do: what matters is what was asked."""


def _touched(name: str, command: Mapping[str, Any]) -> Iterable[str]:
    if name == "bulkWrite":
        return [entry["ns"].partition(".")[2] for entry in command.get("nsInfo", [])]
    collection = command.get(name)
    return [collection] if isinstance(collection, str) else []


def _is_scoped(name: str, command: Mapping[str, Any]) -> bool:
    # Operations on several collections in one command are not ours; they could be anything.
    if name == "bulkWrite" or (name == "aggregate" and _reaches_far(command.get("pipeline"))):
        return False
    return all(map(_names_tenant, _filters(name, command)))


def _reaches_far(part: object) -> bool:
    match part:
        case Mapping():
            return not _FAR_STAGES.isdisjoint(part) or any(map(_reaches_far, part.values()))
        case list() | tuple():
            return any(map(_reaches_far, part))
    return False


def _filters(name: str, command: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The parts of a command that say which documents it touches."""
    match name:
        case "find":
            return [command.get("filter", {})]
        case "count" | "distinct" | "findAndModify":
            return [command.get("query", {})]
        case "aggregate":
            first = command.get("pipeline") or [{}]
            return [first[0].get("$match", {})]
        case "update" | "delete":
            operations: list[Mapping[str, Any]] = command.get("updates" if name == "update" else "deletes", [])
            return [operation.get("q", {}) for operation in operations]
        case "insert":
            documents: list[Mapping[str, Any]] = command.get("documents", [])
            return documents
    return []


def _names_tenant(wanted: Mapping[str, Any]) -> bool:
    """Whether a filter or document has a tenant: a plain value, at the top or in an `$and` branch."""
    match wanted.get("tenant_id"):
        case str() | {"$eq": str()}:
            return True
    return any(_names_tenant(branch) for branch in wanted.get("$and", ()))
