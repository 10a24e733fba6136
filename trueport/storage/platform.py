"""The other door: data that belongs to no tenant, and reading across tenants, with who and why.

Filters here are the driver's own, written by our code; a value from outside goes into one only as a typed string,
number or moment.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from odmantic import Model
from pymongo import ReturnDocument

from trueport.kit.errors import NotFound
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import Database, Document, store_errors
from trueport.storage.shape import changed_members, check_model, from_document, to_document
from trueport.storage.tripwire import PLATFORM_MARK

log = get_logger(__name__)

M = TypeVar("M", bound=Model)
Filter = Mapping[str, Any]

OnUse = Callable[[PlatformScope, str, str], None]
"""Told of each use: the scope, the collection, and the method that was called. Must be quick and not raise."""


def log_use(scope: PlatformScope, collection: str, verb: str) -> None:
    # Signing in and checking keys come this way with each call, so it is not news.
    log.debug("platform_scope_used", user_id=scope.operator, reason=scope.reason, collection=collection, operation=verb)


class PlatformRepository(Generic[M]):
    """Reads and writes without a tenant. Each command carries the mark the tripwire knows; each use is recorded."""

    model: ClassVar[type[Model]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        model = cls.__dict__.get("model")
        if model is not None:
            check_model(model)

    def __init__(self, database: Database, scope: PlatformScope, on_use: OnUse = log_use) -> None:
        self.scope = scope
        self._collection = database[+self.model]
        self._on_use = on_use

    async def get(self, item_id: str) -> M:
        """The document with this id. Raises NotFound."""
        found = await self.find_one({"_id": item_id})
        if found is None:
            raise NotFound("There is no such object.")
        return found

    async def find_one(self, wanted: Filter) -> M | None:
        self._used("find_one")
        with store_errors():
            found = await self._collection.find_one(dict(wanted), comment=PLATFORM_MARK)
        return None if found is None else self._shape(found)

    async def find(self, wanted: Filter, *, limit: int = 1_000, order_by: str = "_id") -> list[M]:
        """Up to `limit` documents, oldest first, or the lowest `order_by` first."""
        self._used("find")
        with store_errors():
            cursor = self._collection.find(dict(wanted), comment=PLATFORM_MARK).sort(order_by, 1).limit(limit)
            found = await cursor.to_list()
        return [self._shape(document) for document in found]

    async def count(self, wanted: Filter) -> int:
        self._used("count")
        with store_errors():
            return await self._collection.count_documents(dict(wanted), comment=PLATFORM_MARK)

    async def insert(self, item: M) -> M:
        """Store a new document. Raises Duplicate."""
        self._used("insert")
        document = to_document(item)
        with store_errors():
            await self._collection.insert_one(document, comment=PLATFORM_MARK)
        return item

    async def update(self, wanted: Filter, changes: Mapping[str, Any]) -> M | None:
        """Set fields of the first document that matches and give it back; None if none does.

        Of several that change one document at once under the same condition, one succeeds. What comes back may hold
        a still later change.
        """
        self._used("update")
        change = {"$set": changed_members(self.model, changes), "$inc": {"revision": 1}}
        # By id in two steps, since the embedded server reads the whole collection for a findAndModify.
        if isinstance(item_id := wanted.get("_id"), str):
            with store_errors():
                result = await self._collection.update_one({"_id": item_id, **wanted}, change, comment=PLATFORM_MARK)
            return None if result.matched_count == 0 else await self.find_one({"_id": item_id})
        with store_errors():
            found = await self._collection.find_one_and_update(
                dict(wanted), change, return_document=ReturnDocument.AFTER, comment=PLATFORM_MARK
            )
        return None if found is None else self._shape(found)

    async def delete_many(self, wanted: Filter) -> int:
        self._used("delete_many")
        with store_errors():
            return (await self._collection.delete_many(dict(wanted), comment=PLATFORM_MARK)).deleted_count

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        self._used("aggregate")
        with store_errors():
            return await (await self._collection.aggregate(list(pipeline), comment=PLATFORM_MARK)).to_list()

    def _used(self, verb: str) -> None:
        self._on_use(self.scope, +self.model, verb)

    def _shape(self, document: Document) -> M:
        item: M = from_document(self.model, document)
        return item
