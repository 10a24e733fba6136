"""Repositories inside one tenant.

Every filter gets the tenant as a flat top-level member, `{"status": …, "tenant_id": …}` (see filters.py for why not
in an `$and`, which would mean the same). A filter that names `tenant_id` itself is refused, so the member added here
is always the one that counts.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from odmantic import Model
from odmantic.query import QueryExpression
from pymongo.errors import BulkWriteError

from trueport.kit.errors import Conflict, InvalidRequest, NotFound
from trueport.kit.tenancy import TenantScope
from trueport.storage.filters import Filter, UnscopedQuery, flat_filter
from trueport.storage.mongo import Database, Document, Duplicate, StoreUnavailable, store_errors
from trueport.storage.shape import changed_members, check_tenant_model, from_document, to_document

__all__ = ["Filter", "Page", "StaleRevision", "TenantRepository", "UnscopedQuery", "check_tenant_model"]

M = TypeVar("M", bound=Model)

MOST_ITEMS: Final = 200
_AT_ONCE: Final = 500
_FORBIDDEN_STAGES: Final = frozenset(
    # The first five read or write elsewhere, the rest runs JavaScript.
    {"$lookup", "$graphLookup", "$unionWith", "$out", "$merge", "$function", "$accumulator", "$where"}
)
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{7,200}")
_SEAL_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Some items, and the cursor of the next page if there is one."""

    items: list[M]
    next: str | None


class StaleRevision(Conflict):
    """Somebody else changed the object in the meantime."""

    code = "stale_revision"

    def __init__(self) -> None:
        super().__init__("This was changed by somebody else in the meantime: load it again.")


class TenantRepository(Generic[M]):
    """Reads and writes the documents of one tenant. Subclasses name their `model` and add queries.

    odmantic gives the shape only, pymongo is the driver. odmantic does not store fields that a model inherits, so
    each model has to declare `tenant_id`, `revision` and `created_at` in its own body; a subclass whose model does
    not is refused when it is defined.
    """

    model: ClassVar[type[Model]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        model = cls.__dict__.get("model")
        if model is not None:
            check_tenant_model(model)

    def __init__(self, database: Database, scope: TenantScope) -> None:
        self.scope = scope
        self._collection = database[+self.model]

    async def get(self, item_id: str) -> M:
        """The document with this id. Raises NotFound, also for another tenant's."""
        found = await self.find_one({"_id": item_id})
        if found is None:
            raise NotFound("There is no such object.")
        return found

    async def find_one(self, *filters: Filter) -> M | None:
        with store_errors():
            found = await self._collection.find_one(self._wanted(filters))
        return None if found is None else self._shape(found)

    async def find(self, *filters: Filter, limit: int = 1_000) -> list[M]:
        """Up to `limit` documents, oldest first."""
        with store_errors():
            found = await self._collection.find(self._wanted(filters)).sort("_id", 1).limit(limit).to_list()
        return [self._shape(document) for document in found]

    async def each(self, *filters: Filter) -> AsyncIterator[M]:
        """Every document, oldest first, in as many round trips as it takes."""
        after: Sequence[Filter] = ()
        while found := await self.find(*filters, *after, limit=_AT_ONCE):
            for item in found:
                yield item
            after = [_beyond("$gt", self._id_of(found[-1]))]

    async def page(self, *filters: Filter, limit: int, after: str | None = None, newest_first: bool = True) -> Page[M]:
        """A page in order of `_id`, which is the order of creation.

        limit: 1 to 200. after: a cursor that this method gave for the same tenant, collection and direction.
        Raises InvalidRequest for anything else.
        """
        if not 1 <= limit <= MOST_ITEMS:
            raise InvalidRequest(f"limit is from 1 to {MOST_ITEMS}.", param="limit")
        list_name = f"{self.scope.tenant_id}/{+self.model}/{newest_first:d}"
        if after is not None:
            filters = (*filters, _beyond("$lt" if newest_first else "$gt", _position(after, list_name)))
        with store_errors():
            cursor = self._collection.find(self._wanted(filters)).sort("_id", -1 if newest_first else 1)
            found = await cursor.limit(limit + 1).to_list()
        items = [self._shape(document) for document in found[:limit]]
        return Page(items, _cursor(found[limit - 1]["_id"], list_name) if len(found) > limit else None)

    async def count(self, *filters: Filter) -> int:
        with store_errors():
            return await self._collection.count_documents(self._wanted(filters))

    async def insert(self, item: M) -> M:
        """Store a new document. Raises Duplicate when a unique index has its values already."""
        document = self._own(item)
        with store_errors():
            await self._collection.insert_one(document)
        return item

    async def insert_missing(self, items: Sequence[M]) -> set[str]:
        """Store those that are not there yet and give the ids that are new. Sending the same ones again is harmless.

        Raises Duplicate when a unique index other than `_id` has an item's values already; the others are stored.
        """
        documents = [self._own(item) for item in items]
        if not documents:
            return set()
        ids = {document["_id"] for document in documents}
        try:
            with store_errors():
                await self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failed = error.details.get("writeErrors", [])
            if error.details.get("writeConcernErrors") or any(each["code"] != 11000 for each in failed):
                raise StoreUnavailable from error
            if any(set(each.get("keyPattern", {"_id": 1})) != {"_id"} for each in failed):
                raise Duplicate("This already exists.") from error
            return ids - {documents[each["index"]]["_id"] for each in failed}
        return ids

    async def replace(self, item: M) -> M:
        """Store a changed document if nobody else changed it since it was read; its revision grows by one.

        Raises StaleRevision when somebody did, NotFound when it is gone.
        """
        document = self._own(item)
        item_id, read_revision = document.pop("_id"), document["revision"]
        document["revision"] = read_revision + 1
        wanted = self._wanted([{"_id": item_id, "revision": read_revision}])
        with store_errors():
            # Members this version does not know stay: a newer one may run beside it.
            result = await self._collection.update_one(wanted, {"$set": document})
        if result.matched_count == 0:
            await self.get(item_id)
            raise StaleRevision
        return self._shape({"_id": item_id, **document})

    async def update(self, item_id: str, changes: Mapping[str, Any], *conditions: Filter) -> M | None:
        """Set the named fields of one document, if it meets the conditions, and give it back; None if none does.

        Its revision grows by one. Of several that change it at once under the same condition, such as
        `query.eq(Invite.status, "open")`, one succeeds. What comes back may hold a still later change.
        """
        wanted = self._wanted([{"_id": item_id}, *conditions])
        change = {"$set": changed_members(self.model, changes), "$inc": {"revision": 1}}
        # Two steps, since the embedded server reads the whole collection for a findAndModify.
        with store_errors():
            result = await self._collection.update_one(wanted, change)
        return None if result.matched_count == 0 else await self.find_one({"_id": item_id})

    async def delete(self, item_id: str) -> None:
        """Remove one document. Raises NotFound."""
        with store_errors():
            result = await self._collection.delete_one(self._wanted(({"_id": item_id},)))
        if result.deleted_count == 0:
            raise NotFound("There is no such object.")

    async def delete_many(self, *filters: Filter) -> int:
        with store_errors():
            result = await self._collection.delete_many(self._wanted(filters))
        return result.deleted_count

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]], *filters: Filter) -> list[Document]:
        """Run a pipeline over those documents of this tenant that match. Raises UnscopedQuery for stages beyond it."""
        _refuse_far_stages(pipeline)
        wanted, rest = self._wanted(filters), list(pipeline)
        # One $match, because the embedded server uses an index for the first only.
        if not filters and rest and set(rest[0]) == {"$match"}:
            if "tenant_id" in rest[0]["$match"]:
                raise UnscopedQuery("the tenant of a query is its scope's, a filter does not name it")
            wanted, rest = {**rest[0]["$match"], **wanted}, rest[1:]
        with store_errors():
            return await (await self._collection.aggregate([{"$match": wanted}, *rest])).to_list()

    def _wanted(self, filters: Sequence[Filter]) -> Document:
        return flat_filter(self.model, filters, self.scope.tenant_id)

    def _scoped(self, filters: Sequence[Filter]) -> Document:
        """For a subclass that spells out a query: mappings with comparisons and typed values, inside the tenant."""
        return flat_filter(self.model, filters, self.scope.tenant_id, are_handwritten=True)

    def _own(self, item: M) -> Document:
        document = to_document(item)
        if document["tenant_id"] != self.scope.tenant_id:
            raise UnscopedQuery("the document belongs to another tenant")
        return document

    def _id_of(self, item: M) -> str:
        item_id: str = getattr(item, self.model.__primary_field__)
        return item_id

    def _shape(self, document: Document) -> M:
        item: M = from_document(self.model, document)
        return item


def _refuse_far_stages(part: object) -> None:
    match part:
        case Mapping():
            for name, value in part.items():
                if name in _FORBIDDEN_STAGES:
                    raise UnscopedQuery(f"{name} reaches beyond the tenant")
                _refuse_far_stages(value)
        case list() | tuple():
            for value in part:
                _refuse_far_stages(value)


def _beyond(comparison: str, item_id: str) -> Filter:
    return QueryExpression({"_id": {comparison: item_id}})


def _cursor(item_id: str, list_name: str) -> str:
    return base64.urlsafe_b64encode(_seal(item_id, list_name) + item_id.encode()).decode().rstrip("=")


def _position(cursor: str, list_name: str) -> str:
    """The id in a cursor of this list."""
    refused = InvalidRequest("after is not a cursor of this list.", param="after")
    if _CURSOR.fullmatch(cursor) is None:
        raise refused
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        item_id = content[_SEAL_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise refused from error
    # Comparing the texts refuses other spellings of the same bytes as well.
    if _cursor(item_id, list_name) != cursor:
        raise refused
    return item_id


def _seal(item_id: str, list_name: str) -> bytes:
    """Finds mistakes, not forgers: a forged cursor is but another place in the caller's own list."""
    return hashlib.sha256(f"{list_name}/{item_id}".encode()).digest()[:_SEAL_BYTES]
