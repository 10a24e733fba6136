"""The one driver: pymongo's asynchronous client, with a deadline on everything and our names for what goes wrong."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC
from typing import Any, Final

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.monitoring import CommandListener

from trueport.kit.deadline import Deadline
from trueport.kit.errors import Conflict, Unavailable

Document = dict[str, Any]
Client = AsyncMongoClient[Document]
Database = AsyncDatabase[Document]
Collection = AsyncCollection[Document]

DATABASE_NAME: Final = "trueport"
# A server that is stepping down, shutting down, or out of time; the same question may be answered a moment later.
_PASSING_CODES: Final = frozenset({50, 64, 89, 91, 189, 10107, 11600, 11602, 13435, 13436})


class StoreUnavailable(Unavailable):
    """The database does not answer."""

    code = "store_unavailable"

    def __init__(self) -> None:
        super().__init__("The database is not available at the moment.")


class Duplicate(Conflict):
    """Something with these unique values exists already."""

    code = "already_exists"


def connect(uri: str, *, listeners: Sequence[CommandListener] = (), max_pool_size: int = 50) -> Client:
    """A client for `uri`. Nothing is sent before the first command.

    Every command ends within 5 s and is acknowledged by a majority with its journal written; moments come back aware,
    in UTC. The 5 s include waiting for a free connection: where calls must not queue that long behind a slow
    database, put them `within` a shorter deadline. (pymongo's waitQueueTimeoutMS has no effect beside timeoutMS.)

    A client does not survive a fork: each process opens its own.
    """
    return AsyncMongoClient(
        uri,
        tz_aware=True,
        tzinfo=UTC,
        uuidRepresentation="standard",
        timeoutMS=5_000,
        serverSelectionTimeoutMS=2_000,
        maxPoolSize=max_pool_size,
        # The first burst after a start would else open its connections two by two, and wait too long for them.
        maxConnecting=10,
        w="majority",
        journal=True,
        retryWrites=True,
        appname="trueport",
        event_listeners=list(listeners),
    )


def database_of(client: Client, name: str | None = None) -> Database:
    """The database of this name, else the one the URI names, else `trueport`."""
    return client.get_default_database(DATABASE_NAME) if name is None else client.get_database(name)


def within(deadline: Deadline) -> AbstractContextManager[None]:
    """Every command in the block ends by `deadline`."""
    # pymongo takes 0 for "as long as you like".
    return pymongo.timeout(max(deadline.remaining_s(), 0.001))


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the driver's errors into ours: StoreUnavailable for what may pass, Duplicate for a unique index.

    A write that ended in StoreUnavailable may have happened all the same: send it again under the same `_id` and take
    Duplicate for success.
    """
    try:
        yield
    except DuplicateKeyError as error:
        raise Duplicate("This already exists.") from error
    except (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WaitQueueTimeoutError) as error:
        raise StoreUnavailable from error
    except OperationFailure as error:
        if error.code in _PASSING_CODES:
            raise StoreUnavailable from error
        raise
    except PyMongoError as error:
        if error.timeout:
            raise StoreUnavailable from error
        raise


async def ping(database: Database) -> bool:
    """Whether the database answers."""
    try:
        await database.command("ping")
    except PyMongoError:
        return False
    return True
