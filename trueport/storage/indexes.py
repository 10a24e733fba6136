"""Creating the indexes that models declare."""

import asyncio
import random
from collections.abc import Iterable
from typing import Final

import pymongo
from odmantic import Model
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from trueport.kit.errors import TrueportError
from trueport.storage.mongo import Database, store_errors
from trueport.storage.shape import declared_indexes

# Building one over what a collection holds already takes longer than any other command.
_BUILD_S: Final = 600.0
_ATTEMPTS: Final = 5
# Another process builds at this moment: NamespaceExists, WriteConflict, IndexBuildAborted,
# BackgroundOperationInProgressForNamespace.
_IN_EACH_OTHERS_WAY: Final = frozenset({48, 112, 276, 12586})
_OTHERWISE_DEFINED: Final = frozenset({85, 86})


class IndexDiffers(TrueportError):
    """The database has an index of this name or these fields with other options."""

    code = "index_differs"

    def __init__(self, collection: str) -> None:
        super().__init__(f"An index of {collection} in the database differs from the declared one: drop it, restart.")


async def ensure_indexes(database: Database, models: Iterable[type[Model]]) -> None:
    """Create the declared indexes that are missing. Safe to run from several processes at once.

    Documents of a tenant get one on tenant and `_id` besides, for lists in order of creation.

    Raises IndexDiffers, Duplicate when stored documents break a unique index, and StoreUnavailable.
    """
    with store_errors(), pymongo.timeout(_BUILD_S):
        for model in models:
            if wanted := [*declared_indexes(model), *_for_lists(model)]:
                await _create(database, +model, wanted)


async def _create(database: Database, collection: str, wanted: list[IndexModel]) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await database[collection].create_indexes(wanted)
        except OperationFailure as error:
            if error.code in _OTHERWISE_DEFINED:
                raise IndexDiffers(collection) from error
            if error.code not in _IN_EACH_OTHERS_WAY or attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0.1, 0.5) * attempt)  # noqa: S311 - only spreads processes out
        else:
            return


def _for_lists(model: type[Model]) -> list[IndexModel]:
    keys = [("tenant_id", 1), ("_id", 1)]
    is_declared = any(list(index.document["key"].items()) == keys for index in declared_indexes(model))
    return [] if is_declared or "tenant_id" not in model.__odm_fields__ else [IndexModel(keys)]


def leading_fields(model: type[Model]) -> list[str]:
    """The first field of each declared index; a tenant's model begins all but its expiry indexes with tenant_id."""
    documents = [index.document for index in declared_indexes(model)]
    return [next(iter(document["key"])) for document in documents if "expireAfterSeconds" not in document]
