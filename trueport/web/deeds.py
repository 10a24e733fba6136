"""What people do to a tenant, told to the trail before it is done.

A service wraps each change in `async with deeds.doing(…)`. The record is durable before the block begins; when it
cannot be written, the block does not begin. A block that ends in an error leaves a second record that names the first:
`failed` where nothing was changed, `unknown` where the error leaves that open, as after a lost connection. A process
that dies in between leaves the first record alone, which says what was asked for, and never a change without one.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.di import NamedDependency

from trueport.audit.canonical import LARGEST_INTEGER
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.records import DeedKind
from trueport.kit.clock import rfc3339
from trueport.kit.errors import TrueportError
from trueport.kit.logging import get_logger
from trueport.kit.principal import GlobalPrincipal, TenantPrincipal
from trueport.web.domain import Resources
from trueport.web.tenancy import address_of
from trueport.web.trail import Trail, trail_of

log = get_logger(__name__)

COMMAND_LINE: Final = "command line"
NOBODY: Final = "nobody"
"""Who has not signed in."""
_LARGEST_STATE: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where.

    by: a person's or key's id, COMMAND_LINE or NOBODY. address: the caller's, as trusted proxies tell it, empty where
    there is none. request_id: what the reply carries as `x-request-id`.
    """

    by: str
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """What a deed is done to. `before` and `after` are its states in the shape that the API shows; None is "none"."""

    kind: str
    id: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class Deeds:
    """Tells the trail what one actor does."""

    def __init__(self, trail: Trail, actor: Actor) -> None:
        self._trail = trail
        self.actor = actor

    def by(self, who: str) -> "Deeds":
        """The same for somebody who has turned out to be `who`."""
        return Deeds(self._trail, replace(self.actor, by=who))

    def unasked(self) -> "Deeds":
        """The same, apart from the request that it began with."""
        return Deeds(self._trail, replace(self.actor, request_id=""))

    @asynccontextmanager
    async def doing(
        self, tenant_id: str, kind: DeedKind, action: str, thing: Thing, **said: object
    ) -> AsyncIterator[None]:
        """Record a deed, and then its failure if the block fails. Raises SpoolUnavailable before the block."""
        record_id = await self._trail.record(tenant_id, kind, self._fields(action, thing, said))
        try:
            yield
        except BaseException as error:
            self._close(tenant_id, kind, action, thing, record_id, error)
            raise

    async def tell(self, tenant_id: str, kind: DeedKind, action: str, thing: Thing, **said: object) -> None:
        """Record something that nothing else waits for. Raises SpoolUnavailable."""
        await self._trail.record(tenant_id, kind, self._fields(action, thing, said))

    def _fields(self, action: str, thing: Thing, said: Mapping[str, object]) -> dict[str, object]:
        fields = {
            "action": action,
            "by": self.actor.by,
            "address": self.actor.address,
            "request_id": self.actor.request_id,
            "object_kind": thing.kind,
            "object_id": thing.id,
            **said,
        }
        if thing.before is not None or thing.after is not None:
            fields["before"], fields["after"] = differences(thing.before, thing.after)
        return {name: exact(value) for name, value in fields.items()}

    def _close(
        self, tenant_id: str, kind: DeedKind, action: str, thing: Thing, record_id: str, error: BaseException
    ) -> None:
        is_refusal = isinstance(error, TrueportError) and error.status < 500
        said = {
            "result": "failed" if is_refusal else "unknown",
            "error": error.code if isinstance(error, TrueportError) else type(error).__name__,
            "of": record_id,
        }
        try:
            self._trail.add(tenant_id, kind, self._fields(action, Thing(thing.kind, thing.id), said))
        except SpoolUnavailable:
            # The first record stands and says what was asked for; there is nobody left to tell more.
            log.error("failure_not_recorded", record=record_id)


def provide_deeds(request: Request[Any, Any, Any], resources: NamedDependency[Resources]) -> Deeds:
    """Deeds of whoever sent the request."""
    person = request.scope.get("user")
    by = person.user_id if isinstance(person, GlobalPrincipal | TenantPrincipal) else NOBODY
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    return Deeds(trail_of(resources), Actor(by, address_of(request, resources.settings), request_id))


def operator_deeds(resources: Resources) -> Deeds:
    """Deeds of somebody at the machine's own command line."""
    return Deeds(trail_of(resources), Actor(COMMAND_LINE))


def differences(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Of two states, the members that differ; a state that is None beside one that is not stays so."""
    if before is None or after is None:
        return _bounded(before), _bounded(after)
    names = [name for name in {**before, **after} if before.get(name, ...) != after.get(name, ...)]
    return (
        _bounded({name: before[name] for name in names if name in before}),
        _bounded({name: after[name] for name in names if name in after}),
    )


def exact(value: object) -> object:  # noqa: PLR0911 - one line for each type
    """A value as records hold it: fractions as their shortest decimal text, moments in RFC 3339, keys in ASCII."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value) if abs(value) <= LARGEST_INTEGER else str(value)
        case float():
            return repr(value)
        case str():
            return str(value).encode("utf-8", "replace").decode()
        case datetime():
            return rfc3339(value)
        case Mapping():
            return {str(name).encode("ascii", "backslashreplace").decode(): exact(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [exact(each) for each in value]
        case _:
            return exact(msgspec.to_builtins(value))


def _bounded(state: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A state that is too large for a record is kept as its size alone: versions of configurations are kept anyway."""
    if state is None:
        return None
    size = len(msgspec.json.encode(exact(state)))
    return state if size <= _LARGEST_STATE else {"left_out_bytes": size}
