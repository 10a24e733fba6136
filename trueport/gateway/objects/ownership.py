"""The steps by which a call keeps to its tenant's own objects at the provider.

`bind` before the call is recorded; for a whole answer `further`, then `noted`; EventNotes for the events of a stream.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from trueport.gateway.call import Admitted, Wire
from trueport.gateway.objects.answers import deleted, made, made_in_event, marks
from trueport.gateway.objects.base import Made, ObjectNotFound, ObjectsApart, ProviderObjects, Reference
from trueport.gateway.objects.lists import listed, next_page, only_own
from trueport.gateway.objects.place import is_list
from trueport.gateway.objects.references import references
from trueport.gateway.snapshot import Target
from trueport.kit.errors import Unavailable
from trueport.kit.ids import CredentialId
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_GENERATES: Final = frozenset({"chat", "text"})
_LARGE_BYTES: Final = 1 << 20


async def bind(admitted: Admitted, objects: ProviderObjects, wire_of: Mapping[str, Wire]) -> Admitted:
    """The call with the account that keeps the objects it names as its only target; as it is when it names none.

    Raises ObjectNotFound for an object the caller did not make, alike whether somebody else did, ObjectsApart, a
    kit InvalidRequest or Unavailable.
    """
    wire = admitted.call.dialect.wire
    named = await _references(admitted)
    if not named or all(wire_of.get(target.credential.provider) != wire for target in admitted.targets):
        # Where a request is translated, a name in it means nothing to the provider.
        return admitted
    owners = await objects.owners(admitted, [each.id for each in named])
    credentials = {
        credential.id: credential
        for credential in admitted.snapshot.credentials.values()
        if wire_of.get(credential.provider) == wire
    }
    for each in named:
        if owners.get(each.id) not in credentials:
            raise ObjectNotFound(each.where)
    kept_by = owners[named[0].id]
    for each in named:
        if owners[each.id] != kept_by:
            raise ObjectsApart(each.where)
    targets = tuple(target for target in admitted.targets if target.credential.id == kept_by)
    return replace(admitted, targets=targets or (Target(credentials[kept_by]),))


async def further(admitted: Admitted, status: int, body: bytes, objects: ProviderObjects) -> Admitted | None:
    """The call for the next page of a list that has nothing of the caller's on this one; None when there is none.

    Clients take an empty page for the end, and the cursor that leads beyond it may be another tenant's id.
    """
    wire, request = admitted.call.dialect.wire, admitted.request
    if not 200 <= status < 300 or not is_list(wire, request):
        return None
    onward = next_page(wire, request, body)
    if onward is None or await objects.owners(admitted, listed(body)):
        return None
    return replace(admitted, request=onward)


async def noted(
    admitted: Admitted, status: int, body: bytes, credential_id: CredentialId, objects: ProviderObjects
) -> bytes:
    """The body of a whole answer as the caller may see it, once what it brings into being is the caller's.

    Raises a kit Unavailable when a new object could not be noted, unless the answer is worth having without.
    """
    wire, request = admitted.call.dialect.wire, admitted.request
    if not 200 <= status < 300:
        return body
    if is_list(wire, request):
        ids = listed(body)
        body = only_own(body, await objects.owners(admitted, ids) if ids else ())
    if found := made(wire, request, status, body):
        await _note(admitted, found, credential_id, objects)
    if gone := deleted(wire, request, status):
        try:
            await objects.forget(admitted, gone)
        except Unavailable as error:
            # It is gone all the same; what is left behind names nothing.
            log.warning("object_not_forgotten", interaction=admitted.call.interaction_id, code=error.code)
    return body


class EventNotes:
    """Notes what the events of one stream bring into being, each before it is passed on."""

    __slots__ = ("_admitted", "_credential_id", "_known", "_marks", "_objects")

    def __init__(self, admitted: Admitted, credential_id: CredentialId, objects: ProviderObjects) -> None:
        self._admitted = admitted
        self._credential_id = credential_id
        self._objects = objects
        self._marks = marks(admitted.call.dialect.wire, admitted.request)
        self._known: set[Made] = set()

    @property
    def are_due(self) -> bool:
        """Whether an event still to come may bring something into being."""
        return bool(self._marks)

    async def before(self, events: Sequence[bytes]) -> None:
        """Note what these events bring into being."""
        wire, request = self._admitted.call.dialect.wire, self._admitted.request
        for event in events:
            if not any(mark in event for mark in self._marks):
                continue
            new = [each for each in made_in_event(wire, request, event) if each not in self._known]
            if new:
                self._known.update(new)
                await _note(self._admitted, new, self._credential_id, self._objects)
                if self._marks == (b'"id"',):
                    self._marks = ()  # every event of this stream repeats the one id


async def _references(admitted: Admitted) -> tuple[Reference, ...]:
    wire, request = admitted.call.dialect.wire, admitted.request
    hosts = _hosts(admitted) if wire == "google" else frozenset()
    if request.members is None and len(request.body) > _LARGE_BYTES:
        return await asyncio.to_thread(references, wire, request, hosts)
    return references(wire, request, hosts)


async def _note(
    admitted: Admitted, found: Sequence[Made], credential_id: CredentialId, objects: ProviderObjects
) -> None:
    try:
        await objects.note(admitted, found, credential_id)
    except Unavailable as error:
        if admitted.request.kind not in _GENERATES:
            raise
        # The answer is paid for and good; only that nobody will find it again.
        log.warning("object_not_noted", interaction=admitted.call.interaction_id, code=error.code)


def _hosts(admitted: Admitted) -> frozenset[str]:
    return frozenset(credential.base_url.host or "" for credential in admitted.snapshot.credentials.values())
