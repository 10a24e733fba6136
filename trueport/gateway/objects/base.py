"""What is said of objects at a provider, and the memory of who made them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trueport.gateway.call import Admitted
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import CredentialId


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that a request names. `where` is the path, a query's parameter or the name of a body's member."""

    kind: str
    id: str
    where: str


@dataclass(frozen=True, slots=True)
class Made:
    """An object that an answer brings into being."""

    kind: str
    id: str


class ObjectNotFound(NotFound):
    """The request names an object that this tenant did not make here, in this environment."""

    code = "object_not_found"
    should_retry = False

    def __init__(self, where: str) -> None:
        super().__init__("There is no such object.", param=where)


class ObjectsApart(InvalidRequest):
    """The request names objects that no single account has."""

    code = "objects_apart"
    should_retry = False

    def __init__(self, where: str) -> None:
        super().__init__("This request names objects that are kept at different provider accounts.", param=where)


class ProviderObjects(Protocol):
    """Remembers who made which objects. `admitted` tells whose they are: tenant, environment and wire."""

    async def owners(self, admitted: Admitted, ids: Collection[str]) -> Mapping[str, CredentialId]:
        """Those of the ids that are the caller's, with the credential each was made through.

        Raises a kit Unavailable.
        """

    async def note(self, admitted: Admitted, made: Sequence[Made], credential_id: CredentialId) -> None:
        """These are the caller's from now on; one that is already stays as it was noted. Raises a kit Unavailable."""

    async def forget(self, admitted: Admitted, ids: Collection[str]) -> None:
        """These are gone. Raises a kit Unavailable."""
