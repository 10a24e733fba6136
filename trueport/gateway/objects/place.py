"""Where the path of a request leads among the objects of an account."""

from dataclasses import dataclass
from typing import Final

from trueport.gateway.call import Request, Wire
from trueport.gateway.objects.tables import COLLECTIONS, STATELESS

READS: Final = frozenset({"GET", "HEAD"})
GENERATES: Final = frozenset({"chat", "text", "embeddings", "count", "media"})


@dataclass(frozen=True, slots=True)
class Place:
    """An object by its `id` in a collection, or the collection itself where that is None.

    `kind` is None for a collection that is not in the tables. `rest` is what stands below the object.
    """

    collection: str
    kind: str | None = None
    id: str | None = None
    rest: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """The path with an asterisk for each id, as the tables have it."""
        parts = [self.collection]
        if self.id is not None:
            parts.append("*")
        return "/".join([*parts, *self.rest[:1], *("*" for _ in self.rest[1:2])])


def place_of(wire: Wire, request: Request) -> Place:
    """Where the path of a request leads. Google's ids are whole names, `files/abc`."""
    if request.operation in STATELESS:
        return Place(request.operation)
    parts = request.operation.split("/")
    if wire == "google":
        parts = [part.partition(":")[0] for part in parts]
        if parts[0] in ("upload", "download") and len(parts) > 1:
            del parts[0]
        if parts[0] == "models" and parts[2:3] == ["operations"]:
            name = "/".join(parts[:4]) if len(parts) > 3 else None
            return Place("models/*/operations", "operation", name, tuple(parts[4:]))
    depth = 2 if "/".join(parts[:2]) in COLLECTIONS[wire] else 1
    collection, below = "/".join(parts[:depth]), parts[depth:]
    kind = COLLECTIONS[wire].get(collection)
    if not below:
        return Place(collection, kind)
    has_whole_name = wire == "google" and collection != "interactions"
    return Place(collection, kind, f"{collection}/{below[0]}" if has_whole_name else below[0], tuple(below[1:]))


def is_list(wire: Wire, request: Request) -> bool:
    """Whether the answer lists objects of the whole account."""
    if request.method not in READS or request.kind in GENERATES:
        return False
    place = place_of(wire, request)
    return place.id is None and place.collection != "models"
